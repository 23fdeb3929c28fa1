"""`mnas scale search`: a whole one on images, one that is killed, and what is refused."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from commands import MODELS, environment, mnas, result_of, write_photos

from mnas.accuracy.proxy import ProxyAccuracy
from mnas.data import ImageData, Split
from mnas.errors import InputError, MeasurementError
from mnas.latency import Conditions
from mnas.protocols import AccuracyEstimate
from mnas.scalesearch import clock, run
from mnas.scalesearch.candidates import Candidate, fitted_base
from mnas.scalesearch.grid import GROWTH, grid
from mnas.search.ruler import Ruler
from mnas.search_space import NetworkSpec, StageSpec, network_cost
from mnas.training import TrainingError
from mnas.zoo import published

TINY = NetworkSpec(
    8,
    (StageSpec("mbconv", 3, 1, 8, 2, 2), StageSpec("mbconv", 3, 2, 16, 3, 3), StageSpec("conv", 3, 2, 24, 2)),
    64,
    resolution=64,
    num_classes=3,
)
SEARCH = (
    "scale",
    "search",
    "tiny.json",
    "--data",
    "photos",
    "--points",
    "10",
    "--seeds",
    "1",
    "--epochs",
    "1",
)
QUICK = ("--phi", "1", "--no-measure", "--json")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "tiny.json").write_text(json.dumps(TINY.to_dict()))
    write_photos(tmp_path / "photos", 64, 64, "png")
    return tmp_path


def trainings(folder: Path) -> int:
    """How many are in the store, which another process may be writing."""
    try:
        with sqlite3.connect(f"file:{folder / 'points.db'}?mode=ro", uri=True) as store:
            return int(store.execute("SELECT count(*) FROM events WHERE kind = 'trained'").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_a_search_that_is_killed_ends_as_one_that_was_not(work: Path) -> None:
    done = mnas(work, *SEARCH, *QUICK, "--out", "whole")
    assert re.search(r"11 trainings of 1 epoch on \d+ images will take about", done.stderr)
    assert "mnas scale search --resume" in done.stderr
    whole = result_of(done)
    command = [sys.executable, "-m", "mnas", *SEARCH, *QUICK, "--out", "killed"]
    child = subprocess.Popen(command, cwd=work, env=environment(), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while trainings(work / "killed") < 4 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = trainings(work / "killed")
    assert 4 <= before < 11
    resumed = result_of(mnas(work, "scale", "search", "--resume", "killed", "--json"))
    assert trainings(work / "killed") == 11
    for name in ("points", "surface", "best", "gain", "verdict", "recommended"):
        assert resumed[name] == whole[name]


def test_what_a_search_writes(work: Path) -> None:
    result = result_of(mnas(work, *SEARCH, *QUICK, "--out", "out"))
    base = network_cost(TINY.__class__.from_dict(json.loads((work / "out" / "base.json").read_text())))
    # Images of 64 pixels, read at 64 by the point of most resolution, 1.3857 times the base's: 46.
    assert result["base"]["resolution"] == 46
    assert result["budget"] == {"kind": "madds", "value": pytest.approx(GROWTH * base.madds)}
    points = result["points"]
    assert len(points) == 11
    assert all(point["resolution"] <= 64 for point in points)
    assert all(
        point["resolution"] >= 46 for point in points
    )  # no point is grown by shrinking another dimension
    # What misses the budget by more than a tenth stays out of the surface, and no two points are one network.
    left_out = [point for point in points if not point["in_fit"]]
    for point in points:
        assert point["in_fit"] == (abs(point["madds"] / result["budget"]["value"] - 1) <= 0.1)
    assert len({(point["params"], point["madds"], point["resolution"]) for point in points}) == 11
    assert len(left_out) == sum(text.count("% of the budget") for text in result["warnings"])
    assert points[0]["coefficients"] == {"alpha": 1.2, "beta": 1.1, "gamma": 1.15}
    assert "Short trainings favour width" in result["caveat"]
    kept = json.loads((work / "out" / "scaling.json").read_text())
    assert kept == result
    first, grown = result["family"]["members"]
    assert (first["resolution"], grown["phi"]) == (64, 1.0)
    assert result["family"]["coefficients"] == pytest.approx(result["recommended"])
    assert (work / "out" / "family" / "phi-1.onnx").is_file()
    page = (work / "out" / "scaling.html").read_text()
    assert "Short trainings favour width" in page
    assert "https://" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


def test_a_family_that_cannot_be_grown_loses_nothing(work: Path) -> None:
    flags = ("--to", "0.0001ms", "--json", "--out", "out")
    done = mnas(work, *SEARCH, *flags, quickly=True)
    result = result_of(done)
    assert result["family"] is None
    assert "no family was grown by them: the base takes" in done.stderr
    assert "mnas scale tiny.json --alpha" in done.stderr
    assert json.loads((work / "out" / "scaling.json").read_text()) == result
    assert "The family" not in (work / "out" / "scaling.html").read_text()


def test_a_training_that_fails_leaves_its_point_out_and_is_not_done_again(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate, seen = ProxyAccuracy.evaluate, []

    def failing(self: ProxyAccuracy, specs: list[NetworkSpec], *, seed: int) -> list[AccuracyEstimate]:
        seen.extend(specs)
        if len(seen) == 3:
            raise TrainingError("the loss is nan")
        return evaluate(self, specs, seed=seed)

    monkeypatch.setattr(ProxyAccuracy, "evaluate", failing)
    done = mnas(work, *SEARCH, *QUICK, "--points", "15", "--out", "out", quickly=True)
    result = result_of(done)
    third = result["points"][2]
    assert (third["accuracy"], third["accuracies"], third["in_fit"]) == (None, [None], False)
    assert any("the first, of point 3: the loss is nan" in text for text in result["warnings"])
    assert "failed" in (work / "out" / "scaling.html").read_text()
    count = len(seen)
    again = mnas(work, "scale", "search", "--resume", "out", quickly=True)
    assert len(seen) == count
    assert "failed" in again.stdout


def test_a_measurement_that_fails_says_how_to_go_on(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(*_: object) -> None:
        raise MeasurementError("the machine was too noisy to say")

    monkeypatch.setattr(run, "_candidates", noisy)
    done = mnas(work, *SEARCH, *QUICK, "--out", "out", code=1, quickly=True)
    assert "too noisy to say" in done.stderr
    assert f"is kept in {work / 'out'}. Go on with: mnas scale search --resume {work / 'out'}" in " ".join(
        done.stderr.split()
    )


def milliseconds(monkeypatch: pytest.MonkeyPatch, level: list[float]) -> list[int]:
    """A device on which a block costs as much as 20,000 multiply-adds, in place of measuring; how often it was asked.

    Args:
        monkeypatch: of the test.
        level: of its speed, one for each round and then the last one; ratios are of the reference beside it.
    """
    asked: list[int] = []

    def spread(networks: dict[str, NetworkSpec], **_: Any) -> SimpleNamespace:
        now = level[min(len(asked), len(level) - 1)]
        asked.append(len(networks))
        found = []
        for name, spec in networks.items():
            ratio = now * (network_cost(spec).madds / 1e7 + 0.002 * sum(s.repeats for s in spec.stages))
            found.append(
                SimpleNamespace(
                    name=name, status="ok", ratio=ratio, ratio_low=ratio, ratio_high=ratio, raw_ms=1.0
                )
            )
        return SimpleNamespace(measurements=found, warnings=())

    def ruler(spec: NetworkSpec, conditions: Conditions, *_: object) -> Ruler:
        return Ruler(conditions, spec, reference_ms=10.0)

    monkeypatch.setattr(clock, "measure_spread", spread)
    monkeypatch.setattr(run, "make_ruler", ruler)
    return asked


def test_a_budget_in_milliseconds(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = milliseconds(monkeypatch, [1.0, 1.3, 0.8, 1.1])
    done = mnas(work, *SEARCH, *QUICK, "--points", "15", "--budget-ms", "2.5x", "--out", "out", quickly=True)
    result = result_of(done)
    base = NetworkSpec.from_dict(json.loads((work / "out" / "base.json").read_text()))
    base_ms = 10 * (network_cost(base).madds / 1e7 + 0.002 * sum(s.repeats for s in base.stages))
    assert result["budget"] == {"kind": "latency", "value": pytest.approx(2.5 * base_ms)}
    assert f"the base takes {base_ms:.3g} ms; points are grown to 2.50 times that" in done.stderr
    points = result["points"]
    assert sum(point["in_fit"] for point in points) > 6
    for point in points:
        share = point["latency_ms"] / result["budget"]["value"]
        assert point["in_fit"] == (abs(share - 1) <= 0.1)
        # The device's speed changed from round to round; milliseconds are those of its beginning.
        if point["in_fit"]:
            assert point["latency_source"] == "measured on this device"
    used = [point["latency_ms"] for point in points if point["in_fit"]]
    grown = f"16 points, {len(used)} of them in the surface, grown to {2.5 * base_ms:.3g} ms as measured"
    assert f"{grown} ({min(used):.3g} to {max(used):.3g})" in (work / "out" / "scaling.html").read_text()
    rounds, count = len(asked), trainings(work / "out")
    again = result_of(mnas(work, "scale", "search", "--resume", "out", "--json", quickly=True))
    assert again["points"] == points
    assert (len(asked), trainings(work / "out")) == (rounds, count)


def test_a_budget_below_the_base_and_too_few_points_are_one_message(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    milliseconds(monkeypatch, [1.0])
    flags = (*SEARCH, *QUICK, "--out", "out", "--budget-ms")
    done = mnas(work, *flags, "0.001ms", code=2, quickly=True)
    assert re.search(
        r"the base takes [\d.]+ ms, not less than --budget-ms 0.001ms: give about [\d.]+ms, or 2x",
        done.stderr,
    )
    done = mnas(work, *flags[:-2], "few", "--budget-ms", "1.05x", code=2, quickly=True)
    assert re.search(r"only \d points are of use, and a surface needs 7", done.stderr)
    # Nothing that could go on is left behind.
    assert not (work / "out").exists()
    assert not (work / "few").exists()
    mnas(work, *SEARCH, *QUICK, "--budget-ms", "0.001ms", code=2, quickly=True)
    assert not (work / "scalings").exists()


def test_too_few_points_where_some_were_too_noisy_can_be_tried_again(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    milliseconds(monkeypatch, [1.0])
    grow, asked = run.grow_candidates, []

    def noisy(*arguments: Any, **rest: Any) -> list[Candidate]:
        asked.append(list(arguments[1]))
        return grow(*arguments, **rest)[:4] if len(asked) == 1 else grow(*arguments, **rest)

    monkeypatch.setattr(run, "grow_candidates", noisy)
    flags = ("--points", "15", "--budget-ms", "2.5x", "--out", "out")
    done = mnas(work, *SEARCH, *QUICK, *flags, code=2, quickly=True)
    assert re.search(r"only \d points are of use.*12 have no network", " ".join(done.stderr.split()))
    assert "Go on with: mnas scale search --resume" in " ".join(done.stderr.split())
    result = result_of(mnas(work, "scale", "search", "--resume", "out", "--json", quickly=True))
    assert asked == [list(range(16)), list(range(4, 16))]
    assert len({(point["params"], point["madds"]) for point in result["points"]}) == 16


def test_a_folder_that_is_there_is_gone_on_with_by_its_own_command(work: Path) -> None:
    (work / "out").mkdir()
    (work / "out" / "scaling.toml").write_text("format = 1")
    done = mnas(work, *SEARCH, *QUICK, "--out", "out", code=2)
    assert "Continue it with: mnas scale search --resume" in " ".join(done.stderr.split())


def test_what_is_timed_is_kept_when_a_search_is_killed_between_rounds(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = milliseconds(monkeypatch, [1.0])
    spread = clock.measure_spread

    def dying(networks: dict[str, NetworkSpec], **rest: Any) -> SimpleNamespace:
        if len(asked) == 3:
            raise KeyboardInterrupt
        return spread(networks, **rest)

    monkeypatch.setattr(clock, "measure_spread", dying)
    flags = ("--points", "15", "--budget-ms", "2.5x", "--out", "out")
    stopped = mnas(work, *SEARCH, *QUICK, *flags, code=None, quickly=True)
    assert "mnas scale search --resume" in stopped.stderr
    monkeypatch.setattr(clock, "measure_spread", spread)
    resumed = result_of(mnas(work, "scale", "search", "--resume", "out", "--json", quickly=True))
    whole = result_of(mnas(work, *SEARCH, *QUICK, *flags[:-1], "whole", quickly=True))
    assert resumed["budget"] == whole["budget"]
    assert sum(point["in_fit"] for point in resumed["points"]) > 6


def test_milliseconds_of_a_plug_in_are_not_measured_here(work: Path) -> None:
    (work / "models.py").write_text(MODELS)
    flags = ("--latency", "models:Latency", "--accuracy", "models:Accuracy", "--trials", "20", "--out", "run")
    mnas(work, "search", "--target-latency", "30ms", *flags)
    done = mnas(work, "scale", "search", "run", "--data", "photos", "--budget-ms", "2x", code=2)
    said = " ".join(done.stderr.split())
    assert "this run's latencies are those of 'models:Latency'" in said
    assert "mnas scale search run/baseline.json" in said
    assert not (work / "scalings").exists()


def test_a_damaged_measurement_is_one_message(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    milliseconds(monkeypatch, [1.0])
    mnas(work, *SEARCH, *QUICK, "--points", "15", "--budget-ms", "2.5x", "--out", "out", quickly=True)
    with sqlite3.connect(work / "out" / "points.db") as store:
        store.execute("UPDATE events SET payload = '{}' WHERE kind = 'timed'")
    store.close()
    done = mnas(work, "scale", "search", "--resume", "out", code=2, quickly=True)
    assert re.search(
        r"points.db is damaged \(event \d+: 'spec'\). Begin anew with --out", " ".join(done.stderr.split())
    )


def test_other_images_than_a_search_began_with_are_refused(work: Path) -> None:
    mnas(work, *SEARCH, *QUICK, "--out", "out", quickly=True)
    next((work / "photos").rglob("*.png")).unlink()
    done = mnas(work, "scale", "search", "--resume", "out", code=2, quickly=True)
    assert "does not hold the images that this search began with" in done.stderr
    assert trainings(work / "out") == 11


def images(size: int) -> ImageData:
    labels = np.arange(6) % 3
    split = Split(np.zeros((6, 3, size, size), np.uint8), labels.astype(np.int64))
    return ImageData("made up", ("a", "b", "c"), size, split, split, split)


def test_the_base_is_lowered_so_that_no_point_exceeds_the_images() -> None:
    b0 = published("efficientnet_b0")
    # 64 / 1.3857 is 46.2, 32 / 1.3857 is 23.1, 310 / 1.3857 is 223.7: even numbers at or below.
    for size, resolution in ((64, 46), (32, 22), (310, 222), (311, 224), (500, 224)):
        base = fitted_base(b0, images(size), grid())
        assert (base.resolution, base.num_classes) == (resolution, 3)
        assert base.resolution * 1.92027**0.5 <= max(size, 224 * 1.92027**0.5)
    with pytest.raises(
        InputError, match=r"images of 11 pixels are too small: .* Use images of at least 12 pixels"
    ):
        fitted_base(b0, images(11), grid())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tiny.json",), "give --data FOLDER. Without data nothing is known"),
        ((), "name a network and images"),
        (("tiny.json", "--data", "photos", "--points", "7"), "10 to 120 points, got 7 (--points)"),
        (("tiny.json", "--data", "photos", "--seeds", "0"), "--seeds must be at least 1"),
        (("tiny.json", "--data", "photos", "--phi", "1", "--to", "2ms"), "one of --phi, --to"),
        (("tiny.json", "--data", "photos", "--budget-ms", "20"), "has no unit"),
        (("tiny.json", "--data", "photos", "--budget-ms", "0.9x"), "grows nothing: give more than 1x"),
        (("tiny.json", "--data", "digits"), "images of 8 pixels are too small"),
        (("tinny.json", "--data", "photos"), "neither a run directory"),
        (("--resume", "photos"), "is no search for coefficients"),
        (("--resume", "photos", "--seeds", "3"), "give no other flag"),
    ],
)
def test_what_cannot_be_searched_is_refused(work: Path, arguments: tuple[str, ...], words: str) -> None:
    assert words in mnas(work, "scale", "search", *arguments, code=2).stderr
    assert not (work / "scalings").exists()


def test_a_damaged_folder_is_one_message(work: Path) -> None:
    folder = work / "broken"
    folder.mkdir()
    (folder / "base.json").write_text(json.dumps(TINY.to_dict()))
    for text, words in (
        ("format = 2", "expected format 1"),
        ("format = 1\nsource = 'tiny.json'\ndata = 'photos'\nhue = 1", "unknown keys: hue"),
        ("format = 1\nsource = 'tiny.json'\ndata = 'photos'\nseeds = 'two'", "is damaged"),
        ("format = ", "is not TOML"),
    ):
        (folder / "scaling.toml").write_text(text)
        assert words in mnas(work, "scale", "search", "--resume", "broken", code=2).stderr
