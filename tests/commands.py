"""What the tests of whole commands share: models that answer at once, and the command line in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
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


# The command with a quarter of the seconds for measuring finalists and grown networks: small ones need no more.
QUICKLY = """
from mnas.search import final, grow
final.BUDGET_S, grow.QUICK_S, grow.CAREFUL_S = 4.0, 1.0, 2.5
from mnas.__main__ import main
main()
"""


def mnas(
    work: Path, *arguments: str, code: int | None = 0, quickly: bool = False, **more: Any
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(("-c", QUICKLY) if quickly else ("-m", "mnas")), *arguments]
    done = subprocess.run(
        command, cwd=work, capture_output=True, text=True, timeout=300, env=environment(), **more
    )
    assert code is None or done.returncode == code, done.stderr
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
