"""The worker of `overhead.py`: mnas's own, which says in its last event how many seconds its models ran.

Started as `worker.py` is, with that file's path in MNAS_WORKER, so that it imports nothing that the worker does not.
"""

import importlib.util
import json
import os
import sys
import time
from typing import Any

spec = importlib.util.spec_from_file_location("worker", os.environ["MNAS_WORKER"])
assert spec is not None
assert spec.loader is not None
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)
open_session, run_s = worker.open_session, 0.0


class Timed:
    """A session whose runs are added up."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def run(self, *arguments: Any) -> Any:
        global run_s
        start = time.perf_counter()
        result = self.session.run(*arguments)
        run_s += time.perf_counter() - start
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)


def emit(event: str, **fields: Any) -> None:
    more = {"run_s": run_s} if event == "done" else {}
    print(json.dumps({"event": event, **fields, **more}), flush=True)


if __name__ == "__main__":
    worker.open_session = lambda *arguments: Timed(open_session(*arguments))
    worker.run_job(json.load(sys.stdin), emit)
