"""GoogLeNet for CIFAR, with batch norm: ten inception modules.

    x (N, 3, 32, 32)                       full width     output
    conv 3×3, no padding                       64         30 × 30
    conv 3×3, no padding                      192         28 × 28
    3a  3b  3c                       256, 320, 576        28 × 28
    conv 2×2, stride 2                        576         14 × 14
    4a  4b  4c  4d  4e     576, 576, 576, 576, 1024       14 × 14
    conv 2×2, stride 2                       1024          7 ×  7
    5a  5b                              1024, 1024         7 ×  7
    global average pooling, fc              classes        1

Each convolution is followed by norm and ReLU. An inception module concatenates the channels of four branches:

    1×1        1×1, 3×3        1×1, 3×3, 3×3        3×3 pooling with stride 1, 1×1

with the numbers of channels in `INCEPTIONS`; 3c and 4e have no first branch, and no convolution behind the pooling.
15,692,938 parameters (we know of no published count of this variant). It takes images of 8×8 and up.

Source: Szegedy et al. [szegedy2015], and its batch-normalized successor (Ioffe & Szegedy [ioffe2015], figure 5). cwn, figure 3, is this
variant; cwn's code has another ReLU between convolution and norm in the modules, which its figure does not have, and neither do we.
"""

from __future__ import annotations

from typing import Any

import minigrad as mg
from minigrad import nn

from .parts import Parts

# branch 1; branch 2; branch 3; branch 4's pooling and convolution
INCEPTIONS: dict[str, tuple[int, tuple[int, int], tuple[int, int], tuple[str, int]]] = {
    "3a": (64, (64, 64), (64, 96), ("avg", 32)),
    "3b": (64, (64, 96), (64, 96), ("avg", 64)),
    "3c": (0, (128, 160), (64, 96), ("max", 0)),
    "4a": (224, (64, 96), (96, 128), ("avg", 128)),
    "4b": (192, (96, 128), (96, 128), ("avg", 128)),
    "4c": (160, (128, 160), (128, 160), ("avg", 96)),
    "4d": (96, (128, 192), (160, 192), ("avg", 96)),
    "4e": (0, (128, 192), (192, 256), ("max", 0)),
    "5a": (352, (192, 320), (160, 224), ("avg", 128)),
    "5b": (352, (192, 320), (192, 224), ("max", 128)),
}


def unit(parts: Parts, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int | None = None,
         first: bool = False) -> nn.Sequential:
    """Convolution, norm, activation."""
    conv = parts.conv(inputs, outputs, kernel, stride, padding=padding)
    return nn.Sequential(conv, *parts.norm_and_activation(outputs, first=first))


class Inception(nn.Module):
    """Four branches, side by side: (N, inputs, H, W) -> (N, self.outputs, H, W)."""

    def __init__(self, parts: Parts, inputs: int, name: str) -> None:
        super().__init__()
        one, two, three, (pooling, four) = INCEPTIONS[name]
        c1, c2, d2, c3, d3, c4 = (parts.channels(c) if c else 0 for c in (one, *two, *three, four))
        self.branch1 = unit(parts, inputs, c1, 1) if c1 else None
        self.branch2 = nn.Sequential(unit(parts, inputs, c2, 1), unit(parts, c2, d2, 3))
        self.branch3 = nn.Sequential(unit(parts, inputs, c3, 1), unit(parts, c3, d3, 3), unit(parts, d3, d3, 3))
        pool = (nn.AvgPool2d if pooling == "avg" else nn.MaxPool2d)(3, 1, 1)
        self.branch4 = nn.Sequential(pool, *([unit(parts, inputs, c4, 1)] if c4 else []))
        self.outputs = c1 + d2 + d3 + (c4 or inputs)

    def forward(self, x: Any) -> Any:
        """The four branches' channels, concatenated."""
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return mg.concatenate([branch(x) for branch in branches if branch is not None], 1)


class GoogLeNet(nn.Module):
    """See the table above."""

    def __init__(self, parts: Parts, *, classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        c1, c2 = parts.channels(64), parts.channels(192)
        features: dict[str, nn.Module] = {"conv1": unit(parts, in_channels, c1, 3, padding=0, first=True)}
        features["conv2"], channels = unit(parts, c1, c2, 3, padding=0), c2
        for name in INCEPTIONS:
            features[f"inception{name}"] = module = Inception(parts, channels, name)
            channels = module.outputs
            if name in ("3c", "4e"):
                features[f"down{name[0]}"] = unit(parts, channels, channels, 2, stride=2, padding=0)
        self.features = parts.modulated(nn.Sequential(features))
        self.avgpool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Any) -> Any:
        """Images (N, in_channels, H, W) -> scores (N, classes)."""
        return self.fc(self.flatten(self.avgpool(self.features(x))))
