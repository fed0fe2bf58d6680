"""Images to train on, and batches of them.

Everything here happens on the host: data sets are NumPy arrays, random draws are seeded and made by NumPy, and
`batches` is the one place where data moves to a device. So the same seed gives the same batches on every backend.

`digits` and `synthetic` need nothing. `mnist`, `fashion_mnist` and `cifar10` read files that you have downloaded into
``$MINIGRAD_DATA`` (default ``~/.cache/minigrad``; ``~`` is your home folder); each file is compared with its published
checksum before it is used.

>>> from minigrad import data
>>> images, labels = data.digits("train")
>>> images.shape, labels.shape
((1437, 1, 8, 8), (1437,))
>>> for x, y in data.batches(images, labels, 64, shuffle=True, seed=0, epoch=0, drop_last=True):
...     assert x.shape == (64, 1, 8, 8) and y.shape == (64,)
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from .core.backend import Array, current_name, from_numpy, np
from .core.errors import describe, error
from .core.tensor import Tensor
from .downloads import check_split, cifar10, fashion_mnist, mnist, read_verified

# -- files ------------------------------------------------------------------------------------------------------------


def _datasets() -> ModuleType:
    """The package `minigrad.datasets`; in a bare checkout the folder beside `minigrad/`, under that same name."""
    name = f"{__package__}.datasets"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as e:
        checkout = Path(__file__).resolve().parents[1]
        start = checkout / "datasets" / "__init__.py"
        # Without setup.cfg beside it, a folder `datasets` is not ours: site-packages may hold another of that name.
        if e.name != name:
            raise
        if not (checkout / "setup.cfg").is_file() or not start.is_file():
            raise error(ModuleNotFoundError, "data",
                        got=f"no package {name}, and no checkout's folder at {start.parent}",
                        needs="the data files that belong to minigrad",
                        fix="in minigrad's checkout: pip install --force-reinstall --no-deps .") from e
    spec = importlib.util.spec_from_file_location(name, start, submodule_search_locations=[str(start.parent)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# -- data sets that need no download ----------------------------------------------------------------------------------

DIGITS_TEST_PER_CLASS = 36


def digits(split: str = "train") -> tuple[Array, Array]:
    """Handwritten digits, 8×8 pixels, 10 classes, shipped with minigrad.

    The split is fixed: within each class the images are ordered by the SHA-256 of their row number, and the first 36
    are the test set. (A hash stays the same forever; the stream of a random generator may change between NumPy
    versions.) It is this project's own, since the file is the test partition of the original collection: see
    ``datasets/digits.md``.

    Args:
        split: ``"train"`` (1,437 images) or ``"test"`` (360 images, 36 of each class).

    Returns:
        images: float32 (N, 1, 8, 8), multiples of 1/16 in 0..1.
        labels: int64 (N,), the digit.

    Raises:
        ValueError: an unknown split, or a file whose checksum is wrong.
        FileNotFoundError: the file is missing.

    Source: E. Alpaydin and C. Kaynak [alpaydin1998], doi 10.24432/C50P49, CC BY 4.0.

    >>> images, labels = digits("test")
    >>> images.shape, np.bincount(labels).tolist()
    ((360, 1, 8, 8), [36, 36, 36, 36, 36, 36, 36, 36, 36, 36])
    """
    check_split("data.digits", split)
    name, package = "digits.csv.gz", _datasets()
    content = read_verified(
        "data.digits", package.path(name), size=package.BYTES[name], digest=package.SHA256[name],
        source=f"in a checkout: git checkout -- datasets/{name}; installed: pip install --force-reinstall --no-deps "
               f"minigrad; or copy it from scikit-learn, which ships the same file as sklearn/datasets/data/{name}")
    lines = gzip.decompress(content).decode("ascii").splitlines()
    table = np.loadtxt(lines, delimiter=",", dtype=np.int64)  # (1797, 65): 64 pixels and the label
    labels = table[:, 64]
    rank = np.array([hashlib.sha256(b"minigrad digits %d" % row).hexdigest() for row in range(len(table))])
    is_test = np.zeros(len(table), bool)
    for digit in range(10):
        rows = np.flatnonzero(labels == digit)
        is_test[rows[np.argsort(rank[rows])][:DIGITS_TEST_PER_CLASS]] = True
    rows = np.flatnonzero(is_test if split == "test" else ~is_test)
    images = table[rows, :64].reshape(-1, 1, 8, 8).astype(np.float32) / 16
    return images, labels[rows]


# Signed distances (negative inside) of shapes of radius about 1, in the shape's own coordinates u, v: (m, size, size).
_SHAPES: dict[str, Callable[[Array, Array], Array]] = {
    "disc": lambda u, v: np.hypot(u, v) - 0.9,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) - 0.75,
    "triangle": lambda u, v: np.maximum(-v, 0.866 * abs(u) + 0.5 * v) - 0.48,
    "cross": lambda u, v: np.minimum(np.maximum(abs(u), 3 * abs(v)), np.maximum(3 * abs(u), abs(v))) - 0.95,
    "ring": lambda u, v: abs(np.hypot(u, v) - 0.7) - 0.25,
}

# Where a fill is dark, as a function of u, v and a random phase (m, 1, 1).
_FILLS: dict[str, Callable[[Array, Array, Array], Array]] = {
    "plain": lambda u, v, phase: np.zeros(u.shape, bool),
    "stripes": lambda u, v, phase: np.sin(9 * u + phase) > 0,
    "checks": lambda u, v, phase: np.sin(9 * u + phase) * np.sin(9 * v + phase) > 0,
    "circles": lambda u, v, phase: np.sin(12 * np.hypot(u, v) + phase) > 0,
}

_CHUNK = 256  # images drawn at a time, to bound the memory for temporaries


def synthetic(n: int, size: int = 32, classes: int = 10, seed: int = 0, difficulty: float = 0.0) -> tuple[Array, Array]:
    """Procedural colour images: a shape with a fill, at a random place, scale, angle and colour, under noise.

    Image ``i`` has the label ``i % classes``. Label ``k`` is shape ``k % 5`` (disc, square, triangle, cross, ring) with
    fill ``k // 5`` (plain, stripes, checks, circles). The first images do not depend on `n`, and different seeds give
    independent sets: train on one seed, test on another. A small convolutional network reaches 98 %, a linear model
    58 % (measured: ``datasets/synthetic.md``). With `difficulty` shapes become smaller, fainter and turned by more, the noise
    grows, and each image gets parts of two other shapes: a data set on which networks differ.

    Args:
        n: number of images.
        size: height and width in pixels, at least 8; below 16 the fills are too fine to be seen.
        classes: 1 to 20.
        seed: a non-negative integer.
        difficulty: 0 to 1.

    Returns:
        images: float32 (n, 3, size, size) in 0..1.
        labels: int64 (n,).

    Raises:
        ValueError: an argument outside these limits.

    >>> images, labels = synthetic(1000)
    >>> images.shape, labels[:12].tolist()
    ((1000, 3, 32, 32), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1])
    """
    most = len(_SHAPES) * len(_FILLS)
    if n < 0 or size < 8 or not 1 <= classes <= most or seed < 0 or not 0 <= difficulty <= 1:
        raise error(ValueError, "data.synthetic", got=f"n={n}, size={size}, classes={classes}, seed={seed}, difficulty={difficulty}",
                    needs=f"n >= 0, size >= 8, 1 <= classes <= {most}, seed >= 0, 0 <= difficulty <= 1",
                    fix="data.synthetic(1000, size=32, classes=10, seed=0)")
    labels = np.arange(n, dtype=np.int64) % classes
    images = np.empty((n, 3, size, size), np.float32)
    parameters, noise, clutter = (np.random.Generator(np.random.PCG64(s)) for s in np.random.SeedSequence(seed).spawn(3))
    for start in range(0, n, _CHUNK):
        rows = slice(start, start + _CHUNK)
        _render(images[rows], labels[rows], parameters, noise, clutter, np.float32(difficulty))
    return images, labels


def _render(images: Array, labels: Array, parameters: np.random.Generator, noise: np.random.Generator, clutter: np.random.Generator, hard: Array) -> None:
    """Fill `images` (m, 3, size, size) with the shapes and fills that `labels` (m,) name."""
    m, _, _, size = images.shape
    draws = parameters.random((m, 11), dtype=np.float32)[:, :, None, None]
    scale = (0.6 + 0.25 * draws[:, 0]) * (1 - hard * 0.12)  # radius; an image spans -1..1, so shapes stay inside. Each (m, 1, 1).
    angle = (draws[:, 1] - 0.5) * np.float32(np.pi / 3) * (1 + hard)
    centre_x, centre_y = ((2 * draws[:, k] - 1) * (1 - scale) for k in (2, 3))
    phase = draws[:, 4] * np.float32(2 * np.pi)
    background = 0.4 * draws[:, 5:8]  # (m, 3, 1, 1)
    contrast = (background + 0.3 + 0.2 * draws[:, 8:11] - background) * (1 - hard * 0.2)  # rounded as a colour is

    images[:] = background
    for more in clutter.random((m, 2, 8), dtype=np.float32)[..., None, None].swapaxes(0, 1) if hard else ():
        radius, x, y = 0.25 + 0.25 * more[:, 0], *(2.4 * more[:, k] - 1.2 for k in (1, 2))
        kind = (more[:, 3, 0, 0] * len(_SHAPES) * len(_FILLS)).astype(np.int64)
        images += _strength(kind, size, radius, more[:, 4] * np.float32(2 * np.pi), x, y, phase)[:, None] * hard * (0.1 + 0.2 * more[:, 5:8])
    images += contrast * _strength(labels, size, scale, angle, centre_x, centre_y, phase)[:, None]
    images += 0.2 * (1 + hard) * (noise.random(images.shape, dtype=np.float32) - np.float32(0.5))
    np.clip(images, 0, 1, out=images)


def _strength(labels: Array, size: int, scale: Array, angle: Array, centre_x: Array, centre_y: Array, phase: Array) -> Array:
    """How much of the foreground each pixel has, 0 to 1: (m, size, size). Parameters (m, 1, 1), lengths in half images."""
    # Pixel centres in the shape's coordinates: shift, turn, scale.
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1).astype(np.float32)
    x, y = axis[None, None, :] - centre_x, axis[None, :, None] - centre_y
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    u, v = cos * x + sin * y, cos * y - sin * x  # (m, size, size)

    distance, dark = np.empty_like(u), np.empty(u.shape, bool)
    for k, signed_distance in enumerate(_SHAPES.values()):
        rows = labels % len(_SHAPES) == k
        distance[rows] = signed_distance(u[rows], v[rows])
    for k, fill in enumerate(_FILLS.values()):
        rows = labels // len(_SHAPES) == k
        dark[rows] = fill(u[rows], v[rows], phase[rows])
    inside = np.clip(0.5 - distance * scale * (size / 2), 0, 1)  # edges one pixel wide
    return inside * np.where(dark, np.float32(0.15), np.float32(1))


# -- what happens to images on the way -----------------------------------------------------------------------------------


def channel_statistics(images: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of each channel over the whole set: float64 (C,), for images (N, C, *spatial)."""
    axes = (0, *range(2, images.ndim))
    return images.mean(axes, dtype=np.float64), images.std(axes, dtype=np.float64)


