"""The headline commands: which networks they compare, and the arithmetic of what they say. Nothing is measured."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mnas.accuracy.surrogate import imagenet_surrogate
from mnas.data import ImageData, Split
from mnas.latency import Conditions, Measurement, MeasurementSet, ProcessSamples, this_device
from mnas.search_space import NetworkSpec, mbconv_space, network_cost
from mnas.zoo import published

FOLDER = Path(__file__).parent.parent / "benchmarks" / "headlines"
NAMES = ("ablations", "b1_resnet152", "families", "igcv3", "resnet_rs", "scaling_rules")

Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.syspath_prepend(str(FOLDER))

    def of(name: str) -> ModuleType:
        return importlib.import_module(name)

    return of


@pytest.mark.parametrize("name", NAMES)
def test_each_is_one_command(
    load: Load, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    module = load(name)
    monkeypatch.setattr("sys.argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 0
    assert f"python benchmarks/headlines/{name}.py" in capsys.readouterr().out


def test_the_four_rules_come_to_equal_multiply_adds(load: Load) -> None:
    rules = load("scaling_rules")
    base = rules.base_network(0.25, 16, 10)
    grown = {rule: found.spec for rule, found in rules.equal_madds(base, 4.0, 32).items()}
    madds = {rule: network_cost(spec).madds for rule, spec in grown.items()}
    assert list(grown) == ["depth", "width", "resolution", "compound"]
    assert max(madds.values()) / min(madds.values()) < 1.05 / 0.95
    assert all(3.2 < count / network_cost(base).madds < 5 for count in madds.values())

    def changed(spec: NetworkSpec) -> set[str]:
        found = {
            "repeats": [s.repeats for s in spec.stages] != [s.repeats for s in base.stages],
            "channels": spec.stem_channels != base.stem_channels,
            "resolution": spec.resolution != base.resolution,
        }
        return {name for name, differs in found.items() if differs}

    assert changed(grown["depth"]) == {"repeats"}
    assert changed(grown["width"]) == {"channels"}
    assert changed(grown["resolution"]) == {"resolution"}
    assert changed(grown["compound"]) == {"repeats", "channels", "resolution"}
    assert max(spec.resolution for spec in grown.values()) <= 32


def test_rules_that_cannot_meet_are_refused(load: Load) -> None:
    rules = load("scaling_rules")
    with pytest.raises(SystemExit, match="no multiply-adds about 4"):
        rules.equal_madds(rules.base_network(0.25, 16, 10), 4.0, 17)


def test_images_are_shrunk_and_never_enlarged(load: Load) -> None:
    shrunk = load("scaling_rules").shrunk
    images = np.zeros((3, 1, 32, 32), np.uint8)
    images[:, :, :, 16:] = 200
    images[2] = 90
    split = Split(images, np.array([0, 1, 1]))
    data = ImageData("halves", ("a", "b"), 32, split, split, split)
    small = shrunk(data, 16)
    assert small.native_size == 16
    assert small.val.images.shape == (3, 1, 16, 16)
    assert small.test.images[0, 0, 5].tolist()[:7] == [0] * 7
    assert small.test.images[0, 0, 5].tolist()[9:] == [200] * 7
    assert (small.train.images[2] == 90).all()
    assert small.train.labels.tolist() == [0, 1, 1]
    assert shrunk(data, 32) is data


def test_differences_are_paired_by_seed(load: Load) -> None:
    # compound - depth is 1, 2 and 3 points: mean 2, standard error 1 / sqrt(3); - width 0, 2 and -2: 0.
    test = {
        "compound": [0.60, 0.62, 0.58],
        "depth": [0.59, 0.60, 0.55],
        "width": [0.60, 0.60, 0.60],
        "resolution": [0.70, 0.72, 0.68],
    }
    depth, width, resolution = load("scaling_rules").compared(test)
    assert depth == "compound - depth: +2.00 points (+- 0.58; paper +2.1): better"
    assert width.startswith("compound - width: +0.00 points (+- 1.15;")
    assert width.endswith("not distinguishable")
    assert resolution.endswith("worse")


def test_the_repeated_block_is_a_part_of_mbconv(load: Load) -> None:
    space = load("ablations").repeated_space()
    specs = [space.decode(architecture) for architecture in space.enumerate()]
    assert len(set(specs)) == 3 * 2 * 3 * 2
    assert len(imagenet_surrogate().evaluate(specs, seed=0)) == 36  # refuses what is not of mbconv
    for spec in specs:
        assert len({(s.expansion, s.kernel, s.repeats, s.se_ratio) for s in spec.stages}) == 1
    whole = mbconv_space()
    assert {s.out_channels for s in specs[0].stages} == {
        s.out_channels for s in whole.decode([0] * 28).stages
    }


def test_where_samples_lie(load: Load) -> None:
    found = load("ablations").where([50.0, 95.0, 105.0, 200.0], 100.0)
    assert found["within 10 %"] == 0.5
    assert found["at most the target"] == 0.5
    assert found["below 60 %"] == 0.25
    assert found["above 140 %"] == 0.25
    assert found["quantile 0.5"] == 1.0


def test_soft_samples_cost_more_than_hard_ones(load: Load) -> None:
    ablations = load("ablations")
    means = {
        kind: np.mean([t.metrics["madds"] for t in ablations.search(kind, 200e6, 1000, 0, "reinforce")])
        for kind in ("hard", "soft")
    }
    # Beyond the target twice the cost halves the hard reward and takes 5 % of the soft one (arXiv 1807.11626, eq. 3).
    assert means["hard"] < means["soft"]


def test_a_resnet_stands_against_the_smallest_efficientnet_as_accurate(load: Load) -> None:
    families = load("families")
    # Published top-1: ResNets 69.8, 73.3, 76.1, 77.4, 78.3; B0 77.1, B1 79.1.
    assert families.matched() == {
        "resnet_18": "efficientnet_b0",
        "resnet_34": "efficientnet_b0",
        "resnet_50": "efficientnet_b0",
        "resnet_101": "efficientnet_b1",
        "resnet_152": "efficientnet_b1",
    }
    assert "resnet_152" not in families.matched(efficientnets=["efficientnet_b0"])


def test_a_pair_of_families_in_words(load: Load) -> None:
    families = load("families")
    # pycls, dev/model_complexity.json: 25,557,032 and 5,288,548 parameters; 4.089e9 and 0.386e9 multiply-adds.
    assert families.count_ratios("resnet_50", "efficientnet_b0")["params"] == 4.83
    assert families.count_ratios("resnet_50", "efficientnet_b0")["madds"] == 10.6
    measured = {"latency_ratio": 4.3, "latency_ratio_95": [4.1, 4.5]}
    (said,) = families.came_out({("efficientnet_b0", "resnet_50"): measured})
    assert said.startswith("ResNet-50 (76.1%) has 4.83 times the parameters, 10.6 the multiply-adds, ")
    assert said.endswith("4.3 (4.1 to 4.5) the latency of EfficientNet-B0 (77.1%)")


def test_groups_are_compared_in_networks_of_the_same_layers(load: Load) -> None:
    pairs = dict(load("igcv3").pairs())
    assert len(pairs) == 5
    dense, grouped = pairs["igcv3, 1 group", "igcv3, 2 groups"]
    assert grouped == published("igcv3")
    assert [replace(stage, groups=2) for stage in dense.stages] == list(grouped.stages)
    assert network_cost(grouped).madds < network_cost(dense).madds


def test_a_pair_has_its_ratio_and_its_spread(load: Load) -> None:
    headline = load("headline")
    specs = (published("mobilenetv2"), published("igcv3"))

    def process(number: int, candidate: float, rejected: bool = False) -> ProcessSamples:
        times = (candidate,) * 3
        return ProcessSamples(number, times, (10.0,) * 3, times, (10.0,) * 3, True, rejected)

    samples = (process(0, 18.0), process(1, 20.0), process(2, 99.0, rejected=True))
    item = Measurement("b", "ok", 1.9, 1.8, 2.0, 19.0, 18.0, 20.0, 19.0, "", (1, 3, 224, 224), samples)
    device = this_device()
    found = headline.paired(
        ("a", "b"),
        specs,
        MeasurementSet(Conditions(), device, specs[0], 10.0, False, 10.0, (item,), (), (), 0, 1.0),
    )
    assert found["latency_ratio"] == 1.9
    assert found["latency_ratio_95"] == [1.8, 2.0]
    assert found["latency_ratio_by_process"] == [1.8, 2.0]
    assert found["networks"]["b"]["latency_ms"] == 19.0
    assert found["networks"]["b"]["range_ms"] == [18.0, 20.0]
    assert found["networks"]["a"]["params"] == network_cost(specs[0]).params
    assert found["processes"] == 2


def test_more_than_an_hour_is_said_beforehand(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    say = load("headline").say_seconds
    say(120.0)
    assert "More than an hour" not in capsys.readouterr().err
    say(3700.0)
    assert "More than an hour" in capsys.readouterr().err


def test_memory_is_that_of_the_process_that_runs_the_network(load: Load, tmp_path: Path) -> None:
    rs = load("resnet_rs")
    ballast = np.ones(400 * 2**20, np.uint8)  # of this process, which the other's peak must not contain
    (small,), (peak,) = rs.memory("mobilenetv2_035", 1).values()
    assert ballast[0] == 1
    # Weights of 1.66M parameters take 6.3 MiB; the largest activation of a 224-pixel image less than 5.
    assert 6 < small < 150
    assert small - 20 < peak < 250
