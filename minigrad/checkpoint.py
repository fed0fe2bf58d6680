"""Save and load the state of models, optimizers and whole trainings: one safetensors file, whole or not there at all.

    checkpoint.save("model.safetensors", model.state_dict())
    model.load_state_dict(checkpoint.load("model.safetensors"))

    checkpoint.save("run.safetensors", {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 1200})

- *No code runs when a file is read*: the format holds raw arrays and a JSON header, nothing else.
- *PyTorch reads it, and the other way round.* A flat state has the keys of `state_dict`: ``safetensors.torch.load_file``
  gives what PyTorch's ``load_state_dict`` takes, and `load` reads what ``safetensors.torch.save_file`` wrote. In a nested state
  the names of the arrays are joined with dots ("model.0.weight"), and the nesting itself is JSON in the header.
- *Atomic.* The file is written beside its destination, brought to the disk, and takes the name of the old one in one
  step. Whatever happens on the way (a full disk, a power cut), the old file stays as it was.
- *Verified.* The header holds a SHA-256 of everything else in the file, and `load` compares it. It finds accidents;
  somebody who changes a file on purpose can write a new checksum.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .core.backend import current_name, is_array, to_numpy
from .core.errors import describe, error
from .core.tensor import Tensor, tensor
from .files import StrPath, remove_leftovers, write_atomically

_HEADER = "minigrad"  # name of our entry in the header's __metadata__
_DTYPES = {"F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"}

# How files of other kinds begin, and how to turn them into one that is read here.
_FROM_TORCH = "read it in PyTorch, and save what it holds: safetensors.torch.save_file(model.state_dict(), path)"
_OTHERS = (
    (b"PK\x03\x04", "a zip archive: PyTorch's torch.save, or an .npz of NumPy", f"{_FROM_TORCH}; of an .npz: model.load_state_dict(numpy.load(path))"),
    (b"\x80", "a pickle, which is not read because it can run code", _FROM_TORCH),
    (b"\x93NUMPY", "an .npy of NumPy, a single array", "x.data[...] = numpy.load(path)"),
    (b"\x89HDF", "an HDF5 file", "read it with h5py, and save its arrays with checkpoint.save"),
    (b"\x1f\x8b", "a gzip-compressed file", "decompress it first: gunzip"),
)


# -- saving -----------------------------------------------------------------------------------------------------------


def save(path: StrPath, state: Mapping[Any, Any], metadata: Mapping[str, Any] | None = None) -> None:
    """Write `state` to a safetensors file. Waits for the arrays of a device.

    Args:
        path: the file. An old one is replaced once the new one is on the disk.
        state: Tensors, raw arrays, numbers, strings and None, in dictionaries (keys: strings or integers), lists and tuples.
        metadata: remarks for people and other programs, kept as text in the header; see `metadata`.

    Raises:
        TypeError: something else in `state`.
        ValueError: two arrays whose joined names are equal.
        OSError: the file cannot be written; an old one is untouched.
    """
    if not isinstance(path, str | os.PathLike):
        raise error(TypeError, "checkpoint.save", got=describe(path), needs="the name of a file first, then what to save",
                    fix="save('model.safetensors', model.state_dict())")
    arrays: dict[str, Any] = {}
    tree = _encode(state, "", arrays)
    text = {str(k): str(v) for k, v in (metadata or {}).items() if k != _HEADER}
    place = secrets.token_hex(32)  # occurs once in the header: the checksum will go there
    text[_HEADER] = json.dumps({"format": 1, "sha256": place, "tree": tree}, separators=(",", ":"))
    blob = importlib.import_module("safetensors.numpy").save(arrays, text)
    start = 8 + int.from_bytes(blob[:8], "little")
    header, payload = blob[:start], memoryview(blob)[start:]
    _write(Path(path), header.replace(place.encode(), _digest(header, place, payload).encode()), payload)


def _encode(value: Any, name: str, arrays: dict[str, Any]) -> Any:
    """`value` as JSON in which containers are ["dict" | "list" | "tuple", ...] and an array is ["array", its name]."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str | int) or isinstance(key, bool):
                raise error(TypeError, "checkpoint.save", got=f"the key {key!r} in {name or 'state'}",
                            needs="strings or integers as keys", fix="str(key)")
        return ["dict", *([key, _encode(v, f"{name}.{key}" if name else str(key), arrays)] for key, v in value.items())]
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, *(_encode(v, f"{name}.{i}" if name else str(i), arrays) for i, v in enumerate(value))]
    array = value._data if isinstance(value, Tensor) else value
    if is_array(array):
        if name in arrays or name == "__metadata__":
            raise error(ValueError, "checkpoint.save", got=f"the name {name!r} a second time" if name in arrays else f"the name {name!r}",
                        needs="names that stay different when they are joined with dots; __metadata__ is the format's own",
                        fix="rename it")
        host = to_numpy(array)
        arrays[name] = host if host.flags.c_contiguous else host.copy()  # safetensors would garble another layout
        return ["array", name]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise error(TypeError, "checkpoint.save", got=f"{f'for {name} ' if name else ''}{describe(value)}",
                needs="Tensors, arrays, numbers, strings, None, and dictionaries, lists or tuples of them",
                fix="model.state_dict()" if hasattr(value, "state_dict") else "leave it out, or say it in numbers; x.item() for a NumPy number")


