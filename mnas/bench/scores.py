"""The scores of a bench of evaluators, kept one by one, so that one that was killed goes on."""

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from mnas.errors import InputError, RunDirectoryError
from mnas.store import EventStore

_COMMIT_EVERY_S = 1.0


def cpu_seconds() -> float:
    """Processor time of this process, all its threads, and its children that have ended."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


@dataclass(frozen=True, slots=True)
class Score:
    """What an evaluator said of a network.

    Args:
        value: minus infinity where it could not be evaluated, which ranks last.
        cpu_s: processor time.
        wall_s: wall clock.
        error: why there is none.
    """

    value: float
    cpu_s: float
    wall_s: float
    error: str | None = None


@dataclass(slots=True)
class Scores:
    """Of each evaluator the scores by architecture key, and the processor time of its preparations."""

    store: EventStore
    known: dict[str, dict[str, Score]] = field(default_factory=dict)
    prepared: dict[str, float] = field(default_factory=dict)

    @classmethod
    def at(cls, path: Path, identity: Mapping[str, Any]) -> Self:
        """The file's, which is made where it is not there.

        Raises:
            InputError: the file has scores of another bench.
            RunDirectoryError: it is damaged or cannot be written.
        """
        if not path.exists():
            scores = cls(EventStore.create(path))
            scores.store.append("asked", [identity])
            scores.store.commit()
            return scores
        scores = cls(EventStore.open(path))
        try:
            scores._read(path, identity)
        except BaseException:
            scores.store.close()
            raise
        return scores

    def _read(self, path: Path, identity: Mapping[str, Any]) -> None:
        for event in self.store.events():
            payload = event.payload
            try:
                if event.kind == "asked":
                    self._same(path, payload, identity)
                elif event.kind == "trained":
                    self._prepared(payload["evaluator"], payload["cpu_s"])
                else:
                    value = -math.inf if payload["value"] is None else float(payload["value"])
                    score = Score(value, payload["cpu_s"], payload["wall_s"], payload["error"])
                    self.known.setdefault(payload["evaluator"], {}).setdefault(payload["network"], score)
            except (KeyError, TypeError, ValueError) as error:
                if isinstance(error, InputError):
                    raise
                raise RunDirectoryError(
                    f"{path} is damaged (event {event.number}: {error!r}). Move it away to begin anew."
                ) from error

    @staticmethod
    def _same(path: Path, stored: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
        differing = [key for key in identity if stored.get(key) != identity[key]]
        if differing:
            texts = [f"{key} was {stored.get(key)!r} and is {identity[key]!r}" for key in differing]
            raise InputError(
                f"{path} has scores of another bench ({'; '.join(texts)}). Name another --out, or move that file away."
            )

    def of(self, evaluator: str) -> dict[str, Score]:
        """By architecture key."""
        return self.known.setdefault(evaluator, {})

    def add_preparation(self, evaluator: str, cpu_s: float) -> None:
        """Keeps what preparing took; one that was done again adds to it."""
        self._prepared(evaluator, cpu_s)
        self.store.append("trained", [{"evaluator": evaluator, "cpu_s": cpu_s}])
        self.store.commit()

    def _prepared(self, evaluator: str, cpu_s: float) -> None:
        self.prepared[evaluator] = self.prepared.get(evaluator, 0.0) + cpu_s

    def add(self, evaluator: str, network: str, score: Score) -> None:
        """Keeps a score, durably within a second of work."""
        self.of(evaluator)[network] = score
        value = score.value if math.isfinite(score.value) else None
        payload = {"evaluator": evaluator, "network": network, "value": value, "error": score.error}
        self.store.append("result", [{**payload, "cpu_s": score.cpu_s, "wall_s": score.wall_s}])
        if score.wall_s > _COMMIT_EVERY_S or time.monotonic() - self.store.last_commit > _COMMIT_EVERY_S:
            self.store.commit()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.store.commit()
        self.store.close()
