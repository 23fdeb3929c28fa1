"""`mnas zoo list|show|measure|compare`, with measurements that are a function of the multiply-adds."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from commands import mnas

from mnas import zoobench
from mnas.errors import InputError, MeasurementError, UnknownNameError
from mnas.latency import Conditions, Device, Measurement, MeasurementSet
from mnas.report.words import name_of
from mnas.search.reporting import Quiet
from mnas.search_space import NetworkSpec, network_cost
from mnas.zoo import MEMBERS, member, own_name, published
from mnas.zoobench import Wanted, compare_zoo, grouped, list_zoo, measure_zoo, network_row, show_member

NS_PER_MADD = 0.1
DEVICE = Device("A processor", "", 2, "x86_64", "a system", "1.0")


class Warnings(Quiet):
    """Keeps what it is warned of."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def warn(self, text: str) -> None:
        self.texts.append(text)


def ms_of(spec: NetworkSpec) -> float:
    return network_cost(spec).madds * NS_PER_MADD / 1e6


def answers(specs: Mapping[str, NetworkSpec], *, reference: NetworkSpec, **others: Any) -> MeasurementSet:
    """What `measure` would say on a device that takes a tenth of a nanosecond a multiply-add."""
    base = ms_of(reference)
    found = tuple(
        Measurement(name, "ok", ms / base, ms / base, ms / base, ms, ms, ms, ms, "", (1, 3, 8, 8), ())
        for name, ms in ((name, ms_of(spec)) for name, spec in specs.items())
    )
    return MeasurementSet(Conditions(), DEVICE, reference, base, True, base, found, (), ("hot",), 0, 1.0)


def fails_on_large(specs: Mapping[str, NetworkSpec], **others: Any) -> MeasurementSet:
    if any(network_cost(spec).madds > 300e6 for spec in specs.values()):
        raise MeasurementError("the process was killed.")
    return answers(specs, **others)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoobench, "measure", answers)


def output(*arguments: str) -> tuple[int, str, str]:
    done = mnas(Path.cwd(), "zoo", *arguments, code=None)
    return done.returncode, done.stdout, done.stderr


# --- members -----------------------------------------------------------------------------------------------


def test_every_name_and_alias_is_of_one_network() -> None:
    names = [name for name, entry in MEMBERS.items() for name in (name, *entry.aliases)]
    assert len(set(names)) == len(names)
    assert own_name("semnasnet_100") == own_name("mnasnet_a1") == "mnasnet_a1"
    titles = [entry.title for entry in MEMBERS.values()]
    assert len(set(titles)) == len(titles)
    assert (name_of("mnasnet_small"), name_of("regnet_x_1_6gf")) == ("MnasNet-small", "RegNetX-1.6GF")
    assert name_of("my own") == "my own"


def test_published_counts_are_near_ours() -> None:
    """Against slips of the pen alone. The furthest: MobileNetV3-Small 0.75x has 2.04M parameters, published are 2.4M;
    EfficientNet-Lite0 has 385M multiply-adds, published are 407M."""
    counted = 0
    for name, entry in MEMBERS.items():
        if entry.figures is None:
            continue
        cost = network_cost(entry.spec)
        assert 0.4 < entry.top1 < 0.9, name
        assert entry.source, name
        if entry.figures.params is not None:
            assert cost.params == pytest.approx(entry.figures.params, rel=0.18), name
        if entry.figures.madds is not None:
            assert cost.madds == pytest.approx(entry.figures.madds, rel=0.06), name
            counted += 1
    assert counted >= 60
    assert sum(entry.figures is None for entry in MEMBERS.values()) == 3  # MnasNet-B1 at other widths


# --- list and show -----------------------------------------------------------------------------------------


def test_the_list_has_ours_and_the_published_figures_with_their_sources() -> None:
    code, text, _ = output("list")
    assert code == 0
    lines = text.splitlines()
    (row,) = (line.split() for line in lines if line.startswith("efficientnet_b7 "))
    ours, theirs = ("66,347,960", "37,745,884,192"), ("66M", "37G")
    assert row[1:5] == [ours[0], theirs[0], ours[1], theirs[1]]
    assert row[6:9] == ["600", "84.3", "%"]
    assert f"{row[9]} arXiv 1905.11946v5, Table 2" in lines
    rows = json.loads(output("list", "--json")[1].splitlines()[-1])["networks"]
    assert [row["name"] for row in rows] == list(MEMBERS)
    assert all((row["top1"] is None) == (row["published_source"] is None) for row in rows)


def test_a_network_is_shown_by_any_of_its_names() -> None:
    code, text, _ = output("show", "semnasnet_100")
    assert code == 0
    for line in (
        "MnasNet-A1 (mnasnet_a1)",
        "also called: semnasnet_100",
        "parameters: 3,887,038 (published: 3.9M)",
        "multiply-adds: 311,579,072 (published: 312M)",
        "published top-1: 75.2 %",
        "source: arXiv 1807.11626v3, Table 1",
        "ir_r3_k5_s2_e3_c40_se0.25",
    ):
        assert line in text.splitlines()
    row = json.loads(output("show", "semnasnet_100", "--json")[1])
    assert (row["name"], row["published_madds"], row["published_params"]) == (
        "mnasnet_a1",
        312_000_000,
        3_900_000,
    )


def test_a_network_without_block_strings_says_why() -> None:
    assert "has no block string" in output("show", "resnet_50")[1]
    assert "published" not in output("show", "mnasnet_b1_050")[1]


