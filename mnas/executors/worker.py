"""A worker that trains candidates: `python -m mnas.executors.worker`, or a thread of a Ray actor.

It reads lines of JSON. The first is the setup: `config`, a resolved `SearchConfig`; `folder`, the run directory;
`here`, where the search was started; `path`, its `sys.path`; `cores`, those to stay on, or null. Then come jobs
(`Job.to_dict`), one at a time, and between them answers `{"go_on": bool}`. It writes lines of JSON:

    {"say": text}                              while it makes itself ready
    {"ready": true}, or {"broken": text}       once
    {"rung": epoch, "accuracy": a, "job": n}   at a rung of successive halving; then it waits for the answer
    {"done": n, ...}                           with `Outcome.to_dict`
"""

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from mnas.errors import MnasError, SearchError

Receive = Callable[[], str | None]
Send = Callable[[str], None]

LINGER_S = 2.0  # that a worker whose input has ended may take to end by itself (chosen here)
_PR_SET_PDEATHSIG = 1  # prctl(2)


class _NoObjective:
    """For models that want one to prepare themselves, which the search has done."""

    def cost(self, architectures: Sequence[Any]) -> Any:
        """Raises SearchError."""
        raise _unprepared()

    def score(self, accuracy: Any, cost: Any) -> Any:
        """Raises SearchError."""
        raise _unprepared()


def _unprepared() -> SearchError:
    return SearchError("a worker has no costs; the search alone prepares a model by them.")


class _Gone(BaseException):
    """Who asks is gone."""


def serve(receive: Receive, send: Send) -> None:
    """Makes itself ready, then answers until there are no more lines.

    Args:
        receive: the next line; None where there are no more.
        send: takes a line of answer.
    """

    def say(**message: Any) -> None:
        send(json.dumps(message, allow_nan=False))

    def go_on(number: int, epoch: int, accuracy: float) -> bool:
        say(rung=epoch, accuracy=float(accuracy), job=number)
        answer = receive()
        if answer is None:
            raise _Gone
        return bool(json.loads(answer)["go_on"])

    first = receive()
    if first is None:
        return
    try:
        answer = _ready(json.loads(first), lambda text: say(say=text))
    except (Exception, SystemExit) as error:
        text = str(error) if isinstance(error, MnasError) else f"{type(error).__name__}: {error}"
        say(broken=text)
        return
    say(ready=True)
    with suppress(_Gone):
        while (line := receive()) is not None:
            send(answer(line, go_on))


def _ready(
    setup: Mapping[str, Any], say: Callable[[str], None]
) -> Callable[[str, Callable[[int, int, float], bool]], str]:
    """What answers a job: the run's own accuracy model, made here.

    Raises:
        MnasError: data or model cannot be had here.
    """
    if setup["cores"] is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, setup["cores"])  # before torch counts them
    sys.path += [entry for entry in setup["path"] if entry not in sys.path]
    with suppress(OSError):  # on another machine it need not be there
        os.chdir(setup["here"])
    from functools import partial

    from mnas.accuracy.made import make_accuracy, make_data, make_space, training_device
    from mnas.config import make_config
    from mnas.executors.jobs import Job, run_trial
    from mnas.protocols import PreparedAccuracyModel
    from mnas.rundir import RunDirectory

    config, run = make_config(setup["config"]), RunDirectory(Path(setup["folder"]))
    data = make_data(config)
    space = make_space(config, data, run.space)
    model = make_accuracy(config, space, data, training_device(config), _NoObjective())
    if isinstance(model, PreparedAccuracyModel):
        if not run.is_prepared:
            raise SearchError(
                f"what the search prepared is not there: {run.supernet} has to be on a shared disk."
            )
        model.prepare(run.supernet, say)
    name = config.accuracy or ""

    def answer(line: str, go_on: Callable[[int, int, float], bool]) -> str:
        job = Job.from_dict(json.loads(line))
        outcome = run_trial(model, name, job, partial(go_on, job.number))
        return json.dumps({"done": job.number, **outcome.to_dict()}, allow_nan=False)

    return answer


def main() -> None:
    """Serves on stdin and stdout; what else is printed goes to stderr. Ends with its parent."""
    _end_with_parent()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lines: SimpleQueue[str | None] = SimpleQueue()
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a model that reads its input must not read ours

    def read() -> None:
        for line in requests:
            lines.put(line)
        lines.put(None)
        time.sleep(LINGER_S)
        os._exit(1)

    def send(line: str) -> None:
        try:
            answers.write(line + "\n")
            answers.flush()
        except BrokenPipeError:
            os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    serve(lines.get, send)


def _end_with_parent() -> None:
    """Has the system end this process when its parent ends, however that does; on Linux alone.

    Elsewhere the end of its input does, unless a library that hangs holds the interpreter.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
