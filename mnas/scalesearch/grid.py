"""Which coefficients are tried: an even net over how depth, width and resolution may share what a network grows by."""

from math import log2

from mnas.errors import InputError
from mnas.search_space import Coefficients

PUBLISHED = Coefficients()
# Factor in multiply-adds of every point, that of the published coefficients: 1.92, within a tenth of the 2 that the
# paper asks for (EfficientNet, arXiv 1905.11946, eq. 3). The same for all, so that they differ in nothing else.
GROWTH = PUBLISHED.alpha * PUBLISHED.beta**2 * PUBLISHED.gamma**2
# A quadratic in two shares has six coefficients; with fewer points than this nothing is left to tell its error by.
FEWEST, MOST = 10, 120
DEFAULT = 15


def shares_of(coefficients: Coefficients) -> tuple[float, float, float]:
    """Shares of depth, width and resolution in the logarithm of the multiply-adds; they add up to 1.

    >>> [round(share, 3) for share in shares_of(PUBLISHED)]  # ln 1.2, 2 ln 1.1 and 2 ln 1.15 over ln 1.92
    [0.279, 0.292, 0.428]
    """
    parts = log2(coefficients.alpha), 2 * log2(coefficients.beta), 2 * log2(coefficients.gamma)
    total = sum(parts)
    return parts[0] / total, parts[1] / total, parts[2] / total


def coefficients_of(depth: float, width: float, resolution: float) -> Coefficients:
    """The coefficients that give each its share of `GROWTH`.

    Args:
        depth: its share, 0 to 1, as `width` and `resolution`; they add up to 1.
        width: likewise.
        resolution: likewise.
    """
    return Coefficients(GROWTH**depth, GROWTH ** (width / 2), GROWTH ** (resolution / 2))


def lattice(m: int) -> list[Coefficients]:
    """Every way to share the growth in multiples of 1/m: Scheffé's {3, m} simplex lattice, see `grid`."""
    return [
        coefficients_of(depth / m, width / m, (m - depth - width) / m)
        for depth in range(m + 1)
        for width in range(m + 1 - depth)
    ]


def grid(points: int = DEFAULT) -> list[Coefficients]:
    """The published coefficients, and the smallest even net of at least so many more.

    The net is Scheffé's {3, m} simplex lattice: every share is a multiple of 1/m, so that it has (m + 1)(m + 2) / 2
    points: 10, 15, 21, 28, ...

    Args:
        points: `FEWEST` to `MOST`.

    Raises:
        InputError: a number outside that.

    Reference: Scheffé (1958), Experiments with mixtures, J. R. Stat. Soc. B 20(2).

    >>> len(grid(15)), len(grid(16))
    (16, 22)
    """
    if not FEWEST <= points <= MOST:
        raise InputError(
            f"the grid needs {FEWEST} to {MOST} points, got {points} (--points): the surface has six coefficients, and "
            "its error is told by the points beyond those."
        )
    m = next(m for m in range(1, MOST) if (m + 1) * (m + 2) // 2 >= points)
    return [PUBLISHED, *lattice(m)]