def test_another_resolution_has_other_counts_and_no_published_accuracy() -> None:
    """EfficientNet-B1 at 224 pixels instead of 240; what was published holds for 240."""
    row = network_row("efficientnet_b1", 224)
    own = network_row("efficientnet_b1", 240)
    assert (row["resolution"], row["top1"], row["published_madds"]) == (224, None, None)
    assert row["params"] == own["params"] == 7_794_184
    assert row["madds"] < own["madds"] == 686_802_832
    assert (own["top1"], own["published_madds"], row["published_params"]) == (0.791, 700_000_000, 7_800_000)
    _, text, _ = output("show", "efficientnet_b1", "--resolution", "224")
    assert "resolution: 224 pixels" in text
    assert "top-1" not in text


def test_resolutions_that_are_small_or_too_small() -> None:
    warnings = Warnings()
    show_member("mobilenetv2_100", 16, warnings)
    (text,) = warnings.texts
    assert text.startswith("mobilenetv2: at 16 pixels the last layers see one pixel")
    warnings = Warnings()
    list_zoo(31, warnings)
    (text,) = warnings.texts
    assert text.startswith(f"{len(MEMBERS)} networks: at 31 pixels")
    code, _, error = output("show", "mobilenetv2", "--resolution", "7")
    assert code == 2
    assert "resolution must be at least 8 pixels, got 7." in error


def test_an_unknown_network_is_one_message() -> None:
    code, _, error = output("show", "efficientnet_b9")
    assert code == 2
    assert "did you mean" in error
    assert len(error.strip().splitlines()) == 1


# --- measure and compare -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("device")
def test_networks_below_a_count_are_measured_and_printed(tmp_path: Path) -> None:
    page = tmp_path / "zoo.html"
    code, text, error = output("measure", "--below", "60M", "--html", str(page), "--json")
    assert code == 0
    assert "hot" in error
    result = json.loads(text.splitlines()[-1])
    found = {row["name"]: row for row in result["networks"]}
    assert set(found) == {
        name for name, entry in MEMBERS.items() if network_cost(entry.spec).madds < 60_000_000
    }
    row = found["mobilenetv2_035"]  # 59,285,808 multiply-adds
    assert row["latency_ms"] == pytest.approx(5.9285808)
    assert (row["title"], row["top1"], row["status"]) == ("MobileNetV2 0.35x", 0.603, "ok")
    assert result["conditions"].endswith("A processor, 2 cores, x86_64")
    html = page.read_text()
    assert "MobileNetV3-Small" in html
    assert "research/slim/nets/mobilenet/README.md" in html


@pytest.mark.usefixtures("device")
def test_a_comparison_has_ratios_to_the_first() -> None:
    result = compare_zoo(["efficientnet_b0", "mobilenetv3_large_100"], Wanted(), Quiet())
    first, second = result["networks"]
    assert (first["latency_ratio"], second["name"]) == (1.0, "mobilenetv3_large")
    ratio = 216_589_760 / 385_814_752
    assert second["madds_ratio"] == pytest.approx(ratio)
    assert second["latency_ratio"] == pytest.approx(ratio)
    code, text, _ = output("compare", "efficientnet_b0", "mobilenetv3_large_100")
    assert code == 0
    (line,) = (line for line in text.splitlines() if line.startswith("mobilenetv3_large"))
    assert line.split()[5:9] == ["75.2", "%", "21.66", "ms"]
    assert "0.561" in line.split()


def test_a_group_that_fails_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoobench, "measure", fails_on_large)
    monkeypatch.setattr(zoobench, "GROUP", 1)
    names = ["mobilenetv2", "mobilenetv2_050", "mnasnet_a1"]
    warnings = Warnings()
    rows = {row["name"]: row for row in measure_zoo(names, None, Wanted(), warnings)["networks"]}
    assert [rows[name]["status"] for name in names] == ["failed", "ok", "failed"]
    assert rows["mobilenetv2"]["latency_ms"] is None
    assert rows["mobilenetv2"]["failed"] == "the process was killed."
    assert warnings.texts[-1] == "mnasnet_a1 could not be measured: the process was killed."
    with pytest.raises(MeasurementError):
        measure_zoo(["mobilenetv2", "mnasnet_a1"], None, Wanted(), Quiet())


def test_groups_hold_few_networks_of_like_cost() -> None:
    specs = {name: entry.spec for name, entry in MEMBERS.items()}
    groups = grouped(specs)
    assert sorted(name for group in groups for name in group) == sorted(specs)
    costs = [[network_cost(specs[name]).madds for name in group] for group in groups]
    assert all(len(group) == 1 or (len(group) <= 8 and sum(group) <= 12e9) for group in costs)
    flat = [cost for group in costs for cost in group]
    assert flat == sorted(flat)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: measure_zoo(["nothing"], None, Wanted(), Quiet()), UnknownNameError, "nothing"),
        (lambda: measure_zoo(None, 1, Wanted(), Quiet()), InputError, "raise --below"),
        (lambda: measure_zoo(None, None, Wanted(resolution=4), Quiet()), InputError, "at least 8 pixels"),
        (lambda: compare_zoo(["mobilenetv2", "mobilenetv2_100"], Wanted(), Quiet()), InputError, "two"),
    ],
)
def test_what_cannot_be_measured_is_refused(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_members_at_another_resolution_are_the_same_network() -> None:
    assert member("mobilenetv2").at(None) is published("mobilenetv2")
    assert member("mobilenetv2").at(96).resolution == 96
