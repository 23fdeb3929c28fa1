"""How well cheap evaluators rank networks whose true accuracy is known, and what each costs in core-minutes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from mnas.bench.evaluators import Evaluator, PreparedEvaluator, Setting, make_evaluator
from mnas.bench.proxy_figures import bases_of, best_within, figures
from mnas.bench.proxy_plan import ProxyWanted, check_fits, draw, identity_of, truth_of
from mnas.bench.scores import Score, Scores, cpu_seconds
from mnas.data import ImageData, load_data
from mnas.env import environment
from mnas.errors import InputError, SearchError
from mnas.latency.agent import describe_device
from mnas.search.reporting import Reporter
from mnas.search_space import Architecture, SearchSpace
from mnas.seeds import derive_seed
from mnas.units import format_duration

TIMED = 3  # networks that an estimate is made of; chosen here


@dataclass(frozen=True, slots=True)
class _Bench:
    """The parts of one bench; `truth` names the evaluator that is the truth, None where that is a table."""

    wanted: ProxyWanted
    space: SearchSpace
    networks: Sequence[Architecture]
    scores: Scores
    reporter: Reporter
    truth: str | None

    def missing(self, name: str) -> list[Architecture]:
        """The networks that an evaluator has no score of."""
        known = self.scores.of(name)
        return [network for network in self.networks if network.key not in known]

    def budget_s(self, name: str) -> float:
        """Processor time that an evaluator may spend; the truth is given what it needs."""
        return float("inf") if name == self.truth else 60 * self.wanted.core_minutes


def bench_proxies(wanted: ProxyWanted, out: Path, reporter: Reporter) -> dict[str, Any]:
    """Evaluates the same random networks by each evaluator, and compares the rankings with the truth.

    Scores are kept one by one; a bench that was killed goes on there, and evaluators and networks may be added.

    Args:
        wanted: what.
        out: the file that the result is meant for; scores stand beside it, with the ending `.db`.
        reporter: told of progress.

    Returns:
        What `mnas bench proxy --json` prints; only `status` and `scores` where it was interrupted.

    Raises:
        InputError: what does not fit, before anything is evaluated.
    """
    began = time.monotonic()
    reporter.stage("preparing")
    data = None if wanted.data is None else load_data(wanted.data)
    space, table, about = truth_of(wanted, data)
    if data is not None:
        check_fits(space, data)
    store = out.with_suffix(".db")
    setting = Setting(space, data, wanted.seed, wanted.threads, out.with_suffix(""))
    truth = None if table is not None else f"proxy:{wanted.truth_epochs}"
    names = [base for text in wanted.evaluators for base in bases_of(text)]
    evaluators = {
        name: make_evaluator(name, setting) for name in dict.fromkeys([*([truth] if truth else []), *names])
    }
    networks = draw(space, wanted.networks, derive_seed(wanted.seed, "networks"))
    if len(networks) < wanted.networks:
        reporter.note(f"{space.name} has only {len(networks)} different networks; all of them are taken.")
    with Scores.at(store, identity_of(wanted, space, data)) as scores:
        bench = _Bench(wanted, space, networks, scores, reporter, truth)
        try:
            _say_estimate(bench, evaluators)
            for name, evaluator in evaluators.items():
                _evaluate(bench, name, evaluator)
        except KeyboardInterrupt:
            reporter.note(f"interrupted; scores are kept in {store}. The same command goes on.")
            return {"status": "interrupted", "scores": str(store)}
        true = {
            network: table(network) if table is not None else scores.of(str(truth))[network.key].value
            for network in networks
        }
        rows = [figures(text, space, true, scores, wanted.seed) for text in dict.fromkeys(wanted.evaluators)]
    return _result(wanted, data, space, networks, about, rows, store, time.monotonic() - began)


def _result(
    wanted: ProxyWanted,
    data: ImageData | None,
    space: SearchSpace,
    networks: Sequence[Architecture],
    about: str,
    rows: list[dict[str, Any]],
    store: Path,
    seconds: float,
) -> dict[str, Any]:
    """What the command prints and writes."""
    return {
        "status": "done",
        "benchmark": wanted.benchmark,
        "about": about,
        "space": space.name,
        "networks": len(networks),
        "data": None if data is None else data.name,
        "seed": wanted.seed,
        "threads": wanted.threads,
        "core_minutes": wanted.core_minutes,
        "evaluators": rows,
        "best_within": best_within(rows),
        "scores": str(store),
        "seconds": round(seconds, 1),
        "environment": {**environment(), "cpu": describe_device()["cpu"]},
    }


def _say_estimate(bench: _Bench, evaluators: Mapping[str, Evaluator]) -> None:
    """Says what each evaluator will take, by a few steps of a few networks, before it is spent."""
    total = 0.0
    parts, unknown = [], []
    for name, evaluator in evaluators.items():
        missing = bench.missing(name)
        if not missing:
            continue
        sample = missing[:: max(1, len(missing) // TIMED)][:TIMED]
        each = [evaluator.seconds(bench.space.decode(network)) for network in sample]
        known = [seconds for seconds in each if seconds is not None]
        if not known:
            unknown.append(name)
            continue
        seconds = fmean(known) * len(missing)
        if isinstance(evaluator, PreparedEvaluator):
            seconds += evaluator.preparation_seconds()
        held = min(seconds, bench.budget_s(name) / bench.wanted.threads)
        total += held
        if held >= 1:
            stopped = f" of {format_duration(seconds)} (--core-minutes)" if held < seconds else ""
            parts.append(f"{name} {format_duration(held)}{stopped}")
    known_text = f": {', '.join(parts)}" if parts else ""
    unknown_text = f"; not known of {', '.join(unknown)}" if unknown else ""
    bench.reporter.note(
        f"{len(bench.networks)} networks will take {'' if total < 1 else 'about '}{format_duration(total)}{known_text}"
        f"{unknown_text}. It can be stopped at any time; the same command goes on."
    )


def _evaluate(bench: _Bench, name: str, evaluator: Evaluator) -> None:
    """Scores the networks that have none, until the evaluator's processor time is spent."""
    missing, scores = bench.missing(name), bench.scores
    if not missing:
        return
    known = scores.of(name)
    budget = bench.budget_s(name)
    spent = scores.prepared.get(name, 0.0) + sum(known[n.key].cpu_s for n in bench.networks if n.key in known)
    if spent >= budget:
        return
    bench.reporter.stage(f"ranking {len(bench.networks)} networks by {name}")
    if isinstance(evaluator, PreparedEvaluator):
        before = cpu_seconds()
        try:
            evaluator.prepare(bench.reporter.note)
        finally:  # what an interrupted one took counts too
            scores.add_preparation(name, cpu_seconds() - before)
        spent += cpu_seconds() - before
    done = len(bench.networks) - len(missing)
    for number, network in enumerate(missing, done + 1):
        if spent >= budget:
            bench.reporter.warn(
                f"{name} spent its {bench.wanted.core_minutes:g} core-minutes on {number - 1} of {len(bench.networks)} "
                "networks; more with --core-minutes."
            )
            return
        score = _score(evaluator, bench.space, network, bench.wanted.seed)
        scores.add(name, network.key, score)
        spent += score.cpu_s
        bench.reporter.progress(number, len(bench.networks), f"{spent / 60:.1f} core-minutes")


def _score(evaluator: Evaluator, space: SearchSpace, network: Architecture, seed: int) -> Score:
    """The score of a network and what it took; the seed is the network's own, whenever it is reached."""
    started, before = time.perf_counter(), cpu_seconds()
    value, error = float("-inf"), None
    try:
        value = evaluator.score(space.decode(network), derive_seed(seed, "network", network.key))
    except InputError:
        raise
    except Exception as reason:  # of a training or a user's model: the others go on
        error = str(reason) if isinstance(reason, SearchError) else f"{type(reason).__name__}: {reason}"
    return Score(value, cpu_seconds() - before, time.perf_counter() - started, error)
