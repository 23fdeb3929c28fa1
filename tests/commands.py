"""What the tests of whole commands share: models that answer at once, and the command line."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnas.search.reporting import Quiet

# An accuracy and a latency model that are functions of the network alone, and ones that misbehave.
MODELS = '''
import math, os, signal, sys, time
from pathlib import Path
from mnas.protocols import AccuracyEstimate
from mnas.search_space import network_cost

class Accuracy:
    """Grows with depth, width and kernel."""
    def evaluate(self, specs, *, seed):
        scores = [sum(math.log(s.repeats * s.expansion * s.kernel) + s.se_ratio for s in spec.stages) for spec in specs]
        return [AccuracyEstimate(0.4 + score / 80, 0.002, "made up for a test") for score in scores]

class Slow(Accuracy):
    """One network at a time, a tenth of a second each; counts its calls in a file."""
    expensive = True
    def evaluate(self, specs, *, seed):
        assert len(specs) == 1
        with open("calls.txt", "a") as file:
            file.write(f"{seed}\\n")
        time.sleep(0.1)
        return super().evaluate(specs, seed=seed)

class Failing(Accuracy):
    """Cannot evaluate three networks in four."""
    expensive = True
    def evaluate(self, specs, *, seed):
        if seed % 4:
            raise RuntimeError("loss is NaN")
        return super().evaluate(specs, seed=seed)

class Hopeless(Accuracy):
    expensive = True
    def evaluate(self, specs, *, seed):
        raise RuntimeError("no such file: images")

class Latency:
    """A tenth of a nanosecond a multiply-add."""
    def predict(self, specs):
        return [network_cost(spec).madds / 1e7 for spec in specs]

class Unsure(Latency):
    """As known to a factor of 1.2."""
    def predict(self, specs):
        from mnas.protocols import LatencyEstimate
        return [LatencyEstimate(ms, ms / 1.2, ms * 1.2, "models", "none") for ms in super().predict(specs)]

class KillsItself(Latency):
    """Dies like a process that ran out of memory, at its tenth call, once."""
    calls = 0
    def predict(self, specs):
        KillsItself.calls += 1
        if KillsItself.calls == 10 and not Path("died").exists():
            Path("died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(specs)

class Raises(Latency):
    calls = 0
    def predict(self, specs):
        Raises.calls += 1
        if Raises.calls > 5:
            raise ConnectionError("the board does not answer")
        return super().predict(specs)

class NotANumber:
    def predict(self, specs):
        return [math.nan] * len(specs)

class TooFew:
    def predict(self, specs):
        return [1.0] * (len(specs) - 1)

class Negative:
    def predict(self, specs):
        return [-1.0] * len(specs)

class NoPredict:
    pass

def wants_more(space, board_address):
    return Latency()
'''


def mnas(
    work: Path, *arguments: str, code: int | None = 0, quickly: bool = False
) -> subprocess.CompletedProcess[str]:
    """The command in that folder, in this process: starting Python and importing torch takes longer than most of them.

    Args:
        work: the folder; what a command imports from it is forgotten afterwards.
        arguments: of the command.
        code: the exit code that is expected; None is any.
        quickly: with fewer processes and seconds for measuring in and after a search: small networks need no more.
    """
    from mnas import cli
    from mnas.search import final, grow, remeasure

    sys.modules.pop("models", None)  # of another test
    out, err, before = io.StringIO(), io.StringIO(), set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        patch.syspath_prepend(work)
        patch.setenv("COLUMNS", "100")
        patch.setattr(sys, "argv", ["mnas", *arguments])
        for module, name, value in (
            (final, "PROCESSES", 3),
            (final, "BUDGET_S", 3.0),
            (grow, "CAREFUL_PROCESSES", 3),
            (grow, "QUICK_S", 1.0),
            (grow, "CAREFUL_S", 2.0),
            (remeasure, "BUDGET_S", 1.0),
        ):
            if quickly:
                patch.setattr(module, name, value)
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as end,
        ):
            cli.run()
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(work):
            del sys.modules[name]
    assert isinstance(end.value.code, int)
    done = subprocess.CompletedProcess(["mnas", *arguments], end.value.code, out.getvalue(), err.getvalue())
    assert code is None or done.returncode == code, done.stderr
    return done


def mnas_process(work: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which may be killed."""
    command = [sys.executable, "-m", "mnas", *arguments]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=300, env=environment())
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def environment() -> dict[str, str]:
    """The child imports the mnas that these tests import, from wherever it works."""
    import mnas

    return os.environ | {"PYTHONPATH": str(Path(mnas.__file__).parent.parent), "COLUMNS": "100"}


SEARCH = (
    "search",
    "--target-latency",
    "20ms",
    "--latency",
    "models:Latency",
    "--accuracy",
    "models:Accuracy",
)


def result_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 1, "nothing but one JSON object may stand on stdout"
    loaded: dict[str, Any] = json.loads(lines[0])
    return loaded


def write_photos(folder: Path, height: int, width: int, suffix: str) -> None:
    """Thirty noisy images: ten in each of the classes red, green and blue, of that colour."""
    noise = np.random.default_rng(0)
    for label, colour in (("red", 0), ("green", 1), ("blue", 2)):
        (folder / label).mkdir(parents=True)
        for number in range(10):
            pixels = noise.integers(0, 100, (height, width, 3), np.uint8)
            pixels[..., colour] += 150
            Image.fromarray(pixels).save(folder / label / f"{number}.{suffix}")


class Said(Quiet):
    """A reporter that keeps what is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
