"""One file that shows a run, made from the run directory alone; it opens offline."""

from mnas.report.render import FILE, write_report

__all__ = ["FILE", "write_report"]
