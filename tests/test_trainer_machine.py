"""Where a training runs, without a GPU; `test_gpu.py` holds what needs one."""

import contextlib

import pytest
import torch

from mnas.errors import InputError
from mnas.trainer.machine import usable_device
from mnas.training import repeatable


@pytest.mark.parametrize(("there", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_the_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, there: bool, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert usable_device("auto") == device


@pytest.mark.parametrize("name", ["gpu", "meta"])  # unknown; known, but it holds no numbers
def test_devices_that_cannot_train_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"--device '{name}' cannot be used: .*\. Use auto, cpu or cuda\."):
        usable_device(name)


@pytest.mark.parametrize(
    ("device", "inside"), [("cuda", (True, False)), ("cuda:1", (True, False)), ("cpu", (False, True))]
)
def test_repeatable_concerns_gpus_and_leaves_the_settings_as_they_were(
    device: str, inside: tuple[bool, bool]
) -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = False, True
    try:
        with contextlib.suppress(KeyError), repeatable(device):
            assert (cudnn.deterministic, cudnn.benchmark) == inside
            raise KeyError
        assert (cudnn.deterministic, cudnn.benchmark) == (False, True)
    finally:
        cudnn.deterministic, cudnn.benchmark = before
