"""The configuration of a search: checked as a whole, from flags, a TOML file, or a stored run."""

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mnas.errors import InputError
from mnas.registry import BUILTIN, Kind, check_name
from mnas.units import parse_count, parse_duration_s, parse_latency_ms

Positive = Annotated[int, Field(ge=1)]

MOST_TARGETS = 16  # chosen here: each has a controller, and finalists that are measured
DEFAULT_TRIALS, DEFAULT_TRIALS_WITH_DATA = 8000, 30
# Architectures per update: NASNet's controller used 20; with thousands of cheap trials more is steadier.
DEFAULT_BATCH, DEFAULT_BATCH_OF_FEW, DEFAULT_BATCH_WITH_DATA = 64, 8, 5
DEFAULT_RESOLUTION = 224
# docs/benchmarks.md, controllers: guided needs the fewest evaluations and takes tens of milliseconds for each, which
# pays where they are few; of thousands reinforce makes as much in a fraction of the time. Where each network is
# measured, the costs that guided plans with are not known beforehand.
DEFAULT_CONTROLLER, CONTROLLER_FOR_MANY, MANY_TRIALS = "guided", "reinforce", 1000
# Chosen here: half, so that both sides of the comparison have the same number of trials, however many are asked for.
DEFAULT_BASELINE_SHARE = 0.5
DEFAULT_EPOCHS = 6
# Chosen here: a step of shared weights trains four networks, so that 20 epochs cost what half of the default search's
# candidates would (30 of 6 epochs each). Scoring a candidate then takes seconds, and there can be ten times as many.
DEFAULT_SUPERNET_EPOCHS, DEFAULT_TRIALS_WITH_SUPERNET = 20, 300
# Chosen here: how much longer finalists are trained than candidates, and how many of them.
LONGER, DEFAULT_FINALS = 4, 3
# Of torch in training. Chosen here: at 32 pixels two gain a quarter on free cores, but where another process wants a
# core they wait for each other (302 s instead of 5 s), and one gives the same weights whatever the number of cores.
DEFAULT_TRAIN_THREADS = 1
# Of a latency estimate with its interval: its centre.
DEFAULT_QUANTILE = 0.5
# Networks whose ranking is compared before a search. Chosen here: chance ranks six perfectly once in 720 times.
LEAST_RANKED = 6
# What belongs to training, and so to --data; and what belongs to candidates that are trained, one by one or together.
TRAINING = (
    "epochs",
    "supernet_epochs",
    "supernet_sampling",
    "skip_unreadable",
    "final_epochs",
    "finals",
    "rank_check",
    "train_device",
    "train_threads",
)
_ADDRESS = re.compile(r"auto|[A-Za-z0-9._-]+:\d{1,5}|\[[0-9A-Fa-f:]+\]:\d{1,5}")
STEPPING = ("train_device", "train_threads")  # of those, what a training-aware reward without data needs too
PROXY = ("proxy_images", "proxy_resolution", "proxy_width", "proxy_seeds", "halving", "candidate_timeout")
SHARED = ("proxy_images", "proxy_resolution")  # of those, what shared weights know too
TRAINED = ("proxy", "supernet")  # accuracy models that train


def parse_targets(text: str, kind: Literal["latency", "madds"]) -> tuple[tuple[str, float], ...]:
    """Each target as it was written, without spaces, and in milliseconds or multiply-adds.

    Raises:
        InputError: one of them is no quantity with a unit.

    >>> parse_targets("40ms, 0.08s", "latency")
    (('40ms', 40.0), ('0.08s', 80.0))
    """
    parts = ["".join(part.split()) for part in text.split(",")]
    if kind == "latency":
        return tuple((part, parse_latency_ms(part, what="target latency")) for part in parts)
    return tuple((part, float(parse_count(part, what="target MAdds"))) for part in parts)