def normalize(images: Array, mean: Array, std: Array) -> Array:
    """(images − mean) / std channel by channel, in the dtype of the images: a new array.

    Take mean and std from the training set for the test set, too.

    >>> images, _ = digits("train")
    >>> mean, std = channel_statistics(images)
    >>> float(abs(normalize(images, mean, std).mean()).round(4))
    0.0
    """
    if not (np.asarray(std) > 0).all():
        raise error(ValueError, "data.normalize", got=f"std={std}", needs="positive numbers",
                    fix="a constant channel carries nothing: leave it out, or divide it by 1")
    shape = (-1,) + (1,) * (images.ndim - 2)
    result = np.subtract(images, np.asarray(mean, images.dtype).reshape(shape))
    return np.divide(result, np.asarray(std, images.dtype).reshape(shape), out=result)


@dataclass(frozen=True)
class Augment:
    """Random changes that keep the class: mirror left and right, and shift with zeros coming in.

    Attributes:
        flip: probability of the mirror image. (Digits and letters must not be mirrored: 0.)
        shift: largest shift in pixels, drawn uniformly for each axis; 4 is usual for CIFAR-10.

    Both are drawn on the host from seed and epoch alone, for each place in the epoch.
    """

    flip: float = 0.5
    shift: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 1 or self.shift < 0:
            raise error(ValueError, "data.Augment", got=f"flip={self.flip}, shift={self.shift}",
                        needs="a probability from 0 to 1, and a shift of at least 0", fix="Augment(flip=0.5, shift=4)")

    def draw(self, n: int, seed: int, epoch: int) -> tuple[Array, Array]:
        """Which of n images are mirrored, bool (n,), and their shifts down and right, int64 (n, 2)."""
        generator = np.random.Generator(np.random.PCG64([seed, epoch, 1]))  # not the numbers that order the epoch
        return generator.random(n) < self.flip, generator.integers(-self.shift, self.shift + 1, (n, 2))

    def __call__(self, images: Array, mirrored: Array, shifts: Array) -> Array:
        """images (m, C, H, W), changed as `draw` says: a new array."""
        m, c, h, w = images.shape
        s = self.shift
        padded = np.zeros((m, c, h + 2 * s, w + 2 * s), images.dtype)
        padded[:, :, s:s + h, s:s + w] = images
        padded[mirrored] = padded[mirrored, ..., ::-1]
        windows = np.lib.stride_tricks.sliding_window_view(padded, (h, w), (2, 3))  # (m, C, 2s + 1, 2s + 1, H, W)
        return windows[np.arange(m), :, s - shifts[:, 0], s - shifts[:, 1]]


