"""What a training was asked for and where its files are: `recipe.toml` and the folder around it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Self

from mnas.errors import InputError, RunDirectoryError
from mnas.files import make_folder, read_toml, write_toml
from mnas.trainer.presets import preset
from mnas.trainer.recipe import Recipe

FORMAT = 1
DEFAULT_PRESET = "cifar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was asked for; with the recipe it is what `recipe.toml` holds.

    Args:
        source: a run directory, a network's JSON file, or a published network.
        data: as `load_data` takes it.
        network: of a run: `baseline` or `scaled`.
        resolution: of the input in pixels; None is the network's own, for a published one at most the images'.
        seed: of everything random.
        device: as torch names it; `auto` is the GPU where there is one.
        threads: of torch on the CPU; None leaves torch's own number.
        amp: whether bf16 autocast may be used.
        start: safetensors to begin with, or `timm:NAME`; None begins with random weights.
        tensorboard: whether scalars are written for TensorBoard too.
        skip_unreadable: whether images that cannot be used are left out instead of refused.

    Raises:
        InputError: a value outside its domain.
    """

    source: str
    data: str
    network: str = "baseline"
    resolution: int | None = None
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    amp: bool = False
    start: str | None = None
    tensorboard: bool = False
    skip_unreadable: bool = False

    def __post_init__(self) -> None:
        problems = []
        for flag, number in (("--resolution", self.resolution), ("--threads", self.threads)):
            if number is not None and number < 1:
                problems.append(f"{flag} must be at least 1, got {number}")
        if problems:
            raise InputError(f"{'; '.join(problems)}.")

    def to_dict(self) -> dict[str, Any]:
        """TOML types; what is None is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; raises InputError for other fields."""
        try:
            return cls(**data)
        except TypeError as error:
            raise InputError(f"its [run] table does not fit this version ({error})") from error


@dataclass(frozen=True, slots=True)
class TrainingFolder:
    """The files of one training."""

    path: Path

    recipe = property(lambda self: self.path / "recipe.toml")
    network = property(lambda self: self.path / "network.json")
    environment = property(lambda self: self.path / "env.json")
    log = property(lambda self: self.path / "log.jsonl")
    checkpoint = property(lambda self: self.path / "checkpoint.safetensors")
    weights = property(lambda self: self.path / "model.safetensors")
    onnx = property(lambda self: self.path / "model.onnx")
    result = property(lambda self: self.path / "result.json")
    board = property(lambda self: self.path / "tensorboard")

    @classmethod
    def create(cls, out: Path | None, source: str) -> Self:
        """A new, empty folder; where `out` is None, train-<n> in the run that is the source, else trainings/<date>-<n>.

        Raises:
            RunDirectoryError: it exists and is not empty, or cannot be made.
        """
        if out is None:
            run = Path(source)
            parent, stem = (run, "train") if run.is_dir() else (Path("trainings"), date.today().isoformat())
            number = 1
            while (parent / f"{stem}-{number}").exists():
                number += 1
            out = parent / f"{stem}-{number}"
        make_folder(out)
        if any(out.iterdir()):
            raise RunDirectoryError(
                f"{out} exists and is not empty. Continue it with: mnas train --resume {out} - or choose another "
                f"folder with --out."
            )
        return cls(out.absolute())

    def tidy(self) -> None:
        """Removes half-written files that a killed process has left."""
        for part in self.path.glob(".*.part"):
            part.unlink(missing_ok=True)


def make_recipe(name: str | None, file: Path | None, changes: Mapping[str, Any]) -> Recipe:
    """A preset or the `[recipe]` of a TOML file, changed by flags.

    A file may be `recipe.toml` of another training, or hold a few fields; its `preset` names what they change.

    Raises:
        RunDirectoryError: the file cannot be read.
        InputError: no such preset, unknown fields, values outside their domains.
    """
    stored = dict(read_toml(file).get("recipe", {})) if file is not None else {}
    base = name or stored.pop("preset", DEFAULT_PRESET)
    stored.pop("preset", None)
    return preset(str(base), **{**stored, **changes})


def write_plan(folder: TrainingFolder, plan: Plan, recipe: Recipe, images: Mapping[str, Any]) -> None:
    """Writes `recipe.toml`.

    Args:
        folder: whose file it is.
        plan: what is trained.
        recipe: how.
        images: what tells one data set from another when the training goes on.
    """
    tables = {"run": plan.to_dict(), "recipe": recipe.to_dict(), "images": dict(images)}
    write_toml(folder.recipe, {"format": FORMAT, **tables})


def read_plan(folder: TrainingFolder) -> tuple[Plan, Recipe, dict[str, Any]]:
    """What `write_plan` wrote.

    Raises:
        RunDirectoryError: not a training, damaged, or of another version.
    """
    if not folder.recipe.is_file():
        raise RunDirectoryError(f"{folder.path} is not a training: it has no recipe.toml.")
    stored = read_toml(folder.recipe)
    if stored.get("format") != FORMAT:
        raise RunDirectoryError(
            f"{folder.path} was written in training format {stored.get('format')!r}; "
            f"this version of mnas reads {FORMAT}."
        )
    try:
        return Plan.from_dict(stored["run"]), Recipe.from_dict(stored["recipe"]), stored["images"]
    except (KeyError, InputError) as error:
        raise RunDirectoryError(f"{folder.recipe} is damaged: {error}") from error
