"""GhostNet at its width and two others."""

from mnas.search_space.ghost import ghostnet_network
from mnas.zoo.member import Member

# The paper's 1.0 has 73.9 %: timm's figure is of the same weights, the authors'.
TIMM = "timm 0173a139, results/results-imagenet.csv: ghostnet_100.in1k"
PAPER = "GhostNet (arXiv 1911.11907)"

MEMBERS: dict[str, Member] = {
    "ghostnet": Member(ghostnet_network(), 0.73982, TIMM, ("ghostnet_100",)),
    "ghostnet_050": Member(ghostnet_network(0.5), 0.662, PAPER),
    "ghostnet_130": Member(ghostnet_network(1.3), 0.757, PAPER),
}
