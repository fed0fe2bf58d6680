"""Every name and keyword that minigrad takes from an array namespace exists in CuPy 14 and in NumPy.

Read from the source by AST: `xp.name(...)`, `xp.linalg.name(...)` and the like, in code that the tests may never reach
on a device. What exists is read from fakecupy/cupy14_api.json, dumped from CuPy's wheel.
"""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest

from fakecupy.rules import API

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("minigrad", "layers")

NAMESPACE_VARIABLES = {"xp", "cupy", "cp"}  # what code calls the module; `np` is NumPy's own
CUPY_ONLY = {"xp": False, "cupy": True, "cp": True}  # cupy.RawKernel need not be in NumPy
SUBMODULES = ("lib.stride_tricks", "linalg", "fft", "random", "exceptions", "cuda", "lib")

# (file, "xp.name" or "xp.name(keyword)"): why it is right although one of the two libraries does not know it.
EXCEPTIONS = {("minigrad/core/backend.py", "xp.asnumpy"): "only where the namespace is not NumPy",
              ("minigrad/kernels/cuda/launch.py", "xp.RawModule"): "only where the namespace has it",
              ("minigrad/kernels/cuda/launch.py", "xp.cuda.runtime"): "a compiled module, which the dump leaves out",
              ("minigrad/kernels/cuda/find.py", "cupy.cuda.runtime"): "a compiled module, which the dump leaves out"}


def uses(tree):
    """(node, "xp", "linalg.eigh", keywords) for each name taken from a namespace; keywords are None without a call."""
    calls = {id(node.func): [k.arg for k in node.keywords if k.arg] for node in ast.walk(tree)
             if isinstance(node, ast.Call)}
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        variable, _, name = ast.unparse(node).partition(".")
        if variable not in NAMESPACE_VARIABLES or not name.replace(".", "").replace("_", "").isalnum():
            continue
        if id(node) in inner and name in SUBMODULES:
            continue  # xp.linalg, as part of xp.linalg.eigh
        if split(name)[1].startswith("__") or "." in split(name)[1]:
            continue  # xp.add.at: the attribute of a thing, xp.add, which is looked at by itself
        yield node, variable, name, calls.get(id(node))


def split(name):
    """"linalg.eigh" -> ("linalg", "eigh"); "add" -> ("", "add")."""
    for submodule in SUBMODULES:
        if name.startswith(submodule + "."):
            return submodule, name.removeprefix(submodule + ".")
    return "", name


def problems_in(path, text):
    """What CuPy or NumPy does not know in this file, as "file:line: ..."."""
    problems = []
    for node, variable, name, keywords in uses(ast.parse(text)):
        unknown = list(unknown_to_cupy(name, keywords or []))
        if not CUPY_ONLY[variable]:
            unknown += unknown_to_numpy(name, keywords or [])
        problems += [f"{path}:{node.lineno}: {variable}.{what} is not in {library}" for what, library in unknown
                     if (path, f"{variable}.{what}") not in EXCEPTIONS]
    return problems


def unknown_to_cupy(name, keywords):
    """Pairs (name or name(keyword), "CuPy") for what is missing there."""
    submodule, function = split(name)
    names = API.get(submodule, {})
    if function not in names:
        yield name, "CuPy"
    elif names[function] is not None and not any(p.startswith("**") for p in names[function]):
        yield from ((f"{name}({keyword})", "CuPy") for keyword in keywords if keyword not in names[function])


def unknown_to_numpy(name, keywords):
    """The same for NumPy 2."""
    thing = np
    for part in name.split("."):
        if not hasattr(thing, part):
            return [(name, "NumPy")]
        thing = getattr(thing, part)
    if isinstance(thing, np.ufunc):
        known = {"out", "where", "axes", "axis", "keepdims", "casting", "order", "dtype", "subok", "signature"}
    else:
        try:
            parameters = inspect.signature(thing).parameters.values()
        except (TypeError, ValueError):
            return []
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            return []
        known = {p.name for p in parameters}
    return [(f"{name}({keyword})", "NumPy") for keyword in keywords if keyword not in known]


def source_files():
    return sorted(f for folder in FOLDERS for f in (ROOT / folder).rglob("*.py"))


@pytest.mark.more
def test_every_name_and_keyword_exists_in_cupy_and_numpy():
    problems = [problem for f in source_files()
                for problem in problems_in(f.relative_to(ROOT).as_posix(), f.read_text(encoding="utf-8"))]
    assert not problems, "\n  ".join(["", *problems])


def test_exceptions_are_still_needed():
    for path, what in EXCEPTIONS:
        name = what.partition(".")[2].partition("(")[0]
        assert name.split(".")[-1] in (ROOT / path).read_text(encoding="utf-8"), f"{path} no longer uses {what}"


@pytest.mark.parametrize("text, missing", [
    ("xp.insert(x, 0, 0)", ["xp.insert is not in CuPy"]),
    ("f = xp.linalg.multi_dot", ["xp.linalg.multi_dot is not in CuPy"]),
    ("with xp.errstate(all='ignore'): pass", ["xp.errstate is not in CuPy"]),
    ("xp.sum(x, axis=0, where=m)", ["xp.sum(where) is not in CuPy"]),
    ("xp.linalg.qr(x, mode='r', full=1)", ["xp.linalg.qr(full) is not in CuPy", "xp.linalg.qr(full) is not in NumPy"]),
    ("xp.exp(x, where=m)", ["xp.exp(where) is not in CuPy"]),
    ("xp.var(x, correction=1)", ["xp.var(correction) is not in CuPy"]),
    ("xp.lib.stride_tricks.as_strided(x, s, writeable=False)",
     ["xp.lib.stride_tricks.as_strided(writeable) is not in CuPy"]),
    ("xp.scatter_add(x, i, 1)", ["xp.scatter_add is not in CuPy", "xp.scatter_add is not in NumPy"]),
    ("xp.reshape(x, newshape=s)", ["xp.reshape(newshape) is not in NumPy"]),
    ("xp.reshape(x, shape=s)", ["xp.reshape(shape) is not in CuPy"]),
    ("xp.RawKernel(code, 'f')", ["xp.RawKernel is not in NumPy"]),
    ("cupy.RawKernels(code, 'f')", ["cupy.RawKernels is not in CuPy"]),
    ("xp.random.default_rng(0, s=1)", ["xp.random.default_rng(s) is not in CuPy",
                                      "xp.random.default_rng(s) is not in NumPy"]),
])
def test_missing_names_and_keywords_are_found(text, missing):
    assert [problem.partition(": ")[2] for problem in problems_in("a.py", text)] == missing


@pytest.mark.parametrize("text", [
    "xp.exp(x, out=y)", "xp.linalg.eigh(a)[0].sum(where=1)", "xp.float32, xp.newaxis, xp.pi", "xp.add.at(x, i, 1)",
    "xp.einsum('ij->ji', x, optimize=True)", "xp.pad(x, w, constant_values=1)", "cupy.RawKernel(code, 'f', options=())",
    "cupy.cuda.is_available()", "xp.linalg.LinAlgError", "np.insert(x, 0, 0)", "mask.xp.nothing",
    "xp.sum(x, **keywords)", "cupy.__version__",
    "xp.lib.stride_tricks.as_strided(x, shape=s, strides=t)", "xp.maximum(x, 0, out=x, casting='no')",
])
def test_what_exists_passes(text):
    assert problems_in("a.py", text) == []
