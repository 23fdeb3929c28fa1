"""Where a training runs."""

import torch

from mnas.errors import InputError


def usable_device(name: str) -> str:
    """The device that is meant; `auto` is the GPU where there is one, else the CPU.

    Raises:
        InputError: torch does not know it, or it is not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"--device {name!r} cannot be used: {reason} Use auto, cpu or cuda.") from error
    return name
