"""One set of weights that all networks of a space share; each network is a part of it."""

from mnas.supernet.accuracy import SupernetAccuracy
from mnas.supernet.recipe import Recipe
from mnas.supernet.train import train_supernet
from mnas.supernet.weights import Supernet

__all__ = ["Recipe", "Supernet", "SupernetAccuracy", "train_supernet"]
