"""The search: sample, cost, accuracy, reward, store, tell; then the finalists are measured."""

from mnas.search.history import History, Trial
from mnas.search.reporting import Reporter
from mnas.search.rescored import best_trial
from mnas.search.run import resume_search, start_search, stored_config
from mnas.search.stored import export_run, run_status

__all__ = [
    "History",
    "Reporter",
    "Trial",
    "best_trial",
    "export_run",
    "resume_search",
    "run_status",
    "start_search",
    "stored_config",
]
