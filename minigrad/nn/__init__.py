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

from .. import elsewhere
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

if not TYPE_CHECKING:  # type checkers read the lines above, and complain about names that do not exist
    def __getattr__(name):
        raise elsewhere.missing(name, __name__)
