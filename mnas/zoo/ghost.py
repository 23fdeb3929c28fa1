"""GhostNet at its width and two others."""

from mnas.search_space.ghost import ghostnet_network
from mnas.zoo.member import TIMM_RESULTS, Figures, Member, at_widths

# The paper's 1.0 has 73.9 %: timm's figure is of the same weights, the authors'.
TIMM = f"{TIMM_RESULTS}: ghostnet_100.in1k"
PAPER = "GhostNet (arXiv 1911.11907)"

MEMBERS: dict[str, Member] = at_widths(
    "ghostnet",
    "GhostNet",
    {1.0: Figures(TIMM, 73.982), 0.5: Figures(PAPER, 66.2), 1.3: Figures(PAPER, 75.7)},
    ghostnet_network,
)
