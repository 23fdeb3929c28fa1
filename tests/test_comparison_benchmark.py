"""The comparison of trained networks: what the search may see, the arithmetic of its table, its scaled networks."""

import importlib.util
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mnas.data import ImageData, Split, load_data
from mnas.search_space import network_cost

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def comparison() -> ModuleType:
    path = ROOT / "benchmarks" / "accuracy" / "comparison.py"
    spec = importlib.util.spec_from_file_location("comparison", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pixels(split: Split) -> list[bytes]:
    return sorted(image.tobytes() for image in split.images)


def labelled(split: Split) -> list[tuple[bytes, int]]:
    return sorted(
        (image.tobytes(), int(label)) for image, label in zip(split.images, split.labels, strict=True)
    )


def split_of(count: int, first: int) -> Split:
    """Images that are all different: number n has its high and low byte in the first two pixels; 10 classes in turn."""
    numbers = np.arange(first, first + count)
    images = np.zeros((count, 3, 32, 32), np.uint8)
    images[:, :, 0, 0], images[:, :, 0, 1] = (numbers // 256)[:, None], (numbers % 256)[:, None]
    return Split(images, numbers % 10)


def test_the_search_sees_the_images_of_the_trainings_and_no_test_image(
    comparison: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    classes = tuple(f"class{number}" for number in range(10))
    whole = ImageData("made", classes, 32, split_of(200, 0), split_of(50, 200), split_of(50, 250))
    monkeypatch.setattr(comparison, "load_data", lambda path, resolution: whole)
    data, unused = comparison.comparison_data("made", 60)
    assert [len(data.train), len(data.val), len(data.test), len(unused)] == [60, 30, 50, 30]
    for split, each in ((data.train, 6), (data.val, 3), (unused, 3)):
        assert np.bincount(split.labels).tolist() == [each] * 10
    assert set(pixels(data.train)) <= set(pixels(whole.train))
    assert set(pixels(data.val)) <= set(pixels(whole.val))
    with pytest.raises(SystemExit, match="10 classes, 200 training and 50 validation"):
        comparison.comparison_data("made", 102)
    assert set(pixels(unused)) <= set(pixels(whole.train)) - set(pixels(data.train))

    path = tmp_path / "search-images.tar"
    comparison.write_search_images(path, data, unused)
    with tarfile.open(path) as tar:
        assert len(tar.getnames()) == 120
    seen = load_data(str(path), resolution=32)
    assert seen.classes == classes
    for found, given in ((seen.train, data.train), (seen.val, data.val), (seen.test, unused)):
        assert labelled(found) == labelled(given)


def test_spread_and_paired_difference(comparison: ModuleType) -> None:
    assert comparison.spread([0.5, 0.6, 0.7]) == pytest.approx(
        {"mean": 0.6, "std": 0.1, "min": 0.5, "max": 0.7}
    )
    assert comparison.spread([0.5]) == {"mean": 0.5, "std": None, "min": 0.5, "max": 0.5}
    # Differences .01, .02, .06: mean .03, squared deviations .0004 + .0001 + .0009, std sqrt(.0007), by sqrt(3).
    found = comparison.difference([0.51, 0.62, 0.76], [0.50, 0.60, 0.70])
    assert found == pytest.approx({"mean": 0.03, "standard_error": (0.0007 / 3) ** 0.5})
    assert comparison.difference([0.5], [0.75]) == {"mean": -0.25, "standard_error": None}


def test_the_budget_is_a_quarter_of_b0(comparison: ModuleType) -> None:
    spec, width = comparison.quarter("efficientnet_b0")
    assert 0.24 < network_cost(spec).madds / network_cost(comparison.REFERENCE).madds < 0.26
    assert (spec.resolution, spec.num_classes, len(spec.stages)) == (32, 10, 7)
    assert 0.4 < width < 0.5  # multiply-adds go with the square of the width, stem and SE with less


def test_the_first_within_come_before_the_nearest(comparison: ModuleType) -> None:
    apart = {"a": 0.5, "b": 0.02, "c": 0.04, "d": 0.0, "e": 0.03}
    assert comparison.nearest(list(apart), apart.__getitem__, 0.03, 2) == ["b", "d"]
    assert comparison.nearest(list(apart), apart.__getitem__, 0.03, 4) == ["b", "d", "e", "c"]


def test_shares_are_brought_to_what_is_measured(comparison: ModuleType) -> None:
    known = [(2.0, 3.0), (1.0, 1.0), (4.0, 4.0)]  # factors 1.5, 1, 1
    assert comparison.corrected(0.5, [], along=True) == 0.5
    assert comparison.corrected(1.5, known, along=True) == pytest.approx(1.5 * 1.25)
    assert comparison.corrected(0.5, known, along=True) == pytest.approx(0.5)
    assert comparison.corrected(3.0, known[:1] * 2 + known[1:], along=False) == pytest.approx(3.0 * 1.25)
