"""Latency from encodings: the Gaussian process against scikit-learn, the predictor against planted truths."""

import json
import math
import os
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mnas.errors import InputError
from mnas.latency.encoding_kernel import EncodingKernel, Points
from mnas.latency.encoding_predictor import EncodingPredictor
from mnas.latency.gaussian import GaussianProcess, condition, growth
from mnas.latency.noise_mixture import NoiseMixture, best_factor

ROOT = Path(__file__).parents[1]
POSITIONS, OPTIONS, NOISE = 8, 5, 0.02


def squared_exponential(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * ((first[:, None, :] - second[None, :, :]) ** 2).sum(axis=2))


def sample(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(count, 2))
    return inputs, np.sin(inputs[:, 0]) + inputs[:, 1] + rng.normal(size=count) * 0.3


class TestGaussianProcess:
    def test_it_agrees_with_scikit_learn(self) -> None:
        gaussian_process = pytest.importorskip("sklearn.gaussian_process")
        kernels = gaussian_process.kernels
        inputs, targets = sample(100, seed=0)
        elsewhere, _ = sample(20, seed=1)
        found = condition(1.7 * squared_exponential(inputs, inputs), targets, np.full(100, 0.09))
        kernel = kernels.ConstantKernel(1.7, "fixed") * kernels.RBF(1.0, "fixed")
        known = gaussian_process.GaussianProcessRegressor(kernel, alpha=0.09, optimizer=None)
        known.fit(inputs, targets)
        mean, std = known.predict(elsewhere, return_std=True)
        ours = found.predict(1.7 * squared_exponential(elsewhere, inputs), np.full(20, 1.7))
        np.testing.assert_allclose(ours[0], mean, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(ours[1], std**2, rtol=1e-6, atol=1e-9)
        assert found.log_marginal == pytest.approx(known.log_marginal_likelihood_value_, rel=1e-6)

    def test_amplitudes_reach_the_likelihood_of_scikit_learn(self) -> None:
        gaussian_process = pytest.importorskip("sklearn.gaussian_process")
        kernels = gaussian_process.kernels
        inputs, targets = sample(120, seed=2)
        targets = targets + 3.0
        components = [np.ones((120, 120)), squared_exponential(inputs, inputs)]
        found = GaussianProcess.fit(components, targets)
        kernel = (
            kernels.ConstantKernel(1.0, (1e-6, 1e3))
            + kernels.ConstantKernel(1.0, (1e-6, 1e3)) * kernels.RBF(1.0, "fixed")
            + kernels.WhiteKernel(0.1, (1e-6, 1e2))
        )
        known = gaussian_process.GaussianProcessRegressor(kernel, alpha=0.0, n_restarts_optimizer=2)
        known.fit(inputs, targets)
        assert found.posterior.log_marginal == pytest.approx(known.log_marginal_likelihood_value_, abs=0.01)
        assert math.sqrt(found.noise) == pytest.approx(0.3, rel=0.25)

    def test_a_point_left_out_is_predicted_as_by_a_fit_without_it(self) -> None:
        inputs, targets = sample(30, seed=3)
        gram, noise = squared_exponential(inputs, inputs), np.linspace(0.05, 0.5, 30)
        mean, variance = condition(gram, targets, noise).left_out()
        rest = np.arange(30) != 7
        alone = condition(gram[np.ix_(rest, rest)], targets[rest], noise[rest])
        expected = alone.predict(gram[7:8, rest], np.ones(1))
        assert mean[7] == pytest.approx(expected[0][0], rel=1e-9)
        assert variance[7] == pytest.approx(expected[1][0], rel=1e-9)

    def test_two_points_by_hand(self) -> None:
        # K + N = [[2, 1], [1, 2]], its inverse [[2, -1], [-1, 2]] / 3; K = ones, noise 1, targets 3 and 0.
        found = condition(np.ones((2, 2)), np.array([3.0, 0.0]), np.ones(2))
        np.testing.assert_allclose(found.weights, [2.0, -1.0])
        mean, variance = found.predict(np.ones((1, 2)), np.ones(1))
        assert mean[0] == pytest.approx(1.0)
        assert variance[0] == pytest.approx(1 / 3)
        np.testing.assert_allclose(found.fitted()[0], [1.0, 1.0])
        # Weighted residuals: w'Kw = 1, trace(inverse K) = 2/3.
        assert growth(found, np.ones((2, 2))) == pytest.approx(math.sqrt(1.5))

    def test_points_that_count_less_pull_less(self) -> None:
        targets = np.array([1.0, 1.0, 1.0, 1.0, 9.0])
        gram = [np.ones((5, 5))]
        light = GaussianProcess.fit(gram, targets, noise_weights=[1, 1, 1, 1, 1000])
        mean, _ = light.predict([np.ones((1, 5))], [np.ones(1)])
        assert mean[0] == pytest.approx(1.0, abs=0.1)

    @pytest.mark.parametrize(
        ("components", "targets", "weights", "words"),
        [
            ([np.eye(3)], [1.0, 2.0], None, "components"),
            ([np.eye(2)], [1.0, math.nan], None, "finite"),
            ([np.eye(2)], [1.0, 2.0], [1.0, 0.0], "positive"),
            ([np.eye(1)], [1.0], None, "at least 2"),
        ],
    )
    def test_what_cannot_be_fitted_is_refused(
        self, components: Any, targets: Any, weights: Any, words: str
    ) -> None:
        with pytest.raises(InputError, match=words):
            GaussianProcess.fit(components, targets, noise_weights=weights)

    def test_a_matrix_that_is_no_kernel_is_refused(self) -> None:
        with pytest.raises(InputError, match="not positive definite"):
            condition(np.array([[1.0, 3.0], [3.0, 1.0]]), np.ones(2), np.full(2, 0.1))


class TestKernel:
    def kernel(self) -> EncodingKernel:
        rng = np.random.default_rng(0)
        factor, other = rng.normal(size=(3, 3)), rng.normal(size=(5, 5))
        return EncodingKernel(factor @ factor.T, other @ other.T, rng.uniform(0.5, 2, 12))

    def points(self) -> Points:
        rng = np.random.default_rng(1)
        return Points(rng.integers(0, 5, (6, 3)), rng.normal(size=(6, 1)), np.linspace(0, 1, 6))

    def test_variances_are_the_diagonal(self) -> None:
        kernel, points = self.kernel(), self.points()
        np.testing.assert_allclose(kernel.variances(points), kernel.gram(points, points).diagonal())

    def test_the_main_part_by_hand(self) -> None:
        kernel = EncodingKernel(
            np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[5.0, 0.5], [0.5, 7.0]]), np.ones(7)
        )
        one, two = (Points(np.array([codes]), np.zeros((1, 0)), np.zeros(1)) for codes in ([0, 1], [1, 1]))
        # A00 B01 + A01 B01 + A10 B11 + A11 B11 = 2 x .5 + 1 x .5 + 1 x 7 + 3 x 7
        assert kernel.main(one, two)[0, 0] == pytest.approx(29.5)


