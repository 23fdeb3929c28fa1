"""`mnas scale search`: the grid is trained point by point, kept as it goes, and ends with a verdict and a family."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from mnas.accuracy.proxy import ProxyAccuracy
from mnas.data import ImageData, load_data
from mnas.env import environment
from mnas.errors import InputError, MeasurementError, MnasError, RunDirectoryError, SearchError
from mnas.family import Growth, make_ruler, run_conditions, run_host, scale_family
from mnas.files import write_json
from mnas.registry import is_reference
from mnas.rundir import DEFAULT_FOLDERS, RunDirectory
from mnas.scalesearch.candidates import Candidate, fitted, fitted_base, grow_candidates
from mnas.scalesearch.clock import Clock
from mnas.scalesearch.grid import GROWTH, grid
from mnas.scalesearch.kept import Kept, read_kept
from mnas.scalesearch.outcome import Trained, outcome
from mnas.scalesearch.page import write_page
from mnas.scalesearch.plan import ScaleFolder, ScalePlan
from mnas.scalesearch.together import ROUNDS, MultiplyAdds
from mnas.search.reporting import Reporter
from mnas.search.run import stored_config
from mnas.search_space import Coefficients, NetworkSpec
from mnas.search_space.rules import compound
from mnas.seeds import derive_seed
from mnas.sources import Source, find_source
from mnas.store import EventStore
from mnas.trainer.machine import usable_device
from mnas.training import TrainingError
from mnas.units import format_duration


@dataclass(frozen=True, slots=True)
class _Search:
    """What one part of a search works with."""

    folder: ScaleFolder
    plan: ScalePlan
    base: NetworkSpec
    data: ImageData
    store: EventStore
    reporter: Reporter


def start_scale_search(plan: ScalePlan, out: Path | None, reporter: Reporter) -> dict[str, Any]:
    """A new search for coefficients.

    Args:
        plan: what.
        out: the folder, new or empty; None is `scalings/<n>`.
        reporter: told of progress.

    Returns:
        What `scaling.json` holds; only `status` and `path` where it was interrupted.

    Raises:
        InputError: something that does not fit, before anything is written.
        MeasurementError, SearchError: a measurement failed, or too many trainings for a surface; what was done is kept.
    """
    source = find_source(plan.source, plan.network)
    _check_latency(plan, source)
    data = _load(plan, source.spec, reporter)
    base = fitted_base(_at_resolution(source.spec, plan), data, grid(plan.points))
    compound(Coefficients()).check(base)
    if base.resolution < (plan.resolution or source.spec.resolution):
        reporter.note(
            f"the base is trained at {base.resolution} pixels, so that no point of the grid exceeds the images' own "
            f"{data.native_size}"
        )
    run = RunDirectory.create(out if out is not None else _next_folder(), resume="mnas scale search --resume")
    folder = ScaleFolder(run.path)
    folder.write(plan, base)
    write_json(folder.environment, environment())
    EventStore.create(folder.points).close()
    try:
        return _go_on(folder, plan, base, data, source, reporter)
    except RunDirectoryError:  # a full disk, for example, which is no fault of the plan
        raise
    except InputError as error:
        with EventStore.open(folder.points) as store:
            kept = read_kept(store, folder)
        if kept.trained or 0 < len(kept.candidates) < len(grid(plan.points)):
            error.add_note(_how_to_go_on(folder))  # points that were too noisy may be told another time
        else:
            folder.discard()
        raise


def resume_scale_search(path: Path, reporter: Reporter) -> dict[str, Any]:
    """Goes on with a search that was interrupted or killed; no training is done twice.

    Raises:
        RunDirectoryError: not such a folder, or a damaged one.
    """
    folder = ScaleFolder(path.absolute())
    plan, base = folder.read()
    source = find_source(plan.source, plan.network)
    return _go_on(folder, plan, base, _load(plan, source.spec, reporter), source, reporter)


def _go_on(
    folder: ScaleFolder,
    plan: ScalePlan,
    base: NetworkSpec,
    data: ImageData,
    source: Source,
    reporter: Reporter,
) -> dict[str, Any]:
    started = time.monotonic()
    with RunDirectory(folder.path).locked(), EventStore.open(folder.points) as store:
        search = _Search(folder, plan, base, data, store, reporter)
        try:
            _check_images(search)
            kept = read_kept(store, folder)
            candidates = _candidates(search, source, kept)
            budget = kept.budget(plan, base)
            for text in fitted(candidates, budget, len(grid(plan.points)))[1]:
                reporter.note(text)  # before an hour goes into them
            model = _model(search, candidates)
            _say_estimate(search, model, candidates, kept.trained)
            _train(search, model, candidates, kept.trained)
        except KeyboardInterrupt:
            reporter.note(
                f"interrupted; nothing is lost. Go on with: mnas scale search --resume {folder.path}"
            )
            return {"status": "interrupted", "path": str(folder.path)}
        except (MeasurementError, SearchError) as error:
            error.add_note(_how_to_go_on(folder))
            raise
        result = outcome(folder, plan, base, candidates, kept.trained, budget)
        for text in result["warnings"]:
            reporter.warn(text)
        result |= {"source": source.name, "data": data.name}
        result |= {"family": None, "seconds": time.monotonic() - started}
        _write(folder, result)  # whatever becomes of the family
        result["family"] = _family(search, source, result)
        result["seconds"] = time.monotonic() - started
    _write(folder, result)
    return result


def _how_to_go_on(folder: ScaleFolder) -> str:
    return f"what was done is kept in {folder.path}. Go on with: mnas scale search --resume {folder.path}"


def _write(folder: ScaleFolder, result: Mapping[str, Any]) -> None:
    write_json(folder.result, result)
    write_page(result, folder.page)


def _check_latency(plan: ScalePlan, source: Source) -> None:
    """Raises InputError where a run's milliseconds are a plug-in's: those measured here are another device's."""
    latency = None if source.run is None else stored_config(source.run).latency
    if plan.budget_ms is not None and latency is not None and is_reference(latency):
        raise InputError(
            f"this run's latencies are those of {latency!r}, and --budget-ms is what networks take as measured. Leave "
            f"it out for a budget in multiply-adds, or name the network's file to measure on this device: mnas scale "
            f"search {plan.source}/{plan.network}.json"
        )


