"""Who proposes architectures: ask and tell, each in its own module, none of them loading torch."""

from mnas.controllers.random import RandomController
from mnas.controllers.reinforce import ReinforceController

__all__ = ["RandomController", "ReinforceController"]