class SearchConfig(BaseModel):
    """What `mnas search` was asked for; quantities stay texts with units, as the user wrote them.

    Fields that are None take a default that depends on others: see `resolved`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    target_latency: str | None = None
    target_madds: str | None = None
    base_latency: str | None = None
    space: str = "mbconv"
    controller: str | None = None
    baseline: str | None = None
    baseline_share: Annotated[float, Field(ge=0.05, le=0.5)] | None = None
    reward: Literal["hard", "soft", "absolute", "training-aware"] = "hard"
    trials: Positive | None = None
    max_time: str | None = None
    ask_batch: Positive | None = None
    resolution: Annotated[int, Field(ge=8, le=4096)] | None = None
    classes: Positive | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    data: str | None = None
    skip_unreadable: bool = False
    epochs: Positive | None = None
    supernet_epochs: Positive | None = None
    supernet_sampling: Literal["uniform", "controller"] | None = None
    proxy_images: Annotated[int, Field(ge=2)] | None = None
    proxy_resolution: Annotated[int, Field(ge=8, le=4096)] | None = None
    proxy_width: Annotated[float, Field(gt=0, le=1)] | None = None
    proxy_seeds: Positive | None = None
    halving: Annotated[int, Field(ge=2)] | None = None
    candidate_timeout: str | None = None
    final_epochs: Positive | None = None
    finals: Positive | None = None
    rank_check: Annotated[int, Field(ge=0)] | None = None
    train_device: str | None = None
    train_threads: Positive | None = None
    executor: Literal["inline", "processes", "ray"] = "inline"
    workers: Annotated[int, Field(ge=1, le=1024)] | None = None
    address: str | None = None
    latency: str = "calibrated"
    latency_quantile: Annotated[float, Field(ge=0.05, le=0.95)] | None = None
    device: str = "local"
    recalibrate: bool = False
    accuracy: str | None = None
    threads: Positive = 1
    batch: Positive = 1
    max_params: str | None = None
    max_madds: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "SearchConfig":
        if (self.target_latency is None) == (self.target_madds is None):
            raise ValueError(
                "give exactly one target, --target-latency 80ms or --target-madds 400M, or several of one kind with "
                "commas: 40ms,80ms"
            )
        self._check_targets()
        for text, parse, what in (
            (self.base_latency, parse_latency_ms, "base latency"),
            (self.max_time, parse_duration_s, "max time"),
            (self.candidate_timeout, parse_duration_s, "candidate timeout"),
            (self.max_params, parse_count, "max params"),
            (self.max_madds, parse_count, "max MAdds"),
        ):
            if text is not None:
                parse(text, what=what)
        if self.base_latency is not None and self.target_latency is None:
            raise ValueError("--base-latency goes with --target-latency")
        if self.latency_quantile is not None and self.target_latency is None:
            raise ValueError(
                "--latency-quantile goes with --target-latency; multiply-adds are exact and have no quantiles"
            )
        kinds: tuple[tuple[Kind, str | None], ...] = (
            ("space", self.space),
            ("controller", self.controller),
            ("controller", self.baseline),
            ("latency", self.latency),
            ("accuracy", self.accuracy),
        )
        for kind, name in kinds:
            if name is not None:
                check_name(kind, name)
        if self.baseline_share is not None and self.baseline is None:
            raise ValueError("--baseline-share goes with --baseline, the controller that is to be beaten")
        if self.device != "local" and self.latency not in BUILTIN["latency"]:
            raise ValueError(
                f"--device is where networks are measured; with --latency {self.latency} none is: leave one out"
            )
        if self.recalibrate and self.latency != "calibrated":
            raise ValueError(f"--recalibrate goes with --latency calibrated, not with {self.latency}")
        if self._times_steps and self.baseline is not None:
            raise ValueError(
                "--baseline compares controllers by accuracy, and --reward training-aware goes by more than that; "
                "leave one out"
            )
        self._check_executor()
        self._check_training()
        if self.accuracy in TRAINED and self.data is None:
            what = (
                "trains each candidate"
                if self.accuracy == "proxy"
                else "trains weights that candidates share"
            )
            raise ValueError(f"--accuracy {self.accuracy} {what} and needs --data, for example --data digits")
        if self.data is not None and self.accuracy not in TRAINED and self.accuracy in BUILTIN["accuracy"]:
            raise ValueError(
                f"--data trains each candidate, --accuracy {self.accuracy} does not; give one of them"
            )
        if self.data is not None and self.classes is not None:
            raise ValueError("the number of classes comes from the data; leave out --classes")
        return self

    def _check_targets(self) -> None:
        """Refuses a target that is none, and two that are the same."""
        seen: dict[float, str] = {}
        for label, value in self.targets:
            if value in seen:
                raise ValueError(f"the targets {seen[value]} and {label} are the same; give each once")
            seen[value] = label
        if len(seen) > MOST_TARGETS:
            raise ValueError(f"{len(seen)} targets; a search has at most {MOST_TARGETS}")

    def _check_executor(self) -> None:
        """Refuses workers where there is nothing for them to do, and what belongs to another executor."""
        if self.executor == "inline":
            if self.workers is not None:
                raise ValueError("--workers goes with --executor processes or ray")
        elif self.data is None and (self.accuracy is None or self.accuracy in BUILTIN["accuracy"]):
            raise ValueError(
                f"--executor {self.executor} spreads the training of candidates, and none is trained without --data or "
                "an --accuracy of your own"
            )
        if self.address is not None and self.executor != "ray":
            raise ValueError("--address is that of a Ray cluster and goes with --executor ray")
        if self.address is not None and not _ADDRESS.fullmatch(self.address):
            raise ValueError(f"--address is host:port of the cluster's head, or auto; got {self.address!r}")
        if self.address is not None and self.workers is None:
            raise ValueError(
                "--address needs --workers: how many candidates are trained at once on the cluster"
            )

    def _check_training(self) -> None:
        """Refuses what belongs to training where nothing is trained, and what contradicts itself."""
        elsewhere = set(STEPPING) if self._times_steps else set()
        if self.executor != "inline":  # which ends whatever takes too long
            elsewhere |= {"candidate_timeout", "train_threads"}
        belongs = [name for name in (*TRAINING, *PROXY) if name not in elsewhere]
        if self.data is None and (given := [name for name in belongs if getattr(self, name)]):
            raise ValueError(f"{_flags(given)} belongs to --data: without data nothing is trained")
        given = [name for name in ("supernet_epochs", "supernet_sampling") if getattr(self, name) is not None]
        if given and self.accuracy != "supernet":
            raise ValueError(f"{_flags(given)} belongs to --accuracy supernet")
        if self.supernet_sampling == "controller" and (len(self.targets) > 1 or self._measures):
            raise ValueError(
                "--supernet-sampling controller trains most what is best for one target with costs that are known "
                "beforehand; it does not go with several targets or with --latency measure"
            )
        if self.epochs is not None and self.accuracy == "supernet":
            raise ValueError(
                "--epochs is for candidates that are trained one by one; with --accuracy supernet the shared weights "
                "have --supernet-epochs, and the finalists --final-epochs"
            )
        known = SHARED if self.accuracy == "supernet" else ()
        given = [
            name for name in PROXY if getattr(self, name) and name not in known and name not in elsewhere
        ]
        if given and self.accuracy not in (None, "proxy"):
            raise ValueError(f"{_flags(given)} belongs to --accuracy proxy, not to {self.accuracy}")
        if self.rank_check is not None and 0 < self.rank_check < LEAST_RANKED:
            raise ValueError(
                f"--rank-check takes at least {LEAST_RANKED} networks, or 0 for none; got {self.rank_check}"
            )
        if self.halving is None:
            return
        if (self.proxy_seeds or 1) > 1:
            raise ValueError("--halving stops one training of a candidate; it does not go with --proxy-seeds")
        epochs = self.epochs or DEFAULT_EPOCHS
        if epochs < self.halving:
            raise ValueError(
                f"--halving {self.halving} scores candidates after a {self.halving}th of their epochs and needs at "
                f"least {self.halving}; got {epochs} (--epochs)"
            )

    @property
    def _times_steps(self) -> bool:
        """Whether training steps are timed, with data or without."""
        return self.reward == "training-aware"

    @property
    def _measures(self) -> bool:
        """Whether the latency of every candidate is measured."""
        return self.target_kind == "latency" and self.latency == "measure"

    @property
    def target_kind(self) -> Literal["latency", "madds"]:
        """What the reward's cost is."""
        return "latency" if self.target_latency is not None else "madds"

    @property
    def targets(self) -> tuple[tuple[str, float], ...]:
        """As `parse_targets`, in the order given."""
        return parse_targets(self.target_latency or self.target_madds or "", self.target_kind)

    @property
    def quantile(self) -> float:
        """Of each latency, by which the reward and the hard limit judge it."""
        return DEFAULT_QUANTILE if self.latency_quantile is None else self.latency_quantile

    def resolved(self) -> "SearchConfig":
        """With the defaults filled in that depend on whether there is data."""
        trains = self.data is not None
        steps = trains or self._times_steps
        shares = self.accuracy == "supernet"
        many = DEFAULT_TRIALS_WITH_SUPERNET if shares else DEFAULT_TRIALS_WITH_DATA
        trials = self.trials or (many if trains else DEFAULT_TRIALS)
        measures = self._measures
        share = None if self.baseline is None else self.baseline_share or DEFAULT_BASELINE_SHARE
        mine = trials * (1 - (share or 0.0))  # a baseline's are not told
        few = mine <= MANY_TRIALS and not measures
        controller = self.controller or (DEFAULT_CONTROLLER if few else CONTROLLER_FOR_MANY)
        batch = DEFAULT_BATCH_OF_FEW if few else DEFAULT_BATCH
        batch = DEFAULT_BATCH_WITH_DATA if trains else batch
        workers = self.workers or 1
        batch = -(-batch // workers) * workers  # a batch leaves no worker idle from the start
        epochs = (self.epochs or DEFAULT_EPOCHS) if trains else None  # of shared weights, what finals go by
        return self.model_copy(
            update={
                "trials": trials,
                "ask_batch": self.ask_batch or batch,
                "controller": controller,
                "baseline_share": share,
                "accuracy": self.accuracy or ("proxy" if trains else "imagenet-surrogate"),
                "latency_quantile": None if self.target_latency is None else self.quantile,
                "epochs": None if shares else epochs,
                "supernet_sampling": (self.supernet_sampling or "uniform") if shares else None,
                "supernet_epochs": (self.supernet_epochs or DEFAULT_SUPERNET_EPOCHS) if shares else None,
                "final_epochs": self.final_epochs or (LONGER * epochs if epochs else None),
                "finals": self.finals or (DEFAULT_FINALS if trains else None),
                "train_device": self.train_device or ("auto" if steps else None),
                "train_threads": self.train_threads or (DEFAULT_TRAIN_THREADS if steps else None),
            }
        )

    def to_toml(self) -> dict[str, Any]:
        """Only what is set, for `tomli_w`."""
        return self.model_dump(exclude_none=True)


def make_config(values: Mapping[str, Any]) -> SearchConfig:
    """A checked configuration.

    Raises:
        InputError: every problem in one message, unknown keys with the nearest valid one.
    """
    try:
        return SearchConfig.model_validate(dict(values))
    except ValidationError as error:
        raise InputError("; ".join(_explain(item) for item in error.errors())) from error


def read_config_file(path: Path) -> dict[str, Any]:
    """The keys of a TOML file, dashes as underscores.

    Raises:
        InputError: unreadable, not TOML, or with unknown keys (all of them, each with the nearest valid one).
    """
    try:
        data = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"cannot read the configuration {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}.") from error
    values = {key.replace("-", "_"): value for key, value in data.items()}
    unknown = [key for key in values if key not in SearchConfig.model_fields]
    if unknown:
        raise InputError(f"{path}: {'; '.join(map(_unknown_key, unknown))}.")
    return values


def _flags(names: Sequence[str]) -> str:
    """As typed; more than one joined by commas."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _unknown_key(key: str) -> str:
    near = difflib.get_close_matches(key, SearchConfig.model_fields, n=1, cutoff=0.5)
    guess = f", did you mean {near[0]!r}?" if near else f"; known are {', '.join(SearchConfig.model_fields)}"
    return f"unknown key {key!r}{guess}"


def _explain(problem: Any) -> str:
    where = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return _unknown_key(where)
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    return f"--{where.replace('_', '-')}: {problem['msg']}, got {problem['input']!r}"
