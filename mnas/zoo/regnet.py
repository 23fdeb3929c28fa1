"""RegNet X and Y, from the numbers that each was released with."""

from mnas.search_space.regnet import SE_RATIO, RegNetNumbers, regnet_network
from mnas.zoo.member import Figures, Member

SOURCE = "facebookresearch/pycls 1caf15bb, MODEL_ZOO.md"
# By size: timm's code; depth, w0, wa, wm and group width (pycls, configs/dds_baselines); top-1 error in percent, the
# mean of five trainings, parameters and multiply-adds.
_Row = tuple[str, tuple[int, int, float, float, int], tuple[float, float, float]]
_X: dict[str, _Row] = {
    "200mf": ("002", (13, 24, 36.44, 2.49, 8), (31.1, 2.7e6, 0.2e9)),
    "400mf": ("004", (22, 24, 24.48, 2.54, 16), (27.3, 5.2e6, 0.4e9)),
    "600mf": ("006", (16, 48, 36.97, 2.24, 24), (25.9, 6.2e6, 0.6e9)),
    "800mf": ("008", (16, 56, 35.73, 2.28, 16), (24.8, 7.3e6, 0.8e9)),
    "1_6gf": ("016", (18, 80, 34.01, 2.25, 24), (23.0, 9.2e6, 1.6e9)),
    "3_2gf": ("032", (25, 88, 26.31, 2.25, 48), (21.7, 15.3e6, 3.2e9)),
    "4gf": ("040", (23, 96, 38.65, 2.43, 40), (21.4, 22.1e6, 4.0e9)),
    "6_4gf": ("064", (17, 184, 60.83, 2.07, 56), (20.8, 26.2e6, 6.5e9)),
    "8gf": ("080", (23, 80, 49.56, 2.88, 120), (20.7, 39.6e6, 8.0e9)),
    "12gf": ("120", (19, 168, 73.36, 2.37, 112), (20.3, 46.1e6, 12.1e9)),
    "16gf": ("160", (22, 216, 55.59, 2.1, 128), (20.0, 54.3e6, 15.9e9)),
    "32gf": ("320", (23, 320, 69.86, 2.0, 168), (19.5, 107.8e6, 31.7e9)),
}
_Y: dict[str, _Row] = {
    "200mf": ("002", (13, 24, 36.44, 2.49, 8), (29.6, 3.2e6, 0.2e9)),
    "400mf": ("004", (16, 48, 27.89, 2.09, 8), (25.9, 4.3e6, 0.4e9)),
    "600mf": ("006", (15, 48, 32.54, 2.32, 16), (24.5, 6.1e6, 0.6e9)),
    "800mf": ("008", (14, 56, 38.84, 2.4, 16), (23.7, 6.3e6, 0.8e9)),
    "1_6gf": ("016", (27, 48, 20.71, 2.65, 24), (22.0, 11.2e6, 1.6e9)),
    "3_2gf": ("032", (21, 80, 42.63, 2.66, 24), (21.0, 19.4e6, 3.2e9)),
    "4gf": ("040", (22, 96, 31.41, 2.24, 64), (20.6, 20.6e6, 4.0e9)),
    "6_4gf": ("064", (25, 112, 33.22, 2.27, 72), (20.1, 30.6e6, 6.4e9)),
    "8gf": ("080", (17, 192, 76.82, 2.19, 56), (20.1, 39.2e6, 8.0e9)),
    "12gf": ("120", (19, 168, 73.36, 2.37, 112), (19.7, 51.8e6, 12.1e9)),
    "16gf": ("160", (18, 200, 106.23, 2.48, 112), (19.6, 83.6e6, 15.9e9)),
    "32gf": ("320", (20, 232, 115.89, 2.53, 232), (19.0, 145.0e6, 32.3e9)),
}


def _title(kind: str, size: str) -> str:
    """`RegNetX-1.6GF`."""
    return f"RegNet{kind.upper()}-{size.upper().replace('_', '.')}"


def _members(kind: str, rows: dict[str, _Row], se_ratio: float) -> dict[str, Member]:
    return {
        f"regnet_{kind}_{size}": Member(
            _title(kind, size),
            f"RegNet{kind.upper()}",
            regnet_network(RegNetNumbers(*numbers, se_ratio)),
            Figures(SOURCE, round(100 - error, 1), params, madds),
            (f"regnet{kind}_{code}",),
        )
        for size, (code, numbers, (error, params, madds)) in rows.items()
    }


MEMBERS: dict[str, Member] = _members("x", _X, 0.0) | _members("y", _Y, SE_RATIO)
