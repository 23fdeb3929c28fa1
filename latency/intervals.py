"""From the samples of several processes to one ratio with an honest interval, and the noise gate.

Samples are paired: the k-th of the candidate and the k-th of the reference were taken in the same round.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, median

import numpy as np

from mnas.errors import InputError
from mnas.latency.worker import bootstrap_median

# Standard deviation of the median of n standard normal numbers, n = 1 to 10 (simulated, 400,000 draws; a test
# repeats it); beyond that the asymptotic sqrt(pi / 2n).
MEDIAN_SD = (1.0, 0.707, 0.670, 0.546, 0.536, 0.463, 0.459, 0.410, 0.408, 0.372)
# What makes the median absolute deviation of n normal numbers unbiased for their standard deviation, n = 2 to 9.
# Reference: Croux and Rousseeuw (1992), Time-efficient algorithms for two highly robust estimators of scale.
MAD_FACTOR = (1.196, 1.495, 1.363, 1.206, 1.200, 1.140, 1.129, 1.107)
MAD_NORMAL = 1.4826
# Spread of a paired ratio between fresh processes of ONNX Runtime, as seen on a shared two-core x86 machine. Few
# processes cannot tell their own spread, so it enters as if PRIOR_PROCESSES more had shown it (chosen here).
PROCESS_SPREAD, PRIOR_PROCESSES = 0.013, 2
# Drift of the reference above which a figure carries a warning, and above which it is rejected.
DRIFT_WARNS, DRIFT_REJECTS = 0.05, 0.30
# Half-width, relative, beyond which a 95 % interval counts as one that will not close (chosen here: a tenth is
# what a latency predictor is asked to hold, so a truth that is less certain than that is none).
WIDEST = 0.10
# Rounds of median polish (chosen here: with networks in two or three processes it stands still after five or so).
POLISHES = 20
_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and the bounds of its 95 % interval, in the unit of the value; low <= value <= high."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """The wider side over the value, a fraction."""
        return max(self.high - self.value, self.value - self.low) / self.value


def paired_ratio(candidate_ms: Sequence[float], reference_ms: Sequence[float], *, seed: int) -> Interval:
    """Median of candidate / reference over the rounds of one process, with its bootstrap interval.

    Args:
        candidate_ms: `(rounds,)`, positive.
        reference_ms: `(rounds,)`, positive, of the same rounds.
        seed: of the bootstrap.

    Raises:
        InputError: no samples, or a different number of them.
    """
    if len(candidate_ms) != len(reference_ms) or not candidate_ms:
        raise InputError(
            f"paired samples must be equal in number and at least one; "
            f"got {len(candidate_ms)} and {len(reference_ms)}."
        )
    ratios = np.asarray(candidate_ms, dtype=np.float64) / np.asarray(reference_ms, dtype=np.float64)
    return Interval(*bootstrap_median(ratios, seed))


def student_quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t, within 3.1 % at 2 degrees of freedom and 0.3 % from 4 on.

    Reference: Abramowitz and Stegun, 26.7.5 (Cornish-Fisher expansion).

    >>> round(student_quantile(6), 3)
    2.446
    """
    z, v = _Z, freedom
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / v + second / v**2 + third / v**3


def robust_sd(values: Sequence[float]) -> float:
    """Standard deviation by the median absolute deviation, unbiased for normal values; 0 for one value."""
    count = len(values)
    if count < 2:
        return 0.0
    centre = median(values)
    factor = MAD_FACTOR[count - 2] if count - 2 < len(MAD_FACTOR) else count / (count - 0.8)
    return MAD_NORMAL * factor * median(abs(value - centre) for value in values)


def over_processes(ratios: Sequence[Interval]) -> Interval:
    """The median over processes and its 95 % interval, from the spread within and between them.

    On the logarithm, for the median of so many processes, from two independent parts added as squares:
    - between: the robust variance of the processes' ratios, mixed with the usual `PROCESS_SPREAD` as if
      `PRIOR_PROCESSES` more had shown it, times Student's quantile; a process counts half a degree of freedom,
      since the median absolute deviation is about half as efficient as the standard one;
    - within: the typical half-width of the processes' own bootstrap intervals.
    One process in ten may be off by a factor of two: the median and the robust variance ignore it, which the
    mean would not. Simulated, it covers the truth 97 times in 100 where processes spread as usual. Where they
    spread three times as much it covers less than it says: 86 (3 processes), 89 (5), 92 (9) times in 100.

    Args:
        ratios: one for each process, at least one, positive.

    Raises:
        InputError: none given.
    """
    count = len(ratios)
    if not count:
        raise InputError("a ratio needs at least one process, got none.")
    logs = [math.log(ratio.value) for ratio in ratios]
    pooled = PRIOR_PROCESSES * PROCESS_SPREAD**2 + (count - 1) * robust_sd(logs) ** 2
    spread = math.sqrt(pooled / (PRIOR_PROCESSES + count - 1))
    between = student_quantile(PRIOR_PROCESSES + (count - 1) / 2) * spread
    within = median((ratio.high - ratio.low) / 2 / ratio.value for ratio in ratios)
    shrink = MEDIAN_SD[count - 1] if count <= len(MEDIAN_SD) else math.sqrt(math.pi / 2 / count)
    half = shrink * math.hypot(between, within)
    centre = median(logs)
    return Interval(math.exp(centre), math.exp(centre - half), math.exp(centre + half))


def process_effects(observed: Sequence[tuple[int, int, float]]) -> dict[int, float]:
    """By how much each process shifted the ratios of all its networks alike, as a logarithm; their median is 0.

    A process has luck that its networks share: where the reference's memory lies, what the device did in those seconds.
    Networks that meet others in each process tell it from their own: median polish of network + process.

    Args:
        observed: (network, process, logarithm of the ratio), any numbers as names.

    Reference: Tukey (1977), Exploratory Data Analysis, chapter 11 (median polish).

    >>> process_effects([(0, 0, 1.0), (1, 0, 2.0), (2, 0, 3.0), (0, 1, 1.5), (1, 1, 2.5), (2, 1, 3.5)])
    {0: -0.25, 1: 0.25}
    """
    if not observed:
        return {}
    effects = dict.fromkeys((process for _, process, _ in observed), 0.0)
    by_network: dict[int, list[tuple[int, float]]] = {}
    by_process: dict[int, list[tuple[int, float]]] = {}
    for network, process, value in observed:
        by_network.setdefault(network, []).append((process, value))
        by_process.setdefault(process, []).append((network, value))
    for _ in range(POLISHES):
        own = {n: median(value - effects[p] for p, value in rows) for n, rows in by_network.items()}
        effects = {p: median(value - own[n] for n, value in rows) for p, rows in by_process.items()}
        centre = median(effects.values())
        effects = {process: effect - centre for process, effect in effects.items()}
    return effects


def drift_within(reference_ms: Sequence[float]) -> float:
    """How far the reference's median moved from the first to the second half of its samples, a fraction."""
    half = len(reference_ms) // 2
    if not half:
        return 0.0
    return abs(median(reference_ms[half:]) / median(reference_ms[:half]) - 1)


def drifts(reference_ms: Sequence[Sequence[float]]) -> list[float]:
    """For each process the larger of two drifts: within it, and of its median against all processes' median.

    Args:
        reference_ms: samples by process, each `(rounds,)`, positive.
    """
    medians = [median(samples) for samples in reference_ms]
    centre = median(medians) if medians else 1.0
    return [
        max(drift_within(samples), abs(own / centre - 1))
        for samples, own in zip(reference_ms, medians, strict=True)
    ]
