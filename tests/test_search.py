"""Whole searches through the command line, with models that answer at once."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from commands import MODELS, SEARCH, environment, mnas, mnas_process, result_of

from mnas.data import load_data
from mnas.rundir import RunDirectory
from mnas.search_space import NetworkSpec, network_cost


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "models.py").write_text(MODELS)
    return tmp_path


Here = Callable[..., tuple[int, str]]


@pytest.fixture
def here(work: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    """Runs a command that fails; its exit code and what it says. The test works in the same folder."""
    monkeypatch.chdir(work)

    def run(*arguments: str) -> tuple[int, str]:
        done = mnas(work, *arguments, code=None)
        return done.returncode, done.stderr

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of one small finished search, in `run`, and what it printed; tests change only copies."""
    work = tmp_path_factory.mktemp("finished")
    (work / "models.py").write_text(MODELS)
    return work, mnas(work, *SEARCH, "--trials", "320", "--out", "run").stdout


@pytest.fixture
def copied(finished: tuple[Path, str], work: Path) -> Path:
    """A folder with a copy of that run."""
    shutil.copytree(finished[0] / "run", work / "run")
    return work


def stored_keys(run: Path) -> list[str]:
    with sqlite3.connect(run / "trials.db") as connection:
        rows = connection.execute(
            "SELECT payload FROM events WHERE kind = 'asked' ORDER BY number"
        ).fetchall()
    return [trial["key"] for (payload,) in rows for trial in json.loads(payload)["trials"]]


def test_a_search_ends_with_a_network_within_the_target_and_files_that_run(work: Path) -> None:
    result = result_of(mnas(work, *SEARCH, "--trials", "640", "--out", "run", "--json"))
    baseline = result["baseline"]
    assert result["status"] == "done"
    assert result["target"] == {"kind": "latency", "value": 20.0}
    assert result["trials"] == 640
    assert result["scaled"] is None
    assert 15.0 < baseline["latency_ms"] <= 20.0
    assert baseline["latency_raw_ms"] is None
    spec = NetworkSpec.from_dict(json.loads((work / "run" / "baseline.json").read_text()))
    cost = network_cost(spec)
    assert (baseline["params"], baseline["madds"], baseline["activations"]) == (
        cost.params,
        cost.madds,
        cost.activations,
    )
    assert baseline["latency_ms"] == pytest.approx(cost.madds / 1e7)
    model = onnx.load(work / "run" / "baseline.onnx")
    assert {"weights": "untrained weights"}.items() <= {p.key: p.value for p in model.metadata_props}.items()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.get_outputs()[0].shape == [1, 1000]
    for name in ("config.toml", "env.json", "trials.db", "result.json"):
        assert (work / "run" / name).is_file()


def test_three_targets_give_three_winners_and_better_ones_cost_more(work: Path) -> None:
    found = []
    for target in ("8ms", "20ms", "40ms"):
        search = ("search", "--target-latency", target, *SEARCH[3:])
        found.append(
            result_of(mnas(work, *search, "--trials", "1280", "--out", f"run-{target}", "--json"))["baseline"]
        )
    assert len({b["architecture"] for b in found}) == 3
    assert found[0]["accuracy"] < found[1]["accuracy"] < found[2]["accuracy"]
    assert [b["latency_ms"] <= ms for b, ms in zip(found, (8, 20, 40), strict=True)] == [True] * 3