def _digest(header: bytes, place: str, payload: Any) -> str:
    """SHA-256 of the file, with zeros in the place of the checksum itself."""
    found = hashlib.sha256(header.replace(place.encode(), b"0" * len(place)))
    found.update(payload)
    return found.hexdigest()


def _write(path: Path, *parts: Any) -> None:
    """Replace the file by one with this content, whole or not at all."""
    try:
        write_atomically(path, *parts)
    except OSError as e:
        size = sum(map(len, parts))
        failure = error(type(e), "checkpoint.save", got=f"{e.strerror or e}, for {os.path.realpath(path)} of {size:,} bytes; {e.__notes__[-1]}",
                        needs="a folder in which files can be made, with space for the old file and the new one",
                        fix="free some space, check the folder and its permissions, or save to another one")
        failure.errno = e.errno
        raise failure from e


# -- loading ----------------------------------------------------------------------------------------------------------


def load(path: StrPath, *, backend: str | None = None) -> dict[Any, Any]:
    """The state that was saved, verified: a file that is not whole gives nothing.

    Args:
        path: a file by `save`, or any other safetensors file (which has no checksum: only its format is verified).
        backend: where the Tensors are made; default: the current backend.

    Returns:
        What `save` was given, with Tensors in the place of arrays; of another program's file, name -> Tensor.

    Raises:
        FileNotFoundError, IsADirectoryError, OSError: no such file, a folder, or a file that cannot be read.
        ValueError: truncated or changed, not a safetensors file (the text says what it looks like), or arrays that NumPy does
            not have (bfloat16).
        TypeError: `path` is not a path.
    """
    blob, header, entry = _read(path)
    for name, description in header.items():
        if name != "__metadata__" and description["dtype"] not in _DTYPES:
            raise error(ValueError, "checkpoint.load", got=f"{path}, in which {name!r} has dtype {description['dtype']}",
                        needs="floats of 16, 32 or 64 bits, integers or booleans",
                        fix="convert it where it was saved: x.float() in PyTorch")
    arrays = {k: tensor(v, backend=backend or current_name())
              for k, v in importlib.import_module("safetensors.numpy").load(blob).items()}
    state: dict[Any, Any] = arrays if entry is None else _decode(entry["tree"], arrays)
    return state


def metadata(path: StrPath) -> dict[str, str]:
    """The remarks that `save` was given (as text), or those of another program's file; verified as by `load`."""
    return {k: v for k, v in _read(path)[1].get("__metadata__", {}).items() if k != _HEADER}


def _read(path: StrPath) -> tuple[bytes, dict[str, Any], dict[str, Any] | None]:
    """The content of the file, its header, and our entry in the header (None in another program's file)."""
    if not isinstance(path, str | os.PathLike):
        raise error(TypeError, "checkpoint.load", got=describe(path), needs="the path of a safetensors file", fix='checkpoint.load("model.safetensors")')
    try:
        blob = Path(path).read_bytes()
    except OSError as e:
        if os.path.isdir(path):
            got, fix = f"the folder {path}", "name one of its files"
        elif isinstance(e, FileNotFoundError):
            got, fix = f"no file at {path}", "check the folder and the name"
        else:
            got, fix = f"{path}, which cannot be read: {e.strerror or e}", "check its permissions, and the disk"
        failure = error(type(e), "checkpoint.load", got=got, needs="a safetensors file", fix=fix)
        failure.errno = e.errno
        raise failure from e
    start = 8 + int.from_bytes(blob[:8], "little")
    safetensors = importlib.import_module("safetensors")
    try:
        safetensors.deserialize(blob)  # lengths and places of all arrays
        header = json.loads(blob[8:start])
        text = header.get("__metadata__", {}).get(_HEADER)
        entry = None if text is None else json.loads(text)
        if entry is not None:
            given = entry["sha256"]
            found = _digest(blob[:start], given, memoryview(blob)[start:])
            if found != given:
                raise ValueError(f"its SHA-256 is {found}, its header says {given}")
            if entry["format"] != 1:
                raise ValueError(f"it has format {entry['format']}, of a later version of minigrad")
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as e:
        what, fix = "truncated or changed", "copy it again, or take an earlier one"
        if blob and blob[8:9] != b"{":  # every header begins so
            what, fix = next(((f"no safetensors file but looks like {kind}", fix) for begin, kind, fix in _OTHERS if blob.startswith(begin)),
                             ("no safetensors file", "check the name; a file by another program has to be saved in this format"))
        raise error(ValueError, "checkpoint.load", got=f"{path}, {len(blob):,} bytes, which is {what} ({e})",
                    needs="a safetensors file as it was saved", fix=fix) from e
    return blob, header, entry


def _decode(tree: Any, arrays: dict[str, Any]) -> Any:
    if not isinstance(tree, list):
        return tree
    kind, *items = tree
    if kind == "array":
        return arrays[items[0]]
    if kind == "dict":
        return {key: _decode(value, arrays) for key, value in items}
    values = [_decode(value, arrays) for value in items]
    return tuple(values) if kind == "tuple" else values


__all__ = ["load", "metadata", "remove_leftovers", "save"]
