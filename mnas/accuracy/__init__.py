"""How accurate a network is: predicted from public measurements, or trained."""

from mnas.accuracy.surrogate import (
    AdditiveSurrogate,
    QuadraticSurrogate,
    imagenet_surrogate,
    imagenet_surrogate_additive,
)

__all__ = [
    "AdditiveSurrogate",
    "QuadraticSurrogate",
    "imagenet_surrogate",
    "imagenet_surrogate_additive",
]
