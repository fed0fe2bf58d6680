"""Wide residual networks for CIFAR: fewer layers than ResNet and k times the channels, with norms *before* convolutions.

    x (N, 3, 32, 32)                                      full width     output
    conv1    3×3                                              16         32 × 32
    layer1   n blocks                                        16k         32 × 32
    layer2   n blocks, the first with stride 2               32k         16 × 16
    layer3   n blocks, the first with stride 2               64k          8 ×  8
    bn, ReLU, global average pooling, fc                    classes       1

    block: bn1, ReLU, conv1 3×3, bn2, ReLU, (dropout), conv2 3×3, + shortcut         depth = 6n + 4

A block that changes the number of channels has a 1×1 convolution of what leaves bn1 and ReLU as its shortcut; others have x.

    network      parameters    published        network      parameters    published
    WRN-28-10    36,479,194    36.5 M           WRN-40-4      8,949,210    8.9 M
    WRN-16-8     10,961,370    11.0 M           WRN-40-2      2,243,546    2.2 M

The width multiplies all channels, those of conv1 too; k those of the stages.

Source: Zagoruyko & Komodakis [zagoruyko2016], tables 1, 4 and 5. dbn's table B has WRN-28 and WRN-40: norm="decorrelated_batch_norm"
replaces only the first batch norm, layer1.0.bn1. (The published code keeps that one and adds DBN before it.)
"""

from __future__ import annotations

from typing import Any

import minigrad as mg
from minigrad import nn

from .parts import Parts
from .resnet import blocks_per_stage


class PreactivatedBlock(nn.Module):
    """Norm, activation, convolution, twice, and a shortcut around them."""

    def __init__(self, parts: Parts, inputs: int, outputs: int, stride: int, dropout: float, first: bool) -> None:
        super().__init__()
        self.bn1, self.act1 = parts.norm_and_activation(inputs, first=first)
        self.conv1 = parts.conv(inputs, outputs, stride=stride)
        self.bn2, self.act2 = parts.norm_and_activation(outputs)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = parts.conv(outputs, outputs)
        new = stride != 1 or inputs != outputs
        self.downsample = nn.Sequential(parts.conv(inputs, outputs, 1, stride)) if new else None

    def forward(self, x: Any) -> Any:
        """x (N, inputs, H, W) -> (N, outputs, H/stride, W/stride)."""
        y = self.act1(self.bn1(mg.identity(x)))  # a view, over which inplace_abn does not write: the shortcut needs x
        shortcut = x if self.downsample is None else self.downsample(y)
        y = self.act2(self.bn2(self.conv1(y)))
        return self.conv2(self.dropout(y)) + shortcut


class WideResNet(nn.Module):
    """See the table above.

    Args:
        depth: 6n + 4.
        k: the factor for the channels of the three stages.
        dropout: probability, between the convolutions of a block.
    """

    def __init__(self, parts: Parts, *, depth: int = 28, k: int = 10, dropout: float = 0.0,
                 classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        n = blocks_per_stage("WideResNet", depth, 2, extra=4)
        parts = parts.residual()
        inputs = parts.channels(16)
        stages: list[nn.Module] = []
        self.conv1 = parts.conv(in_channels, inputs)
        for published, stride in ((16, 1), (32, 2), (64, 2)):
            sizes = [inputs, *[parts.channels(published * k)] * n]
            blocks = [PreactivatedBlock(parts, sizes[i], sizes[i + 1], 1 if i else stride, dropout, first=not stages and i == 0)
                      for i in range(n)]
            stages.append(parts.modulated(nn.Sequential(*blocks)))
            inputs = sizes[-1]
        self.layer1, self.layer2, self.layer3 = stages
        self.bn, self.act = parts.norm_and_activation(inputs)
        self.avgpool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Any) -> Any:
        """Images (N, in_channels, H, W) -> scores (N, classes)."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(self.flatten(self.avgpool(self.act(self.bn(x)))))
