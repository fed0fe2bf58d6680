"""ResNeXt for CIFAR: bottleneck blocks whose 3×3 convolution is cut into groups that do not see each other.

    x (N, 3, 32, 32)                                      full width     output
    conv1    3×3, bn1, ReLU                                   64         32 × 32
    layer1   n blocks, D = base_width                        256         32 × 32
    layer2   n blocks, D = 2·base_width, stride 2            512         16 × 16
    layer3   n blocks, D = 4·base_width, stride 2           1024          8 ×  8
    avgpool  global, then fc                                classes       1

    block: conv1 1×1 to C·D, bn1, ReLU, conv2 3×3 in C groups, bn2, ReLU, conv3 1×1, bn3, + shortcut, ReLU
    depth = 9n + 2       C = cardinality, the number of groups       "29 (8×64d)": C = 8, base_width = 64

Shortcuts are option B (a 1×1 convolution with a norm, where the shape changes), as published.

    network               parameters    published
    ResNeXt-29, 8×64d     34,426,698    34.4 M
    ResNeXt-29, 16×64d    68,155,210    68.1 M (not rounded, but cut off)

The width multiplies all channels, D included, and leaves the cardinality.

Source: Xie et al. [xie2017resnext], section 5.3 and table 7; the order of norms is that of the published code, ReLU behind the sum.
inplace-abn's networks are of this family: norm="inplace_abn" makes norm and leaky ReLU one layer behind the stem, conv1 and
conv2. Behind conv3, where the sum comes first, and on shortcuts its activation is the identity.
"""

from __future__ import annotations

from typing import Any

from minigrad import nn

from .parts import Parts, choose
from .resnet import Stages, blocks_per_stage, shortcut_of


class Bottleneck(nn.Module):
    """1×1, 3×3 in groups, 1×1, and a shortcut around them."""

    def __init__(self, parts: Parts, inputs: int, inside: int, outputs: int, stride: int, groups: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = parts.conv(inputs, inside, 1)
        self.bn1, self.act1 = parts.norm_and_activation(inside)
        self.conv2 = parts.conv(inside, inside, stride=stride, groups=groups)
        self.bn2, self.act2 = parts.norm_and_activation(inside)
        self.conv3 = parts.conv(inside, outputs, 1)
        self.bn3, self.act3 = parts.norm(outputs), parts.activation()
        self.downsample = shortcut_of(parts, shortcut, inputs, outputs, stride)

    def forward(self, x: Any) -> Any:
        """x (N, inputs, H, W) -> (N, outputs, H/stride, W/stride)."""
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.act2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.act3(y + (x if self.downsample is None else self.downsample(x)))


class ResNeXt(Stages):
    """See the table above.

    Args:
        depth: 9n + 2.
        cardinality: C.
        base_width: D in the first stage, at full width.
        shortcut: "A" or "B", see models/resnet.py.
    """

    def __init__(self, parts: Parts, *, depth: int = 29, cardinality: int = 8, base_width: int = 64, shortcut: str = "B",
                 classes: int = 10, in_channels: int = 3) -> None:
        choose("shortcut", shortcut, ("A", "B"))
        n = blocks_per_stage("ResNeXt", depth, 3)
        parts = parts.residual()
        stages, inputs = [], parts.channels(64)
        for factor, stride in ((1, 1), (2, 2), (4, 2)):
            inside, outputs, blocks = cardinality * parts.channels(factor * base_width), parts.channels(factor * 256), []
            for i in range(n):
                blocks.append(Bottleneck(parts, inputs, inside, outputs, 1 if i else stride, cardinality, shortcut))
                inputs = outputs
            stages.append(blocks)
        super().__init__(parts, parts.channels(64), stages, inputs, classes=classes, in_channels=in_channels)
