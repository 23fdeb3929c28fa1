"""Where a network comes from on the command line: a run, a file, or a published name."""

import difflib
from dataclasses import dataclass
from pathlib import Path

from mnas.errors import InputError, RunDirectoryError, UnknownNameError
from mnas.files import read_json
from mnas.rundir import RunDirectory
from mnas.search_space import NetworkSpec
from mnas.zoo import NAMES, is_published, published

BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class Source:
    """A network, what it is called, and the run that it comes from; None is none."""

    spec: NetworkSpec
    name: str
    run: RunDirectory | None = None


def find_source(what: str, network: str = BASELINE) -> Source:
    """A network of a run directory, of a JSON file, or a published one.

    Args:
        what: a run directory, a network's JSON file, or a name of the zoo.
        network: of a run, as `run_network_file`.

    Raises:
        RunDirectoryError: a run without that network, or a file that cannot be read.
        InputError: none of these, or a network asked for by name of what is no run.
    """
    path = Path(what)
    if path.is_dir():
        run = RunDirectory.open(path)
        return Source(NetworkSpec.from_dict(read_json(run_network_file(run, network))), str(run.path), run)
    if network != BASELINE:
        raise InputError(f"{what!r} is no run directory: only a run has a network called {network!r}.")
    if path.is_file():
        return Source(NetworkSpec.from_dict(read_json(path)), what)
    if is_published(what):
        return Source(published(what), what)
    near = difflib.get_close_matches(what, NAMES, n=1, cutoff=0.5)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    raise InputError(
        f"{what!r} is neither a run directory, nor a network's JSON file, nor one of the published networks "
        f"(mnas zoo list).{guess}"
    )


def run_network_file(run: RunDirectory, network: str) -> Path:
    """The JSON file of a run's network: `baseline`, `scaled`, or the name of a member in RUN/family (`phi-2`).

    After a search for several targets, the first two have the target in their names: `baseline-40ms`.

    Raises:
        RunDirectoryError: the run has no baseline yet.
        UnknownNameError: no network of that name in the run.
    """
    own = run.networks()
    if not any(file.stem.startswith(BASELINE) for file in own):
        raise RunDirectoryError(
            f"{run.path} has no baseline yet; finish its search first: mnas resume {run.path}"
        )
    known = {file.stem: file for file in own}
    known |= {file.stem: file for file in sorted(run.family_folder.glob("*.json")) if file.stem not in known}
    if network not in known:
        hint = f"These are the networks of {run.path}; say which with --network."
        raise UnknownNameError("network", network, known, hint=hint)
    return known[network]