def test_a_search_judged_at_a_quantile_says_so_and_keeps_it(work: Path) -> None:
    search = (
        "search",
        "--target-latency",
        "20ms",
        "--latency",
        "models:Unsure",
        "--accuracy",
        "models:Accuracy",
    )
    shown = mnas(work, *search, "--latency-quantile", "0.9", "--trials", "320", "--out", "run").stdout
    assert ", judged at the 90% quantile of latency." in shown
    assert "latency_quantile = 0.9" in (work / "run" / "config.toml").read_text()
    result = json.loads((work / "run" / "result.json").read_text())
    assert result["latency_quantile"] == 0.9
    assert (result["refits"], result["drift"]) == ([], None)
    # Known to a factor of 1.2, so at .9 a network counts 1.2^.7791 = 1.1526 times: nothing above 17.35 ms is rewarded
    # in full, and where a search for the estimate would end at 20 / 1.2 = 16.67 at the most, so does this one.
    with sqlite3.connect(work / "run" / "trials.db") as connection:
        rows = connection.execute("SELECT payload FROM events WHERE kind = 'result'").fetchall()
    for (payload,) in rows:
        trial = json.loads(payload)
        over = max(1.0, 1.1526 * trial["metrics"]["latency_ms"] / 20.0)
        assert trial["reward"] == pytest.approx(trial["metrics"]["accuracy"] / over, rel=1e-4)
    report = (work / "run" / "report.html").read_text()
    assert "Each was judged at the 90\N{NO-BREAK SPACE}% quantile of its latency" in report


def test_the_summary_names_run_conditions_and_next_command(finished: tuple[Path, str]) -> None:
    shown = finished[1]
    for words in (
        "320 networks",
        "20 ms",
        "1 thread",
        "predicted by models:Latency",
        "untrained weights",
        "made up for a test",
        "<- baseline",
        "mnas export",
    ):
        assert words in shown


def test_a_killed_search_resumes_to_the_same_trials_and_result(work: Path) -> None:
    arguments = ["--trials", "1280", "--json", "--seed", "3"]
    search = [
        "search",
        "--target-latency",
        "20ms",
        "--accuracy",
        "models:Accuracy",
        "--latency",
        "models:KillsItself",
    ]
    (work / "died").touch()
    whole = result_of(mnas(work, *search, *arguments, "--out", "whole"))
    (work / "died").unlink()
    mnas_process(work, *search, *arguments, "--out", "killed", code=-signal.SIGKILL)
    kept = stored_keys(work / "killed")
    assert 0 < len(kept) < 1280
    status = result_of(mnas(work, "status", "killed", "--json"))
    assert status["status"] == "unfinished"
    assert status["trials_by_status"]["done"] == len(kept)
    flags = ("--accuracy", "models:Accuracy", "--latency", "models:KillsItself")
    resumed = result_of(mnas(work, "resume", "killed", *flags, "--json"))
    assert stored_keys(work / "killed") == stored_keys(work / "whole")
    assert len(set(stored_keys(work / "killed"))) == 1280
    for name in ("baseline", "trials", "best_reward", "finalists"):
        assert resumed[name] == whole[name]
    again = result_of(mnas(work, "resume", "killed", *flags, "--json"))
    assert again == resumed


def test_expensive_trials_are_kept_one_by_one_through_kills(work: Path) -> None:
    search = [
        sys.executable,
        "-m",
        "mnas",
        *SEARCH[:5],
        "--accuracy",
        "models:Slow",
        "--trials",
        "20",
        "--ask-batch",
        "10",
    ]
    child = subprocess.Popen(
        [*search, "--out", "run"], cwd=work, env=environment(), stderr=subprocess.DEVNULL
    )
    calls = work / "calls.txt"
    deadline = time.monotonic() + 60
    while not (calls.exists() and len(calls.read_text().splitlines()) >= 15) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = calls.read_text().splitlines()
    result = result_of(mnas(work, "resume", "run", *SEARCH[3:5], "--accuracy", "models:Slow", "--json"))
    seeds = calls.read_text().splitlines()
    assert result["trials"] == 20
    assert len(set(seeds)) == 20
    # Results of cheaper trials than a second are committed together: here at most eleven of a tenth of a second.
    assert len(seeds) - 20 <= 11
    assert len(before) >= 15


