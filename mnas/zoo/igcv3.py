"""IGCV3-D at its width and at three smaller ones."""

from mnas.search_space.igcv3 import igcv3_network
from mnas.zoo.member import Figures, Member

AUTHORS = "homles11/IGCV3 015ff98a, README.md, after retraining"
RETRAINED = "osmr/imgclsmob 905b00bb, gluon/README.md"

MEMBERS: dict[str, Member] = {
    name: Member(title, "IGCV3", igcv3_network(width), figures, (alias,))
    for name, title, width, figures, alias in (
        ("igcv3", "IGCV3-D", 1.0, Figures(AUTHORS, 72.2, 3.5e6), "igcv3_w1"),
        ("igcv3_075", "IGCV3-D 0.75x", 0.75, Figures(RETRAINED, 69.29), "igcv3_w3d4"),
        ("igcv3_050", "IGCV3-D 0.5x", 0.5, Figures(RETRAINED, 60.59), "igcv3_wd2"),
        ("igcv3_025", "IGCV3-D 0.25x", 0.25, Figures(RETRAINED, 46.57), "igcv3_wd4"),
    )
}
