"""Data sets that you download: files that are compared with their published checksums before they are parsed.

`minigrad.data` has their functions, beside the sets that need no files.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path

from .core.backend import Array, np
from .core.errors import error

# -- files ------------------------------------------------------------------------------------------------------------


def read_verified(op: str, file: Traversable, *, digest: str | None, source: str, size: int | None = None) -> bytes:
    """The bytes of `file`, once their checksum (SHA-256, or MD5 if shorter; None: unknown) is right. `source` tells where
    to get it."""
    name = "MD5" if digest and len(digest) == 32 else "SHA-256"
    needs = ", ".join([file.name, *([f"{size:,} bytes"] if size else []), *([f"{name} {digest}"] if digest else [])])
    if not file.is_file():
        raise error(FileNotFoundError, op, got=f"{'a folder' if file.is_dir() else 'no file'} at {file}{_beside(file)}", needs=needs, fix=source)
    try:
        content = file.read_bytes()
    except OSError as e:
        failure = error(type(e), op, got=f"{file}, which cannot be read: {e.strerror or e}", needs=needs, fix="check its permissions (chmod u+r) and the disk")
        failure.errno = e.errno
        raise failure from e
    found = hashlib.new(name.replace("-", "").lower(), content, usedforsecurity=False).hexdigest()
    if digest and found != digest.lower():
        raise error(ValueError, op, got=f"{file}, {len(content):,} bytes, {name} {found}: truncated or changed",
                    needs=needs, fix=source)
    return content


def _beside(file: Traversable) -> str:
    """What there is where the file should be: in its folder or, where that is missing, in the folder above."""
    for folder in Path(str(file)).parents[:2]:
        try:
            names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())
        except OSError:  # missing, no folder, or closed to us
            continue
        return f"; in {folder} there is {', '.join(names[:12]) or 'nothing'}" + (f", and {len(names) - 12} more" if len(names) > 12 else "")
    return ""


def check_split(op: str, split: str) -> None:
    """Raise ValueError unless `split` is "train" or "test"."""
    if split not in ("train", "test"):
        raise error(ValueError, op, got=f"split={split!r}", needs='"train" or "test"', fix=f'{op}("train")')


# -- what there is, and what its publishers say of it -----------------------------------------------------------------

_IDX = {("train", "images"): "train-images-idx3-ubyte.gz", ("train", "labels"): "train-labels-idx1-ubyte.gz",
        ("test", "images"): "t10k-images-idx3-ubyte.gz", ("test", "labels"): "t10k-labels-idx1-ubyte.gz"}
_PLAIN = {key: name.removesuffix(".gz") for key, name in _IDX.items()}  # the same files, decompressed
_CIFAR = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
_CIFAR_ARCHIVE, _CIFAR_FOLDER = "cifar-10-binary.tar.gz", "cifar-10-batches-bin"

# What the publishers say: SHA-256, or MD5 where there is nothing better. Those of decompressed files follow from the published ones.
CHECKSUMS: dict[str, dict[str, str]] = {
    "mnist": dict(zip((*_IDX.values(), *_PLAIN.values()), (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"))),
    "fashion-mnist": dict(zip((*_IDX.values(), *_PLAIN.values()), (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"))),
    "cifar10": {_CIFAR_ARCHIVE: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
}
_SOURCES = {"mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "fashion-mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "cifar10": "https://www.cs.toronto.edu/~kriz/"}


def _folder(folder: str | os.PathLike[str] | None) -> Path:
    return Path(os.path.expanduser(folder or os.environ.get("MINIGRAD_DATA") or "~/.cache/minigrad"))


def _source(collection: str, name: str, folder: Path) -> str:
    return (f"download {_SOURCES[collection]}{name} into {folder} "
            "(another folder: the environment variable MINIGRAD_DATA, or folder=...)")


def mnist(split: str = "train", *, folder: str | os.PathLike[str] | None = None,
          checksums: Mapping[str, str] | None = None) -> tuple[Array, Array]:
    """Handwritten digits, 28×28 pixels, 10 classes, from the four original files in ``mnist/``.

    A file may be as published (``train-images-idx3-ubyte.gz``), or decompressed, with either of the names in use
    (``train-images-idx3-ubyte``, ``train-images.idx3-ubyte``); the first of these that is there is read.

    Args:
        split: ``"train"`` (60,000 images) or ``"test"`` (10,000).
        folder: where ``mnist/`` lies; default ``$MINIGRAD_DATA``, else ``~/.cache/minigrad``.
        checksums: file name (with ``-idx``) -> SHA-256 or MD5 (hex), for files of your own in the same format; files that it does not
            name are compared with `CHECKSUMS`. There is no way to read a file unchecked.

    Returns:
        images: float32 (N, 1, 28, 28) in 0..1.
        labels: int64 (N,).

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: an unknown split, a wrong checksum, or a file that is not in the format.

    Source: Y. LeCun, C. Cortes, C. Burges [lecun1998]; the IDX format is described with it.
    """
    return _read_idx("data.mnist", "mnist", split, folder, checksums)


def fashion_mnist(split: str = "train", *, folder: str | os.PathLike[str] | None = None,
                  checksums: Mapping[str, str] | None = None) -> tuple[Array, Array]:
    """Pictures of clothes in the shape of MNIST, from the four original files in ``fashion-mnist/``.

    Arguments, result and errors are those of `mnist`. Source: H. Xiao, K. Rasul, R. Vollgraf [xiao2017], MIT licence.
    """
    return _read_idx("data.fashion_mnist", "fashion-mnist", split, folder, checksums)


def _read_idx(op: str, collection: str, split: str, folder: str | os.PathLike[str] | None,
              checksums: Mapping[str, str] | None) -> tuple[Array, Array]:
    """Images and labels from two IDX files: big-endian 32-bit sizes after a magic number, then bytes."""
    check_split(op, split)
    expected, arrays = {**CHECKSUMS[collection], **(checksums or {})}, {}
    for kind, header in (("images", 4), ("labels", 2)):  # 32-bit numbers before the bytes
        name, plain, where = _IDX[split, kind], _PLAIN[split, kind], _folder(folder) / collection
        names = {name: name, plain: plain, plain.replace("-idx", ".idx"): plain}  # name of a file -> the name under which its checksum is known
        name = next((n for n in names if (where / n).is_file()), name)
        content = read_verified(op, where / name, digest=expected[names[name]],
                                 source=_source(collection, _IDX[split, kind], where) + "; it may be decompressed")
        if name.endswith(".gz"):
            try:
                content = gzip.decompress(content)
            except (OSError, EOFError, zlib.error) as e:
                raise _malformed(op, where / name, f"gzip says: {e}", "a gzip-compressed IDX file") from e
        magic, n, *size = (int(v) for v in np.frombuffer(content[:4 * header].ljust(4 * header, b"\0"), ">u4"))
        wanted = (0x800 + header - 1, [28, 28] if kind == "images" else [], n * (784 if kind == "images" else 1))
        if (magic, size, len(content) - 4 * header) != wanted:
            raise _malformed(op, where / name, f"the magic number {magic:#010x}, sizes {[n, *size]} and {len(content):,} bytes",
                             f"{wanted[0]:#010x}, {['N', *wanted[1]]} and as many bytes")
        arrays[kind] = np.frombuffer(content, np.uint8, offset=4 * header).reshape(n, *size)
    return _as_floats(op, arrays["images"][:, None], arrays["labels"], _folder(folder) / collection)


def cifar10(split: str = "train", *, folder: str | os.PathLike[str] | None = None,
            checksums: Mapping[str, str] | None = None) -> tuple[Array, Array]:
    """Photographs of 10 classes, 3×32×32, from the *binary* version (the Python version is a pickle, which runs code).

    Reads and verifies ``cifar-10-binary.tar.gz`` if it is there; else it reads the extracted folder
    ``cifar-10-batches-bin/``. Nobody publishes checksums for the extracted files: unless `checksums` names them, only
    their sizes and the balance of the classes are verified.

    Args:
        split: ``"train"`` (50,000 images, 614 MB as float32) or ``"test"`` (10,000).
        folder, checksums: as in `mnist`.

    Returns:
        images: float32 (N, 3, 32, 32) in 0..1, red, green, blue.
        labels: int64 (N,).

    Raises:
        FileNotFoundError, ValueError: as in `mnist`.

    Source: A. Krizhevsky [krizhevsky2009].
    """
    op, where = "data.cifar10", _folder(folder)
    check_split(op, split)
    expected, source = {**CHECKSUMS["cifar10"], **(checksums or {})}, _source("cifar10", _CIFAR_ARCHIVE, where)
    origin, extracted, files = where / _CIFAR_ARCHIVE, where / _CIFAR_FOLDER, []
    checked = origin.is_file() or not extracted.is_dir() or expected.keys() >= set(_CIFAR[split])
    if origin.is_file() or not extracted.is_dir():
        content = read_verified(op, origin, digest=expected[_CIFAR_ARCHIVE], source=source)
        try:
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:  # read in memory: nothing is written to the disk
                files = [tar.extractfile(f"{_CIFAR_FOLDER}/{name}").read() for name in _CIFAR[split]]  # type: ignore[union-attr]
        except (tarfile.TarError, KeyError, AttributeError, OSError, EOFError, zlib.error) as e:
            raise _malformed(op, origin, f"tarfile says: {e}", f"a .tar.gz with {', '.join(_CIFAR[split])}") from e
    else:
        origin = extracted
        files = [read_verified(op, extracted / name, digest=expected.get(name), source=source, size=30_730_000)
                 for name in _CIFAR[split]]
    for name, content in zip(_CIFAR[split], files):
        if not content or len(content) % 3073 or not (checked or len(content) == 30_730_000):
            raise _malformed(op, origin / name, f"{len(content):,} bytes", "10,000 records of 3,073 bytes")
    records = np.frombuffer(b"".join(files), np.uint8).reshape(-1, 3073)
    if not checked and len(set(np.bincount(records[:, 0], minlength=10).tolist())) > 1:
        raise _malformed(op, origin, "classes of different sizes", "as many images of each of 10 classes")
    return _as_floats(op, records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0], origin)


def _as_floats(op: str, images: Array, labels: Array, where: Path) -> tuple[Array, Array]:
    """Bytes as the arrays that all data sets have in common."""
    if len(images) != len(labels) or (labels > 9).any():
        raise _malformed(op, where, f"{len(images)} images, {len(labels)} labels, the largest {labels.max(initial=0)}",
                         "one label from 0 to 9 for each image")
    return np.divide(images, np.float32(255), dtype=np.float32), labels.astype(np.int64)


def _malformed(op: str, path: Path, got: str, needs: str) -> ValueError:
    return error(ValueError, op, got=f"{path}: {got}", needs=needs, fix="download it again, or write it in the format of the original")