def test_ctrl_c_keeps_everything_and_says_how_to_go_on(work: Path) -> None:
    search = [
        sys.executable,
        "-m",
        "mnas",
        *SEARCH[:5],
        "--accuracy",
        "models:Slow",
        "--trials",
        "20",
        "--json",
    ]
    child = subprocess.Popen(
        [*search, "--out", "run"],
        cwd=work,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (work / "calls.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130
    result = json.loads(out)
    assert result["status"] == "interrupted"
    assert result["baseline"] is None
    assert "mnas resume" in err
    assert "--latency models:Latency --accuracy models:Slow" in err
    assert "Traceback" not in err
    calls = len((work / "calls.txt").read_text().splitlines())
    flags = (*SEARCH[3:5], "--accuracy", "models:Slow")
    assert result_of(mnas(work, "resume", "run", *flags, "--json"))["trials"] == 20
    assert len((work / "calls.txt").read_text().splitlines()) - calls <= 20 - calls + 1


def test_failed_trials_are_kept_as_failed_and_never_win(work: Path) -> None:
    search = (*SEARCH[:5], "--accuracy", "models:Failing", "--trials", "40", "--out", "run", "--json")
    result = result_of(mnas(work, *search))
    assert result["failed"] > 10
    assert result["trials"] == 40
    assert result["status"] == "done"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("Raises", "ConnectionError: the board does not answer"),
        ("NotANumber", "nan"),
        ("TooFew", "estimates"),
        ("Negative", "-1.0"),
    ],
)
def test_a_failing_predictor_ends_the_search_with_its_name(work: Path, model: str, words: str) -> None:
    search = (
        "search",
        "--target-latency",
        "20ms",
        "--latency",
        f"models:{model}",
        "--accuracy",
        "models:Accuracy",
    )
    error = mnas(work, *search, "--out", "run", code=1).stderr
    assert f"models:{model}" in error
    assert words in error
    if model == "Raises":
        assert "mnas resume" in error
        assert len(stored_keys(work / "run")) > 0
    else:
        assert not (work / "run").exists()


