"""Hands jobs to workers and takes in what they say; which machinery runs the workers is a crew's business."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from mnas.errors import SearchError
from mnas.executors.jobs import Job, Listener, Outcome
from mnas.units import format_duration

GRACE_S = 10.0  # beyond its time, in which a trial may still fail by itself, saying why (chosen here)
MOST_STARTS = 3  # of one worker in a row that dies before it is ready
MOST_RUNS = 2  # of a trial whose worker was lost
_LOOK_S = 1.0  # at deadlines, at the latest
_SLOW_START_S = 60.0  # without any worker, after which a person is told (chosen here)


@dataclass(frozen=True, slots=True)
class Lost:
    """Said of a worker that is gone: how it ended."""

    reason: str


class Crew(Protocol):
    """Workers at numbered places, each fresh when it is started; none is started by itself."""

    def start(self, place: int) -> None:
        """A new worker, which makes itself ready and says so."""
        ...

    def tell(self, place: int, message: Mapping[str, Any]) -> None:
        """Sends JSON to the worker there; where it is gone, what is heard next tells."""
        ...

    def hear(self, wait_s: float) -> list[tuple[int, Mapping[str, Any] | Lost]]:
        """What workers have said since, in their order; waits for the first. Nothing of a worker that was ended."""
        ...

    def end(self, place: int) -> None:
        """Ends the worker there, whatever it is at; nothing where there is none."""
        ...

    def close(self) -> None:
        """Ends them all."""
        ...


@dataclass(slots=True)
class _Place:
    """Where a worker works: what it is at, since when, and how many died there in a row before they were ready."""

    state: Literal["absent", "starting", "idle", "busy"] = "absent"
    job: Job | None = None
    since: float = 0.0
    deaths: int = 0


@dataclass(slots=True)
class Dispatcher:
    """An `Executor` over a crew: a lost worker costs one more run of its trial, a hung one is ended at its deadline.

    Args:
        crew: the workers.
        workers: how many there are at once, at most.
        timeout_s: of a trial; None is any time.
        note: told what a person should know.
        grace_s: beyond `timeout_s`, after which the worker is ended.
    """

    crew: Crew
    workers: int
    timeout_s: float | None
    note: Callable[[str], None]
    grace_s: float = GRACE_S
    _places: list[_Place] = field(init=False)
    _waiting: deque[Job] = field(default_factory=deque)
    _runs: dict[int, int] = field(default_factory=dict)
    _told_slow: bool = False

    def __post_init__(self) -> None:
        self._places = [_Place() for _ in range(self.workers)]

    def run(self, jobs: Sequence[Job], listener: Listener) -> None:
        """See `Executor`. Whatever ends it before its time ends the workers too."""
        self._waiting.extend(jobs)
        began = time.monotonic()
        try:
            while self._waiting or any(place.job for place in self._places):
                self._assign()
                for number, message in self.crew.hear(self._patience()):
                    self._take(number, message, listener)
                self._end_overdue(listener)
                self._say_slow(time.monotonic() - began)
        except BaseException:
            self.close()
            raise
        self._runs.clear()

    def close(self) -> None:
        """Ends every worker."""
        self.crew.close()
        self._waiting.clear()
        self._places = [_Place() for _ in range(self.workers)]

    def _assign(self) -> None:
        """Gives waiting jobs to idle workers, and starts as many as the rest of the jobs can use."""
        for number, place in enumerate(self._places):
            if place.state == "idle" and self._waiting:
                place.state, place.job, place.since = "busy", self._waiting.popleft(), time.monotonic()
                self._runs[place.job.number] = self._runs.get(place.job.number, 0) + 1
                self.crew.tell(number, place.job.to_dict())
        wanted = len(self._waiting) - sum(place.state == "starting" for place in self._places)
        for number, place in enumerate(self._places):
            if place.state == "absent" and wanted > 0:
                place.state, wanted = "starting", wanted - 1
                self.crew.start(number)

    def _take(self, number: int, message: Mapping[str, Any] | Lost, listener: Listener) -> None:
        place = self._places[number]
        if isinstance(message, Lost):
            self._lose(place, message.reason, listener)
        elif "say" in message:
            self.note(f"worker {number + 1}: {message['say']}")
        elif "broken" in message:
            raise SearchError(f"a worker could not make itself ready: {message['broken']}")
        elif "ready" in message:
            place.state, place.deaths = "idle", 0
        elif place.job is None or message.get("job", message.get("done")) != place.job.number:
            raise SearchError(f"worker {number + 1} answered what it was not asked: {message!r:.200}.")
        elif "rung" in message:
            goes_on = listener.rung(place.job.number, message["rung"], message["accuracy"])
            self.crew.tell(number, {"go_on": goes_on})
        else:
            job, place.job, place.state = place.job, None, "idle"
            listener.finished(job.number, Outcome.from_dict(message))

    def _lose(self, place: _Place, reason: str, listener: Listener) -> None:
        """Has the trial of a lost worker run once more, first of all that wait, or gives it up."""
        state, job, place.state, place.job = place.state, place.job, "absent", None
        if state == "starting":
            place.deaths += 1
            if place.deaths == MOST_STARTS:
                raise SearchError(
                    f"a worker was started {MOST_STARTS} times and {reason} each time before it was ready. With too "
                    f"little memory, use fewer --workers."
                )
        if job is None:
            return
        if self._runs[job.number] < MOST_RUNS:
            self.note(f"the worker of trial {job.number} {reason}; the trial is run once more.")
            self._waiting.appendleft(job)
        else:
            listener.finished(job.number, Outcome(error=f"its worker {reason}; so did the one before it"))

    def _patience(self) -> float:
        """Seconds until the next deadline, at most `_LOOK_S`."""
        if self.timeout_s is None:
            return _LOOK_S
        now, allowed = time.monotonic(), self.timeout_s + self.grace_s
        left = [place.since + allowed - now for place in self._places if place.job is not None]
        return min(max(min(left, default=_LOOK_S), 0.0), _LOOK_S)

    def _end_overdue(self, listener: Listener) -> None:
        if self.timeout_s is None:
            return
        for number, place in enumerate(self._places):
            if place.job is None or time.monotonic() - place.since < self.timeout_s + self.grace_s:
                continue
            self.crew.end(number)
            job, place.job, place.state = place.job, None, "absent"
            text = f"it had not ended after {format_duration(self.timeout_s)} and its worker was ended"
            listener.finished(job.number, Outcome(error=text))

    def _say_slow(self, waited_s: float) -> None:
        """Says once that no worker has become ready; a busy cluster may have no room yet."""
        if self._told_slow or waited_s < _SLOW_START_S:
            return
        if all(place.state in ("absent", "starting") for place in self._places):
            self._told_slow = True
            self.note(f"no worker has become ready in {format_duration(waited_s)}; still waiting.")
