"""How well one figure ranks networks that another, truer one ranks: Kendall's tau, its interval, and chance."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mnas.errors import InputError
from mnas.latency.scores import kendall, mean_ranks

RESAMPLES = 2000  # chosen here: the ends of the interval move by about 0.005 from seed to seed
LEVEL = 0.90
LEAST = 3  # networks that a tau is given for


@dataclass(frozen=True, slots=True)
class RankQuality:
    """Of `n` networks.

    Args:
        n: networks.
        tau: Kendall's tau-b, -1 to 1.
        low: lower end of its 90 % bootstrap interval.
        high: upper end.
        chance: probability that a ranking made by chance has a tau at least so great, ties left out.
    """

    n: int
    tau: float
    low: float
    high: float
    chance: float

    def describe(self) -> str:
        """One line.

        >>> RankQuality(8, 0.714, 0.31, 1.0, 0.0071).describe()
        'Kendall tau 0.71 (90 % interval 0.31 to 1.00, 8 networks; by chance as much in 0.71 % of rankings)'
        """
        chance = "less than 0.1" if self.chance < 0.001 else f"{100 * self.chance:.2g}"
        return (
            f"Kendall tau {self.tau:.2f} (90 % interval {self.low:.2f} to {self.high:.2f}, {self.n} networks; by "
            f"chance as much in {chance} % of rankings)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def rank_quality(truth: Sequence[float], guess: Sequence[float], *, seed: int = 0) -> RankQuality:
    """Kendall's tau-b of two figures of the same networks, with a percentile bootstrap over networks.

    Args:
        truth: `(n,)`.
        guess: `(n,)`; minus infinity is a network that could not be judged, which ranks last.
        seed: of the bootstrap.

    Raises:
        InputError: fewer than three networks, or rows of different length.

    Reference: Efron and Tibshirani (1993), An Introduction to the Bootstrap, sec. 13.3.
    """
    if len(truth) != len(guess) or len(truth) < LEAST:
        raise InputError(
            f"a tau needs two equal rows of at least {LEAST}, got {len(truth)} and {len(guess)}."
        )
    places = mean_ranks(truth), mean_ranks(guess)  # equal values are equal, infinite ones too
    tau = kendall(*(row.tolist() for row in places))
    # A resample is how often each network was drawn: then sums over its pairs are quadratic forms, and a network that
    # was drawn twice adds pairs tied on both sides, which tau-b leaves out.
    up, right = (np.sign(np.subtract.outer(row, row)) for row in places)
    n = len(truth)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
    agree, one, other = (
        np.einsum("ij,ij->i", drawn @ pairs, drawn) for pairs in (up * right, np.abs(up), np.abs(right))
    )
    scale = np.sqrt(one * other)
    taus = np.divide(agree, scale, out=np.zeros_like(agree), where=scale > 0)
    low, high = np.quantile(taus, ((1 - LEVEL) / 2, (1 + LEVEL) / 2)).tolist()
    return RankQuality(n, tau, low, high, chance_of(n, tau))


def chance_of(n: int, tau: float) -> float:
    """Probability that a random ranking of n networks has a tau at least so great, without ties.

    Reference: Kendall (1938): the number of permutations of n with k inversions follows from that of n - 1.

    >>> chance_of(3, 1.0), chance_of(3, 1 / 3)  # one of the six orders, three of them
    (0.16666666666666666, 0.5)
    """
    pairs = n * (n - 1) // 2
    shares = np.ones(1)
    for count in range(2, n + 1):
        shares = np.convolve(shares, np.full(count, 1 / count))
    most = int(np.floor(pairs * (1 - tau) / 2 + 1e-9))  # discordant pairs
    return float(min(1.0, shares[: most + 1].sum()))