def test_an_accuracy_model_that_always_fails_ends_the_search(work: Path) -> None:
    search = (*SEARCH[:5], "--accuracy", "models:Hopeless", "--trials", "5000", "--out", "run")
    error = mnas(work, *search, code=1).stderr
    assert "no such file: images" in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--target-latency", "20"), "for example 80ms"),
        (("--target-latency", "0ms"), "positive"),
        (("--target-latency", "-3ms"), "positive"),
        (("--target-latency", "nanms"), "positive"),
        ((), "exactly one target"),
        (("--target-latency", "20ms", "--target-madds", "400M"), "exactly one target"),
        (("--target-latency", "20ms", "--space", "mbconf"), "did you mean 'mbconv'"),
        (("--target-latency", "20ms", "--controller", "reinforced"), "did you mean 'reinforce'"),
        (("--target-latency", "20ms", "--latency", "calibrate"), "did you mean 'calibrated'"),
        (("--target-latency", "20ms", "--accuracy", "imagenet"), "did you mean 'imagenet-surrogate'"),
        (("--target-latency", "20ms", "--reward", "harsh"), "'hard', 'soft', 'absolute' or 'training-aware'"),
        (("--target-latency", "20ms", "--latency", "nowhere:Model"), "nowhere"),
        (("--target-latency", "20ms", "--latency", "models:Nothing"), "Nothing"),
        (
            ("--target-latency", "20ms", "--latency", "models:NoPredict", "--accuracy", "models:Accuracy"),
            "'predict'",
        ),
        (
            ("--target-latency", "20ms", "--latency", "models:wants_more", "--accuracy", "models:Accuracy"),
            "board_address",
        ),
        (("--target-latency", "20ms", "--threads", "4096"), "usable cores"),
        (("--target-latency", "20ms", "--trials", "0"), "greater than or equal to 1"),
        (("--target-latency", "20ms", "--seed", "-1"), "greater than or equal to 0"),
        (("--target-latency", "20ms", "--data", "digit"), "did you mean 'digits'"),
        (("--target-latency", "20ms", "--epochs", "3"), "--epochs belongs to --data"),
        (("--target-latency", "20ms", "--max-time", "30"), "for example 30m"),
        (("--target-latency", "20ms", "--config", "nowhere.toml"), "nowhere.toml"),
        (("--target-latency", "20ms", "--unknown-flag"), "--unknown-flag"),
        (("--target-latency", "20ms", "--space", "mnasnet"), "--data"),
        (("--target-latency", "20ms", "--latency-quantile", "0.99"), "less than or equal to 0.95"),
        (("--target-latency", "20ms", "--latency-quantile", "0.01"), "greater than or equal to 0.05"),
        (("--target-latency", "20ms", "--latency-quantile", "nan"), "--latency-quantile"),
        (("--target-madds", "400M", "--latency-quantile", "0.9"), "multiply-adds are exact"),
        ((*SEARCH[1:], "--latency-quantile", "0.9"), "models:Latency gives no intervals"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(
    here: Here, arguments: tuple[str, ...], words: str
) -> None:
    code, error = here("search", *arguments, "--out", "run")
    assert code == 2
    assert words in error
    assert not Path("run").exists()


def test_a_target_below_the_range_says_the_range_and_leaves_nothing(here: Here) -> None:
    # The smallest and largest members have 51,594,768 and 884,060,256 multiply-adds.
    code, error = here("search", "--target-latency", "5ms", *SEARCH[3:], "--out", "run")
    assert code == 1
    assert "below the range" in error
    assert "5.16 ms to 88.4 ms" in error
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("target", "budget", "share"),
    [
        (("--target-latency", "120ms", "--latency", "models:Latency"), 38.6, 0.95),  # B0: 385,814,752 MAdds
        (("--target-latency", "120ms", "--latency", "models:Latency", "--base-latency", "20ms"), 20.0, 0.95),
        pytest.param(
            ("--target-madds", "150M", "--resolution", "64"), 33_246_592, 0.95, marks=pytest.mark.slow
        ),
    ],
)
def test_a_target_above_the_range_is_filled_by_growing_a_baseline(
    work: Path, target: tuple[str, ...], budget: float, share: float
) -> None:
    search = ("search", *target, "--accuracy", "models:Accuracy", "--trials", "320", "--out", "run")
    done = mnas(work, *search, "--json")
    result = result_of(done)
    assert "grown by compound scaling" in done.stderr
    assert result["budget"] == pytest.approx(budget, rel=0.01)
    kind = "latency_ms" if result["target"]["kind"] == "latency" else "madds"
    baseline, scaled = result["baseline"], result["scaled"]
    assert baseline[kind] <= result["budget"]
    assert share * result["target"]["value"] <= scaled[kind] <= result["target"]["value"]
    assert scaled["accuracy"] is None
    assert "no accuracy model" in scaled["accuracy_reason"]
    assert scaled["depth"] == pytest.approx(1.2 ** scaled["phi"])
    spec = NetworkSpec.from_dict(json.loads((work / "run" / "scaled.json").read_text()))
    assert (spec.resolution, network_cost(spec).madds) == (scaled["resolution"], scaled["madds"])
    session = onnxruntime.InferenceSession(work / "run" / "scaled.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 3, spec.resolution, spec.resolution]


def test_a_folder_without_write_permission_is_refused(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    # Permissions do not bind the administrator, so the system's refusal is put in the way.
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    code, error = here(*SEARCH, "--out", "run")
    assert code == 2
    assert "Permission denied" in error
    assert "--out" in error


def test_config_files_are_merged_under_flags_and_unknown_keys_are_named(work: Path) -> None:
    (work / "good.toml").write_text(
        'target-latency = "99ms"\ntrials = 64\nseed = 5\nlatency = "models:Latency"\n'
    )
    flags = ("--config", "good.toml", "--target-latency", "20ms", "--accuracy", "models:Accuracy")
    result = result_of(mnas(work, "search", *flags, "--out", "run", "--json"))
    assert (result["target"]["value"], result["trials"]) == (20.0, 64)
    (work / "bad.toml").write_text('target-latensy = "80ms"\ntrails = 3\n')
    error = mnas(work, "search", "--config", "bad.toml", code=2).stderr
    assert "did you mean 'target_latency'" in error
    assert "did you mean 'trials'" in error


def test_resuming_needs_the_flags_that_import_code(copied: Path, here: Here) -> None:
    code, error = here("resume", "run")
    assert code == 2
    assert "--latency models:Latency --accuracy models:Accuracy" in error
    code, error = here("resume", "run", "--latency", "models:Raises", "--accuracy", "models:Accuracy")
    assert code == 2
    assert "begun with --latency models:Latency" in error


def test_a_run_that_exists_is_refused_and_left_alone(copied: Path, here: Here) -> None:
    before = (copied / "run" / "trials.db").read_bytes()
    code, error = here(*SEARCH, "--trials", "64", "--out", "run")
    assert code == 2
    assert "mnas resume" in error
    assert (copied / "run" / "trials.db").read_bytes() == before


@pytest.mark.parametrize("command", ["status", "resume", "export"])
def test_damaged_and_foreign_runs_give_one_message(copied: Path, here: Here, command: str) -> None:
    flags = SEARCH[3:] if command == "resume" else ()
    code, error = here(command, "nowhere", *flags)
    assert (code, "not a run directory" in error) == (2, True)
    if command != "export":
        (copied / "run" / "trials.db").write_bytes(b"x" * 10_000)
        code, error = here(command, "run", *flags)
        assert (code, "damaged" in error) == (2, True)
    config = (copied / "run" / "config.toml").read_text()
    (copied / "run" / "config.toml").write_text(config.replace("format = 1", "format = 2"))
    code, error = here(command, "run", *flags)
    assert (code, "format 2" in error) == (2, True)


def test_a_search_in_use_is_refused(copied: Path, here: Here) -> None:
    with RunDirectory.open(copied / "run").locked():
        code, error = here("resume", "run", *SEARCH[3:])
    assert code == 2
    assert "in use" in error


def test_limits_make_networks_infeasible_and_the_winner_keeps_them(work: Path) -> None:
    limits = ("--max-params", "4M", "--trials", "640", "--controller", "reinforce", "--out", "run", "--json")
    result = result_of(mnas(work, *SEARCH, *limits))
    assert result["infeasible"] > 0
    assert result["baseline"]["params"] <= 4_000_000


def test_export_writes_the_baseline_again_and_a_run_without_one_says_so(copied: Path, here: Here) -> None:
    work = copied
    exported = result_of(mnas(work, "export", "run", "--format", "onnx", "--out", "net.onnx", "--json"))
    assert exported["weights"] == "untrained weights"
    assert exported["error"] < 1e-3
    assert onnxruntime.InferenceSession(work / "net.onnx", providers=["CPUExecutionProvider"]).get_inputs()[
        0
    ].shape == [
        1,
        3,
        224,
        224,
    ]
    assert "did you mean 'onnx'" in here("export", "run", "--format", "onx")[1]
    (work / "run" / "baseline.json").unlink()
    code, error = here("export", "run")
    assert code == 2
    assert "no baseline" in error


def test_a_family_of_a_plug_in_s_run_is_grown_by_its_word(copied: Path, here: Here) -> None:
    code, error = here("scale", "run", "--to", "60ms")
    assert (code, "--latency models:Latency" in error) == (2, True)
    flags = ("--latency", "models:Latency", "--to", "50ms,100ms", "--json")
    base, *members = result_of(mnas(copied, "scale", "run", *flags))["members"]
    assert base["latency_ms"] <= 20
    for member, target in zip(members, (50, 100), strict=True):
        assert 0.95 * target <= member["latency_ms"] <= target
        assert member["latency_ms"] == pytest.approx(member["madds"] / 1e7)
        assert member["latency_source"] == "predicted by models:Latency"
        assert (copied / "run" / "family" / f"{member['name']}.onnx").is_file()
    error = here("scale", "run", "--latency", "models:Latency", "--to", "5ms")[1]
    assert "more than --to 5ms" in error


def test_a_search_for_multiply_adds_times_only_the_winner(work: Path) -> None:
    search = (
        "search",
        "--target-madds",
        "20M",
        "--resolution",
        "64",
        "--accuracy",
        "models:Accuracy",
        "--trials",
        "640",
    )
    result = result_of(mnas(work, *search, "--classes", "10", "--out", "run", "--json", quickly=True))
    assert result["target"] == {"kind": "madds", "value": 20_000_000.0}
    assert 15_000_000 < result["baseline"]["madds"] <= 20_000_000
    assert result["baseline"]["latency_ms"] > 0
    assert result["baseline"]["latency_raw_ms"] > 0


@pytest.mark.slow
def test_a_search_on_digits_ships_a_network_that_reads_them(work: Path) -> None:
    shutil.copy(
        Path(__file__).parent.parent / "examples" / "space_plugin.py", work
    )  # small networks train quickly
    flags = (
        "--space",
        "space_plugin:small_mobile",
        "--target-latency",
        "0.1ms",
        "--latency",
        "models:Latency",
    )
    longer = ("--final-epochs", "8", "--finals", "2")
    search = ("search", "--data", "digits", *flags, "--trials", "2", *longer, "--out", "run", "--json")
    result = result_of(mnas(work, *search))
    baseline = result["baseline"]
    assert result["status"] == "done"
    assert baseline["resolution"] == 32
    assert baseline["test_accuracy"] >= 0.95
    assert baseline["accuracy_source"].startswith("trained 8 epochs on digits (1,078 images, preset short)")
    assert "scored on 360 test images that the search never saw" in baseline["accuracy_source"]
    assert baseline["accuracy"] == baseline["test_accuracy"]
    assert "trained 6 epochs on digits (1,078 images)" in baseline["proxy_source"]
    trained = {
        row["trial"]: row["trained_accuracy"] for row in result["finalists"] if "trained_accuracy" in row
    }
    assert len(trained) == min(2, sum(row["within_target"] for row in result["finalists"]))
    assert baseline["val_accuracy"] in trained.values()
    model = onnx.load(work / "run" / "baseline.onnx")
    metadata = {p.key: p.value for p in model.metadata_props}
    assert metadata["weights"] == baseline["weights"]
    assert baseline["accuracy_source"].startswith(baseline["weights"])

    # The exported file alone, fed as its metadata says, scores what the search reported on the test split.
    data = load_data("digits").test
    images = torch.tensor(data.images).float() / 255
    expects = json.loads(metadata["input"])
    size = (expects["resolution"], expects["resolution"])
    images = torch.nn.functional.interpolate(images, size=size, mode="bilinear", antialias=True)
    images = ((images - expects["mean"][0]) / expects["std"][0]).expand(-1, expects["channels"], -1, -1)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    predicted = [int(session.run(None, {"image": image[None].numpy()})[0].argmax()) for image in images]
    correct = sum(int(p == label) for p, label in zip(predicted, data.labels, strict=True))
    assert correct / len(predicted) == pytest.approx(baseline["test_accuracy"], abs=1.5 / len(predicted))

    exported = result_of(mnas(work, "export", "run", "--out", "again.onnx", "--json"))
    assert exported["weights"] == baseline["weights"]
    status = result_of(mnas(work, "status", "run", "--json"))
    assert (status["status"], status["trials_by_status"]["done"]) == ("done", 2)
