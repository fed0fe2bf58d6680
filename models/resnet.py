"""Residual networks for CIFAR, and the same stacks without shortcuts.

    x (N, 3, 32, 32)                                      full width     output
    conv1    3×3, bn1, ReLU                                   16         32 × 32
    layer1   n blocks                                         16         32 × 32
    layer2   n blocks, the first with stride 2                32         16 × 16
    layer3   n blocks, the first with stride 2                64          8 ×  8
    avgpool  global, then fc                                classes       1

    block: conv1 3×3, bn1, ReLU, conv2 3×3, bn2, + shortcut, ReLU         depth = 6n + 2

Where the number of channels changes, the shortcut takes every second pixel and, with option

    A   fills the new channels with zeros: no parameters. The published counts are of this one.
    B   is a 1×1 convolution with a norm (torchvision's `downsample`).

    network     plain or A      B           published
    ResNet-20      269,722      272,474     0.27 M
    ResNet-32      464,154      466,906     0.46 M
    ResNet-44      658,586      661,338     0.66 M
    ResNet-56      853,018      855,770     0.85 M
    ResNet-110   1,727,962    1,730,714     1.7 M

Any image size works: 8×8 digits end as 2×2. The keys of `state_dict` are torchvision's: conv1, bn1, layer1.0.conv1,
layer1.0.bn1, layer2.0.downsample.0, fc.

What shortcuts are for, seen in half a minute: the shipped digits at a quarter of the width, 12 epochs, three seeds
(tests/test_models_slow.py). Test accuracy in %:

                      20 layers        44 layers
    with shortcuts    98.9 to 99.4     98.1 to 98.6
    without           96.4 to 97.8     48.9 to 56.7

Source: He et al. [he2016], section 4.2 and table 6. dbn (table B, norm="decorrelated_batch_norm") replaces only the first batch
norm, by DBN with γ and β. cwn's ResNet-56 has weight="centered_weight_norm" on all convolutions except projections. Both take
option A. bn-jacobian's plain networks have 44 and 110 layers, and orthonormal filters at first (`layers.orthonormal_init`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import minigrad as mg
from minigrad import nn
from minigrad.core.errors import error

from .parts import Parts, choose


def blocks_per_stage(name: str, depth: int, layers_a_block: int, extra: int = 2) -> int:
    """n, with depth = 3·n·layers_a_block + extra."""
    n, rest = divmod(depth - extra, 3 * layers_a_block)
    if n < 1 or rest:
        fits = ", ".join(str(3 * layers_a_block * i + extra) for i in (1, 2, 3))
        raise error(ValueError, "models.build", got=f"depth={depth} for {name}",
                    needs=f"{3 * layers_a_block}n + {extra}: {fits}, ...", fix="choose the number n of blocks in each of the three stages")
    return n


class ZeroPadded(nn.Module):
    """Shortcut A: every `stride`-th pixel, and zeros for the channels that are new. (N, C, H, W) -> (N, C + extra, ...)."""

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        self.extra, self.stride = extra, stride

    def forward(self, x: Any) -> Any:
        """Any image."""
        return mg.pad(x[:, :, ::self.stride, ::self.stride], ((0, 0), (0, self.extra), (0, 0), (0, 0)))

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"{self.extra} channels, stride={self.stride}"


def shortcut_of(parts: Parts, option: str, inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """The module on the shortcut; None where there is nothing to change."""
    if option == "none" or (stride == 1 and inputs == outputs):
        return None
    if option == "A":
        return ZeroPadded(outputs - inputs, stride)
    return nn.Sequential(parts.conv(inputs, outputs, 1, stride), parts.norm(outputs))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut around them, or ("none") no shortcut."""

    def __init__(self, parts: Parts, inputs: int, outputs: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = parts.conv(inputs, outputs, stride=stride)
        self.bn1, self.act1 = parts.norm_and_activation(outputs)
        self.conv2 = parts.conv(outputs, outputs)
        self.plain = shortcut == "none"
        self.bn2, self.act2 = parts.norm_and_activation(outputs) if self.plain else (parts.norm(outputs), parts.activation())
        self.downsample = shortcut_of(parts, shortcut, inputs, outputs, stride)

    def forward(self, x: Any) -> Any:
        """x (N, inputs, H, W) -> (N, outputs, H/stride, W/stride)."""
        y = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        if not self.plain:
            y = y + (x if self.downsample is None else self.downsample(x))
        return self.act2(y)


class Stages(nn.Module):
    """What residual networks share: a first convolution, three stages of blocks, the mean over the image, one linear layer.

    Args:
        stem: channels of the first convolution.
        stages: the blocks of each stage.
        features: channels that leave the last stage.
    """

    def __init__(self, parts: Parts, stem: int, stages: Sequence[Sequence[nn.Module]], features: int, *,
                 classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = parts.conv(in_channels, stem)
        self.bn1, self.act1 = parts.norm_and_activation(stem, first=True)
        self.layer1, self.layer2, self.layer3 = (parts.modulated(nn.Sequential(*blocks)) for blocks in stages)
        self.avgpool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.fc = nn.Linear(features, classes)

    def forward(self, x: Any) -> Any:
        """Images (N, in_channels, H, W) -> scores (N, classes)."""
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.flatten(self.avgpool(x)))


class ResNet(Stages):
    """See the table above.

    Args:
        depth: 6n + 2.
        shortcut: "A", "B" or "none".
    """

    def __init__(self, parts: Parts, *, depth: int = 20, shortcut: str = "A", classes: int = 10, in_channels: int = 3) -> None:
        choose("shortcut", shortcut, ("A", "B", "none"))
        n = blocks_per_stage("ResNet", depth, 2)
        parts = parts if shortcut == "none" else parts.residual()
        stages, inputs = [], parts.channels(16)
        for published, stride in ((16, 1), (32, 2), (64, 2)):
            sizes = [inputs, *[parts.channels(published)] * n]
            stages.append([BasicBlock(parts, sizes[i], sizes[i + 1], stride if i == 0 else 1, shortcut) for i in range(n)])
            inputs = sizes[-1]
        super().__init__(parts, parts.channels(16), stages, inputs, classes=classes, in_channels=in_channels)
