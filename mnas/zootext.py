"""Published networks as text: a list with what is published of each, one by itself, and measurements."""

from collections.abc import Mapping, Sequence
from typing import Any

from mnas.summary import table
from mnas.units import format_count

Row = Mapping[str, Any]
_COUNTS = ("params", "madds", "activations")


def list_text(rows: Sequence[Row]) -> str:
    """Own counts, the published ones (rounded by their publishers) beside them, and the sources by number.

    Args:
        rows: of `zoobench.list_zoo`.
    """
    sources = list(dict.fromkeys(row["published_source"] for row in rows if row["published_source"]))
    header = [
        "network",
        "params",
        "published",
        "MAdds",
        "published",
        "activations",
        "pixels",
        "top-1",
        "source",
    ]
    body = [
        [
            row["name"],
            f"{row['params']:,}",
            _rounded(row["published_params"]),
            f"{row['madds']:,}",
            _rounded(row["published_madds"]),
            f"{row['activations']:,}",
            str(row["resolution"]),
            _top1(row),
            f"[{sources.index(row['published_source']) + 1}]" if row["published_source"] else "",
        ]
        for row in rows
    ]
    notes = [f"[{number}] {source}" for number, source in enumerate(sources, 1)]
    return "\n".join([table(header, body), "", *notes])


def show_text(row: Row) -> str:
    """Counts, what is published, other names, and the blocks of one row of `zoobench`."""
    lines = [row["title"] if row["title"] == row["name"] else f"{row['title']} ({row['name']})"]
    if row["aliases"]:
        lines.append(f"also called: {', '.join(row['aliases'])}")
    published = {"params": row["published_params"], "madds": row["published_madds"], "activations": None}
    lines.append(f"resolution: {row['resolution']} pixels")
    for key, name in zip(_COUNTS, ("parameters", "multiply-adds", "activations"), strict=True):
        beside = "" if published[key] is None else f" (published: {_rounded(published[key])})"
        lines.append(f"{name}: {row[key]:,}{beside}")
    if row["top1"] is not None:
        lines.append(f"published top-1: {_top1(row)}")
    if row["published_source"]:
        lines.append(f"source: {row['published_source']}")
    blocks = row["block_strings"] or [row["block_strings_reason"]]
    return "\n".join([*lines, "", *blocks])


def measured_text(rows: Sequence[Row]) -> str:
    """Networks with their counts, published accuracy, measured latency, and its ratio where they were compared."""
    accurate = any(row["top1"] is not None for row in rows)
    compared = any("latency_ratio" in row for row in rows)
    header = [
        *("network", "params", "MAdds", "activations", "pixels"),
        *(["top-1"] if accurate else []),
        *("latency", "interval"),
        *(["ratio", "interval"] if compared else []),
    ]
    body = []
    for row in rows:
        cells = [row["name"], *(f"{row[key]:,}" for key in _COUNTS), str(row["resolution"])]
        if accurate:
            cells.append(_top1(row))
        if row["latency_ms"] is None:
            cells += ["-", row["status"]]
        else:
            cells.append(f"{row['latency_ms']:.2f} ms")
            cells.append(f"{row['latency_low_ms']:.2f}-{row['latency_high_ms']:.2f} {row['status']}")
        if compared:
            low, high = row.get("latency_ratio_low"), row.get("latency_ratio_high")
            cells.append(f"{row['latency_ratio']:.3f}")
            cells.append("" if low is None else f"{low:.3f}-{high:.3f}")
        body.append(cells)
    return table(header, body)


def _top1(row: Row) -> str:
    return "" if row["top1"] is None else f"{100 * row['top1']:.1f} %"


def _rounded(count: int | None) -> str:
    return "" if count is None else format_count(count)