# -- batches ----------------------------------------------------------------------------------------------------------


class batches:
    """Iterate over pairs of Tensors, `batch_size` images and their labels at a time.

    ``len()`` is the number of batches. Iterating twice gives the same batches; pass another `epoch` for another order.
    Each batch is a copy: writing to it cannot change the data set. Batches are made when they are asked for, without a
    background thread: 64 images of 3×32×32 with both augmentations take 0.7 ms, which no training step would notice.

    Args:
        images: host array (N, ...).
        labels: host array (N, ...).
        batch_size: at least 1. The last batch is smaller when it does not divide N, unless `drop_last`.
        shuffle: take the images in a random order, drawn on the host from `seed` and `epoch` alone.
        seed, epoch: non-negative integers; the same pair gives the same order on every backend.
        drop_last: leave a smaller last batch out.
        augment: changes images (N, C, H, W) as it draws from `seed` and `epoch`.
        skip: leave out this many batches at the start, to go on within an epoch; the others stay the same.
        backend: where the batches live; None means the current backend when the iteration starts.

    Raises:
        TypeError: `images` or `labels` is not a NumPy array.
        ValueError: different lengths, or a number outside its limits.

    >>> images, labels = synthetic(10, size=8)
    >>> [y.tolist() for x, y in batches(images, labels, 4)]
    [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    """

    def __init__(self, images: Array, labels: Array, batch_size: int, *, shuffle: bool = False, seed: int = 0,
                 epoch: int = 0, drop_last: bool = False, augment: Augment | None = None, skip: int = 0,
                 backend: str | None = None) -> None:
        for name, value in (("images", images), ("labels", labels)):
            if not isinstance(value, np.ndarray):
                raise error(TypeError, "data.batches", got=f"for {name} {describe(value)}",
                            needs="NumPy arrays, which stay on the host",
                            fix="pass what data.digits() or data.synthetic() return; for a Tensor pass tensor.numpy()")
        if images.ndim == 0 or labels.ndim == 0 or len(images) != len(labels):
            raise error(ValueError, "data.batches", got=f"images {images.shape} and labels {labels.shape}",
                        needs="one label per image: equal first axes", fix="index both arrays with the same rows")
        if augment is not None and images.ndim != 4:
            raise error(ValueError, "data.batches", got=f"augment and images {images.shape}", needs="images (N, C, H, W)",
                        fix="augment=None, or reshape the images")
        if batch_size < 1 or min(seed, epoch, skip) < 0:
            raise error(ValueError, "data.batches", got=f"batch_size={batch_size}, seed={seed}, epoch={epoch}, skip={skip}",
                        needs="batch_size >= 1, seed >= 0, epoch >= 0, skip >= 0", fix="count epochs from 0")
        self.images, self.labels, self.batch_size, self.drop_last = images, labels, batch_size, drop_last
        self.shuffle, self.seed, self.epoch, self.backend = shuffle, seed, epoch, backend
        self.augment, self.skip = augment, skip

    def __len__(self) -> int:
        whole, rest = divmod(len(self.images), self.batch_size)
        return max(0, whole + (rest > 0 and not self.drop_last) - self.skip)

    def order(self) -> Array:
        """Row numbers in the order in which they are visited: int64 (N,)."""
        if not self.shuffle:
            return np.arange(len(self.images))
        return np.random.Generator(np.random.PCG64([self.seed, self.epoch])).permutation(len(self.images))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order, name = self.order(), self.backend or current_name()
        draws = self.augment.draw(len(order), self.seed, self.epoch) if self.augment else ()
        for number in range(self.skip, self.skip + len(self)):
            place = slice(number * self.batch_size, (number + 1) * self.batch_size)
            images, labels = self.images[order[place]], self.labels[order[place]]
            if self.augment:
                images = self.augment(images, *(d[place] for d in draws))
            yield Tensor(from_numpy(images, name)), Tensor(from_numpy(labels, name))


__all__ = ["Augment", "batches", "channel_statistics", "cifar10", "digits", "fashion_mnist", "mnist", "normalize", "synthetic"]
