"""Where a training runs."""

import torch

from mnas.errors import InputError


def usable_device(name: str, flag: str = "--device") -> str:
    """The device that is meant; `auto` is the GPU where there is one, else the CPU.

    Args:
        name: what the user wrote.
        flag: where, for messages.

    Raises:
        InputError: torch does not know it, it is not there, or it holds no numbers (`meta`).
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise InputError(f"{flag} {name!r} cannot be used: {reason}. Use auto, cpu or cuda.") from error
    return name
