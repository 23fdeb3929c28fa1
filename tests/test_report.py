"""The report of a run: what it says, that it draws, and that a stranger's run cannot make it do more."""

import base64
import copy
import errno
import hashlib
import html
import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import plotly.graph_objects
import pytest

from mnas.errors import RunDirectoryError
from mnas.files import write_json
from mnas.records import latency_fields, network_fields
from mnas.report import write_report
from mnas.rundir import RunDirectory
from mnas.search.run import resume_command, stored_config
from mnas.search_space import NetworkSpec, compound_scale, mbconv_space
from mnas.store import EventStore
from mnas.zoo import published

SOURCE = "predicted top-1 under Accel-NASBench's short proxy training (held-out MAE 0.27 points)"
CONDITIONS = "batch 1, fp32, 1 thread, ONNX Runtime 1.31.1 CPU"
CONFIG = {
    "target_latency": "15ms", "space": "mbconv", "controller": "reinforce", "reward": "hard", "trials": 60,
    "ask_batch": 64, "seed": 0, "latency": "calibrated", "accuracy": "imagenet-surrogate", "threads": 1, "batch": 1,
}  # fmt: skip
WINNER = 7
SPACE = mbconv_space()
Change = Callable[[dict[str, Any]], None]


def measured(ms: float, source: str = "measured on this device", raw: bool = True) -> dict[str, Any]:
    return latency_fields(ms, ms * 1.03 if raw else None, ms * 0.98, ms * 1.02, source)


def trial_keys(count: int) -> list[str]:
    rng = random.Random(5)
    return [SPACE.sample(rng).key for _ in range(count)]


def trials(count: int) -> list[dict[str, Any]]:
    """Results as a search stores them: accuracy grows with latency, with some noise; trial 7 is a good one."""
    rng = random.Random(3)
    rows = []
    for number in range(count):
        ms = 13.0 if number == WINNER else rng.uniform(3, 20)
        accuracy = 0.68 if number == WINNER else 0.6 + 0.004 * ms + rng.uniform(-0.02, 0)
        metrics = {
            "accuracy": accuracy, "accuracy_std": 0.0036, "latency_ms": ms, "latency_low_ms": 0.95 * ms,
            "latency_high_ms": 1.05 * ms, "madds": 4e8 + number, "params": 5e6,
        }  # fmt: skip
        reward = accuracy * min(1, 15 / ms)
        rows.append(
            {"trial": number, "status": "done", "metrics": metrics, "reward": reward, "error": None, "source": SOURCE}
        )  # fmt: skip
    return rows


