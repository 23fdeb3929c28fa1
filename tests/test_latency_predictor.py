"""Features, regression, the predictor and its calibration, and the check of what any model returns."""

import json
import math
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import nnls

from mnas.errors import InputError, SearchError
from mnas.latency import (
    PredictionError,
    StructuralPredictor,
    check_estimates,
    coverage,
    kendall,
    noise_ceiling,
    score,
    spearman,
)
from mnas.latency.features import FEATURES, network_features, segment_features
from mnas.latency.regression import fit, nested_held_out, nonnegative_minimum
from mnas.protocols import LatencyEstimate, LatencyModel
from mnas.search_space import (
    NetworkSpec,
    StageSpec,
    extremes,
    mbconv_space,
    mnasnet_space,
    network_cost,
    segments,
)
from mnas.zoo import published

SMALL = mbconv_space(resolution=32, num_classes=10)
MADDS = ("pointwise_madds", "dense_madds", "depthwise3_madds", "depthwise5_madds", "vector_madds")
# Prices of a made-up device, ms per unit.
PRICES = {
    "networks": 0.02,
    "convolutions": 0.001,
    "pointwise_madds": 2e-8,
    "depthwise3_madds": 9e-8,
    "depthwise5_madds": 5e-8,
    "gates": 0.004,
    "silu_elements": 3e-7,
}


def members(space, count, seed=0):
    rng = random.Random(seed)
    return [space.decode(space.sample(rng)) for _ in range(count)]


def priced(spec):
    return sum(
        PRICES.get(name, 0.0) * amount for name, amount in zip(FEATURES, network_features(spec), strict=True)
    )


def named(spec):
    return dict(zip(FEATURES, network_features(spec), strict=True))


# --- features ----------------------------------------------------------------------------------------------


def test_features_of_efficientnet_b0_by_hand():
    b0 = named(published("efficientnet_b0"))
    assert b0["networks"] == 1
    # Stem and head; one separable block (depthwise, pointwise); 15 inverted ones (three convolutions each).
    assert b0["convolutions"] == 2 + 2 + 15 * 3
    assert b0["gates"] == 16
    assert b0["dense_madds"] == 9 * 3 * 32 * 112 * 112
    # First layers of no stage have a skip but those that keep stride and channels: 2+2+3+3+4 layers less 5.
    assert b0["add_elements"] == 24 * 56**2 + 40 * 28**2 + 2 * 80 * 14**2 + 2 * 112 * 14**2 + 3 * 192 * 7**2
    assert b0["pool_elements"] == b0["clamp_elements"] == b0["match_elements"] == 0


@pytest.mark.parametrize("make", [mbconv_space, mnasnet_space])
@pytest.mark.parametrize(("resolution", "classes"), [(224, 1000), (97, 7)])
def test_features_hold_every_multiply_add_of_any_space(make, resolution, classes):
    space = make(resolution=resolution, num_classes=classes)
    for spec in [
        *members(space, 10),
        *map(space.decode, extremes(space, lambda s: float(network_cost(s).madds))),
    ]:
        features = named(spec)
        assert sum(features[name] for name in MADDS) == network_cost(spec).madds
        assert all(value >= 0 for value in features.values())


def test_channels_that_do_not_fill_their_blocks_are_counted_by_hand():
    # Stem 3 -> 8 at 16 pixels, a depthwise and a pointwise 8 -> 24 and the head 24 -> 32 at 8 pixels; blocks of 16.
    stage = StageSpec(op="sepconv", kernel=3, stride=1, out_channels=24)
    spec = NetworkSpec(8, (stage,), 32, resolution=16, num_classes=10)
    features = named(spec)
    pixels = 8 * 8
    assert features["dense_padding"] == 9 * pixels * (16 * 16 - 3 * 8)
    assert features["depthwise_padding"] == 9 * pixels * (16 - 8)
    assert features["pointwise_padding"] == pixels * (16 * 32 - 8 * 24 + 32 * 32 - 24 * 32)
    # The stem reads 3 and writes 8; then 8 to 8, 8 to 24, 24 to 32.
    assert features["padding_elements"] == 13 * 16**2 + pixels * (8 + 8 + 8 + 8 + 8 + 8)


