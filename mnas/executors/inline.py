"""Candidates trained one after the other by the search's own process."""

from collections.abc import Sequence
from functools import partial

from mnas.executors.jobs import Job, Listener, run_trial
from mnas.protocols import AccuracyModel


class Inline:
    """Asks the model that it is given.

    Args:
        model: of accuracy.
        name: as the user wrote it, for messages.
    """

    workers = 1

    def __init__(self, model: AccuracyModel, name: str) -> None:
        self._model, self._name = model, name

    def run(self, jobs: Sequence[Job], listener: Listener) -> None:
        """In their order."""
        for job in jobs:
            outcome = run_trial(self._model, self._name, job, partial(listener.rung, job.number))
            listener.finished(job.number, outcome)

    def close(self) -> None:
        """Nothing was started."""
