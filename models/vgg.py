"""VGG-A for CIFAR: eight 3×3 convolutions, five poolings, two linear layers.

    x (N, 3, 32, 32)                            full width     output
    conv                            pool            64         16 × 16
    conv                            pool           128          8 ×  8
    conv  conv                      pool           256          4 ×  4
    conv  conv                      pool           512          2 ×  2
    conv  conv                      pool           512          1 ×  1
    Linear  BatchNorm1d  ReLU                      512
    Linear                                        classes

    conv: 3×3, norm, ReLU        pool: MaxPool2d(2)

Images smaller than 32×32 are pooled less often: the *last* log2(size) poolings stay.

With norm="none" the convolutions have biases and are those of the published VGG-A: 9,220,480 parameters. The other
123,642,856 of its 133 M (table 2) belong to three linear layers for ImageNet; CIFAR's version has two small ones. With batch
norm, the whole network has 9,491,530.

Source: Simonyan & Zisserman [simonyan2015], configuration A; cwn (figure 2) and dbn (table A) take this variant. There, the linear
layer keeps its batch norm whatever is done to the convolutions. dbn's table A: norm="decorrelated_batch_norm",
norm_options={"affine": False, "group_size": 8} (or 16, 64, 256, 512). cwn: norm="none", weight="centered_weight_norm",
classifier_norm=True.
"""

from __future__ import annotations

from typing import Any

import layers
from minigrad import nn
from minigrad.core.errors import error

from .parts import Parts, form_for

STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))


class VGG(nn.Module):
    """See the table above.

    Args:
        size: of the images: a power of 2 up to 32, or a larger multiple of 32.
        classifier_norm: batch norm behind the first linear layer; None: unless norm="none".
    """

    def __init__(self, parts: Parts, *, size: int = 32, classifier_norm: bool | None = None,
                 classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if size < 1 or (size % 32 if size > 32 else 32 % size):
            raise error(ValueError, "models.build", got=f"size={size} for VGG", needs="a power of 2 up to 32, or a multiple of 32",
                        fix="size=32 for CIFAR's images, size=8 for the digits")
        features: list[nn.Module] = []
        lengths: list[int] = []  # of the blocks: convolution, norm, activation, and pooling
        poolings = min(size.bit_length() - 1, len(STAGES))
        channels = in_channels
        for i, stage in enumerate(STAGES):
            for published in stage:
                inputs, channels = channels, parts.channels(published)
                features += [parts.conv(inputs, channels), *parts.norm_and_activation(channels, first=not features)]
                lengths.append(3)
            if i >= len(STAGES) - poolings:
                features.append(nn.MaxPool2d(2))
                lengths[-1] += 1
        self.features = parts.modulated(nn.Sequential(*features), lengths)
        self.avgpool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()  # the former does nothing up to 32×32
        normed = parts.norm_name != "none" if classifier_norm is None else classifier_norm
        norm = layers.BatchNorm1d(channels, form=form_for("batch_norm", parts.form)) if normed else nn.Identity()
        hidden = nn.Linear(channels, channels, bias=not normed)
        self.classifier = nn.Sequential(hidden, norm, parts.activation(), nn.Linear(channels, classes))

    def forward(self, x: Any) -> Any:
        """Images (N, in_channels, size, size) -> scores (N, classes)."""
        return self.classifier(self.flatten(self.avgpool(self.features(x))))