def test_pooling_skips_and_fused_activations_are_told_apart():
    space = mnasnet_space()
    values = {choice.name: choice.options[0] for choice in space.choices}
    plain = named(space.decode(space.from_values(values)))
    pooled = named(space.decode(space.from_values({**values, "block2.skip": "pool", "block3.skip": "pool"})))
    assert plain["silu_elements"] == 0 < plain["clamp_elements"]
    assert plain["pool_elements"] == 0 < pooled["pool_elements"]
    assert pooled["match_elements"] > 0
    # Block 2 pools 16 channels; both layers of block 3 pool 24, which do not fill blocks of 16.
    assert pooled["pool_elements"] == 16 * 56**2
    assert pooled["pool_elements_unaligned"] == 2 * 24 * 28**2
    assert {name for name in FEATURES if plain[name] != pooled[name]} == {
        "pool_elements",
        "pool_elements_unaligned",
        "match_elements",
        "add_elements",
    }


# --- regression --------------------------------------------------------------------------------------------


def test_nonnegative_minimum_is_scipy_s():
    rng = np.random.default_rng(0)
    assert nonnegative_minimum(np.eye(2), np.array([1.0, -1.0])).tolist() == [1, 0]
    negative = 0
    for _ in range(50):
        matrix, target = rng.normal(size=(30, 8)), rng.normal(size=30)
        expected, _ = nnls(matrix, target)
        found = nonnegative_minimum(matrix.T @ matrix, matrix.T @ target)
        np.testing.assert_allclose(found, expected, atol=1e-9)
        negative += (expected == 0).any()
    assert negative > 10  # the bound was at work


def test_known_coefficients_are_recovered():
    rng = np.random.default_rng(1)
    truth = np.array([3.0, 0.0, 0.5, 20.0])
    features = rng.uniform(0, 1, (60, 4)) * np.array([1.0, 1e6, 10.0, 1e-3])
    found = fit(features, features @ truth, 1e-9)
    np.testing.assert_allclose(found, truth, rtol=1e-4, atol=1e-9)
    wide = np.hstack([features, np.zeros((60, 1))])
    assert fit(wide, features @ truth, 1e-9)[-1] == 0


def test_held_out_predictions_do_not_see_their_own_network():
    """One network is off by a factor of ten: the fit that predicts it must not know."""
    rng = np.random.default_rng(2)
    features = rng.uniform(1, 2, (40, 2))
    targets = features @ np.array([1.0, 2.0])
    clean = nested_held_out(features, targets, 0)
    np.testing.assert_allclose(clean, targets, rtol=1e-4)
    targets[7] *= 10
    assert nested_held_out(features, targets, 0)[7] == pytest.approx(clean[7], rel=0.01)


# --- predictor ---------------------------------------------------------------------------------------------


def synthetic(noise=0.0, count=60, seed=0):
    """A predictor of the made-up device, and its error for networks that its folds held out."""
    specs = members(SMALL, count, seed)
    factors = np.exp(np.random.default_rng(seed).normal(0, noise, count)) if noise else np.ones(count)
    latencies = [priced(spec) * factor for spec, factor in zip(specs, factors, strict=True)]
    predictor, held_out = StructuralPredictor.fit(specs, latencies, device="made up", seed=0)
    return predictor, score(latencies, held_out)


def test_linear_latencies_are_predicted_exactly_and_elsewhere_too():
    predictor, error = synthetic()
    assert isinstance(predictor, LatencyModel)
    assert error.n == 60
    assert error.mape < 0.005
    assert error.spearman > 0.999
    for spec in members(SMALL, 50, seed=9):
        (estimate,) = predictor.predict([spec])
        assert estimate.ms == pytest.approx(priced(spec), rel=0.01)
        assert (estimate.source, estimate.device) == ("calibrated predictor", "made up")
    # Another resolution and head: sums that always moved together now move apart, and their prices are not known.
    for spec in members(mbconv_space(resolution=48, num_classes=100), 10, seed=9):
        assert predictor.predict([spec])[0].ms == pytest.approx(priced(spec), rel=0.1)


def test_a_prediction_is_the_sum_of_its_segments():
    predictor, _ = synthetic(noise=0.05)
    specs = members(SMALL, 20, seed=3)
    for spec, estimate in zip(specs, predictor.predict(specs), strict=True):
        assert math.fsum(map(predictor.segment_ms, segments(spec))) == pytest.approx(estimate.ms, rel=1e-12)
        features = dict(zip(FEATURES, network_features(spec), strict=True))
        direct = sum(price * features[name] for name, price in predictor.coefficients.items())
        assert estimate.ms == pytest.approx(direct, rel=1e-9)
    assert predictor.predict([]) == []


