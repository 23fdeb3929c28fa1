"""IGCV3-D at its width and at three smaller ones."""

from mnas.search_space.igcv3 import igcv3_network
from mnas.zoo.member import Member

AUTHORS = "homles11/IGCV3 015ff98a, README.md, after retraining"
RETRAINED = "osmr/imgclsmob 905b00bb, gluon/README.md"

MEMBERS: dict[str, Member] = {
    "igcv3": Member(igcv3_network(), 0.722, AUTHORS, ("igcv3_w1",)),
    "igcv3_075": Member(igcv3_network(0.75), 0.6929, RETRAINED, ("igcv3_w3d4",)),
    "igcv3_050": Member(igcv3_network(0.5), 0.6059, RETRAINED, ("igcv3_wd2",)),
    "igcv3_025": Member(igcv3_network(0.25), 0.4657, RETRAINED, ("igcv3_wd4",)),
}