def _load(plan: ScalePlan, spec: NetworkSpec, reporter: Reporter) -> ImageData:
    data = load_data(plan.data, skip_unreadable=plan.skip_unreadable)
    for text in data.notes:
        reporter.note(text)
    for text in data.left_out:
        reporter.warn(text)
    channels = data.train.shape[0]
    if channels not in (1, spec.in_channels):
        raise InputError(f"the network reads {spec.in_channels} channels, the images have {channels}.")
    return data


def _check_images(search: _Search) -> None:
    """Keeps what the images are with a new search; raises InputError where they are not those it began with."""
    data = search.data
    found = {
        "train": len(data.train),
        "val": len(data.val),
        "classes": list(data.classes),
        "pixels": data.native_size,
        "labels": hashlib.sha256(np.concatenate([data.train.labels, data.val.labels]).tobytes()).hexdigest(),
    }
    kept = next((event.payload for event in search.store.events() if event.kind == "images"), None)
    if kept is None:
        search.store.append("images", [found])
        search.store.commit()
    elif kept != found:
        changed = next(name for name in found if kept.get(name) != found[name])
        raise InputError(
            f"{search.plan.data} does not hold the images that this search began with: {changed} differs, so that its "
            "accuracies could not be compared. Restore them, or begin anew with --out."
        )


def _at_resolution(spec: NetworkSpec, plan: ScalePlan) -> NetworkSpec:
    return spec if plan.resolution is None else replace(spec, resolution=plan.resolution)


def _next_folder() -> Path:
    number = 1
    while (Path(DEFAULT_FOLDERS[1]) / str(number)).exists():
        number += 1
    return Path(DEFAULT_FOLDERS[1]) / str(number)


def _candidates(search: _Search, source: Source, kept: Kept) -> list[Candidate]:
    """A network for each point, in the order of the grid; those that are new are kept."""
    known, points = kept.candidates, grid(search.plan.points)
    missing = {number: point for number, point in enumerate(points) if number not in known}
    if missing:
        search.reporter.stage(f"growing the base by {len(missing)} sets of coefficients to one budget")
        timed = search.plan.budget_ms is not None
        found = grow_candidates(
            search.base,
            missing,
            search.data.native_size,
            gauge=_clock(search, source, kept) if timed else MultiplyAdds(search.base),
            budget=kept.budget(search.plan, search.base),
            taken={candidate.spec for candidate in known.values()},
            reporter=search.reporter,
        )
        search.store.append("point", [candidate.to_dict() for candidate in found])
        search.store.commit()
        known |= {candidate.number: candidate for candidate in found}
    return [known[number] for number in sorted(known)]