def finalists(keys: list[str], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for number in (WINNER, 11, 12):
        metrics = rows[number]["metrics"]
        ms = 13.11 if number == WINNER else metrics["latency_ms"] * 1.01
        found.append(
            {"trial": number, "architecture": keys[number], "accuracy": metrics["accuracy"],
             "predicted": metrics["latency_ms"], "status": "ok", "within_target": ms <= 14, **measured(ms)}
        )  # fmt: skip
    return found


def finished(run: Path, keys: list[str], rows: list[dict[str, Any]], spec: NetworkSpec) -> dict[str, Any]:
    """`result.json` of a search for 15 ms."""
    compared = []
    for name, ms in (("efficientnet_b0", 7.25), ("mnasnet_a1", 5.31), ("mobilenetv2", 4.72)):
        known = {"accuracy": 0.6612, "accuracy_source": SOURCE}
        unknown = {"accuracy": None, "accuracy_reason": "not covered by the accuracy model"}
        about = known if name == "efficientnet_b0" else unknown
        compared.append(
            {"name": name, **network_fields(published(name)), **measured(ms), "status": "ok", **about}
        )
    return {
        "run": str(run), "status": "done", "target": {"kind": "latency", "value": 15.0}, "trials": len(rows),
        "seconds": 93.2, "scaled": None, "budget": 15.0, "space": "mbconv", "controller": "reinforce",
        "reward": "hard", "best_reward": 0.68, "conditions": CONDITIONS, "failed": 0, "infeasible": 0,
        "baseline": {
            "architecture": keys[WINNER], **network_fields(spec), **measured(13.11), "accuracy": 0.6787,
            "accuracy_std": 0.0036, "accuracy_source": SOURCE, "weights": "untrained weights",
        },
        "finalists": finalists(keys, rows), "comparison": compared,
        "calibration": {"n": 49, "mape": 0.024, "within_5": 0.9, "within_10": 0.98, "spearman": 0.993},
        "warnings": [],
    }  # fmt: skip


def calibration() -> dict[str, Any]:
    points = [
        {"name": f"member {n}", "group": "member" if n % 3 else "other", "status": "ok", "resolution": 224,
         "params": 5_000_000, "madds": 400_000_000, "measured_ms": 2.0 + n, "low_ms": 1.9 + n, "high_ms": 2.1 + n,
         "predicted_ms": None if n == 4 else 2.05 + n}
        for n in range(12)
    ]  # fmt: skip
    return {
        "format": "mnas.calibration/3", "points": points, "reference_ms": 7.2, "seconds": 42.0, "made": "2026-11-22",
        "error": {"n": 11, "mape": 0.024, "within_5": 0.9, "within_10": 0.98, "spearman": 0.993}, "warnings": [],
        "device": {"cpu": "A processor", "cores": 2, "machine": "x86_64", "onnxruntime": "1.31.1"},
    }  # fmt: skip


def make_run(
    path: Path,
    *,
    config: dict[str, Any] | None = None,
    count: int = 60,
    result: Change | None = lambda found: None,
    baseline: NetworkSpec | None = None,
) -> RunDirectory:
    """A run directory as a search leaves it; `result` changes `result.json`, None is an unfinished search."""
    run = RunDirectory.create(path)
    run.write_config(CONFIG if config is None else config)
    packages = {"torch": "2.10.0", "timm": None}
    environment = {
        "mnas": "0.1",
        "python": "3.11",
        "system": "Linux",
        "release": "6",
        "machine": "x86_64",
        "cores": 2,
    }
    write_json(run.environment, {**environment, "packages": packages})
    keys, rows = trial_keys(count), trials(count)
    spec = baseline or SPACE.decode(SPACE.from_key(keys[WINNER]))
    with EventStore.create(run.trials) as store:
        asked = [{"trial": number, "key": key} for number, key in enumerate(keys)]
        store.append("asked", [{"requested": count, "trials": asked}])
        store.append("result", rows)
        store.append("told", [{"batch": 0, "seconds": 41.0}])
        if result is not None:
            found = finished(run.path, keys, rows, spec)
            result(found)
            write_json(run.result, found)
            write_json(run.outputs().baseline, spec.to_dict())
            write_json(run.calibration, calibration())
            store.append("finished", [found])
        store.commit()
    return run


def page(run: RunDirectory) -> str:
    return write_report(run.path).read_text()


def words_of(text: str) -> str:
    """What a person reads: no tags, scripts or style sheets, and single spaces."""
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def figures(text: str) -> dict[str, Any]:
    """The charts by name; plotly itself refuses a property that it does not know."""
    found = re.findall(r'<script type="application/json" id="data-(\w+)">(.*?)</script>', text, re.DOTALL)
    charts = {name: json.loads(data) for name, data in found}
    for chart in charts.values():
        plotly.graph_objects.Figure(data=chart["data"], layout=chart["layout"])
    return charts


def command(text: str) -> str:
    found = re.search(r'<code id="command">(.*?)</code>', text, re.DOTALL)
    assert found is not None
    return words_of(found[1])


def trace(chart: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [trace for trace in chart["data"] if trace.get("name") == name]
    return found  # type: ignore[no-any-return]


def test_the_first_screen_says_what_was_found_and_how_it_is_known(tmp_path: Path) -> None:
    run = make_run(tmp_path / "first")
    text = page(run)
    said = words_of(text)
    assert "A network for your 15 ms: 13.1 ms measured, 67.9 % predicted top-1" in said
    assert said.index(SOURCE) < said.index("Accuracy against latency")
    assert "about 60 % under that training, where full training brings EfficientNet-B0 to 77 %" in said
    assert "median over five fresh processes is 13.11 ms on the core, 13.50 ms by the wall clock" in said
    assert "The weights are random" in said
    assert command(text) == f"mnas export {run.path} --format onnx"


def test_charts_hold_what_the_run_holds(tmp_path: Path) -> None:
    charts = figures(page(make_run(tmp_path / "run")))
    assert set(charts) == {"pareto", "rewards", "calibration"}
    winner = trace(charts["pareto"], "winner, measured")
    assert (winner["x"], winner["y"]) == ([13.11], [68.0])
    assert winner["error_x"]["array"] == pytest.approx([0.02 * 13.11], rel=1e-3)
    assert len(trace(charts["pareto"], "finalist, measured")["x"]) == 2
    front = trace(charts["pareto"], "Pareto front, predicted")
    assert front["x"] == sorted(front["x"])
    assert front["y"] == sorted(front["y"])
    assert len(front["x"]) + len(trace(charts["pareto"], "trial, predicted")["x"]) == 60
    assert trace(charts["pareto"], "published network, measured")["x"] == [7.25]
    labels = [note["text"] for note in charts["pareto"]["layout"]["annotations"]]
    assert labels == ["target 15 ms", "EfficientNet-B0", "MobileNetV2", "MnasNet-A1"]
    assert len(trace(charts["rewards"], "trial")["y"]) == 60
    best = trace(charts["rewards"], "best so far")["y"]
    assert best == sorted(best)
    assert best[-1] == 0.68
    drawn = [point for group in ("member", "other") for point in trace(charts["calibration"], group)["x"]]
    assert len(drawn) == 11  # one of twelve has no prediction


def test_networks_are_drawn_block_by_block(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", baseline=published("efficientnet_b0"))
    text = page(run)
    drawing = text[text.index('<div class="drawings') : text.index("As block strings")]
    assert (
        len(re.findall(r'<i class="box', drawing)) == 1 + 16 + 1
    )  # EfficientNet-B0: Table 1 has 16 MBConv blocks
    said = words_of(drawing)
    assert "stage 6 MBConv6 5\N{MULTIPLICATION SIGN}5, SE 0.25" in said
    assert "7 2 \N{MULTIPLICATION SIGN} 320" in said


def test_published_figures_stand_apart_and_only_beside_the_papers_own_networks(tmp_path: Path) -> None:
    said = words_of(page(make_run(tmp_path / "run")))
    assert "published top-1, full training, % baseline 13.11" in said
    for row in (
        "0.55\N{MULTIPLICATION SIGN} 385.8M",
        "66.12 77.1 MnasNet-A1 5.31",
        "unknown 75.2 MobileNetV2 4.72",
        "unknown 72.0",
    ):
        assert row in said

    def other_network(found: dict[str, Any]) -> None:
        for network in found["comparison"]:
            network["resolution"], network["madds"] = 32, network["madds"] // 49

    assert "published top-1" not in words_of(page(make_run(tmp_path / "small", result=other_network)))


NO_MODEL = "no accuracy model covers a scaled network; train it to know"


def grown_run(path: Path) -> RunDirectory:
    """A run for 80 ms, above the range of its space, and a family."""
    grown = replace(compound_scale(published("efficientnet_b0"), 3.1), resolution=340)

    def scaled(found: dict[str, Any]) -> None:
        found["calibration"] |= {"fastest_ms": 1.702, "slowest_ms": 27.448}
        found["target"]["value"], found["budget"] = 80.0, 15.0
        found["scaled"] = {
            **network_fields(grown), **measured(77.5), "phi": 3.1, "depth": 1.2**3.1, "width": 1.1**3.1,
            "accuracy": None, "accuracy_reason": NO_MODEL, "accuracy_source": None, "weights": "untrained weights",
        }  # fmt: skip

    run = make_run(path, config=CONFIG | {"target_latency": "80ms"}, result=scaled)
    write_json(run.outputs().scaled, grown.to_dict())
    members = []
    for phi in (0.0, 1.0, 2.0):
        spec = compound_scale(published("efficientnet_b0"), phi)
        members.append(
            {"name": f"phi {phi:g}", "phi": phi, "depth": 1.2**phi, "width": 1.1**phi, **network_fields(spec),
             **measured(7 * 2**phi), "accuracy": None, "accuracy_reason": NO_MODEL}
        )  # fmt: skip
    rule = {"alpha": 1.2, "beta": 1.1, "gamma": 1.15}
    write_json(run.path / "family.json", {"coefficients": rule, "conditions": CONDITIONS, "members": members})
    return run


def test_a_grown_network_and_its_family(tmp_path: Path) -> None:
    run = grown_run(tmp_path / "run")
    text = page(run)
    said = words_of(text)
    assert "A network for your 80 ms: 77.5 ms measured, accuracy not known before it is trained" in said
    assert "within the target (about 1.7 to 27 ms), so a baseline was searched at 15.00 ms and grown" in said
    assert "(phi 3.10" in said
    assert "The search aimed at 15.00 ms." in said
    assert "the scaled network in processes of its own. Ratios are to the baseline." in said
    assert f"scaled 77.50 75.95 to 79.05 {77.5 / 13.11:.2f}\N{MULTIPLICATION SIGN}" in said
    assert "in resolution. Latencies were measured on the device in fresh processes" in said
    assert f"That of the scaled network is unknown: {NO_MODEL}." in said
    assert command(text) == f"mnas export {run.path} --network scaled --format onnx"
    assert text.count("<article>") == 2
    family = figures(text)["family"]
    assert family["data"][0]["y"] == [7, 14, 28]


def test_a_family_that_nobody_measured_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    unknown = latency_fields(None, None, None, None, "not measured")
    members = [
        {"name": name, "phi": None, "depth": 1.1, "width": 1.0, **network_fields(published("efficientnet_b0")),
         **unknown, "accuracy": None}
        for name in ("base", "b1")
    ]  # fmt: skip
    family = {"coefficients": None, "conditions": CONDITIONS, "members": members}
    write_json(run.path / "family.json", family)  # as `mnas scale --released --no-measure` leaves it
    text = page(run)
    said = words_of(text)
    assert "The baseline grown by the coefficients that EfficientNet was released with." in said
    assert "Latencies were not measured (--no-measure)" in said
    assert "family" not in figures(text)
    assert "not known" not in said[said.index("The family") : said.index("How well")]


def test_a_greedily_grown_family_is_not_called_released(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    members = [
        {"name": "base", "phi": 0.0, "depth": 1.0, "width": 1.0, **network_fields(published("efficientnet_b0")),
         **measured(13), "accuracy": None}
    ]  # fmt: skip
    family = {"rule": "latency", "coefficients": None, "conditions": CONDITIONS, "members": members}
    write_json(run.path / "family.json", family)
    said = words_of(page(run))
    assert "The baseline grown step by step, each time in the one of depth, width and resolution" in said
    assert "EfficientNet was released with" not in said


def test_finalists_stand_beside_their_predictions(tmp_path: Path) -> None:
    said = words_of(page(make_run(tmp_path / "run")))
    assert "predicted top-1, % predicted, ms measured, ms wall clock, ms within" in said
    assert "trial 7 baseline 68.00 13.00 13.11 12.85 to 13.37 13.50 yes" in said
    assert (
        "as measured at the end, lay +0.8 to +1.0 % off their predictions" in said
    )  # 13.11 / 13.00, and 1.01


def test_what_was_measured_during_the_search_and_the_drift_are_told(tmp_path: Path) -> None:
    def known(found: dict[str, Any]) -> None:
        found["finalists"][1]["measured_before"] = True

    run = make_run(tmp_path / "run", config=CONFIG | {"latency_quantile": 0.8}, result=known)
    network = {"trial": 7, "key": "0", "status": "ok", "predicted_ms": 10.0, "measured_ms": 11.0, "low_ms": 10.8,
               "high_ms": 11.2, "raw_ms": 11.1}  # fmt: skip
    with EventStore.open(run.trials) as store:
        store.append("reference", [{"ms": 7.2, "when": "start"}])
        networks = [network, network | {"trial": 8, "measured_ms": 9.7}]
        refit = {"after": 60, "factor": 1.031, "reference_ms": 7.5, "seconds": 4.0, "networks": networks}
        store.append("refit", [refit])
        store.append("reference", [{"ms": 7.0, "when": "finalists"}])
        store.commit()
    said = words_of(page(run)).replace("\N{NO-BREAK SPACE}", " ")
    assert "2 networks near the target were timed during the search and lay -3.0% to +10.0% off" in said
    assert "multiplied by 1.031 from trial 60 on" in said
    assert "drift the reference network took 7.20 ms when the search began and 7.50 ms when" in said
    assert "predictions were checked (+4.2%)" in said
    assert "Each was judged at the 80 % quantile of its latency" in said
    assert "in the search, ms measured, ms" in said  # one of the finalists was measured before
    # Of the two others 13.11 / 13.00; trial 12 is 1 % off.
    assert "lay +0.8 to +1.0 % off their predictions" in said


def test_a_noisy_figure_is_called_noisy(tmp_path: Path) -> None:
    def noisy(found: dict[str, Any]) -> None:
        found["comparison"][1]["status"] = "noisy"
        found["warnings"] = ["the reference drifted."]

    said = words_of(page(make_run(tmp_path / "run", result=noisy)))
    assert "MnasNet-A1 5.31 5.20 to 5.42, noisy" in said
    assert "Warning The reference drifted." in said


def test_commands_name_a_run_below_the_current_folder_as_a_person_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "my runs" / "first")
    monkeypatch.chdir(tmp_path)
    text = page(run)
    assert command(text) == "mnas export 'my runs/first' --format onnx"
    assert str(tmp_path) not in text
    assert "mnas report 'my runs/first'" in words_of(text)


def test_a_plug_ins_latency_is_not_called_measured(tmp_path: Path) -> None:
    source = "predicted by board:Board"

    def estimated(found: dict[str, Any]) -> None:
        for network in [found["baseline"], *found["finalists"]]:
            network |= measured(network["latency_ms"], source, raw=False)
        found["comparison"], found["calibration"] = [], None

    run = make_run(tmp_path / "run", config=CONFIG | {"latency": "board:Board"}, result=estimated)
    run.calibration.unlink()
    text = page(run)
    said = words_of(text)
    assert "A network for your 15 ms: 13.1 ms estimated" in said
    assert f"the estimate of the run's own plug-in ({source}); nothing was timed" in said
    assert "winner, estimated" in {trace.get("name") for trace in figures(text)["pareto"]["data"]}
    assert 'class="measured"' not in text


def test_a_trained_network_is_called_trained(tmp_path: Path) -> None:
    source = "trained 6 epochs on digits (1,078 images), scored on 359 validation images"

    def trained(found: dict[str, Any]) -> None:
        found["baseline"] |= {
            "accuracy": 0.9833, "accuracy_source": source, "test_accuracy": 0.9667, "weights": source
        }  # fmt: skip

    config = CONFIG | {"data": "digits", "accuracy": "proxy", "epochs": 6}
    said = words_of(page(make_run(tmp_path / "run", config=config, result=trained)))
    assert "96.7 % on images it never saw" in said
    assert f"Accuracy: {source}." in said
    assert "The exported model's weights: trained 6 epochs" in said
    assert "Accel-NASBench" not in said
    assert "random" not in said


def test_a_target_of_multiply_adds(tmp_path: Path) -> None:
    def counted(found: dict[str, Any]) -> None:
        found["target"], found["budget"] = {"kind": "madds", "value": 4e8}, 4e8
        for row in found["finalists"]:
            row["predicted"] = 4e8
            for name in list(measured(1.0)):
                del row[name]

    config = {name: value for name, value in CONFIG.items() if name != "target_latency"} | {
        "target_madds": "400M"
    }
    text = page(make_run(tmp_path / "run", config=config, result=counted))
    assert "A network for your 400M multiply-adds:" in words_of(text)
    assert figures(text)["pareto"]["layout"]["xaxis"]["title"]["text"] == "multiply-adds (M)"


def test_an_unfinished_search_says_what_is_there_and_how_to_go_on(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", config=CONFIG | {"trials": 8000}, result=None)
    text = page(run)
    said = words_of(text)
    assert "The search for 15 ms is not finished" in said
    assert "60 of 8,000 networks of the space mbconv tried so far" in said
    assert "The best of them: 68.0 % at 13.00 ms (trial 7" in said
    assert f"Predicted Accuracy is {SOURCE}." in said
    assert command(text) == resume_command(run, stored_config(run))
    assert set(figures(text)) == {"pareto", "rewards"}


def test_a_search_cut_off_before_its_first_trial(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    run.write_config(CONFIG)
    text = page(run)
    assert "0 of 60 networks" in words_of(text)
    assert figures(text) == {}


def test_a_noisy_search_says_to_quieten_the_machine(tmp_path: Path) -> None:
    def noisy(found: dict[str, Any]) -> None:
        found["status"], found["baseline"] = "noisy", None
        found["finalists"] = [row | {"status": "noisy", "within_target": False} for row in found["finalists"]]

    run = make_run(tmp_path / "run", config=CONFIG | {"latency": "calibrated"}, result=noisy)
    text = page(run)
    assert "Too noisy to decide on a network for 15 ms" in words_of(text)
    assert "End other work on the machine" in words_of(text)
    assert command(text) == f"mnas resume {run.path}"


def test_a_search_without_a_network_within_the_target_proposes_another(tmp_path: Path) -> None:
    def none(found: dict[str, Any]) -> None:
        found["status"], found["baseline"] = "no_feasible", None
        found["finalists"] = [
            row | measured(15.31) | {"within_target": False} for row in found["finalists"][:1]
        ]

    run = make_run(tmp_path / "run", config=CONFIG | {"seed": 3, "trials": 8000}, result=none)
    text = page(run)
    assert "No network within 15 ms was found" in words_of(text)
    assert "The nearest may take 15.77 ms" in words_of(text)  # its wall clock, 3 % above
    assert command(text) == "mnas search --target-latency 16ms --seed 3"
    assert words_of(text).count("trial 7") >= 1


def test_a_search_without_any_finalist_proposes_what_its_nearest_trial_meets(tmp_path: Path) -> None:
    def none(found: dict[str, Any]) -> None:
        found["status"], found["baseline"], found["finalists"] = "no_feasible", None, []

    config = CONFIG | {"target_latency": "1ms", "trials": 8000}
    text = page(make_run(tmp_path / "run", config=config, result=none))
    nearest = min(row["metrics"]["latency_high_ms"] for row in trials(60))
    assert f"The nearest may take {nearest:.2f} ms" in words_of(text)
    found = re.fullmatch(r"mnas search --target-latency ([\d.]+)ms", command(text))
    assert found is not None
    assert nearest <= float(found[1]) <= 1.1 * nearest


def test_a_search_without_a_baseline_to_grow_proposes_another_base(tmp_path: Path) -> None:
    def none(found: dict[str, Any]) -> None:
        found["status"], found["baseline"], found["budget"] = "no_feasible", None, 7.25
        found["finalists"] = [row | measured(7.3) | {"within_target": False} for row in found["finalists"]]

    text = page(
        make_run(tmp_path / "run", config=CONFIG | {"target_latency": "80ms", "trials": 8000}, result=none)
    )
    assert "No network within 7.25 ms was found to grow to 80 ms" in words_of(text)
    assert command(text) == "mnas search --target-latency 80ms --base-latency 7.6ms"


def test_a_run_that_used_a_plug_in_is_resumed_with_its_flag(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('a report imported what a run names')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    config = CONFIG | {"latency": "evil:Board", "accuracy": "an-entry-point-of-somebody-else"}
    run = make_run(tmp_path / "run", config=config, result=None)
    assert command(page(run)) == "mnas resume run --latency evil:Board"


def test_many_trials_are_thinned_and_nothing_that_matters_is_lost(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", count=5000)
    report = write_report(run.path)
    first = report.read_bytes()
    assert len(first) <= 6_000_000
    text = first.decode()
    pareto = figures(text)["pareto"]
    rest, front = trace(pareto, "trial, predicted"), trace(pareto, "Pareto front, predicted")
    assert len(rest["x"]) <= 1500
    assert {"trial 11", "trial 12"} <= {*rest["text"], *front["text"]}
    cheapest = min(row["metrics"]["latency_ms"] for row in trials(5000))
    assert front["x"][0] == pytest.approx(cheapest, rel=1e-4)
    assert f"{len(rest['x']) + len(front['x']):,} of 5,000 finished trials" in words_of(text)
    assert write_report(run.path).read_bytes() == first


def test_a_report_needs_the_run_directory_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    first = page(run)
    moved = tmp_path / "moved"
    shutil.move(run.path, moved / "run")
    assert page(RunDirectory(moved / "run")) == first.replace(str(run.path), str(moved / "run"))


def test_an_older_run_has_a_report_too(tmp_path: Path) -> None:
    def older(found: dict[str, Any]) -> None:
        del found["comparison"]

    run = make_run(tmp_path / "run", result=older)
    write_json(run.calibration, {"format": "mnas.calibration/1", "points": []})
    run.result.unlink()  # the store has it too
    text = page(run)
    assert "13.1 ms measured" in words_of(text)
    assert "mean error is 2.4 %" in words_of(text)
    assert set(figures(text)) == {"pareto", "rewards"}


HOSTILE = (
    "</script><script>window.hacked=1</script><!-- <img src='https://evil.example/x' onerror='window.hacked=1'>"
    '<a href="https://evil.example/y">click</a>"; $(reboot) & '
)


def hostile_run(path: Path) -> RunDirectory:
    def everywhere(found: dict[str, Any]) -> None:
        found["warnings"] = [HOSTILE]
        found["conditions"] = HOSTILE
        found["baseline"] |= {"accuracy_source": HOSTILE, "weights": HOSTILE, "block_strings": [HOSTILE]}
        for network in found["comparison"]:
            network |= {"name": HOSTILE, "latency_source": HOSTILE}
        found["comparison"][1]["accuracy_reason"] = HOSTILE
        for row in found["finalists"]:
            row["status"] = HOSTILE

    config = CONFIG | {"space": HOSTILE, "controller": HOSTILE, "reward": HOSTILE, HOSTILE: HOSTILE}
    run = make_run(path, config=config, result=everywhere)
    plan = calibration()
    for point in plan["points"]:
        point["name"] = point["group"] = HOSTILE
    plan["warnings"], plan["device"]["cpu"], plan["made"] = [HOSTILE], HOSTILE, HOSTILE
    write_json(run.calibration, plan)
    environment = json.loads(run.environment.read_text())
    environment["packages"] = {HOSTILE: HOSTILE}
    write_json(run.environment, environment)
    return run


def test_a_strangers_texts_stay_texts(tmp_path: Path) -> None:
    text = page(hostile_run(tmp_path / "run"))
    ours = page(make_run(tmp_path / "ours"))
    assert text.count("<script") == ours.count("<script")
    assert text.count("<!--") == ours.count("<!--")
    for name in ("<img", "<a "):
        assert name not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert "window.hacked" in words_of(text)  # shown, not run
    charts = figures(text)
    names = [trace.get("name", "") for trace in charts["calibration"]["data"]]
    assert any("&lt;a href" in name for name in names)  # plotly would draw a link of a tag
    assert not any("<a" in name for name in names)


def test_the_page_lets_only_its_own_scripts_run_and_loads_nothing(tmp_path: Path) -> None:
    text = page(make_run(tmp_path / "run"))
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert found is not None
    policy = dict(part.strip().split(" ", 1) for part in html.unescape(found[1]).split(";"))
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert policy["script-src"].split() == [f"'sha256-{digest}'" for digest in digests]
    assert policy["default-src"] == "'none'"
    markup = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert re.search(r"<(link|iframe|img|object|embed|base)\b", markup) is None
    assert "url(" not in text[: text.index("</style>")]


def test_a_command_for_a_strangers_run_is_quoted(tmp_path: Path) -> None:
    def none(found: dict[str, Any]) -> None:
        found["status"], found["baseline"] = "no_feasible", None

    config = CONFIG | {"max_time": "$(reboot)", "x; reboot": "y"}
    run = make_run(tmp_path / "run", config=config, result=none)
    assert command(page(run)).endswith(" --max-time '$(reboot)'")


def damaged(run: RunDirectory, name: str, change: Change) -> None:
    file = run.path / name
    data = json.loads(file.read_text())
    change(data)
    write_json(file, data)


def set_in(*path: Any, value: Any) -> Change:
    def change(data: Any) -> None:
        for step in path[:-1]:
            data = data[step]
        data[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("result.json", set_in("baseline", "params", value="many"), "'baseline, params' should be a finite number"),
        ("result.json", set_in("baseline", value=[]), "baseline should be an object"),
        ("result.json", set_in("baseline", value=None), "has no 'baseline'"),
        ("result.json", set_in("finalists", 0, "within_target", value=None), "finalists, number 1, within_target"),
        ("result.json", set_in("finalists", value="none"), "'finalists' should be a list"),
        ("result.json", set_in("seconds", value=-1), "'seconds'"),
        ("result.json", set_in("seconds", value=1e300), "'seconds'"),
        ("result.json", set_in("warnings", value=[3]), "'warnings'"),
        ("result.json", set_in("conditions", value="x" * 100_000), "'conditions' should be a text of at most"),
        ("baseline.json", set_in("stages", value=[]), "at least one stage"),
        ("baseline.json", set_in("stages", 0, "repeats", value=10**9), "blocks"),
        ("baseline.json", set_in("head_channels", value=10**400), "channels"),
        ("calibration.json", set_in("points", 2, "measured_ms", value=None), "points, number 3, measured_ms"),
        ("calibration.json", set_in("error", value=None), "error should be an object"),
        ("env.json", set_in("python", value=3.11), "'python' should be a text"),
        ("env.json", set_in("packages", value=["torch"]), "packages should be an object"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path: Path, name: str, change: Change, told: str) -> None:
    run = make_run(tmp_path / "run")
    before = write_report(run.path).read_bytes()
    damaged(run, name, change)
    with pytest.raises(RunDirectoryError, match=re.escape(told)) as error:
        write_report(run.path)
    assert str(run.path / name) in str(error.value)
    assert (run.path / "report.html").read_bytes() == before


def test_what_is_not_json_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for text in ("{", "[" * 100_000, '{"baseline": NaN}', ""):
        run.result.write_text(text)
        with pytest.raises(RunDirectoryError, match=r"result\.json"):
            write_report(run.path)


def test_a_damaged_configuration_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for change in (
        {"target_latency": "soon"},
        {"target_latency": 80},
        {"space": ["mbconv"]},
        {"x": {"y": 1}},
    ):
        run.write_config(CONFIG | change)
        with pytest.raises(RunDirectoryError, match=r"config\.toml"):
            write_report(run.path)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("result", {"trial": 99, "status": "done"}),
        ("told", {"batch": 7, "seconds": 1.0}),
        ("told", {"batch": 0, "seconds": "long"}),
        ("asked", {"requested": 1, "trials": [{"trial": [], "key": "0"}]}),
        ("asked", {"requested": 1, "trials": [{"trial": 60, "key": {}}]}),
        ("asked", {"requested": 1, "trials": "none"}),
        (
            "refit",
            {"after": 3, "factor": 1.1, "reference_ms": 9.0, "seconds": 1.0, "networks": [{"trial": 3}]},
        ),
        ("reference", {"ms": 0.0, "when": "start"}),
    ],
)
def test_a_damaged_store_is_named(tmp_path: Path, kind: Any, payload: dict[str, Any]) -> None:
    run = make_run(tmp_path / "run")
    with EventStore.open(run.trials) as store:
        store.append(kind, [payload])
        store.commit()
    with pytest.raises(RunDirectoryError, match=r"store"):
        write_report(run.path)


@pytest.mark.parametrize(
    "change", [{"reward": "high"}, {"metrics": {}}, {"status": "lost"}, {"metrics": None}]
)
def test_a_damaged_trial_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    run = make_run(tmp_path / "run", result=None)
    with EventStore.open(run.trials) as store:
        store.append("asked", [{"requested": 1, "trials": [{"trial": 60, "key": "0"}]}])
        store.append("result", [copy.deepcopy(trials(1)[0]) | {"trial": 60} | change])
        store.commit()
    with pytest.raises(RunDirectoryError, match="trial 60"):
        write_report(run.path)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="is not a run directory"):
        write_report(tmp_path)
    run = make_run(tmp_path / "run")
    run.trials.write_bytes(b"no database " * 1000)
    with pytest.raises(RunDirectoryError, match="damaged"):
        write_report(run.path)


def test_a_full_disk_leaves_the_earlier_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run")
    before = write_report(run.path).read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunDirectoryError, match=r"report\.html: No space left"):
        write_report(run.path)
    assert (run.path / "report.html").read_bytes() == before
    assert [path.name for path in run.path.iterdir() if path.name.endswith(".part")] == []


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Shows a report at some widths and says of each what a person would see; a frame of `srcdoc` may be looked into.
WRAPPER = """<!DOCTYPE html><html><body><script>
const page = %s, widths = %s, seen = {};
for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width:${width}px;height:900px;border:0`;
  frame.srcdoc = page;
  document.body.append(frame);
  const timer = setInterval(() => {
    const root = frame.contentDocument.documentElement;
    if (!root?.dataset.drawn) return;
    clearInterval(timer);
    const links = [...root.querySelectorAll("*")].flatMap((e) => ["href", "src", "xlink:href", "action"].map(
      (name) => e.getAttribute(name))).filter((link) => link && !link.startsWith("#"));
    seen[width] = {
      drawn: Number(root.dataset.drawn), failed: root.dataset.failed || null,
      charts: [...root.querySelectorAll(".chart")].map((e) => e.querySelectorAll(".main-svg").length > 0),
      points: root.querySelectorAll(".pareto .scatterlayer path.point").length,
      width: root.clientWidth, wide: root.scrollWidth, links,
      outside: [...root.querySelectorAll("body *")].filter((e) => !e.closest(".scroll, pre, .chart") &&
        e.getBoundingClientRect().right > root.clientWidth + 1).map((e) => e.className || e.tagName),
      tables: [...root.querySelectorAll(".scroll")].map((e) => e.scrollWidth > e.clientWidth),
      hacked: Boolean(frame.contentWindow.hacked || window.hacked),
      headline: root.querySelector("h1").textContent,
    };
    if (Object.keys(seen).length === widths.length) document.title = JSON.stringify(seen);
  }, 100);
}
</script></body></html>"""


def opened(tmp_path: Path, text: str, *widths: int) -> list[dict[str, Any]]:
    """What Chromium shows of a report at these widths in pixels, without a network."""
    assert BROWSER is not None
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(WRAPPER % (json.dumps(text).replace("<", "\\u003c"), json.dumps(widths)))
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--proxy-server=127.0.0.1:9", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1800,1000",
         "--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom", wrapper.as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    title = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert title is not None, "the page was not drawn in 20 s"
    seen = json.loads(html.unescape(title[1]))
    return [seen[str(width)] for width in widths]


needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no chromium or google-chrome on PATH to open a report in"
)


@needs_browser
def test_a_browser_draws_it_at_desktop_and_phone_width(tmp_path: Path) -> None:
    run = grown_run(tmp_path / "run")
    damaged(
        run,
        "calibration.json",
        set_in("warnings", value=["the device was too noisy to measure one of them."]),
    )
    widths = (1280, 390)
    desktop, phone = opened(tmp_path, page(run), *widths)
    for width, shown in zip(widths, (desktop, phone), strict=True):
        assert (shown["drawn"], shown["failed"], shown["charts"]) == (4, None, [True] * 4)
        assert shown["points"] >= 60
        assert shown["wide"] <= shown["width"] <= width, "the page scrolls sideways"
        assert shown["outside"] == []
        assert shown["links"] == []
    assert desktop["tables"] == [False] * 3, "a table has to be scrolled on a desktop"
    assert any(phone["tables"]), "a wide table scrolls in its own box"


@needs_browser
def test_a_browser_runs_nothing_of_a_strangers_run(tmp_path: Path) -> None:
    (shown,) = opened(tmp_path, page(hostile_run(tmp_path / "run")), 390)
    assert (shown["drawn"], shown["failed"]) == (3, None)
    assert not shown["hacked"]
    assert shown["links"] == []
    assert shown["wide"] <= shown["width"]
