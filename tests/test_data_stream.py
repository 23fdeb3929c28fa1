"""A folder larger than the memory: what is streamed equals what is decoded once, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Said, environment
from PIL import Image

from mnas import env, inputs
from mnas.data import ImageData, Split, load_data, photos
from mnas.data.feed import Feed, resident_feed
from mnas.data.stream import StreamedSplit
from mnas.errors import InputError, SearchError
from mnas.files import write_json
from mnas.inputs import input_transform
from mnas.search.reporting import Quiet
from mnas.search_space import NetworkSpec, StageSpec
from mnas.trainer import (
    State,
    fit,
    load_checkpoint,
    make_task,
    new_state,
    preset,
    save_checkpoint,
)
from mnas.trainer.plan import Plan
from mnas.training import evaluate
from mnas.training_run import start_training

TINY = NetworkSpec(8, (StageSpec("mbconv", 3, 2, 16, 2, 4, 0.25), StageSpec("sepconv", 3, 2, 16)), 32, 32, 2)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of cached images, one of its own for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mnas" / "images"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty noisy photos in two classes."""
    noise = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    return tmp_path / "photos"


def with_memory(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """As much as `count` bytes."""
    monkeypatch.setattr(photos, "memory_bytes", lambda: count)


@pytest.fixture
def both(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ImageData, ImageData]:
    """The photos in memory, and streamed by two workers."""
    inside = load_data(str(folder), resolution=32)
    monkeypatch.setattr(photos, "worker_count", lambda: 2)
    with_memory(monkeypatch, 200_000)
    return inside, load_data(str(folder), resolution=32)


def test_streamed_images_are_those_that_are_decoded_once(both: tuple[ImageData, ImageData]) -> None:
    inside, streamed = both
    assert streamed.notes == (
        "40 images of 32 x 32 pixels take 0.0 GB, more than half of the memory of 0.0 GB: "
        "2 processes decode them anew whenever they are needed",
    )
    assert (inside.notes, inside.classes, inside.native_size) == ((), streamed.classes, streamed.native_size)
    for one, other in zip(
        (inside.train, inside.val, inside.test), (streamed.train, streamed.val, streamed.test), strict=True
    ):
        assert isinstance(one, Split)
        assert isinstance(other, StreamedSplit)
        assert (len(one), one.shape) == (len(other), other.shape)
        np.testing.assert_array_equal(one.labels, other.labels)
    order = np.random.default_rng(1).permutation(24)
    chosen = [order[:1], order[1:8], order[8:9], order[9:20], order[:0], order[20:]]
    asked = list(streamed.train.batches(chosen))
    assert [len(images) for images in asked] == [1, 7, 1, 11, 0, 4]
    for images, indices in zip(asked, chosen, strict=True):
        np.testing.assert_array_equal(images, inside.train.images[indices])
    many = np.resize(order, 130)  # more than are decoded at a time
    taken = streamed.train.take(many)
    np.testing.assert_array_equal(taken.images, inside.train.images[many])
    np.testing.assert_array_equal(taken.labels, inside.train.labels[many])


def test_training_and_scoring_do_not_depend_on_where_images_are(
    both: tuple[ImageData, ImageData], tmp_path: Path
) -> None:
    inside, streamed = both
    # a worker takes time to start
    train, val = (replace(split, workers=1) for split in (streamed.train, streamed.val))
    streamed = replace(streamed, train=train, val=val)
    recipe = preset("cifar", epochs=2, batch_size=6, accumulate=2)  # 24 images: 4 steps an epoch
    one, other = (make_task(TINY, recipe, data, seed=3) for data in (inside, streamed))
    assert one.inputs == other.inputs
    expected = fit(one, lambda: new_state(one), save=lambda state: None, listener=Quiet())

    def save(state: State) -> None:
        save_checkpoint(tmp_path / "checkpoint", state)
        if state.progress.step == 6:  # in the middle of the second epoch
            raise KeyboardInterrupt

    def resumed() -> State:
        state = new_state(other)
        load_checkpoint(tmp_path / "checkpoint", state)
        return state

    with pytest.raises(KeyboardInterrupt):
        fit(other, lambda: new_state(other), save=save, listener=Quiet(), checkpoint_s=0)
    found = fit(other, resumed, save=lambda state: None, listener=Quiet())
    assert [row["step"] for row in found.progress.history] == [4, 8]
    for name, value in expected.module.state_dict().items():
        torch.testing.assert_close(found.module.state_dict()[name], value, rtol=0, atol=0, msg=name)
    accuracy = evaluate(expected.module, inside.train, one.inputs)
    assert evaluate(expected.module, streamed.train, one.inputs) == accuracy


def test_mnas_train_says_that_it_streams(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_memory(monkeypatch, 200_000)
    monkeypatch.setattr(photos, "worker_count", lambda: 1)
    write_json(tmp_path / "tiny.json", TINY.to_dict())
    plan = Plan(source=str(tmp_path / "tiny.json"), data=str(folder), device="cpu")
    said = Said()
    result = start_training(plan, preset("cifar", epochs=1, batch_size=12), tmp_path / "out", said)
    assert result is not None
    assert (result["status"], result["test_accuracy"] * 8 % 1) == ("done", 0)  # of 8 images
    assert any("1 process decodes them anew whenever they are needed" in text for text in said.notes)


def test_bad_images_are_named_before_anything_runs_and_all_are_checked_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_memory(monkeypatch, 200_000)
    whole = (folder / "cat" / "00.jpg").read_bytes()
    (folder / "cat" / "00.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "dog" / "text.png").write_text("no image")
    with pytest.raises(
        InputError, match=r"2 files cannot be read: cat/00\.jpg \(damaged: .*\), dog/text\.png"
    ):
        load_data(str(folder), resolution=32)
    monkeypatch.setattr(photos, "decode_all", None)  # what was found is kept
    data = load_data(str(folder), resolution=32, skip_unreadable=True)
    # 20 cats and 21 dogs are 12 + 13, 4 + 4 and 4 + 4; the bad ones are one of val and one of test
    assert [len(split) for split in (data.train, data.val, data.test)] == [25, 7, 7]
    assert len(data.left_out) == 1
    assert len(data.train.take(np.arange(25))) == 25


def test_an_image_that_is_gone_ends_it_with_its_name(both: tuple[ImageData, ImageData]) -> None:
    _, streamed = both
    train = streamed.train
    assert isinstance(train, StreamedSplit)
    (train.folder / train.names[5]).unlink()
    loaded = train.batches([np.arange(3), np.arange(3, 6)])
    assert len(next(loaded)) == 3
    with pytest.raises(SearchError, match=f"cannot read {train.folder / train.names[5]}: No such file"):
        next(loaded)


def test_a_tar_that_is_too_large_is_to_be_unpacked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(folder.with_suffix(".tar"), "w") as tar:
        tar.add(folder, "photos")
    with_memory(monkeypatch, 800_000)  # half of it holds 40 images of 57 x 57
    with pytest.raises(InputError, match=r"40 images of 64 x 64 .*; unpack it .*, or .* --resolution 32\.$"):
        load_data(str(folder.with_suffix(".tar")), resolution=64)
    with_memory(monkeypatch, 100)
    with pytest.raises(InputError, match=r"; unpack it and name the folder, [^,]*\.$"):
        load_data(str(folder.with_suffix(".tar")), resolution=64)


def test_a_kept_array_that_has_become_too_large_is_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_data(str(folder), resolution=32)
    with monkeypatch.context() as patch:
        with_memory(patch, 200_000)
        assert isinstance(load_data(str(folder), resolution=32).train, StreamedSplit)
    monkeypatch.setattr(photos, "decode_all", None)  # it is still there
    np.testing.assert_array_equal(
        load_data(str(folder), resolution=32).train.take(np.arange(24)).images,
        first.train.take(np.arange(24)).images,
    )


def children() -> set[int]:
    return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")
def test_workers_end_with_the_iterator_and_a_dead_one_is_told(both: tuple[ImageData, ImageData]) -> None:
    _, streamed = both
    before = children()
    with closing(streamed.train.batches([np.arange(4)] * 9)) as loaded:
        next(loaded)
        assert len(children() - before) == 2
    assert children() == before
    loaded = streamed.train.batches([np.arange(4)] * 9)
    next(loaded)
    for worker in children() - before:
        os.kill(worker, signal.SIGKILL)
    with pytest.raises(SearchError, match=r"4 at a time, ended with status -9: out of memory"):
        list(loaded)
    assert children() == before


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")
def test_workers_end_when_who_asks_is_killed(folder: Path) -> None:
    names = tuple(str(path.relative_to(folder)) for path in sorted(folder.rglob("*.jpg")))
    script = (
        "import os, sys, numpy as np\nfrom pathlib import Path\nfrom mnas.data.stream import StreamedSplit\n"
        f"split = StreamedSplit(Path({str(folder)!r}), {names!r}, np.zeros(40, np.int64), 32, 2)\n"
        "loaded = split.batches([np.arange(4)] * 9)\nnext(loaded)\n"
        "print(Path(f'/proc/self/task/{os.getpid()}/children').read_text(), flush=True)\nsys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    workers = [Path("/proc") / number for number in process.stdout.readline().decode().split()]
    assert len(workers) == 2
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    deadline = time.monotonic() + 20
    while any(_runs(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _runs(process: Path) -> bool:
    """Not gone, and not a zombie that nobody has waited for."""
    try:
        return "State:\tZ" not in (process / "status").read_text()
    except OSError:
        return False


def test_mean_and_std_of_streamed_images_are_of_a_sample(
    both: tuple[ImageData, ImageData], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, streamed = both
    everything = input_transform(TINY, inside)
    assert input_transform(TINY, streamed) == everything
    monkeypatch.setattr(inputs, "STATISTICS_IMAGES", 5)
    inputs._channel_statistics.cache_clear()
    sampled = input_transform(TINY, streamed)
    assert input_transform(TINY, streamed) == sampled
    assert sampled != everything
    # noise: 5 images of 1,024 pixels have a mean within five standard errors of that of all
    np.testing.assert_allclose(sampled.mean, everything.mean, atol=5 * max(everything.std) / 5120**0.5)
    assert input_transform(TINY, inside) == everything
    inputs._channel_statistics.cache_clear()


def test_memory_is_the_least_limit_around_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__)
    monkeypatch.setattr(env, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(env, "CONTROL_GROUPS", tmp_path)
    assert env.memory_bytes() == 4_096_000  # no control groups
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "membership").write_text("4:memory:/old\n0::/outer/inner\n")
    (inner / "memory.max").write_text("max\n")
    assert env.memory_bytes() == 4_096_000
    (inner.parent / "memory.max").write_text("3000000\n")
    assert env.memory_bytes() == 3_000_000
    (inner / "memory.max").write_text("2000000\n")
    assert env.memory_bytes() == 2_000_000
    (tmp_path / "membership").write_text("0::/\n")  # as seen from inside a container
    (tmp_path / "memory.max").write_text("1000000\n")
    assert env.memory_bytes() == 1_000_000


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: torch.cuda.is_available() is False")
def test_a_gpu_is_fed_the_same_whether_images_live_on_it_or_not(both: tuple[ImageData, ImageData]) -> None:
    inside, streamed = both
    resident = resident_feed(inside.train, "cuda")
    assert resident.resident is not None
    assert resident_feed(streamed.train, "cuda").resident is None
    chosen = torch.randperm(24, generator=torch.Generator().manual_seed(0)).split(5)
    expected = list(Feed(inside.train, torch.device("cpu")).batches(chosen))
    for feed in (
        resident,
        Feed(inside.train, torch.device("cuda")),
        resident_feed(streamed.train, "cuda"),
    ):
        for (images, labels), (expected_images, expected_labels) in zip(
            feed.batches(chosen), expected, strict=True
        ):
            assert images.is_cuda
            torch.testing.assert_close(images.cpu(), expected_images, rtol=0, atol=0)
            torch.testing.assert_close(labels.cpu(), expected_labels, rtol=0, atol=0)
