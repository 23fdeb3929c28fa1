"""What the tests of executors share: models of a user's module, jobs, and who is told of them."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loops import SPACE

from mnas.accuracy.made import make_accuracy
from mnas.config import make_config
from mnas.executors import Executor, Job, Outcome
from mnas.executors.made import make_executor, with_workers
from mnas.protocols import AccuracyModel

# Written to workmodels.py where a test works. A job's seed is its number, unless a search made it.
MODELS = """
import ctypes, os, signal, sys, time
from pathlib import Path
from mnas.protocols import AccuracyEstimate
from mnas.search_space import network_cost

PARENT = os.environ.get("MNAS_TEST_PARENT") == str(os.getpid())

class Cheap:
    source = "made up"
    def evaluate(self, specs, *, seed):
        (spec,) = specs
        with open("calls.txt", "a") as file:
            file.write(f"{os.getpid()} {seed}\\n")
        print("said on stdout")
        self.at(seed)
        return [AccuracyEstimate(min(1.0, network_cost(spec).madds / 2e7) * (1 - seed % 100 / 1e3), 0.01, self.source)]
    def at(self, seed):
        pass

class Scored(Cheap):
    expensive = True
    def at(self, seed):
        time.sleep(0.05)

class Slow(Scored):
    def at(self, seed):
        time.sleep(0.4)

class Cores(Scored):
    def at(self, seed):
        self.source = str(sorted(os.sched_getaffinity(0)))

class Marks(Scored):
    def at(self, seed):
        mark = Path(f"training-{os.getpid()}")
        mark.touch()
        time.sleep(0.1)
        mark.unlink()

class KilledOnce(Scored):
    def at(self, seed):
        super().at(seed)
        if seed == 3 and not Path("killed").exists():
            Path("killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

class Misbehaves(Scored):
    def at(self, seed):
        if seed == 0:
            raise ValueError("not this one")
        if seed == 1:
            sys.exit(3)
        if seed == 2:
            os._exit(7)
        if seed == 4:
            ctypes.string_at(0)
    def evaluate(self, specs, *, seed):
        found = super().evaluate(specs, seed=seed)
        return [AccuracyEstimate(float("nan"), 0.01, "")] if seed == 3 else found

class Hangs(Scored):
    def at(self, seed):
        if seed == 2:
            while True:
                time.sleep(0.01)

class DiesInWorkers(Scored):
    def __init__(self):
        if not PARENT:
            os._exit(5)

class RaisesInWorkers(Scored):
    def __init__(self):
        if not PARENT:
            raise OSError("no such disk")

class Prepared(Scored):
    source = "nothing"
    def preparation_seconds(self, folder):
        return 0.0
    def prepare(self, folder, say):
        say("loading weights")
        self.source = f"weights of {folder.parent.name}/{folder.name}"

class Staged(Scored):
    epochs, rungs, eta = 9, (1, 3), 3
    def evaluate_staged(self, spec, *, seed, go_on):
        (whole,) = self.evaluate([spec], seed=seed)
        for epoch, share in ((1, 1 / 3), (3, 2 / 3)):
            if not go_on(epoch, share * whole.value):
                return AccuracyEstimate(share * whole.value, 0.01, "stopped", fidelity=epoch / 9)
        return whole
"""


class Heard:
    """Keeps what it is told; every candidate goes on."""

    def __init__(self) -> None:
        self.order: list[int] = []
        self.outcomes: dict[int, Outcome] = {}

    def rung(self, number: int, epoch: int, accuracy: float) -> bool:
        return True

    def finished(self, number: int, outcome: Outcome) -> None:
        self.order.append(number)
        self.outcomes[number] = outcome


def jobs(count: int) -> list[Job]:
    rng = random.Random(0)
    return [Job(number, SPACE.decode(SPACE.sample(rng)), number) for number in range(count)]


def make_model(name: str) -> AccuracyModel:
    return make_accuracy(make_config({"target_madds": "4M", "accuracy": name}).resolved(), SPACE, None, "cpu")


def begin(
    kind: str, name: str, *, workers: int = 2, note: Callable[[str], None] = print, **values: Any
) -> Executor:
    """An executor of two workers, none started yet."""
    config = make_config(
        {"target_madds": "4M", "accuracy": name, "executor": kind, "workers": workers, **values}
    )
    return make_executor(with_workers(config).resolved(), Path("run"), make_model(name), note)
