"""What CuPy 14.2 accepts, converts and waits for: tables read from its wheel and from the v14.2.0 source of its
compiled parts.

`cupy14_api.json` (written by gen_api.py from the real wheel) holds every public name with its parameters; the tables
here hold what a signature cannot say.
"""

import json
import pathlib

API = json.loads(pathlib.Path(__file__).with_name("cupy14_api.json").read_text())

# -- functions that look at values on the host, and so wait for the device --------------------------------------------


def _always(args, kwargs):
    return True


def _where_without_branches(args, kwargs):
    return len(args) + len(kwargs) == 1


def _between_arrays(args, kwargs):
    return not all(isinstance(end, int | float) for end in args[:2])


def _repeats_not_an_integer(args, kwargs):
    return not isinstance(kwargs.get("repeats", args[-1] if len(args) < 3 else args[1]), int)


def _equal_nan(args, kwargs):
    return bool(kwargs.get("equal_nan", len(args) > 2 and args[2]))


def _weights_given(args, kwargs):
    return kwargs.get("weights", args[2] if len(args) > 2 else None) is not None


SYNCS = {
    **dict.fromkeys([
        # the result's shape depends on the values
        "argwhere", "bincount", "choose", "compress", "extract", "flatnonzero", "intersect1d", "mask_indices",
        "nonzero", "place", "setdiff1d", "setxor1d", "tril_indices", "tril_indices_from", "trim_zeros", "triu_indices",
        "triu_indices_from", "union1d", "unique", "unique_all", "unique_counts", "unique_inverse", "unique_values",
        # the values are checked
        "asarray_chkfinite", "cond", "histogram", "lstsq", "nanmax", "nanmin", "unravel_index",
        "sliding_window_view",  # the window shape goes to the device and is read back, number by number
        # the values are wanted on the host
        "dump", "dumps", "tobytes", "tofile"],
        _always),
    "where": _where_without_branches,
    "repeat": _repeats_not_an_integer,
    "array_equal": _equal_nan,
    "linspace": _between_arrays,
    "average": _weights_given,
}

# -- results ----------------------------------------------------------------------------------------------------------

# Views and allocations: no kernel is launched.
NO_LAUNCH = {"as_strided", "asarray", "asnumpy", "atleast_1d", "atleast_2d", "atleast_3d", "broadcast_arrays",
             "broadcast_to", "can_cast", "diagonal", "empty", "empty_like", "expand_dims", "iscomplexobj", "isrealobj",
             "moveaxis", "ndim", "promote_types", "ravel", "reshape", "result_type", "rollaxis", "shape", "size",
             "sliding_window_view", "split", "array_split", "squeeze", "swapaxes", "transpose", "view"}

# Python objects on CuPy too; every other result, also a scalar or a bool, is an array on the device.
HOST_RESULTS = {"broadcast_shapes", "can_cast", "iscomplexobj", "isdtype", "isfortran", "isrealobj", "isscalar",
                "issubdtype", "iterable", "may_share_memory", "ndim", "promote_types", "result_type", "shape",
                "shares_memory", "size", "tobytes", "tolist"}

# Where there is nothing to do, CuPy returns the very array it was given. NumPy makes a view, so "the result of an op
# is never its input" looks true there and is false here. (asarray, ascontiguousarray, atleast_1d, astype(copy=False)
# and .real of a real array do so on both.)
RETURNS_ITS_INPUT = {
    "squeeze": lambda array, result: result.shape == array.shape,
    "split": lambda array, results: len(results) == 1,
    "array_split": lambda array, results: len(results) == 1,
}

# -- arguments --------------------------------------------------------------------------------------------------------

# Parameters that take arrays, in NumPy's and CuPy's signatures. NumPy accepts a list or a number for each of them; CuPy
# mostly fails (`a.sum` of a float).
ARRAY_PARAMETERS = {"a", "a1", "a2", "arr", "array", "ary", "arys", "b", "condition", "indices", "m", "operands", "v",
                    "x", "x1", "x2", "y"}

