"""The figures of docs/benchmarks.md on controllers; prints one JSON object.

    python benchmarks/controllers/figures.py --data-dir DIR          # DIR holds nas-bench-macro_cifar10.json
    python benchmarks/controllers/figures.py --parts mbconv          # needs no data

Parts: `macro` and `noisy` (NAS-Bench-Macro at 50M, 60M, 70M MAdds and accuracy only; the default controller evaluates
100 networks, its peers 500) and `mbconv` (mbconv-additive at its three targets, 500 networks for all). Peers of Optuna
and NNI are left out, saying so, where these are not installed. Every run is one of `mnas bench controllers`.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from statistics import fmean
from typing import Any

from mnas.bench import Wanted, bench_controllers
from mnas.config import DEFAULT_CONTROLLER
from mnas.console import ConsoleReporter

# optuna:gp takes 0.1 to 0.4 s an ask after 50 evaluations and more later: hours for these figures.
PEERS = (
    "reinforce",
    "evolution",
    "random",
    "ppo",
    "optuna:tpe",
    "optuna:nsga2",
    "nni:regularized_evolution",
    "nni:tpe",
)
PARTS = ("macro", "noisy", "mbconv")
OURS, THEIRS = 100, 500
RIVALS = ("evolution", "nni:regularized_evolution", "optuna:tpe", "nni:tpe")


def part(
    name: str, peers: Sequence[str], options: argparse.Namespace, reporter: ConsoleReporter
) -> dict[str, Any]:
    """The results of a part; the default controller's come first."""
    noisy, benchmark = name == "noisy", "mbconv-additive" if name == "mbconv" else "nas-bench-macro"
    calls = [((DEFAULT_CONTROLLER,), OURS), (tuple(peers), THEIRS)]
    if name == "mbconv":
        calls = [((DEFAULT_CONTROLLER, *peers), THEIRS)]
    results: list[dict[str, Any]] = []
    targets: list[dict[str, Any]] = []
    for controllers, trials in calls:
        wanted = Wanted(
            benchmark,
            controllers,
            seeds=options.seeds,
            trials=trials,
            noisy=noisy,
            data_dir=options.data_dir,
            processes=options.processes,
        )
        found = bench_controllers(wanted, reporter)
        targets = found["targets"]
        results += [entry for entry in found["results"] if entry["controller"] in controllers]
    for entry in results:
        del entry["curve"]
    return {"benchmark": benchmark, "noisy": noisy, "targets": targets, "results": results}


def of(found: dict[str, Any], controller: str) -> list[dict[str, Any]]:
    return [entry for entry in found["results"] if entry["controller"] == controller]


def claims(parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the documentation says of these results."""
    said: dict[str, Any] = {}
    if "macro" in parts:
        said["default_hit_rate_at_100"] = [
            entry["hit_rate"] for entry in of(parts["macro"], DEFAULT_CONTROLLER)
        ]
    if "noisy" in parts:
        regrets: dict[str, list[float]] = {}
        for entry in parts["noisy"]["results"]:
            regrets.setdefault(entry["controller"], []).append(entry["regret"])
        # Of the network that would be handed over: the default after fewer evaluations than the others.
        said["noisy_regret"] = {
            name: {"targets": each, "mean": fmean(each)} for name, each in regrets.items()
        }
    if "mbconv" in parts:
        entries = of(parts["mbconv"], DEFAULT_CONTROLLER)
        said["default_share_within_0.1_percent_at_500"] = [e["share_within_0.1_percent"] for e in entries]
    tasks = [parts[name] for name in ("macro", "mbconv") if name in parts]
    for count in ("200", "500") if tasks else ():
        said[f"mean_share_of_optimum_at_{count}"] = {
            name: mean_share(tasks, name, count) for name in ("reinforce", *RIVALS) if of(tasks[0], name)
        }
    return said


def mean_share(tasks: Sequence[dict[str, Any]], controller: str, count: str) -> float:
    """Mean over tasks of the best reward after so many evaluations over the optimum's."""
    shares = []
    for task in tasks:
        optimum = {target["target"]: target["optimum"] for target in task["targets"]}
        shares += [e["at"][count]["mean_best"] / optimum[e["target"]] for e in of(task, controller)]
    return fmean(shares)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", default=os.environ.get("MNAS_BENCH_DATA"))
    parser.add_argument("--parts", default=",".join(PARTS), help="of macro, noisy, mbconv")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--processes", type=int, help="default: one a core")
    options = parser.parse_args()
    peers, missing = options.peers.split(","), []
    for library in ("optuna", "nni"):
        if find_spec(library) is None:
            missing += [name for name in peers if name.startswith(f"{library}:")]
    if missing:
        print(f"not installed, so left out: {', '.join(missing)}", file=sys.stderr)
    peers = [name for name in peers if name not in missing and name != DEFAULT_CONTROLLER]
    with ConsoleReporter() as reporter:
        parts = {name: part(name, peers, options, reporter) for name in options.parts.split(",")}
    print(
        json.dumps(
            {"default": DEFAULT_CONTROLLER, "seeds": options.seeds, "claims": claims(parts), "parts": parts}
        )
    )


if __name__ == "__main__":
    main()
