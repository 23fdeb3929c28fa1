"""The work of one measurement: model files, fresh processes, and the samples that they gave."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnas.errors import MeasurementError
from mnas.latency.conditions import Conditions
from mnas.latency.host import LOCAL, Host, Workplace
from mnas.latency.measurement import ProcessSamples, gate, judge
from mnas.latency.onnx_file import MOST_BYTES, OnnxFile
from mnas.latency.operators import Operator
from mnas.latency.worker import FORMAT as JOB_FORMAT
from mnas.search_space import NetworkSpec, network_cost
from mnas.seeds import derive_seed

# done, total (networks x processes) and what is being done, in words.
Progress = Callable[[int, int, str], None]

# What can be timed: a network as data, whose graph is written here, or a file of the user's own.
Timeable = NetworkSpec | OnnxFile

# Networks whose files lie on the disk at once, about 20 MB each (chosen here).
CHUNK = 16


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A network as it was timed."""

    path: Path
    sha256: str
    input_shape: tuple[int, ...]


class Session:
    """Gathers samples for each network, process by process; `samples`, `files`, `profiles` and `records` grow.

    Args:
        networks: by name.
        reference: what each is paired with.
        conditions: threads, batch, precision, provider.
        limits: of a job: rounds, precision, warm-up; see `worker.py`.
        budget_s: seconds for each model of a batch, the reference too, in one process.
        seed: of order, inputs and bootstrap; each process derives its own.
        pin: whether each process keeps to the cores that it finds least busy.
        profile_runs: of each network in each process, after it was timed; fills `profiles`.
        host: where.
        on_progress: told what is being done.
    """

    def __init__(
        self,
        networks: Mapping[str, Timeable],
        reference: Timeable,
        conditions: Conditions,
        limits: Mapping[str, Any],
        *,
        budget_s: float,
        seed: int,
        pin: bool = True,
        profile_runs: int = 0,
        host: Host = LOCAL,
        on_progress: Progress | None = None,
    ) -> None:
        self.networks, self.reference, self.conditions = networks, reference, conditions
        self.limits, self.budget_s, self.seed, self.pin = limits, budget_s, seed, pin
        self.profile_runs, self.host, self.on_progress = profile_runs, host, on_progress
        self.profiles: dict[str, list[list[Operator]]] = {name: [] for name in networks}
        self.samples: dict[str, tuple[ProcessSamples, ...]] = dict.fromkeys(networks, ())
        self.files: dict[str, ModelFile] = {}
        self.records: list[dict[str, Any]] = []
        self._done = self._total = 0

    def missing(self, name: str, processes: int) -> int:
        """How many more processes a network needs: those that the gate left out, or all again if it is noisy."""
        kept = sum(not item.rejected for item in self.samples[name])
        if kept < processes:
            return processes - kept
        status, _ = judge(self.samples[name], processes, seed=self.seed)
        return processes if status == "noisy" else 0

    def run(self, groups: Sequence[Sequence[str]], processes: int, place: Workplace) -> None:
        """Times groups of names, each interleaved with the reference, in fresh processes; then gates samples.

        Args:
            groups: of names.
            processes: fresh ones for each.
            place: where, its lock held.

        Raises:
            MeasurementError: a worker failed, or the connection to its host was lost.
        """
        self._total = max(self._total, self._done + processes * sum(map(len, groups)))
        for chunk in _chunks(groups):
            with tempfile.TemporaryDirectory(prefix="mnas-latency-") as folder:
                reference = self._write(Path(folder) / "reference.onnx", self.reference)
                for number, name in enumerate(name for group in chunk for name in group):
                    self.say(f"building network {number + 1} of {sum(map(len, chunk))}")
                    self.files[name] = self._write(Path(folder) / f"{number}.onnx", self.networks[name])
                files = [reference, *(self.files[name] for group in chunk for name in group)]
                there = dict(zip(files, place.place([file.path for file in files]), strict=True))
                for _ in range(processes):
                    self._process(chunk, reference, there, place)
        for name in {name for group in groups for name in group}:
            self.samples[name] = gate(self.samples[name])

    def expect(self, total: int) -> None:
        """Tells beforehand how many networks x processes there will be, for `on_progress`."""
        self._total = total

    def say(self, what: str) -> None:
        """Tells `on_progress`."""
        if self.on_progress is not None:
            self.on_progress(self._done, self._total, what)

    def _process(
        self,
        groups: Sequence[Sequence[str]],
        reference: ModelFile,
        there: Mapping[ModelFile, str],
        place: Workplace,
    ) -> None:
        """One fresh process; nothing of it is kept unless it came to its end."""
        number, done_before = len(self.records), self._done
        job = {
            "format": JOB_FORMAT,
            "reference": there[reference],
            "batches": [[there[self.files[name]] for name in group] for group in groups],
            "names": {there[self.files[name]]: name for group in groups for name in group},
            "profile_runs": self.profile_runs,
            "threads": self.conditions.threads,
            "pin": self.pin,
            "provider": self.conditions.provider,
            "clock": self.conditions.clock,
            "seed": derive_seed(self.seed, "process", number),
            "budget_s": self.budget_s * (1 + max(map(len, groups))),
            **self.limits,
        }
        governor = self.host.state["governor"]

        def on_event(event: dict[str, Any]) -> None:
            if event["event"] == "start":  # once more where a lost connection made it begin again
                self._done = done_before
            elif event["event"] == "batch":
                self._done += len(groups[event["index"]])
            self.say(f"measuring, process {number + 1}")

        events = place.run(job, on_event)
        started, ended = events[0], events[-1]
        record = {key: value for key, value in started.items() if key not in ("event", "load")}
        record |= {"load_before": started["load"], "load_after": ended["load"], "governor": governor}
        for event in events:
            if event["event"] == "batch":
                record["providers"] = event["providers"]
                self._keep(number, groups[event["index"]], event)
        self.records.append(record)

    def _keep(self, process: int, group: Sequence[str], event: Mapping[str, Any]) -> None:
        rows = zip(group, event["samples_ms"], event["samples_wall_ms"], strict=True)
        for name, samples, wall in rows:
            new = ProcessSamples(
                process=process,
                candidate_ms=tuple(samples),
                reference_ms=tuple(event["reference_ms"]),
                candidate_wall_ms=tuple(wall),
                reference_wall_ms=tuple(event["reference_wall_ms"]),
                closed=event["closed"],
            )
            self.samples[name] = (*self.samples[name], new)
        for name, operators in zip(group, event["profiles"], strict=False):
            self.profiles[name].append([Operator.from_row(row) for row in operators])

    def _write(self, path: Path, network: Timeable) -> ModelFile:
        if isinstance(network, OnnxFile):
            path.write_bytes(network.data)
            return ModelFile(path, network.sha256, network.input_shape)
        from mnas.graph import build_graph  # imports onnx, which reading a calibration does not need

        params = network_cost(network).params
        if 4 * params >= MOST_BYTES:
            raise MeasurementError(
                f"a network of {params:,} parameters makes a model of {4 * params / 1e9:.1f} GB, and an ONNX file "
                "holds 2 GB at the most: it cannot be measured or exported. Narrow it."
            )
        graph = build_graph(network, batch=self.conditions.batch, precision=self.conditions.precision)
        data = graph.SerializeToString()
        path.write_bytes(data)
        shape = (self.conditions.batch, network.in_channels, network.resolution, network.resolution)
        return ModelFile(path, hashlib.sha256(data).hexdigest(), shape)


def _chunks(groups: Sequence[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
    """The groups in order, in lists of at most `CHUNK` networks, or of one group."""
    chunk: list[Sequence[str]] = []
    for group in groups:
        if chunk and sum(map(len, chunk)) + len(group) > CHUNK:
            yield chunk
            chunk = []
        chunk.append(group)
    if chunk:
        yield chunk