def _clock(search: _Search, source: Source, kept: Kept) -> Clock:
    """Knows the base's milliseconds; raises InputError where these are above the budget."""
    conditions, host = run_conditions(source, None, None), run_host(source, None)
    ruler = make_ruler(search.base, conditions, None, host, search.plan.seed, search.reporter)
    if kept.reference_ms is None:
        assert ruler.reference_ms is not None
        kept.reference_ms = ruler.reference_ms
        search.store.append("reference", [{"reference_ms": kept.reference_ms}])
    clock = Clock(ruler, kept.reference_ms, kept.timed, search.store, search.plan.seed, search.reporter)
    if search.base not in clock.known and not clock.measure([search.base], True):
        raise MeasurementError(f"{host.name} was too noisy to measure the base: end other work on it.")
    base_ms, budget_ms = kept.timed[0].ms, kept.budget(search.plan, search.base)
    if base_ms >= budget_ms:
        raise InputError(
            f"the base takes {base_ms:.3g} ms, not less than --budget-ms {search.plan.budget_ms}: give about "
            f"{GROWTH * base_ms:.2g}ms, or 2x for twice what it takes."
        )
    search.reporter.note(
        f"the base takes {base_ms:.3g} ms; points are grown to {budget_ms / base_ms:.2f} times that, in at most "
        f"{ROUNDS} rounds of measuring and one with care"
    )
    return clock


def _model(search: _Search, candidates: Sequence[Candidate]) -> ProxyAccuracy:
    """What trains the candidates, whose inputs may be smaller than the images."""
    plan = search.plan
    smallest = min(candidate.spec.resolution for candidate in candidates)
    return ProxyAccuracy(
        replace(search.data, native_size=min(search.data.native_size, smallest)),
        epochs=plan.epochs,
        proxy_images=plan.images,
        device=usable_device(plan.device),
        threads=plan.threads,
    )


def _say_estimate(
    search: _Search,
    model: ProxyAccuracy,
    candidates: Sequence[Candidate],
    trained: Trained,
) -> None:
    left = len(candidates) * search.plan.seeds - len(trained)
    if not left:
        return
    sample = (candidates[0], candidates[len(candidates) // 2], candidates[-1])
    each = [model.seconds(candidate.spec) for candidate in sample]
    least, most = (format_duration(end(each)) for end in (min, max))
    epochs = f"{search.plan.epochs} epoch{'s' * (search.plan.epochs > 1)}"
    search.reporter.note(
        f"{left} trainings of {epochs} on {len(model.data.train):,} images will take about "
        f"{format_duration(left * mean(each))} ({least} to {most} each, by a few steps of three). For less: --images, "
        "--epochs, --seeds, a smaller --resolution. It can be stopped at any time and resumed: "
        f"mnas scale search --resume {search.folder.path}"
    )


def _train(
    search: _Search,
    model: ProxyAccuracy,
    candidates: Sequence[Candidate],
    trained: Trained,
) -> None:
    """Each point with each seed, one seed of all points after another, so that an early end compares them all."""
    search.reporter.stage(f"training {len(candidates)} networks {search.plan.seeds} times")
    total = len(candidates) * search.plan.seeds
    for seed in range(search.plan.seeds):
        for candidate in candidates:
            if (candidate.number, seed) in trained:
                continue
            search.reporter.progress(len(trained), total, f"point {candidate.number + 1}, seed {seed + 1}")
            start = time.monotonic()
            own = derive_seed(search.plan.seed, "scale", seed)
            payload = {"point": candidate.number, "seed": seed, **_accuracy(model, candidate.spec, own)}
            payload["seconds"] = time.monotonic() - start
            search.store.append("trained", [payload])
            search.store.commit()
            trained[candidate.number, seed] = payload


def _accuracy(model: ProxyAccuracy, spec: NetworkSpec, seed: int) -> dict[str, Any]:
    """Fields of one training; of one that diverged or ran out of memory, why, and no accuracy."""
    try:
        (estimate,) = model.evaluate([spec], seed=seed)
    except TrainingError as error:
        return {"accuracy": None, "error": str(error)}
    return {"accuracy": estimate.value, "accuracy_std": estimate.std, "source": estimate.source}


def _family(search: _Search, source: Source, result: Mapping[str, Any]) -> dict[str, Any] | None:
    """The network as it was given, grown by the recommended coefficients and measured; None where that fails."""
    plan, c = search.plan, result["recommended"]
    growth = Growth(
        phis=plan.phis,
        latencies=plan.latencies,
        rule=compound(Coefficients(**result["recommended"])),
    )
    try:
        return scale_family(
            source,
            growth,
            measured=plan.measured,
            conditions=run_conditions(source, None, None),
            latency=None,
            host=run_host(source, None),
            out=search.folder.family,
            seed=plan.seed,
            reporter=search.reporter,
        )
    except MnasError as error:
        search.reporter.warn(
            f"the coefficients are found, but no family was grown by them: {error} Grow one with: mnas scale "
            f"{source.name} --alpha {c['alpha']:.4g} --beta {c['beta']:.4g} --gamma {c['gamma']:.4g}"
        )
        return None