def test_the_90_percent_interval_holds_nine_of_ten_unseen_networks():
    hits = total = 0
    for seed in range(4):
        predictor, error = synthetic(noise=0.05, count=48, seed=seed)
        assert 0.02 < error.mape < 0.08
        unseen = members(SMALL, 100, seed=100 + seed)
        factors = np.exp(np.random.default_rng(50 + seed).normal(0, 0.05, 100))
        for spec, factor, estimate in zip(unseen, factors, predictor.predict(unseen), strict=True):
            hits += estimate.low_ms <= priced(spec) * factor <= estimate.high_ms
            total += 1
    assert 0.86 <= hits / total <= 0.99


def test_interval_by_hand():
    def fitted(residuals):
        return StructuralPredictor({"networks": 1.0}, residuals, "d")

    # Thirty residuals of -0.15 to 0.14: ranks 1.55 from each end, so the outermost.
    thirty = tuple((1.0 + number, (number - 15) / 100) for number in range(30))
    assert fitted(thirty).interval_factors(5.0) == pytest.approx((0.85, 1.14))
    assert fitted(((1.0, 0.1), (2.0, 0.2))).interval_factors(9.0) == pytest.approx((1.0, 1.2))
    # Thirty networks of 1 ms that are known to 1 %, thirty of 100 ms known to 20 %: each latency has its own interval.
    fast = tuple((1.0 + number / 100, 0.01 * (-1) ** number) for number in range(30))
    slow = tuple((100.0 + number, 0.2 * (-1) ** number) for number in range(30))
    both = fitted(fast + slow)
    assert both.interval_factors(1.0) == both.interval_factors(0.01) == pytest.approx((0.99, 1.01))
    assert both.interval_factors(115.0) == both.interval_factors(900.0) == pytest.approx((0.8, 1.2))
    # By ratio: of 1 ms and 100 ms, 9 ms is nearer to the first and 15 ms to the second.
    assert both.interval_factors(9.0) == pytest.approx((0.99, 1.01))
    assert both.interval_factors(15.0) == pytest.approx((0.8, 1.2))


def test_a_device_that_runs_slower_scales_every_estimate():
    predictor, _ = synthetic(noise=0.05)
    specs = members(SMALL, 5, seed=4)
    for before, after in zip(predictor.predict(specs), predictor.scaled(1.25).predict(specs), strict=True):
        assert (after.ms, after.low_ms, after.high_ms) == pytest.approx(
            (1.25 * before.ms, 1.25 * before.low_ms, 1.25 * before.high_ms)
        )


def test_an_operation_that_was_never_fitted_is_refused():
    predictor, _ = synthetic()
    with pytest.raises(InputError, match=r"fitted on networks without clamp_elements.*Measure it"):
        predictor.predict(members(mnasnet_space(resolution=32, num_classes=10), 1))


def test_predictor_round_trip_and_refusals():
    predictor, _ = synthetic(noise=0.05)
    data = json.loads(json.dumps(predictor.to_dict()))
    again = StructuralPredictor.from_dict(data)
    assert again == predictor
    specs = members(SMALL, 5)
    assert again.predict(specs) == predictor.predict(specs)
    for broken in (
        {**data, "format": "x"},
        {**data, "coefficients": {"hope": 1.0}},
        {**data, "residuals": []},
    ):
        with pytest.raises(InputError):
            StructuralPredictor.from_dict(broken)
    with pytest.raises(InputError, match="device"):
        StructuralPredictor.from_dict({name: value for name, value in data.items() if name != "device"})
    with pytest.raises(InputError, match="at least 10 networks"):
        StructuralPredictor.fit(specs, [1.0] * 5, device="d", seed=0)
    with pytest.raises(InputError, match="positive and finite"):
        StructuralPredictor.fit(members(SMALL, 12), [1.0] * 11 + [math.nan], device="d", seed=0)


def test_a_network_with_more_of_everything_is_never_predicted_faster():
    predictor, _ = synthetic(noise=0.3, seed=5)
    for spec in members(SMALL, 20, seed=6):
        deeper = replace(
            spec, stages=tuple(replace(stage, repeats=stage.repeats + 1) for stage in spec.stages)
        )
        small, large = predictor.predict([spec, deeper])
        assert large.ms >= small.ms


def test_segments_are_cached():
    predictor, _ = synthetic()
    specs = members(SMALL, 200, seed=11)
    predictor.predict(specs)
    before = segment_features.cache_info().misses
    predictor.predict(specs)
    assert segment_features.cache_info().misses == before


# --- scores ------------------------------------------------------------------------------------------------


