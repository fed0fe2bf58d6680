"""Dump the names and parameters of the installed CuPy to cupy14_api.json (CuPy imports without a GPU or a driver).

    pip install cupy-cuda13x && python gen_api.py

Each name maps to its parameter list (``*name`` and ``**name`` mark variadic ones), or to null where CuPy gives no
signature: types, constants, and functions that only document themselves in prose.
"""

import importlib
import inspect
import json
import pathlib
import re

import cupy
import cupy.random

NAMESPACES = ("", "linalg", "fft", "random", "lib.stride_tricks", "exceptions", "cuda")
UFUNC = ["*args", "out", "casting", "dtype"]

# Variadic in the signature, read from the body instead (the functions refuse every other keyword).
READ_FROM_SOURCE = {
    "einsum": ["*operands", "dtype", "optimize"],
    "meshgrid": ["*xi", "indexing", "sparse", "copy"],
    "pad": ["array", "pad_width", "mode", "constant_values", "end_values", "stat_length", "reflect_type"],
}


def parameters(function):
    """The parameter names of `function`, or None where CuPy does not tell."""
    if isinstance(function, cupy.ufunc):
        return UFUNC
    if function is cupy.matmul:  # a generalised ufunc; it takes more keywords, but only these are NumPy's as well
        return UFUNC
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return from_docstring(function.__doc__ or "")
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [stars.get(p.kind, "") + p.name for p in signature.parameters.values() if p.name != "self"]


def from_docstring(doc):
    """Parameters from the first line that Cython writes: `ndarray.sum(self, axis=None, Py_ssize_t k=0) -> ndarray`."""
    signature = re.match(r"[\w.]+\((.*?)\)(?: ->.*)?$", doc.strip().split("\n")[0].replace("\\", ""))
    if not signature:
        return None
    names = []
    for parameter in re.split(r",\s*(?![^()]*\))", signature.group(1)):
        name = re.split(r"[=:]", parameter)[0].split(" ")[-1]
        if name not in ("", "/", "*", "self"):
            names.append(name)
    return names


def members(owner):
    """Public names of `owner` with their parameters; modules are left out."""
    found = {}
    for name in sorted(dir(owner)):
        value = getattr(owner, name, None)
        if name.startswith("_") or inspect.ismodule(value):
            continue
        is_function = callable(value) and not isinstance(value, type)
        found[name] = READ_FROM_SOURCE.get(name) or parameters(value) if is_function else None
    return found


def main():
    """Write cupy14_api.json beside this file: one line per name, so that a new CuPy release gives a readable diff."""
    modules = {name: importlib.import_module(f"cupy.{name}" if name else "cupy") for name in NAMESPACES}
    api = {name: members(module) for name, module in modules.items()}
    api["ndarray"] = members(cupy.ndarray)
    api["Generator"] = members(cupy.random.Generator)
    blocks = []
    for namespace, names in api.items():
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in names.items())
        blocks.append(f" {json.dumps(namespace)}: {{\n{lines}\n }}")
    text = f'{{\n "version": {json.dumps(cupy.__version__)},\n' + ",\n".join(blocks) + "\n}\n"
    json.loads(text)
    pathlib.Path(__file__).with_name("cupy14_api.json").write_text(text)


if __name__ == "__main__":
    main()
