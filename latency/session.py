"""The work of one measurement: model files, fresh processes, and the samples that they gave."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnas.latency.child import run_worker
from mnas.latency.conditions import Conditions
from mnas.latency.device import device_state
from mnas.latency.measurement import ProcessSamples, gate, judge
from mnas.latency.worker import FORMAT as JOB_FORMAT
from mnas.search_space import NetworkSpec
from mnas.seeds import derive_seed

# done, total (networks x processes) and what is being done, in words.
Progress = Callable[[int, int, str], None]

# Networks whose files lie on the disk at once, about 20 MB each (chosen here).
CHUNK = 16


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A network as it was timed."""

    path: Path
    sha256: str
    input_shape: tuple[int, ...]


class Session:
    """Gathers samples for each network, process by process; `samples`, `files` and `records` grow.

    Args:
        networks: by name.
        reference: what each is paired with.
        conditions: threads, batch, precision, provider.
        limits: of a job: rounds, precision, warm-up; see `worker.py`.
        budget_s: seconds for each model of a batch, the reference too, in one process.
        seed: of order, inputs and bootstrap; each process derives its own.
        pin: whether each process keeps to the cores that it finds least busy.
        on_progress: told what is being done.
    """

    def __init__(
        self,
        networks: Mapping[str, NetworkSpec],
        reference: NetworkSpec,
        conditions: Conditions,
        limits: Mapping[str, Any],
        *,
        budget_s: float,
        seed: int,
        pin: bool = True,
        on_progress: Progress | None = None,
    ) -> None:
        self.networks, self.reference, self.conditions = networks, reference, conditions
        self.limits, self.budget_s, self.seed, self.pin = limits, budget_s, seed, pin
        self.on_progress = on_progress
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

    def run(self, groups: Sequence[Sequence[str]], processes: int) -> None:
        """Times groups of names, each interleaved with the reference, in fresh processes; then gates samples.

        Raises:
            MeasurementError: a worker failed.
        """
        self._total += processes * sum(map(len, groups))
        for chunk in _chunks(groups):
            with tempfile.TemporaryDirectory(prefix="mnas-latency-") as folder:
                reference = self._write(Path(folder) / "reference.onnx", self.reference)
                for number, name in enumerate(name for group in chunk for name in group):
                    self.say(f"building network {number + 1} of {sum(map(len, chunk))}")
                    self.files[name] = self._write(Path(folder) / f"{number}.onnx", self.networks[name])
                for _ in range(processes):
                    self._process(chunk, reference)
        for name in {name for group in groups for name in group}:
            self.samples[name] = gate(self.samples[name])

    def say(self, what: str) -> None:
        """Tells `on_progress`."""
        if self.on_progress is not None:
            self.on_progress(self._done, self._total, what)

    def _process(self, groups: Sequence[Sequence[str]], reference: ModelFile) -> None:
        number = len(self.records)
        job = {
            "format": JOB_FORMAT,
            "reference": str(reference.path),
            "batches": [[str(self.files[name].path) for name in group] for group in groups],
            "threads": self.conditions.threads,
            "pin": self.pin,
            "provider": self.conditions.provider,
            "clock": self.conditions.clock,
            "seed": derive_seed(self.seed, "process", number),
            "budget_s": self.budget_s * (1 + max(map(len, groups))),
            **self.limits,
        }
        state = device_state()

        def on_event(event: dict[str, Any]) -> None:
            if event["event"] == "batch":
                self._done += len(groups[event["index"]])
            self.say(f"measuring, process {number + 1}")

        events = run_worker(job, on_event=on_event)
        started, ended = events[0], events[-1]
        record = {key: value for key, value in started.items() if key not in ("event", "load")}
        record |= {"load_before": started["load"], "load_after": ended["load"], "governor": state["governor"]}
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

    def _write(self, path: Path, spec: NetworkSpec) -> ModelFile:
        from mnas.graph import build_graph  # imports onnx, which reading a calibration does not need

        data = build_graph(spec, batch=self.conditions.batch).SerializeToString()
        path.write_bytes(data)
        shape = (self.conditions.batch, spec.in_channels, spec.resolution, spec.resolution)
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
