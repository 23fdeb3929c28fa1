"""A network and its latency as JSON fields, named alike in every command."""

from typing import Any

from mnas.errors import InputError
from mnas.search_space import NetworkSpec, encode_stages, network_cost


def network_fields(spec: NetworkSpec) -> dict[str, Any]:
    """The fields that a specification alone decides.

    `block_strings` is null, with the reason beside it, where timm's grammar cannot say the network.
    """
    cost = network_cost(spec)
    fields: dict[str, Any] = {
        "block_strings": None,
        "params": cost.params,
        "madds": cost.madds,
        "activations": cost.activations,
        "resolution": spec.resolution,
    }
    try:
        fields["block_strings"] = encode_stages(spec.stages)
    except InputError as error:
        fields["block_strings_reason"] = str(error)
    return fields


def latency_fields(
    ms: float | None, raw_ms: float | None, low_ms: float | None, high_ms: float | None, source: str
) -> dict[str, Any]:
    """Latency with its interval, the plain wall clock beside it (None where it was not measured)."""
    return {
        "latency_ms": ms,
        "latency_raw_ms": raw_ms,
        "latency_low_ms": low_ms,
        "latency_high_ms": high_ms,
        "latency_source": source,
    }
