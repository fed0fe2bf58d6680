"""The networks of the source documents and small ones for courses.

>>> import models
>>> sum(p.size for p in models.build("resnet20").parameters())
269722
"""

from .registry import MODELS as MODELS
from .registry import build as build
from .tiny_cnn import tiny_cnn as tiny_cnn