def test_scores_by_hand():
    error = score([10, 10, 10, 20], [10, 10.4, 10.8, 16])
    assert error == PredictionError(
        n=4,
        mape=pytest.approx((0 + 0.04 + 0.08 + 0.2) / 4),
        rmspe=pytest.approx(((0.04**2 + 0.08**2 + 0.2**2) / 4) ** 0.5),
        within_5=0.5,
        within_10=0.75,
        spearman=pytest.approx(error.spearman),
        kendall=pytest.approx(3 / (3 * 6) ** 0.5),  # three pairs agree, three are tied on one side
    )
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 1, 2], [1, 1, 2]) == pytest.approx(1)
    assert spearman([1, 2, 3], [5, 5, 5]) == 0
    assert PredictionError.from_dict(json.loads(json.dumps(error.to_dict()))) == error
    assert "(4 networks held out)" in error.describe()
    with pytest.raises(InputError, match="at least 2"):
        score([1], [1])
    with pytest.raises(InputError, match="unexpected"):
        PredictionError.from_dict({**error.to_dict(), "more": 1})


# --- what any latency model returns ------------------------------------------------------------------------


def estimate(**changes):
    return replace(LatencyEstimate(10.0, 9.0, 11.0, "mine", "phone"), **changes)


def test_good_estimates_pass():
    assert check_estimates([estimate()], 1, "mine") == [estimate()]
    assert check_estimates((), 0, "mine") == []
    for bare in ([12.5, 3], np.array([12.5, 3.0]), [np.float32(12.5), np.int64(3)]):
        first, second = check_estimates(bare, 2, "mine")
        assert (first.ms, first.low_ms, first.high_ms, first.source) == (12.5, 12.5, 12.5, "mine")
        assert second.ms == 3
    other = SimpleNamespace(ms=1, low_ms=1, high_ms=2, source="theirs", device="d")
    assert check_estimates([other], 1, "x") == [LatencyEstimate(1.0, 1.0, 2.0, "theirs", "d")]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "returned NoneType, expected a list"),
        ("12", "returned str"),
        ({1: 2}, "returned dict"),
        ([1.0], "returned 1 estimates for 2 networks"),
        ([1.0, None], "estimate 1: expected a LatencyEstimate or a number of ms, got None"),
        ([1.0, "2ms"], "estimate 1: .* got '2ms'"),
        ([True, 1.0], "estimate 0: .* got True"),
        ([1.0, math.nan], "estimate 1: ms must be finite and positive, got nan"),
        ([1.0, math.inf], "estimate 1: ms must be finite and positive, got inf"),
        ([-1.0, 1.0], "estimate 0: ms must be finite and positive, got -1.0"),
        ([0, 1.0], "estimate 0: ms must be finite and positive, got 0"),
        ([estimate(), estimate(low_ms=-1.0)], "estimate 1: low_ms must be finite and positive"),
        ([estimate(), estimate(high_ms=None)], "estimate 1: high_ms must be finite and positive, got None"),
        (
            [estimate(low_ms=12.0, high_ms=13.0), 1.0],
            "estimate 0: expected low_ms <= ms <= high_ms, got 12.0, 10.0, 13.0",
        ),
    ],
)
def test_bad_estimates_are_named_with_what_to_do(returned, message):
    with pytest.raises(SearchError, match=f"latency model 'mine'.*{message}") as caught:
        check_estimates(returned, 2, "mine")
    assert "predict(specs) returns one LatencyEstimate" in str(caught.value)


def test_kendall_is_scipy_s():
    rng = np.random.default_rng(3)
    first = rng.integers(0, 20, 200).astype(float)
    second = first + rng.integers(0, 30, 200)
    assert kendall(first.tolist(), second.tolist()) == pytest.approx(stats.kendalltau(first, second)[0])
    assert kendall([1, 2, 3], [5, 5, 5]) == 0


def test_coverage_and_the_ceiling_of_the_noise():
    assert coverage([1, 2, 3, 4], [0.5, 2, 3.1, 0], [1.5, 2, 4, 3]) == 0.5
    # by the normal distribution: 2, 3 and 5 % noise leave 98.8, 90.4 and 68.3 % within 5 %
    shares = [noise_ceiling([1.959964 * sd], 0.05) for sd in (0.02, 0.03, 0.05)]
    np.testing.assert_allclose(
        shares, [2 * stats.norm.cdf(0.05 / sd) - 1 for sd in (0.02, 0.03, 0.05)], rtol=1e-6
    )
    assert noise_ceiling([0.0], 0.05) == 1
