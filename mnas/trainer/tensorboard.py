"""The history of a training as scalars for TensorBoard."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnas.errors import InputError


class Board:
    """Writes each epoch's numbers once.

    Args:
        folder: where TensorBoard finds them: tensorboard --logdir FOLDER.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(folder)
        self._written = 0

    def write(self, history: Sequence[Mapping[str, Any]]) -> None:
        """The epochs that were not written yet."""
        for row in history[self._written :]:
            for name in ("loss", "lr", "val_accuracy"):
                self._writer.add_scalar(name, row[name], row["epoch"])
        self._written = len(history)
        self._writer.flush()


def check_tensorboard() -> None:
    """Refuses what would fail later.

    Raises:
        InputError: TensorBoard is not installed; names the extra.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise InputError(
            "--tensorboard needs TensorBoard. Install it with: pip install 'mnas[tensorboard]'"
        ) from error
