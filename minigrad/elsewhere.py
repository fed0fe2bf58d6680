"""Names that people type after ``minigrad.`` or ``nn.`` and that stand elsewhere: the error says where.

PyTorch and NumPy have one namespace for what minigrad keeps in several, and a few names for the same thing.
"""

from __future__ import annotations

import difflib
import sys

from .core.errors import error, op_named

_OPS = {"cat": "concatenate", "clamp": "clip", "div": "divide", "mul": "multiply", "neg": "negative", "pow": "power", "sub": "subtract",
        "mm": "matmul", "bmm": "matmul", "permute": "transpose", "unsqueeze": "expand_dims", "view": "reshape", "chunk": "split", "gather": "take_along_axis",
        "index_select": "take", "eq": "equal", "ne": "not_equal", "gt": "greater", "ge": "greater_equal", "lt": "less", "le": "less_equal",
        "array": "tensor", "asarray": "tensor", "as_tensor": "tensor", "from_numpy": "tensor", "Variable": "tensor", "empty": "zeros",
        "empty_like": "zeros_like", "manual_seed": "seed", "randperm": "permutation", "autograd": "grad", "set_num_interop_threads": "set_num_threads"}
_SAID = {
    "linalg": "the functions of matrices stand at the top: minigrad.inv, minigrad.solve, minigrad.norm, minigrad.eigh ...",
    "functional": "the functions stand at the top: minigrad.relu, minigrad.cross_entropy ...",
    "random": "minigrad.rand(2, 3), minigrad.randn(2, 3), minigrad.randint(low, high, (2, 3)), after minigrad.seed(0)",
    "shape": "x.shape, or minigrad.reshape(x, (2, 3))", "size": "x.size", "ndim": "x.ndim", "dtype": "x.dtype, or dtype='float32'",
    "reduce": "minigrad.sum(x, axis=0), minigrad.max(x, axis=0) ...", "stop_gradient": "x.detach()", "numpy": "x.numpy()", "item": "x.item()",
    "DataLoader": "minigrad.data.batches(images, labels, 64)",
    "newaxis": "None: x[:, None]", "pi": "math.pi", "e": "math.e", "inf": "float('inf')", "nan": "float('nan')",
    "device": "minigrad.use('cupy'), or x.to('cupy')", "cuda": "minigrad.use('cupy'), or x.to('cupy')",
    **{name: f"dtype={name!r}" for name in ("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64")},
    "bool_": "dtype='bool'", "half": "dtype='float16'", "float": "dtype='float32'", "double": "dtype='float64'", "long": "dtype='int64'",
}
_LAYERS = ("BatchNorm1d BatchNorm2d BatchNorm3d BatchRenorm1d BatchRenorm2d DBN1d DBN2d DecorrelatedBatchNorm1d DecorrelatedBatchNorm2d GroupNorm "
           "InPlaceABN InstanceNorm1d InstanceNorm2d InstanceNorm3d IterNorm1d IterNorm2d LayerNorm PCAWhitening1d PCAWhitening2d RMSNorm batch_norm "
           "batch_norm_eval batch_renorm centered_weight_norm decorrelated_batch_norm group_norm inplace_abn instance_norm iter_norm layer_norm "
           "orthogonal_weight_norm orthonormality_penalty pca_whitening rms_norm spectral_norm weight_norm weight_standardization whiten_eval").split()
_ROOMS = ("nn", "optim", "data", "checkpoint", "derivation")


def missing(name: str, module: str = "minigrad") -> AttributeError:
    """The error for ``module.name``, where there is no such name.

    >>> print(missing("cat"))
    minigrad: got the name 'cat'
      needs: one of the names in dir(minigrad)
      fix:   minigrad.concatenate
    >>> print(missing("BatchNorm2d", "minigrad.nn"))
    minigrad.nn: got the name 'BatchNorm2d'
      needs: one of the names in dir(minigrad.nn)
      fix:   import layers; layers.BatchNorm2d
    """
    found = op_named(name) or (f"minigrad.{_OPS[name]}" if name in _OPS else _SAID.get(name))
    if found is None and name in _LAYERS:
        found = f"import layers; layers.{name}"
    if found is None and not name.startswith("_"):
        found = _in_a_room(name) or " or ".join(f"{module}.{near}" for near in difflib.get_close_matches(name, dir(sys.modules[module]), 3))
    return error(AttributeError, module, got=f"the name {name!r}", needs=f"one of the names in dir({module})",
                 fix=found or f"help({module}) and the README say what there is")


def _in_a_room(name: str) -> str | None:
    for room in _ROOMS:
        module = sys.modules.get(f"minigrad.{room}")
        if name in getattr(module, "__all__", dir(module)) and callable(getattr(module, name)):
            return f"minigrad.{room}.{name}"
    return None
