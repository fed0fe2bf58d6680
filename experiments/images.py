"""What networks are trained on: a data set by its name, in the sizes of a run.

    images = load("synthetic", train=1000, test=500, pixels=16, noise=0.4)
    x, t = images.train                                  # float32 (N, C, H, W), channels normalized; int64 (N,)

digits and synthetic come with minigrad. cifar10 reads a folder in the layout of the official binary version.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minigrad import data

Array = Any
DATASETS = ("digits", "synthetic", "cifar10")
SHAPES_IMAGES = ("train", "test", "pixels", "noise", "classes")  # the sizes that are arguments of `load`


class Images(NamedTuple):
    """A data set: images float32 (N, C, H, W) and labels int64 (N,), twice, and its name."""

    train: tuple[Array, Array]
    test: tuple[Array, Array]
    name: str

    @property
    def channels(self) -> int:
        """C."""
        return int(self.train[0].shape[1])

    @property
    def pixels(self) -> int:
        """H, which is W."""
        return int(self.train[0].shape[-1])

    @property
    def classes(self) -> int:
        """How many there are."""
        return int(self.train[1].max()) + 1

    def batches(self, batch_size: int, *, seed: int, epoch: int, augment: data.Augment | None = None) -> Iterator[tuple[Any, Any]]:
        """Batches of the training images, all of one size, in an order of seed and epoch."""
        return iter(data.batches(*self.train, batch_size, shuffle=True, seed=seed, epoch=epoch, drop_last=True, augment=augment))


@lru_cache(maxsize=2)
def load(name: str, *, train: int, test: int, pixels: int | None = None, noise: float = 0.0, classes: int = 10, folder: str | None = None) -> Images:
    """A data set, reduced.

    Args:
        name: digits, synthetic or cifar10.
        train, test: how many images; as many of each class, the first ones of the set. More than there are: all.
        pixels: height and width: a divisor of the set's own, whose squares are averaged. synthetic is drawn in this size.
        noise: standard deviation of Gaussian noise on every pixel (0 to 1 before), the same in every run: makes a set harder.
        classes: of synthetic, up to 20; of the others, the first ones.
        folder: where ``cifar-10-batches-bin`` is; default ``$MINIGRAD_DATA``.

    Raises:
        FileNotFoundError, ValueError: cifar10 is missing or damaged; a size that is not possible.
    """
    if name not in DATASETS:
        raise ValueError(f"dataset {name!r}: it takes one of {', '.join(DATASETS)}")
    parts = {}
    for seed, (split, n) in enumerate((("train", train), ("test", test))):
        if name == "synthetic":
            x, t = data.synthetic(n, size=pixels or 32, classes=classes, seed=seed)
        else:
            x, t = data.digits(split) if name == "digits" else data.cifar10(split, folder=folder)
            x, t = _first(x, t, n, classes)
            x = _smaller(x, pixels or x.shape[-1])
        if noise:
            x = x + np.random.default_rng([20, seed]).normal(0, noise, x.shape).astype(np.float32)
        parts[split] = x, t
    statistics = data.channel_statistics(parts["train"][0])
    return Images(*((data.normalize(x, *statistics), t) for x, t in parts.values()), name)


def _first(x: Array, t: Array, n: int, classes: int) -> tuple[Array, Array]:
    """The first n // classes images of each of the first classes, in their order."""
    rows = np.sort(np.concatenate([np.flatnonzero(t == k)[:max(1, n // classes)] for k in range(classes)]))
    return x[rows], t[rows]


def _smaller(x: Array, pixels: int) -> Array:
    """Means of squares, (N, C, H, W) -> (N, C, pixels, pixels)."""
    n, c, h, _ = x.shape
    if h % pixels:
        raise ValueError(f"pixels={pixels}: it takes a divisor of {h}")
    return x if pixels == h else x.reshape(n, c, pixels, h // pixels, pixels, h // pixels).mean((3, 5))
