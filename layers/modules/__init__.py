"""Normalization layers as Modules, with PyTorch's names, argument order and state_dict keys.

Running statistics live only here: functions in `REGISTRY` never see or change them. `form` selects the composed graph or a
hand-derived backward; `layers.use_form` sets it for all modules created inside. `dtype` is that of parameters and statistics; these
are float32 in a float16 layer. A layer in float32 takes float16 x, too, and gives float16 back.

    base.py               what they share
    batch.py inplace.py   batch norm, renorm and InPlace-ABN; running statistics are updated in `BatchNorm._track`
    sample.py             instance, group, layer and RMS norm, GRN
    whitening.py          DBN and IterNorm
    parametrizations.py   weight normalizations on a Linear or Conv2d
"""

from . import batch, inplace, parametrizations, sample, whitening
from .batch import *  # noqa: F403
from .inplace import *  # noqa: F403
from .parametrizations import *  # noqa: F403
from .sample import *  # noqa: F403
from .whitening import *  # noqa: F403

__all__ = [*batch.__all__, *inplace.__all__, *parametrizations.__all__, *sample.__all__, *whitening.__all__]
