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

from . import ops as ops
from .check import gradcheck
from .core import backend as backend
from .core.backend import seed, use
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

from . import checkpoint, data, derivation, nn, optim  # noqa: E402

__version__ = "0.1.0"
