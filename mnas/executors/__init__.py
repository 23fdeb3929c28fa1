"""Where candidates are trained: in the search's own process, in others of this machine, or on a Ray cluster."""

from mnas.executors.jobs import Executor, Job, Listener, Outcome

__all__ = ["Executor", "Job", "Listener", "Outcome"]
