"""minigrad: a small tape-based automatic differentiation engine that is meant to be read.

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> y = (x * x).sum()
    >>> y.backward()
    >>> x.grad
    tensor([2., 4., 6.], dtype=float32)

It runs unchanged on NumPy or CuPy (`use`). `primitive` and `by_hand` make new ops; `tape` shows what was recorded and kept;
`gradcheck` tells whether a derivative is right. Networks: `minigrad.nn`, `minigrad.optim`, `minigrad.data`.
"""

from typing import TYPE_CHECKING

from . import ops as ops
from .check import gradcheck
from .core import backend as backend
from .core.backend import float16, float32, float64, int64, seed, use
from .core.by_hand import by_hand, with_saved
from .core.engine import backward, grad, named
from .core.errors import AxisError, BackendError, NonFiniteError, TapeError
from .core.primitive import primitive
from .core.tensor import Tensor, from_array, no_grad, tensor
from .derivatives import hvp, jacobian, jvp, vjp
from .finite import debug
from .kernels.process import tune_process
from .kernels.threads import set_num_threads
from .ops import *  # noqa: F403
from .show import adjoints, record, tape

Tensor.backward = backward  # type: ignore[method-assign, assignment]

from . import checkpoint, data, derivation, elsewhere, nn, optim  # noqa: E402

Tensor.__getattr__ = elsewhere.attribute  # type: ignore[attr-defined]

__version__ = "0.2.0"

if not TYPE_CHECKING:  # type checkers read the lines above, and complain about names that do not exist
    __all__ = sorted([
        *ops.__all__, "AxisError", "BackendError", "NonFiniteError", "TapeError", "Tensor", "adjoints", "backend", "backward", "by_hand", "checkpoint",
        "data", "debug", "derivation", "float16", "float32", "float64", "from_array", "grad", "gradcheck", "hvp", "int64", "jacobian", "jvp", "named", "nn",
        "no_grad", "optim", "primitive", "record", "seed", "set_num_threads", "tape", "tensor", "tune_process", "use", "vjp", "with_saved"])

    def __dir__():
        return list(__all__)

    def __getattr__(name):
        raise elsewhere.missing(name)
