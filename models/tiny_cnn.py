"""A convolutional network that trains in seconds on a laptop."""

from __future__ import annotations

from layers import BatchNorm2d
from minigrad import nn


def tiny_cnn(in_channels: int = 1, size: int = 8, classes: int = 10, width: int = 16, form: str | None = None) -> nn.Sequential:
    """Twice (convolution without bias, batch norm, ReLU, max pooling), then one linear layer.

    Args:
        in_channels, size: images are (N, in_channels, size, size); `size` divisible by 4.
        classes: number of outputs.
        width: channels of the first convolution; the second has twice as many.
        form: "composed", "derived" or a derivation's name, for both batch norms.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
        BatchNorm2d(width, form=form),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
        BatchNorm2d(2 * width, form=form),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * (size // 4) ** 2, classes),
    )
