"""Names that people type after ``minigrad.`` or ``nn.`` and that are elsewhere: the error says where.

PyTorch and NumPy have one namespace for what minigrad keeps in several, and a few names for the same thing.
"""

from __future__ import annotations

import difflib
import sys
from typing import Any

from .core import backend
from .core.errors import error, op_named

_OPS = {"cat": "concatenate", "clamp": "clip", "div": "divide", "mul": "multiply", "neg": "negative", "pow": "power", "sub": "subtract",
        "mm": "matmul", "bmm": "matmul", "permute": "transpose", "unsqueeze": "expand_dims", "view": "reshape", "chunk": "split", "gather": "take_along_axis",
        "index_select": "take", "eq": "equal", "ne": "not_equal", "gt": "greater", "ge": "greater_equal", "lt": "less", "le": "less_equal",
        "array": "tensor", "asarray": "tensor", "as_tensor": "tensor", "from_numpy": "tensor", "Variable": "tensor", "empty": "zeros",
        "empty_like": "zeros_like", "manual_seed": "seed", "randperm": "permutation", "autograd": "grad", "set_num_interop_threads": "set_num_threads"}
_SAID = {
    "linalg": "matrix functions are at the top: minigrad.inv, minigrad.solve, minigrad.norm, minigrad.eigh ...",
    "functional": "the functions are at the top: minigrad.relu, minigrad.cross_entropy ...",
    "random": "minigrad.rand(2, 3), minigrad.randn(2, 3), minigrad.randint(low, high, (2, 3)), after minigrad.seed(0)",
    "shape": "x.shape, or minigrad.reshape(x, (2, 3))", "size": "x.size", "ndim": "x.ndim", "dtype": "x.dtype, or dtype='float32'",
    "reduce": "minigrad.sum(x, axis=0), minigrad.max(x, axis=0) ...", "stop_gradient": "x.detach()", "numpy": "x.numpy()", "item": "x.item()",
    "DataLoader": "minigrad.data.batches(images, labels, 64)",
    "newaxis": "None: x[:, None]", "pi": "math.pi", "e": "math.e", "inf": "float('inf')", "nan": "float('nan')",
    "device": "minigrad.use('cupy'), or x.to('cupy')", "cuda": "minigrad.use('cupy'), or x.to('cupy')",
    **{name: f"dtype={name!r}" for name in ("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64")},
    "bool_": "dtype='bool'", "half": "dtype='float16'", "float": "dtype='float32'", "double": "dtype='float64'", "long": "dtype='int64'",
}
_ABSENT = {  # not here, and near in spelling to what is: what to write instead
    "BCELoss": "nn.BCEWithLogitsLoss() on the logits, without the sigmoid", "L1Loss": "minigrad.abs(x - target).mean()",
    "SmoothL1Loss": "minigrad.where(d < 1, 0.5 * d * d, d - 0.5) of d = minigrad.abs(x - target)",
    "HuberLoss": "as SmoothL1Loss: minigrad.where of two branches", "KLDivLoss": "(p * (minigrad.log(p) - log_q)).sum(axis=1).mean()", "CTCLoss": "",
    "ReLU6": "minigrad.clip(x, 0, 6)", "relu6": "minigrad.clip(x, 0, 6)", "Hardtanh": "minigrad.clip(x, -1, 1)", "hardtanh": "minigrad.clip(x, -1, 1)",
    "PReLU": "minigrad.where(x > 0, x, slope * x) with a Parameter slope", "SELU": "1.0507 * minigrad.elu(x, 1.67326)",
    "Mish": "x * minigrad.tanh(minigrad.softplus(x))", "GLU": "a * minigrad.sigmoid(b) of a, b = minigrad.split(x, 2, axis=1)",
    "Conv1d": "nn.Conv2d with a kernel of (1, k), on x[:, :, None]", "Conv3d": "", "ConvTranspose2d": "",
    "AvgPool1d": "nn.AvgPool2d((1, k)) on x[:, :, None]", "MaxPool1d": "nn.MaxPool2d((1, k)) on x[:, :, None]", "AvgPool3d": "", "MaxPool3d": "",
    "Softmax2d": "nn.Softmax(1)", "Upsample": "minigrad.repeat(x, 2, axis=2), then axis=3", "Dropout2d": "nn.Dropout", "LSTM": "", "GRU": "", "RNN": "",
    "MultiheadAttention": "", "Transformer": "", "LocalResponseNorm": "", "allclose": "numpy.allclose(a.numpy(), b.numpy())",
    "isclose": "numpy.isclose(a.numpy(), b.numpy())", "array_equal": "numpy.array_equal(a.numpy(), b.numpy())",
    "logaddexp": "minigrad.logsumexp(minigrad.stack([a, b]), axis=0)", "hypot": "minigrad.sqrt(a * a + b * b)",
    "median": "numpy.median(x.numpy(), axis=0), a constant", "topk": "minigrad.argsort(-x, axis=-1)[..., :k]", "rsqrt": "1 / minigrad.sqrt(x)",
    "normal": "minigrad.randn(2, 3)", "l1_loss": "minigrad.abs(x - target).mean()", "prelu": "minigrad.where(x > 0, x, slope * x)",
    "selu": "1.0507 * minigrad.elu(x, 1.67326)", "glu": "a * minigrad.sigmoid(b) of a, b = minigrad.split(x, 2, axis=1)",
    "pinv": "minigrad.solve(x.T @ x, x.T) for independent columns", "is_tensor": "isinstance(x, minigrad.Tensor)", "LogSigmoid": "-minigrad.softplus(-x)",
    "logsigmoid": "-minigrad.softplus(-x)", "AdaptiveMaxPool2d": "minigrad.max(x, axis=(2, 3)) for one value per channel", "svd": "minigrad.eigh(x.T @ x)",
}
# Attributes of PyTorch's and NumPy's arrays and modules, and what replaces them here.
_OF_TENSORS = {
    "view": "x.reshape(2, 3)", "permute": "x.transpose(1, 0)", "t": "x.T", "dim": "x.ndim", "numel": "x.size", "nelement": "x.size",
    "half": "x.astype('float16')", "float": "x.astype('float32')", "double": "x.astype('float64')", "long": "x.astype('int64')", "int": "x.astype('int32')",
    "type": "x.astype('float32')", "cpu": "x.to('numpy')", "cuda": "x.to('cupy')", "device": "x.backend", "is_cuda": "x.backend == 'cupy'",
    "contiguous": "x itself: ops take any layout", "requires_grad_": "x.requires_grad = True", "zero_": "x[...] = 0 under minigrad.no_grad()",
    "fill_": "x[...] = value under minigrad.no_grad()", "add_": "x += y under minigrad.no_grad()", "sub_": "x -= y under minigrad.no_grad()",
    "mul_": "x *= y under minigrad.no_grad()", "div_": "x /= y under minigrad.no_grad()", "copy_": "x[...] = y under minigrad.no_grad()",
    "copy": "x.clone()", "new_zeros": "minigrad.zeros(shape, dtype=x.dtype)", "masked_fill": "minigrad.where(mask, value, x)",
    "expand": "minigrad.broadcast_to(x, shape)", "expand_as": "minigrad.broadcast_to(x, shape)", "where": "minigrad.where(mask, x, y)",
    "repeat": "minigrad.tile(x, (2, 1)) for whole copies, minigrad.repeat(x, 2, axis=0) for elements", "topk": "minigrad.argsort(-x, axis=-1)[..., :2]",
    "median": "numpy.median(x.numpy(), axis=0), a constant", "byte": "x.astype('uint8')", "rsqrt": "1 / minigrad.sqrt(x)",
    "unsqueeze": "minigrad.expand_dims(x, axis)", "grad_fn": "minigrad.tape(x)", "retain_graph": "x.backward(retain_graph=True)", "ravel": "x.reshape(-1)",
    "nbytes": "x.data.nbytes", "strides": "x.data.strides",
}
_OF_MODULES = {
    "cuda": "model.to('cupy')", "cpu": "model.to('numpy')", "half": "model.astype('float16')", "float": "model.astype('float32')",
    "double": "model.astype('float64')", "type": "model.astype('float32')", "bfloat16": "model.astype('float16')",
    "device": "the backend of a parameter: next(model.parameters()).backend", "fit": "a loop: optimizer.zero_grad(), loss.backward(), optimizer.step()",
}
_LAYERS = ("BatchNorm1d BatchNorm2d BatchNorm3d BatchRenorm1d BatchRenorm2d DBN1d DBN2d DecorrelatedBatchNorm1d DecorrelatedBatchNorm2d GRN GroupNorm "
           "InPlaceABN InstanceNorm1d InstanceNorm2d InstanceNorm3d IterNorm1d IterNorm2d LayerNorm PCAWhitening1d PCAWhitening2d RMSNorm batch_norm "
           "batch_norm_eval batch_renorm centered_weight_norm decorrelated_batch_norm grn group_norm inplace_abn instance_norm iter_norm layer_norm "
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
        found = _in_a_room(name)
    if found is None and (name in _ABSENT or hasattr(backend.np, name)):  # a different name, not a misspelt one
        found = f"there is none: {_ABSENT.get(name) or f'compose it from what dir({module}) has'}"
    if found is None and not name.startswith("_"):
        found = _alike(f"{module}.", name, dir(sys.modules[module]))
    return error(AttributeError, module, got=f"the name {name!r}", needs=f"one of the names in dir({module})",
                 fix=found or f"help({module}) and the README say what there is")


def attribute(x: Any, name: str) -> Any:
    """The end of a Tensor's attributes: always an AttributeError, which says what replaces ``x.name`` here.

    >>> import minigrad as mg
    >>> mg.ones(2, 3).view(3, 2)
    Traceback (most recent call last):
        ...
    AttributeError: Tensor: got the attribute 'view', which it does not have
      needs: one of the names in dir(x)
      fix:   x.reshape(2, 3)
    """
    if name.startswith("__"):  # protocols that Python and NumPy ask for
        raise AttributeError(name)
    found = _OF_TENSORS.get(name)
    if found is None and (op := _OPS.get(name, name)) in sys.modules["minigrad"].ops.__all__:
        found = f"minigrad.{op}(x, ...)"
    raise error(AttributeError, "Tensor", got=f"the attribute {name!r}, which it does not have", needs="one of the names in dir(x)",
                fix=found or _alike("x.", name, dir(x)) or "help(minigrad.Tensor) says what there is")


def _alike(place: str, name: str, names: list[str]) -> str:
    """Names that are spelt much alike, and may be something else."""
    return " or ".join(f"{place}{near}, if that is what you mean" for near in difflib.get_close_matches(name, names, 2, 0.8))


def of_module(name: str) -> str | None:
    """What replaces PyTorch's ``model.name`` here, if that is known."""
    return _OF_MODULES.get(name)


def _in_a_room(name: str) -> str | None:
    for room in _ROOMS:
        module = sys.modules.get(f"minigrad.{room}")
        if name in getattr(module, "__all__", dir(module)) and callable(getattr(module, name)):
            return f"minigrad.{room}.{name}"
    return None
