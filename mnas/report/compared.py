"""The network that was found beside published ones: what stands in each row of the table."""

from dataclasses import dataclass

from mnas.report import words
from mnas.report.data import Network, RunData
from mnas.report.figure import clip
from mnas.search_space import network_cost
from mnas.zoo import MEMBERS

# Characters of a name, at most (chosen here: those of a run that a stranger made may be endless).
LONGEST = 30


@dataclass(frozen=True, slots=True)
class Row:
    """One network; texts are empty where nothing is known. `bar` is the share of the greatest latency."""

    name: str
    own: bool
    latency: str
    interval: str
    measured: bool
    noisy: bool
    bar: float
    latency_ratio: str
    madds: str
    madds_ratio: str
    params: str
    params_ratio: str
    resolution: int
    accuracy: str
    reason: str
    published: str


def rows(run: RunData) -> list[Row]:
    """The found networks first, then the published; ratios are to the baseline, which was measured beside them."""
    own = [(n, label) for n, label in ((run.baseline, "baseline"), (run.scaled, "scaled")) if n is not None]
    if run.baseline is None:
        return []
    networks = [(network, label, True) for network, label in own]
    networks += [(network, clip(words.name_of(network.name), LONGEST), False) for network in run.comparison]
    most = max((n.latency.ms for n, _, _ in networks if n.latency is not None), default=0.0) or 1.0
    return [_row(network, label, mine, run.baseline, most) for network, label, mine in networks]


def sources(run: RunData) -> list[str]:
    """The papers of the published figures that stand in the table."""
    named = [network for network in run.comparison if _published(network)]
    return [f"{words.name_of(network.name)}: {MEMBERS[network.name].source}" for network in named]


def _row(network: Network, label: str, own: bool, base: Network, most: float) -> Row:
    latency, base_ms = network.latency, base.latency.ms if base.latency is not None else 0.0
    return Row(
        name=label,
        own=own,
        latency="" if latency is None else words.ms(latency.ms),
        interval="" if latency is None else words.span(latency),
        measured=latency is not None and latency.measured,
        noisy=network.status == "noisy",
        bar=0.0 if latency is None else latency.ms / most,
        latency_ratio=words.ratio(latency.ms / base_ms) if latency is not None and base_ms else "",
        madds=words.count(network.madds),
        madds_ratio=words.ratio(network.madds / max(1, base.madds)),
        params=words.count(network.params),
        params_ratio=words.ratio(network.params / max(1, base.params)),
        resolution=network.resolution,
        accuracy="" if network.accuracy is None else words.percent(network.accuracy),
        reason=network.accuracy_reason or "",
        published="" if own else _published(network),
    )


def _published(network: Network) -> str:
    """The paper's figure, where this is the paper's network at its resolution with its classes."""
    entry = MEMBERS.get(network.name)
    if entry is None or entry.top1 is None:
        return ""
    spec = entry.spec
    cost = network_cost(spec)
    same = (cost.params, cost.madds, spec.resolution) == (network.params, network.madds, network.resolution)
    return words.percent(entry.top1, 1) if same else ""