# ... except that these become kernel arguments, at no cost, if they are numbers,
NUMBER_IS_FINE = {("where", "x"), ("where", "y"), ("take", "indices"), ("kron", "a"), ("kron", "b"),
                  ("ndim", "a"), ("shape", "a"), ("iscomplexobj", "x"), ("isrealobj", "x"), ("trapezoid", "x")}

# ... and that these go through cupy.asarray: a copy to the device that nobody asked for.
CONVERTED_SILENTLY = {("allclose", "a"), ("allclose", "b"), ("around", "a"), ("atleast_1d", "arys"),
                      ("atleast_2d", "arys"), ("atleast_3d", "arys"), ("average", "a"), ("diag", "v"), ("diff", "a"),
                      ("einsum", "operands"), ("extract", "condition"), ("isclose", "a"), ("isclose", "b"),
                      ("round", "a"), ("searchsorted", "v"), ("take", "indices"), ("tril", "m"), ("triu", "m")}

# The parameter of concatenate, stack, vstack, ...: a sequence whose members must be arrays already.
ARRAY_SEQUENCE = "tup"

# Parameters that CuPy needs on the host. NumPy also accepts a 0-d array, through __index__, which CuPy does not have.
HOST_PARAMETERS = {"axes", "axis", "axis1", "axis2", "ddof", "decimals", "destination", "indices_or_sections",
                   "minlength", "newshape", "num", "offset", "pad_width", "reps", "shape", "source", "strides",
                   "window_shape"}

# In the signature, but anything other than the default raises.
UNSUPPORTED = {("astype", "casting"): (None,), ("astype", "subok"): (None,), ("array", "subok"): (False,),
               ("zeros_like", "subok"): (None,), ("ones_like", "subok"): (None,), ("empty_like", "subok"): (None,),
               ("full_like", "subok"): (None,), ("sliding_window_view", "writeable"): (False,),
               ("sort", "kind"): (None, "stable"), ("argsort", "kind"): (None, "stable")}

# -- ufuncs -----------------------------------------------------------------------------------------------------------

# ufunc.at with integer index arrays: the dtypes for which there is an atomic operation (_routines_indexing.pyx).
_ATOMIC_BITWISE = {"int32", "int64", "uint32", "uint64"}
ATOMIC_DTYPES = {
    "add": {"int32", "int64", "uint32", "uint64", "float16", "float32", "float64"},
    "subtract": {"int32", "uint32"},
    "maximum": {"int32", "int64", "uint32", "uint64", "float32", "float64"},
    "minimum": {"int32", "int64", "uint32", "uint64", "float32", "float64"},
    "bitwise_and": _ATOMIC_BITWISE, "bitwise_or": _ATOMIC_BITWISE, "bitwise_xor": _ATOMIC_BITWISE,
}
REDUCIBLE = {"add", "multiply"}  # ufunc.reduce and ufunc.accumulate; maximum.reduce does not exist


def bind(parameters, args, kwargs):
    """Pairs (parameter name, value); a variadic parameter takes all that is left."""
    for i, name in enumerate(parameters):
        if name.startswith("*"):
            yield from ((name.lstrip("*"), value) for value in args[i:])
            break
        if i < len(args):
            yield name, args[i]
    yield from kwargs.items()


def check_signature(name, parameters, args, kwargs):
    """Refuse keywords and surplus positional arguments that CuPy's function does not have."""
    if parameters is None:
        return
    plain = [p for p in parameters if not p.startswith("*")]
    unknown = sorted(set(kwargs) - set(plain))
    if unknown and not any(p.startswith("**") for p in parameters):
        raise TypeError(f"cupy {name}() has no keyword argument {unknown}; it has {plain}")
    for parameter, value in kwargs.items():
        if value not in UNSUPPORTED.get((name, parameter), (value,)):
            raise TypeError(f"cupy {name}(): {parameter}={value!r} is not supported")
    if len(args) > len(plain) and len(plain) == len(parameters):
        raise TypeError(f"cupy {name}() takes {len(plain)} arguments ({', '.join(plain)}), {len(args)} given")
