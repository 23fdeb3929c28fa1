"""What a search for scaling coefficients was asked for, and the folder that it is kept in."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from mnas.errors import InputError, RunDirectoryError
from mnas.family import Growth
from mnas.files import read_json, read_toml, write_json, write_toml
from mnas.rundir import discard_folder
from mnas.scalesearch.grid import DEFAULT, grid
from mnas.search_space import NetworkSpec
from mnas.units import parse_factor, parse_latency_ms

FORMAT = 1
# Trainings of each point, and epochs of each (chosen here: as those of a search's candidates, twice).
SEEDS, EPOCHS = 2, 6


@dataclass(frozen=True, slots=True)
class ScalePlan:
    """What was asked for.

    Args:
        source: a run directory, a network's JSON file, or a published network.
        data: as `load_data` takes it.
        network: of a run.
        points: of the grid, beside the published one.
        seeds: trainings of each point.
        epochs: of each training.
        images: training images; None is all.
        resolution: of the base in pixels; None is the network's own, as far as the images allow.
        budget_ms: latency that every point is brought to, as text with a unit, or `2x` for twice the base's own; None
            brings all to 1.92 times the base's multiply-adds.
        phis: of the family that is grown at the end; `latencies`: texts with units, instead.
        measured: whether the family is measured.
        threads: of torch while it trains; `device` as torch names it.
        skip_unreadable: leave out images that cannot be used.
        seed: of everything random.

    Raises:
        InputError: a value outside its domain.
    """

    source: str
    data: str
    network: str = "baseline"
    points: int = DEFAULT
    seeds: int = SEEDS
    epochs: int = EPOCHS
    images: int | None = None
    resolution: int | None = None
    budget_ms: str | None = None
    phis: tuple[float, ...] = ()
    latencies: tuple[str, ...] = ()
    measured: bool = True
    threads: int = 1
    device: str = "auto"
    skip_unreadable: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        grid(self.points)
        for name in ("seeds", "epochs", "threads", "images", "resolution"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name} must be at least 1, got {value}.")
        Growth(phis=self.phis, latencies=self.latencies)
        if self.budget_ms is not None:
            budget_in_ms(self.budget_ms, 1.0)


def budget_in_ms(text: str, base_ms: float) -> float:
    """Milliseconds of `20ms`, or of `2x` for a base that takes `base_ms`.

    Raises:
        InputError: neither of these, or a factor that grows nothing.

    >>> budget_in_ms("1.5x", 4.0)
    6.0
    """
    if not text.strip().lower().endswith("x"):
        return parse_latency_ms(text, what="--budget-ms")
    factor = parse_factor(text, what="--budget-ms")
    if factor <= 1:
        raise InputError(f"--budget-ms {text!r} grows nothing: give more than 1x, such as 2x.")
    return factor * base_ms


@dataclass(frozen=True, slots=True)
class ScaleFolder:
    """The files of one search for coefficients; `path` is absolute."""

    path: Path

    config = property(lambda self: self.path / "scaling.toml")
    base = property(lambda self: self.path / "base.json")
    environment = property(lambda self: self.path / "env.json")
    points = property(lambda self: self.path / "points.db")
    result = property(lambda self: self.path / "scaling.json")
    page = property(lambda self: self.path / "scaling.html")
    family = property(lambda self: self.path / "family")

    def write(self, plan: ScalePlan, base: NetworkSpec) -> None:
        """The plan and the network, before anything is trained."""
        kept = {name: value for name, value in asdict(plan).items() if value is not None}
        write_toml(self.config, {"format": FORMAT, **kept})
        write_json(self.base, base.to_dict())

    def discard(self) -> None:
        """Removes what a search that was refused has left; anything that is not ours stays."""
        discard_folder(self.path, (self.config, self.base, self.environment), self.points)

    def read(self) -> tuple[ScalePlan, NetworkSpec]:
        """Both again.

        Raises:
            RunDirectoryError: no such folder, or a damaged file.
        """
        if not self.config.is_file():
            raise RunDirectoryError(
                f"{self.path} is no search for coefficients: it has no {self.config.name}. Begin one: "
                "mnas scale search NETWORK --data FOLDER"
            )
        stored = read_toml(self.config)
        try:
            if stored.pop("format", None) != FORMAT:
                raise InputError(f"expected format {FORMAT}")
            unknown = sorted(set(stored) - {field.name for field in fields(ScalePlan)})
            if unknown:
                raise InputError(f"unknown keys: {', '.join(unknown)}")
            for name in ("phis", "latencies"):
                stored[name] = tuple(stored.get(name, ()))
            return ScalePlan(**stored), NetworkSpec.from_dict(read_json(self.base))
        except (TypeError, InputError) as error:
            raise RunDirectoryError(f"{self.config} or {self.base} is damaged: {error}") from error
