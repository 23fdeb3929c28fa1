"""A whole search on shared weights, and what of the command line goes with it."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from commands import MODELS, mnas, result_of

from mnas.config import DEFAULT_SUPERNET_EPOCHS, make_config
from mnas.errors import InputError
from mnas.supernet.train import Training
from mnas.training import TrainingError

SPACE = """
stem_channels = 8
head_channels = 16
stem_stride = 1

[[stages]]
op = "mbconv"
kernel = [3, 5]
stride = 2
out_channels = 8
repeats = [1, 2]
expansion = [2, 3]

[[stages]]
op = "mbconv"
kernel = 3
stride = 2
out_channels = 16
repeats = [1, 2]
expansion = 2
"""
SEARCH = (
    *("search", "--space", "own.toml", "--data", "digits", "--resolution", "8", "--accuracy", "supernet"),
    *(
        "--target-latency",
        "1s",
        "--latency",
        "models:Latency",
        "--proxy-images",
        "200",
        "--supernet-epochs",
        "1",
    ),
    *("--trials", "6", "--finals", "1", "--final-epochs", "1", "--out", "run"),
)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "models.py").write_text(MODELS)
    (tmp_path / "own.toml").write_text(SPACE)
    return tmp_path


@pytest.mark.slow
def test_a_search_on_shared_weights(work: Path) -> None:
    done = mnas(work, *SEARCH, "--supernet-sampling", "controller", "--json")
    result = result_of(done)
    assert (result["status"], result["trials"]) == ("done", 6)
    source = result["baseline"]["proxy_source"]
    assert "shared weights trained 1 epoch on digits (200 images), scored on 359 validation images" in source
    assert (
        "trained 1 epoch on digits" in result["baseline"]["accuracy_source"]
    )  # by itself, from the beginning
    # the estimate of the shared weights comes before their training, which comes before the search
    order = ["preparing supernet once takes about", "shared weights: epoch 1 of 1", "searching own"]
    places = [done.stderr.index(text) for text in order]
    assert places == sorted(places)
    assert "scoring a candidate takes" in done.stderr
    assert (work / "run" / "supernet" / "supernet.safetensors").is_file()
    page = (work / "run" / "report.html").read_text()
    assert "the plug-in supernet" not in page


def test_a_search_that_is_resumed_loads_the_weights(work: Path) -> None:
    """Interrupted after two trials, which are not scored again."""
    model = """
from mnas.supernet import SupernetAccuracy

def accuracy(space, data):
    made = SupernetAccuracy(space, data, supernet_epochs=1, proxy_images=200)
    made.evaluate = few(made.evaluate)
    return made

def few(evaluate, left=[2]):
    def stops(specs, *, seed):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return evaluate(specs, seed=seed)
    return stops
"""
    (work / "stops.py").write_text(model)
    flags = [*SEARCH[:8], "stops:accuracy", *SEARCH[9:13], *SEARCH[17:]]
    interrupted = mnas(work, *flags, code=130)
    assert "interrupted" in interrupted.stderr
    assert "shared weights: epoch" in interrupted.stderr
    file = work / "run" / "supernet" / "supernet.safetensors"
    before = file.stat().st_mtime_ns
    (work / "stops.py").write_text(model.replace("[2]", "[4]"))
    again = mnas(
        work, "resume", "run", "--latency", "models:Latency", "--accuracy", "stops:accuracy", "--json"
    )
    assert result_of(again)["trials"] == 6
    assert file.stat().st_mtime_ns == before
    assert "shared weights: epoch" not in again.stderr


def test_what_was_trained_is_kept_where_a_search_fails_before_its_first_trial(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of room after the first of two epochs; what fails before anything is kept leaves nothing."""
    end_epoch = Training._end_epoch

    def fails(at: int) -> Callable[[Training, int], None]:
        def fail(self: Training, epoch: int) -> None:
            if epoch == at:
                raise TrainingError("made up")
            end_epoch(self, epoch)

        return fail

    flags = ["2" if before == "--supernet-epochs" else flag for before, flag in pairwise(("", *SEARCH))]
    monkeypatch.setattr(Training, "_end_epoch", fails(0))
    mnas(work, *flags, code=1)
    assert not (work / "run").exists()
    monkeypatch.setattr(Training, "_end_epoch", fails(1))
    done = mnas(work, *flags, code=1)
    assert "what was prepared before the first trial is kept in" in done.stderr
    assert "mnas resume" in done.stderr
    monkeypatch.setattr(Training, "_end_epoch", end_epoch)
    again = mnas(work, "resume", "run", "--latency", "models:Latency", "--json")
    assert result_of(again)["trials"] == 6
    assert "going on after step 7 of 14" in again.stderr


def test_a_space_that_is_not_expressed_is_refused_before_anything_is_written(work: Path) -> None:
    flags = [
        flag.replace("own.toml", "regnet").replace("8", "32") if flag in ("own.toml", "8") else flag
        for flag in SEARCH
    ]
    done = mnas(work, *flags, code=2)
    assert "shared weights do not express the space 'regnet'" in done.stderr
    assert "--accuracy proxy" in done.stderr
    assert not (work / "run").exists()


def test_defaults() -> None:
    config = make_config({"target_madds": "1M", "data": "digits", "accuracy": "supernet"}).resolved()
    assert config.supernet_epochs == DEFAULT_SUPERNET_EPOCHS
    assert (config.trials, config.epochs, config.final_epochs) == (300, None, 24)
    assert config.supernet_sampling == "uniform"
    assert make_config(config.to_toml()) == config  # as a run stores it


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": None}, "--accuracy supernet trains weights that candidates share and needs --data"),
        ({"accuracy": "proxy", "supernet_epochs": 3}, "--supernet-epochs belongs to --accuracy supernet"),
        ({"data": None, "accuracy": None, "supernet_epochs": 3}, "--supernet-epochs belongs to --data"),
        (
            {"accuracy": "proxy", "supernet_sampling": "uniform"},
            "--supernet-sampling belongs to --accuracy supernet",
        ),
        ({"supernet_sampling": "controller", "target_madds": "1M,2M"}, "does not go with several targets"),
        ({"supernet_sampling": "most"}, "--supernet-sampling: .*'uniform' or 'controller'"),
        ({"epochs": 3}, "the shared weights have --supernet-epochs"),
        ({"halving": 2}, "--halving belongs to --accuracy proxy, not to supernet"),
        ({"proxy_width": 0.5, "proxy_seeds": 2}, "--proxy-width, --proxy-seeds belongs to --accuracy proxy"),
        ({"supernet_epochs": 0}, "--supernet-epochs: .*greater than or equal to 1"),
    ],
)
def test_flags_that_do_not_go_together(changes: dict[str, object], reason: str) -> None:
    values = {"target_madds": "1M", "data": "digits", "accuracy": "supernet", **changes}
    with pytest.raises(InputError, match=re.compile(reason)):
        make_config({name: value for name, value in values.items() if value is not None})
