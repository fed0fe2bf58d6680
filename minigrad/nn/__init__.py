"""Networks: `Module`, layers, losses and initial values, with PyTorch's names, argument order and state_dict keys.

>>> import minigrad as mg
>>> from minigrad import nn
>>> mg.seed(0)
>>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
>>> list(model.state_dict())
['0.weight', '0.bias', '2.weight', '2.bias']
>>> model(mg.tensor([[1.0, 2.0, 3.0, 4.0]])).shape
(1, 2)

The normalization layers are in `layers`: each of them is there twice, composed and derived by hand.
"""

from typing import TYPE_CHECKING

from ..core.errors import error
from . import init as init
from .activations import *  # noqa: F403
from .containers import *  # noqa: F403
from .layers import *  # noqa: F403
from .losses import *  # noqa: F403
from .module import *  # noqa: F403
from .parameter import *  # noqa: F403
from .pooling import *  # noqa: F403
from .state import *  # noqa: F403
from .summary import *  # noqa: F403

# A type checker should go on finding names that are nowhere.
if not TYPE_CHECKING:
    _IN_LAYERS = {"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "BatchRenorm1d", "BatchRenorm2d", "DecorrelatedBatchNorm1d", "DecorrelatedBatchNorm2d",
                  "GroupNorm", "InPlaceABN", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "IterNorm1d", "IterNorm2d", "LayerNorm", "RMSNorm"}

    def __getattr__(name: str) -> None:
        """What is not here: the normalization layers, which people look for here first."""
        if name in _IN_LAYERS:
            raise error(AttributeError, f"nn.{name}", got="a normalization layer", needs="the package `layers`, where each is written twice",
                        fix=f"import layers, then layers.{name}(...)")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
