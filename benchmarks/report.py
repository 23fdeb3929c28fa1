"""Size of a run's report, the seconds that writing it takes, and how soon Chromium has drawn it.

    python benchmarks/report.py RUN [--runs 7]

Writes RUN/report.html and prints one JSON object. `drawn_s` is from the start of the navigation until the last chart
stands, by the page's own clock, each in a fresh browser; null where no browser is on PATH. `met` says whether the file
is within 6 MB and its median drawing within 2 s.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mnas.report import write_report

MOST_BYTES, MOST_S = 6_000_000, 2.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def drawn_s(browser: str, report: Path) -> float:
    """Seconds of one load in a fresh browser."""
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        command += [f"--user-data-dir={profile}", "--window-size=1280,900", "--timeout=20000", "--dump-dom"]
        done = subprocess.run([*command, report.as_uri()], capture_output=True, text=True, check=True)
    found = re.search(r'data-drawn-ms="(\d+)"', done.stdout[:2000])
    if found is None or "data-failed" in done.stdout[:2000]:
        raise SystemExit(f"{report} was not drawn within 20 s")
    return float(found[1]) / 1000


def spread(values: list[float]) -> dict[str, Any]:
    return {"n": len(values), "median": statistics.median(values), "min": min(values), "max": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    seconds = []
    for _ in range(options.runs):
        start = time.perf_counter()
        report = write_report(options.run)
        seconds.append(round(time.perf_counter() - start, 3))
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    drawn = [drawn_s(browser, report) for _ in range(options.runs)] if browser else None
    shown = None
    if browser:
        shown = subprocess.run([browser, "--version"], capture_output=True, text=True).stdout.strip()
    figures = {
        "bytes": report.stat().st_size,
        "write_s": spread(seconds),
        "drawn_s": spread(drawn) if drawn else None,
        "met": {
            "bytes": report.stat().st_size <= MOST_BYTES,
            "drawn_s": statistics.median(drawn) <= MOST_S if drawn else None,
        },
        "browser": shown,
        "load": os.getloadavg(),
        "machine": {"system": platform.system(), "machine": platform.machine(), "cores": os.cpu_count()},
        "versions": {"python": platform.python_version(), "plotly": version("plotly")},
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