class TestNoise:
    def test_learns_two_speeds(self) -> None:
        rng = np.random.default_rng(0)
        slow = rng.random(2000) < 0.2
        residuals = rng.normal(size=2000) * 0.01 + 0.25 * slow
        noise, nothing = NoiseMixture.start(1, float(residuals.std())), np.zeros(2000)
        for _ in range(50):
            noise = noise.updated(noise.share_of(residuals, nothing)[0], residuals, nothing)
        shift, left = noise.undisturbed(noise.share_of(residuals, nothing)[0])
        assert np.median(shift[slow]) - np.median(shift[~slow]) == pytest.approx(0.25, abs=0.01)
        assert math.sqrt(float(np.median(left))) == pytest.approx(0.01, rel=0.3)

    def test_the_best_factor_is_the_best_of_a_fine_grid(self) -> None:
        ratios = np.exp(np.random.default_rng(0).normal(size=201) * 0.3)
        grid = np.linspace(0.5, 2, 3001)
        errors = [np.mean(np.abs(factor / ratios - 1)) for factor in grid]
        assert best_factor(np.log(ratios)) == pytest.approx(grid[int(np.argmin(errors))], abs=0.01)


def planted(
    count: int, seed: int, *, noise: float = NOISE, pairs: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Networks of a made-up device: price of place x price of option, a price of neighbours, multiplicative noise."""
    rule, rng = np.random.default_rng(99), np.random.default_rng(seed)
    places, options = rule.uniform(0.5, 3.0, POSITIONS), rule.uniform(0.2, 4.0, OPTIONS)
    neighbours = rule.normal(size=(OPTIONS, OPTIONS)) * pairs
    codes = rng.integers(0, OPTIONS, (count, POSITIONS))
    ms = 5.0 + (places * options[codes]).sum(axis=1) + neighbours[codes[:, :-1], codes[:, 1:]].sum(axis=1)
    return codes, ms * np.exp(rng.normal(size=count) * noise)


def mape(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean(np.abs(found / truth - 1)))


@pytest.fixture(scope="module")
def benchmark() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(ROOT / "benchmarks/latency/encodings.py")))


@pytest.fixture(scope="module")
def predictor() -> EncodingPredictor:
    return EncodingPredictor.fit(*planted(30, seed=1), device="made up")


class TestPredictor:
    def test_it_is_closer_than_a_ridge_and_its_intervals_hold(
        self, predictor: EncodingPredictor, benchmark: SimpleNamespace
    ) -> None:
        (codes, fitted), (unseen, truth) = planted(30, seed=1), planted(1000, seed=2)
        found, low, high = predictor.predict_ms(unseen)
        both = np.concatenate([codes, unseen])
        none = np.zeros((len(both), 0), dtype=np.int64)
        features = benchmark.Encoded(both, np.ones(both.shape, dtype=bool), none, None).one_hot()
        ridge = benchmark.additive_ridge(
            features, np.concatenate([fitted, truth]), np.arange(30), np.arange(30, 1030), 0
        )
        # The truth's own noise of 2 % leaves a mean error of 1.6 % to the best of predictors.
        assert mape(found, truth) < 0.035 < mape(ridge, truth)
        assert 0.85 <= np.mean((low <= truth) & (truth <= high)) <= 0.97
        assert (low <= found).all()
        assert (found <= high).all()

    def test_neighbours_are_learned(self, benchmark: SimpleNamespace) -> None:
        (codes, fitted), (unseen, truth) = planted(150, seed=3, pairs=2.0), planted(500, seed=4, pairs=2.0)
        found, _, _ = EncodingPredictor.fit(codes, fitted, device="made up").predict_ms(unseen)
        both = np.concatenate([codes, unseen])
        none = np.zeros((len(both), 0), dtype=np.int64)
        features = benchmark.Encoded(both, np.ones(both.shape, dtype=bool), none, None).one_hot()
        ridge = benchmark.additive_ridge(
            features, np.concatenate([fitted, truth]), np.arange(150), np.arange(150, 650), 0
        )
        assert mape(found, truth) < 0.6 * mape(ridge, truth)

    def test_slow_spells_do_not_sway_it(self) -> None:
        codes, ms = planted(80, seed=5)
        ms[10:16] *= 1.5
        unseen, truth = planted(500, seed=6, noise=0.0)
        assert mape(EncodingPredictor.fit(codes, ms, device="made up").predict_ms(unseen)[0], truth) < 0.03

    def test_drift_is_followed_to_the_end_of_the_measurements(self) -> None:
        codes, ms = planted(80, seed=7, noise=0.005)
        drifting = ms * np.linspace(1.0, 1.2, 80)
        unseen, truth = planted(300, seed=8, noise=0.0)
        found = EncodingPredictor.fit(codes, drifting, device="made up").predict_ms(unseen)[0]
        assert np.median(found / truth) == pytest.approx(1.2, abs=0.03)
        order = np.random.default_rng(0).permutation(80)
        again = EncodingPredictor.fit(
            codes[order], drifting[order], measured_at=order, device="made up"
        ).predict_ms(unseen)[0]
        assert np.median(again / truth) == pytest.approx(1.2, abs=0.03)

    def test_depth_and_resolution(self) -> None:
        def measured(count: int, seed: int) -> tuple[dict[str, Any], np.ndarray]:
            codes, _ = planted(count, seed)
            rng = np.random.default_rng(seed)
            depth, resolution = rng.integers(3, 9, count), rng.choice([128.0, 160.0, 192.0, 224.0], count)
            active = np.arange(POSITIONS) < depth[:, None]
            ms = 2 + (resolution / 128) ** 2 * (np.where(active, 1 + codes, 0)).sum(axis=1)
            inputs = {"encodings": codes, "active": active, "numeric": resolution[:, None]}
            return inputs, ms * np.exp(rng.normal(size=count) * 0.01)

        inputs, ms = measured(80, seed=9)
        unseen, truth = measured(300, seed=10)
        fitted = EncodingPredictor.fit(latencies_ms=ms, device="made up", **inputs)
        assert mape(fitted.predict_ms(**unseen)[0], truth) < 0.05
        # What stands at an inactive position decides nothing.
        other = unseen | {"encodings": np.where(unseen["active"], unseen["encodings"], 77)}
        np.testing.assert_array_equal(fitted.predict_ms(**other)[0], fitted.predict_ms(**unseen)[0])

    def test_an_option_new_at_its_position_widens_the_interval(self) -> None:
        codes, ms = planted(80, seed=11)
        codes[:, 0] = codes[:, 0] % (OPTIONS - 1)
        known, new = codes[:1].copy(), codes[:1].copy()
        new[0, 0] = OPTIONS - 1
        fitted = EncodingPredictor.fit(codes, ms, device="made up")
        widths = [(high - low) / ms for ms, low, high in map(fitted.predict_ms, (known, new))]
        assert widths[1] > 1.05 * widths[0]

    def test_it_goes_through_json(self, predictor: EncodingPredictor) -> None:
        again = EncodingPredictor.from_dict(json.loads(json.dumps(predictor.to_dict())))
        assert again.to_dict() == predictor.to_dict()
        unseen, _ = planted(20, seed=12)
        np.testing.assert_allclose(again.predict_ms(unseen), predictor.predict_ms(unseen), rtol=1e-9)
        estimate = again.predict(unseen)[0]
        assert estimate.low_ms <= estimate.ms <= estimate.high_ms
        assert (estimate.source, estimate.device) == ("calibrated predictor", "made up")

    def test_a_seed_gives_the_same_fit(self, predictor: EncodingPredictor) -> None:
        again = EncodingPredictor.fit(*planted(30, seed=1), device="made up")
        assert again.to_dict() == predictor.to_dict()

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"format": "mnas.encoding_predictor/0"}, "format"),
            ({"surprise": 1}, "unknown fields surprise"),
            ({"targets": [1.0]}, "shape"),
            ({"scale": "metres"}, "scale"),
            ({"factor": math.inf}, "finite"),
            ({"codes": ["1 2", "3"]}, "encoding predictor"),
            ({"variances": None}, "encoding predictor"),
        ],
    )
    def test_another_document_is_refused(
        self, predictor: EncodingPredictor, change: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(InputError, match=words):
            EncodingPredictor.from_dict(predictor.to_dict() | change)

    def test_a_document_that_lacks_a_field_is_refused(self, predictor: EncodingPredictor) -> None:
        for name in predictor.to_dict():
            data = predictor.to_dict()
            del data[name]
            with pytest.raises(InputError):
                EncodingPredictor.from_dict(data)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"encodings": np.zeros((9, 3), dtype=int), "latencies_ms": np.ones(9)}, "at least 10 networks"),
            ({"latencies_ms": np.ones(29)}, "latencies of shape"),
            ({"latencies_ms": np.zeros(30)}, "positive and finite, in ms"),
            ({"latencies_ms": np.full(30, math.nan)}, "positive and finite, in ms"),
            ({"encodings": np.zeros((30, 3))}, "integers"),
            ({"encodings": np.arange(90).reshape(30, 3)}, "at most 64 options"),
            ({"active": np.ones((30, 2), dtype=bool)}, "active"),
            ({"numeric": np.ones(30)}, "numeric columns"),
            ({"numeric": np.zeros((30, 1))}, "positive"),
            ({"measured_at": np.ones(3)}, "measured_at"),
        ],
    )
    def test_what_cannot_be_fitted_is_refused(self, change: dict[str, Any], words: str) -> None:
        inputs = {"encodings": np.zeros((30, 3), dtype=int), "latencies_ms": np.ones(30)} | change
        with pytest.raises(InputError, match=words):
            EncodingPredictor.fit(device="made up", **inputs)

    def test_what_it_never_saw_is_refused(self, predictor: EncodingPredictor) -> None:
        codes, _ = planted(2, seed=13)
        with pytest.raises(InputError, match="8 positions and 0 numeric columns; got 7"):
            predictor.predict_ms(codes[:, :-1])
        with pytest.raises(InputError, match=r"no fitted network had option 6, .* Measure a few"):
            predictor.predict_ms(np.where(codes == codes[0, 0], 6, codes))
        with pytest.raises(InputError, match="an inactive position"):
            predictor.predict_ms(codes, active=np.zeros(codes.shape, dtype=bool))


class TestBenchmark:
    def test_reads_both_forms(self, benchmark: SimpleNamespace) -> None:
        assert benchmark.read({"lat_x": np.ones(3)}) is None
        plain = benchmark.read({"arch": np.array([[0, 2], [1, 1]], dtype=np.int8)})
        assert plain.active.all()
        assert plain.one_hot().tolist() == [[1, 0, 0, 1], [0, 1, 1, 0]]
        staged = benchmark.read(
            {
                "ks": np.array([[3, 5, 3, 3]]),
                "e": np.array([[4, 6, 4, 4]]),
                "d": np.array([[1, 2]]),
                "r": np.array([224]),
            }
        )
        assert staged.codes.tolist() == [[304, 506, 304, 304]]
        assert staged.active.tolist() == [[True, False, True, True]]

    def test_says_what_is_missing(
        self, benchmark: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.delenv("MNAS_BENCH_DATA", raising=False)
        monkeypatch.setattr("sys.argv", ["encodings.py"])
        assert benchmark.main() == 2
        assert "--data-dir or MNAS_BENCH_DATA" in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["help_fbnet", "help_ofa"])
    def test_published_devices(self, benchmark: SimpleNamespace, name: str) -> None:
        path = Path(os.environ.get("MNAS_BENCH_DATA", "")) / f"{name}.npz"
        if not path.is_file():
            pytest.skip(f"no {path.name}: set MNAS_BENCH_DATA to the folder that holds it")
        with np.load(path) as data:
            encoded = benchmark.read(data)
            device = "lat_titan_rtx_1"
            found = benchmark.compare(encoded, data[device].astype(np.float64), 50, 1, False)
        assert found["beats"] == {"mape": True, "spearman": True}
        assert found["ours"]["spearman"] > {"help_fbnet": 0.95, "help_ofa": 0.75}[name]
