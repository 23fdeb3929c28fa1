"""Files that show what was found, each made from data alone; they open offline."""

from mnas.report.render import FILE, write_report
from mnas.report.zoo import write_zoo_page

__all__ = ["FILE", "write_report", "write_zoo_page"]
