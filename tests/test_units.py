import pytest

from mnas.errors import InputError
from mnas.units import format_count, parse_count, parse_duration_s, parse_latency_ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [("80ms", 80.0), ("0.08s", 80.0), ("800us", 0.8), (" 15 MS ", 15.0), ("1e1ms", 10.0), (".5s", 500.0)],
)
def test_latencies_are_read_in_every_unit(text: str, ms: float) -> None:
    assert parse_latency_ms(text) == pytest.approx(ms)


@pytest.mark.parametrize(
    "text", ["80", "0ms", "-5ms", "nanms", "infms", "80 parsecs", "ms", "", "8 0ms", "80ms,90ms"]
)
def test_a_latency_that_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match="for example 80ms") as caught:
        parse_latency_ms(text, what="target latency")
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "count"), [("400M", 400_000_000), ("0.4G", 400_000_000), ("5k", 5_000), ("1B", 10**9)]
)
def test_counts_are_read_in_every_unit(text: str, count: int) -> None:
    assert parse_count(text) == count


def test_minutes_and_megas_are_told_apart() -> None:
    assert parse_duration_s("30m") == 1800
    with pytest.raises(InputError, match="unknown unit 'M'"):
        parse_duration_s("30M")


@pytest.mark.parametrize(
    ("count", "text"), [(385_814_752, "385.8M"), (1_827_162_472, "1.827G"), (999, "999")]
)
def test_counts_are_shown_short(count: int, text: str) -> None:
    assert format_count(count) == text
