"""What every bridge does: another library proposes, this keeps account of what it proposed and was told."""

import importlib
import random
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any, Protocol

from mnas.controllers.fresh import Known
from mnas.errors import InputError
from mnas.protocols import Observation, Status
from mnas.search_space import Architecture, SearchSpace

# Chosen here: proposals in a row of networks that are known, after which one is drawn at random instead.
REPEATS = 20
# numpy's RandomState, which Optuna and NNI draw from, takes seeds below this.
SEEDS = 2**32


def library(name: str) -> ModuleType:
    """Another library's module, imported now.

    Raises:
        InputError: it cannot be imported; names the extra, which is called as the library is.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{name} cannot be imported ({error}). Install it with: pip install 'mnas[{name}]'"
        ) from error


class Peer(Protocol):
    """A library's searcher. A proposal is known again by its token, whatever the library calls it."""

    def propose(self) -> tuple[Any, Architecture] | None:
        """A token and the point that stands for the proposed network; None where it proposes nothing now."""
        ...

    def answer(self, token: Any, status: Status, reward: float | None) -> None:
        """What became of a proposal; each is answered once at most."""
        ...

    def learn(self, point: Architecture, status: Status, reward: float | None) -> None:
        """What became of a network that it never proposed."""
        ...


class BridgeController:
    """A library's searcher as a controller.

    No network is asked twice. One that the library proposes again is answered with what it was told, at no cost, and
    the library proposes another: Optuna's documentation advises the same ("How can I ignore duplicated samples?").
    After 20 known ones in a row, or where it proposes nothing more, a new network is drawn with each option equally
    likely; the library is told of it as of any other that it never proposed. So `ask` returns fewer than wanted only
    where the space is used up.

    Args:
        space: what is searched.
        peer: the searcher, made from the same space and seed.
        seed: of the draws at random.
        distinct: False hands on networks as often as they are proposed, to be evaluated each time, and draws none at
            random: a space that is used up is repeated.
        exact_replay: False where asks and tells that are repeated do not bring back the state. `mnas search` refuses
            such a controller, since a search that was interrupted could not go on.
    """

    def __init__(
        self,
        space: SearchSpace,
        peer: Peer,
        *,
        seed: int,
        distinct: bool = True,
        exact_replay: bool = True,
    ) -> None:
        self.exact_replay = exact_replay
        self._space, self._peer, self._distinct = space, peer, distinct
        self._rng = random.Random(seed)
        self._seen = Known(space)
        self._results: dict[Architecture, tuple[Status, float | None]] = {}
        self._waiting: dict[Architecture, list[Any]] = {}  # tokens of proposals without an answer

    def ask(self, n: int = 1) -> list[Architecture]:
        """At most `n` architectures."""
        asked: list[Architecture] = []
        while len(asked) < n:
            point = self._proposed() if self._distinct else self._next()
            new = [point] if point is not None else self._seen.fresh(int(self._distinct), self._uniform)
            if not new:
                break
            asked += new
        return asked

    def tell(self, observations: Sequence[Observation]) -> None:
        """Answers the proposals of these networks; what was never proposed is handed on for what it is worth.

        Raises:
            InputError: an architecture outside the space; nothing is learned then.
        """
        points = [self._space.architecture(o.architecture) for o in observations]
        for point, observation in zip(points, observations, strict=True):
            result = (observation.status, observation.reward)
            self._seen.add(point)
            self._results[point] = result
            tokens = self._waiting.pop(point, [])
            if not self._distinct and len(tokens) > 1:
                self._waiting[point] = tokens[1:]
                del tokens[1:]
            for token in tokens:
                self._peer.answer(token, *result)
            if not tokens:
                self._peer.learn(point, *result)

    def _next(self) -> Architecture | None:
        proposal = self._peer.propose()
        if proposal is None:
            return None
        token, point = proposal
        if self._distinct and point in self._results:
            self._peer.answer(token, *self._results[point])
        else:
            self._waiting.setdefault(point, []).append(token)
        return point

    def _proposed(self) -> Architecture | None:
        """The next that is new, None where none comes."""
        for _ in range(REPEATS):
            point = self._next()
            if point is None:
                return None
            if self._seen.add(point):
                return point
        return None

    def _uniform(self, _: int, count: int) -> Iterable[Architecture]:
        return [self._space.sample(self._rng) for _ in range(count)]
