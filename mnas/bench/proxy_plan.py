"""What a bench of evaluators compares: which networks, and what is true of them."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mnas.bench.named import load
from mnas.config import DEFAULT_TRAIN_THREADS
from mnas.data import ImageData, search_resolution
from mnas.errors import InputError, UnknownNameError
from mnas.ranks import LEAST
from mnas.registry import make
from mnas.search_space import Architecture, SearchSpace

TABLES = (
    "nas-bench-macro",
)  # benchmarks whose networks were really trained, so that their accuracy is a truth
EVALUATED = ("madds", "params", "naswot", "synflow", "snip", "proxy:1x2000@16")
# Draws without a new network after which a space is taken as exhausted (chosen here).
IDLE_DRAWS = 1000

Table = Callable[[Architecture], float]


@dataclass(frozen=True, slots=True)
class ProxyWanted:
    """What is compared.

    Args:
        evaluators: as typed: `madds`, `naswot`, `proxy:1x2000@16`, `smooth:naswot`.
        benchmark: whose table is the truth; None where networks are trained for it.
        data: images, as `--data` of a search; None is none.
        space: by name, where there is no benchmark.
        networks: how many are drawn.
        truth_epochs: of the training that is the truth, where there is no benchmark.
        core_minutes: that each evaluator may spend; networks not reached then have no score.
        seed: of the draw and of the evaluators.
        threads: of torch.
        data_dir: the folder of third-party data; None is what MNAS_BENCH_DATA says.

    Raises:
        InputError: numbers out of range, or neither truth or both.
    """

    evaluators: tuple[str, ...] = EVALUATED
    benchmark: str | None = None
    data: str | None = None
    space: str | None = None
    networks: int = 200
    truth_epochs: int | None = None
    core_minutes: float = 120.0
    seed: int = 0
    threads: int = DEFAULT_TRAIN_THREADS
    data_dir: str | None = None

    def __post_init__(self) -> None:
        if self.networks < LEAST:
            raise InputError(f"--networks must be at least {LEAST} for a ranking; got {self.networks}.")
        if not self.core_minutes > 0:
            raise InputError(f"--core-minutes must be above 0, got {self.core_minutes:g}.")
        if (self.benchmark is None) == (self.truth_epochs is None):
            raise InputError(
                "the truth is either a benchmark's table, --benchmark nas-bench-macro, or a longer training of your "
                "own: --data ./photos --space mbconv --networks 12 --truth-epochs 24. Give one of them."
            )
        if self.benchmark is not None and self.benchmark not in TABLES:
            raise UnknownNameError("benchmark of trained networks", self.benchmark, TABLES)
        if self.benchmark is not None and self.space is not None:
            raise InputError(f"--space is that of --benchmark {self.benchmark}; leave it out.")
        if self.truth_epochs is not None and (self.data is None or self.space is None):
            raise InputError("--truth-epochs trains networks: name --data and --space.")


def draw(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """Different random networks, each option equally likely; fewer where the space has no more.

    The first of a longer draw are those of a shorter one.
    """
    rng = random.Random(seed)
    found: dict[Architecture, None] = {}
    idle = 0
    while len(found) < count and idle < IDLE_DRAWS:
        before = len(found)
        found[space.sample(rng)] = None
        idle = 0 if len(found) > before else idle + 1
    return list(found)


def truth_of(wanted: ProxyWanted, data: ImageData | None) -> tuple[SearchSpace, Table | None, str]:
    """The space, its networks' accuracies where they are tabulated, and what is said of them."""
    if wanted.benchmark is not None:
        benchmark = load(wanted.benchmark, wanted.data_dir)
        return benchmark.space, benchmark.accuracy, benchmark.about
    assert data is not None
    arguments = {"resolution": search_resolution(data), "num_classes": len(data.classes)}
    space: SearchSpace = make("space", str(wanted.space), arguments, "decode")
    about = (
        f"the truth is the validation accuracy after {wanted.truth_epochs} epochs on all {len(data.train):,} training "
        f"images of {data.name}, one training of each network"
    )
    return space, None, about


def check_fits(space: SearchSpace, data: ImageData) -> None:
    """Raises InputError for images of another kind than the space's networks are for."""
    spec = space.decode(space.first)
    if len(data.classes) != spec.num_classes:
        raise InputError(
            f"the networks of {space.name} here have {spec.num_classes} classes, {data.name} has {len(data.classes)}. "
            "Name the images that the benchmark's networks were trained on with --data."
        )


def identity_of(wanted: ProxyWanted, space: SearchSpace, data: ImageData | None) -> dict[str, Any]:
    """What scores must share to be compared; evaluators and numbers of networks may change."""
    images = None
    if data is not None:
        shape = list(data.train.shape)
        images = {"name": data.name, "train": len(data.train), "val": len(data.val), "shape": shape}
    return {
        "bench": "proxy",
        "benchmark": wanted.benchmark,
        "space": space.name,
        "seed": wanted.seed,
        "threads": wanted.threads,
        "data": images,
    }
