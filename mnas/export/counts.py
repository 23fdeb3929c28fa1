"""The multiply-adds of a network, counted a second time by fvcore."""

from mnas.counting import count_madds
from mnas.errors import SearchError
from mnas.model import build_module
from mnas.search_space import NetworkSpec, network_cost


def verify_madds(spec: NetworkSpec) -> int:
    """The multiply-adds of the network, counted by fvcore on its torch module.

    Raises:
        SearchError: fvcore's count is not the analytic one.
    """
    counted = count_madds(build_module(spec), (spec.in_channels, spec.resolution, spec.resolution))
    analytic = network_cost(spec).madds
    if counted != analytic:
        raise SearchError(
            f"fvcore counts {counted} multiply-adds for the winner, its specification says {analytic}. "
            f"This is a bug of mnas: please report the network."
        )
    return counted
