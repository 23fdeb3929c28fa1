"""Channel rounding, as published."""


def round_filters(filters: float, *, divisor: int = 8, least: float = 0.9) -> int:
    """The multiple of `divisor` nearest to `filters` that is not more than 10 % below it, at least `divisor`.

    Args:
        filters: wanted channels, usually base channels x width coefficient.
        divisor: positive; 8 in every published network.
        least: share of `filters` that the result has at least; 0 takes the nearest multiple, as EfficientNetV2 does.

    Reference: EfficientNet (arXiv 1905.11946), `round_filters` of the released code; MobileNetV2's rule.

    >>> [round_filters(16 * w) for w in (0.75, 1.0, 1.25)]
    [16, 16, 24]
    """
    rounded = max(divisor, int(filters + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < least * filters else rounded
