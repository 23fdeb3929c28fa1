"""Batches of images and labels on the device that computes with them."""

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mnas.data.images import LabelledImages, Split

GPU_SHARE = 4  # chosen here: images take at most a quarter of a GPU's free memory


@dataclass(frozen=True, slots=True, eq=False)
class Feed:
    """A split as a device sees it.

    Args:
        split: the images.
        device: where batches are needed.
        resident: (n, c, h, w) uint8, all of them, on the device; None sends them batch by batch.
    """

    split: LabelledImages
    device: torch.device
    resident: Tensor | None = None

    def batches(self, chosen: Sequence[Tensor]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """For each (k,) int64 of indices, on the CPU, images (k, c, h, w) uint8 and labels (k,) int64 on the device.

        On a GPU the next batch is read and sent while one is used. Close the iterator where it is not read to its end;
        raises as `LabelledImages.batches` does.
        """
        labels = torch.tensor(self.split.labels, device=self.device)
        if self.resident is not None:
            for indices in chosen:
                there = indices.to(self.device)
                yield self.resident[there], labels[there]
            return
        with closing(self._loaded([indices.numpy() for indices in chosen])) as loaded:
            for indices, images in zip(chosen, loaded, strict=True):
                yield images, labels[indices.to(self.device)]

    def _loaded(self, chosen: Sequence[NDArray[np.int64]]) -> Generator[Tensor, None, None]:
        with closing(self.split.batches(chosen)) as batches:
            if self.device.type != "cuda":
                yield from (torch.from_numpy(images).to(self.device) for images in batches)
                return

            def load() -> Tensor | None:
                images = next(batches, None)
                with torch.cuda.device(self.device):
                    return images if images is None else _send(images, self.device)

            with ThreadPoolExecutor(1) as pool:
                following = pool.submit(load)
                while (images := following.result()) is not None:
                    following = pool.submit(load)
                    yield images


def resident_feed(split: LabelledImages, device: str) -> Feed:
    """A feed for many passes: a split in memory moves to a GPU as a whole, where there is room for it."""
    place = torch.device(device)
    if place.type == "cuda" and isinstance(split, Split):
        free, _ = torch.cuda.mem_get_info(place)
        if GPU_SHARE * split.images.nbytes <= free:
            return Feed(split, place, torch.tensor(split.images, device=place))
    return Feed(split, place)


def _send(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """A copy that is under way, from memory that the GPU reads by itself."""
    return torch.from_numpy(images).pin_memory().to(device, non_blocking=True)
