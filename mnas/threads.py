"""How many threads torch uses for a while."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Torch with so many threads, then with as many as before; None changes nothing.

    On a busy machine torch's threads wait for each other: a pass that takes 0.1 s on one thread took 3.4 s on two
    where another process had one of the two cores.
    """
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
