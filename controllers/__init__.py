"""Who proposes architectures: ask and tell, each in its own module. `ppo`, which loads torch, is not re-exported."""

from mnas.controllers.evolution import EvolutionController
from mnas.controllers.exhaustive import ExhaustiveController
from mnas.controllers.random import RandomController
from mnas.controllers.reinforce import ReinforceController

__all__ = ["EvolutionController", "ExhaustiveController", "RandomController", "ReinforceController"]
