"""A convolutional network that trains in seconds on a laptop.

    x (N, 1, 8, 8)                                   channels     output
    conv 3×3, norm, ReLU, MaxPool2d(2)                  16        4 × 4
    conv 3×3, norm, ReLU, MaxPool2d(2)                  32        2 × 2
    flatten, Linear                                   classes

6,138 parameters for these images.
"""

from __future__ import annotations

from minigrad import nn

from .parts import Parts


def tiny_cnn(in_channels: int = 1, size: int = 8, classes: int = 10, width: int = 16, form: str | None = None) -> nn.Sequential:
    """Twice (convolution without bias, batch norm, ReLU, max pooling), then one linear layer.

    Args:
        in_channels, size: images are (N, in_channels, size, size); `size` divisible by 4.
        classes: number of outputs.
        width: channels of the first convolution; the second has twice as many.
        form: "composed", "derived" or a derivation's name, for both batch norms.
    """
    return tiny_network(Parts(form=form), channels=width, size=size, classes=classes, in_channels=in_channels)


def tiny_network(parts: Parts, *, channels: int = 16, size: int = 32, classes: int = 10, in_channels: int = 3) -> nn.Sequential:
    """The same for `models.build`, with any norm.

    Args:
        channels: of the first convolution, at full width; the second has twice as many.
        size: images are size × size, divisible by 4.
    """
    c, d = parts.channels(channels), parts.channels(2 * channels)
    return parts.modulated(nn.Sequential(
        parts.conv(in_channels, c),
        *parts.norm_and_activation(c, first=True),
        nn.MaxPool2d(2),
        parts.conv(c, d),
        *parts.norm_and_activation(d),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(d * (size // 4) ** 2, classes),
    ), lengths=(4, 4))
