"""What the networks are built from: convolutions, norms and activations, as `models.build` was asked for them.

    norm                      module                                        its statistics are over
    batch_norm                BatchNorm2d                                   the batch
    batch_renorm              BatchRenorm2d                                 the batch
    decorrelated_batch_norm   DecorrelatedBatchNorm2d, groups of 16, γ, β   the batch: dbn's "DBN-scale"
    iter_norm                 IterNorm2d, groups of 16, γ, β                the batch
    inplace_abn               InPlaceABN, a leaky ReLU inside               the batch; keeps its output only
    instance_norm             InstanceNorm2d, γ, β                          an image
    group_norm                GroupNorm, 8 groups (or gcd(8, C))            an image
    layer_norm                LayerNorm over the channels of each pixel     a pixel
    rms_norm                  RMSNorm over the channels of each pixel       a pixel
    none                      nothing; convolutions get a bias

Norms are where the papers have them: behind a convolution and before its activation. Whitening layers are expensive, and dbn
puts one in residual networks only in place of the *first* batch norm, for which `placement` is the switch.

The gradient-magnitude modulation is around *blocks*, in which a convolution has its norm and its activation with it. Around a
convolution alone it would keep what the convolution does to a gradient, and leave the norm behind it, which undoes that, as it is:
gradients of a plain network of 20 layers with orthonormal filters then grow by 1.4 per layer, where without any modulation it is 1.2.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

import layers
import minigrad as mg
from layers import REGISTRY
from layers.gradients.modulation import modulated
from minigrad import nn
from minigrad.core.errors import error


class PixelLayerNorm(layers.LayerNorm):
    """Layer norm over the channels of each pixel, x (N, C, H, W)."""

    def forward(self, x: Any) -> Any:
        """x (N, C, H, W) -> the same shape."""
        return mg.transpose(super().forward(mg.transpose(x, (0, 2, 3, 1))), (0, 3, 1, 2))


class PixelRMSNorm(layers.RMSNorm):
    """RMS norm over the channels of each pixel, x (N, C, H, W)."""

    def forward(self, x: Any) -> Any:
        """x (N, C, H, W) -> the same shape."""
        return mg.transpose(super().forward(mg.transpose(x, (0, 2, 3, 1))), (0, 3, 1, 2))


class SomeGroupNorm(layers.GroupNorm):
    """Group norm with gcd(num_groups, num_channels) groups: `num_groups` where it divides the channels."""

    def __init__(self, num_channels: int, num_groups: int = 8, eps: float = 1e-5, affine: bool = True, *,
                 form: str | None = None) -> None:
        super().__init__(math.gcd(num_groups, num_channels), num_channels, eps, affine, form=form)


# name -> the Module, whose first argument is the number of channels, and what differs from its defaults
NORMS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {
    "batch_norm": (layers.BatchNorm2d, {}),
    "batch_renorm": (layers.BatchRenorm2d, {}),
    "decorrelated_batch_norm": (layers.DecorrelatedBatchNorm2d, {"group_size": 16, "affine": True}),
    "iter_norm": (layers.IterNorm2d, {"group_size": 16, "affine": True}),
    "inplace_abn": (layers.InPlaceABN, {}),
    "instance_norm": (layers.InstanceNorm2d, {"affine": True}),
    "group_norm": (SomeGroupNorm, {}),
    "layer_norm": (PixelLayerNorm, {}),
    "rms_norm": (PixelRMSNorm, {}),
    "none": (nn.Identity, {}),
}
WHITENING = ("decorrelated_batch_norm", "iter_norm")

# "relu" is a leaky ReLU where there is a slope. The text is the name for `nn.init.calculate_gain`.
ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "relu": (nn.ReLU, "leaky_relu"),
    "elu": (nn.ELU, "linear"),
    "gelu": (nn.GELU, "linear"),
    "softplus": (nn.Softplus, "linear"),
    "tanh": (nn.Tanh, "tanh"),
    "sigmoid": (nn.Sigmoid, "sigmoid"),
}


class ModulatedSequential(nn.Sequential):
    """A Sequential with the modulation around each of its blocks. The names in its state are those of a Sequential.

    Attributes:
        strength: of the modulation, see `layers.Modulated`; 0 is none.
        lengths: how many modules each block has; what comes behind the last block is left alone. None: each module is a block.
    """

    strength = 0.0
    lengths: Sequence[int] | None = None
    limit = 100.0  # of a block's factor: of use against a gradient that has died

    def forward(self, x: Any) -> Any:
        """x through every module in turn."""
        rest = iter(self)
        for length in self.lengths or [1] * len(self):
            x = modulated(partial(_through, list(islice(rest, length))), x, self.strength, self.limit)
        return _through(rest, x)


def _through(modules: Iterable[nn.Module], x: Any) -> Any:
    for module in modules:
        x = module(x)
    return x


@dataclass(frozen=True)
class Parts:
    """The choices that all layers of a network share; see `models.build` for what they mean."""

    norm_name: str = "batch_norm"
    form: str | None = None
    slope: float = 0.0
    width: float = 1.0
    placement: str | None = None
    norm_options: Mapping[str, Any] = field(default_factory=dict)
    modulation: float = 0.0
    activation_name: str = "relu"

    def __post_init__(self) -> None:
        if self.placement is not None:
            choose("placement", self.placement, ("all", "first"))
        choose("activation", self.activation_name, ACTIVATIONS)
        if self.slope and self.activation_name != "relu":
            raise error(ValueError, "models.build", got=f"slope={self.slope}, activation={self.activation_name!r}",
                        needs="a slope with activation='relu' only, which it makes leaky", fix="slope=0.0")
        if self.norm_name == "inplace_abn" and self.activation_name not in ("relu", "elu"):
            raise error(ValueError, "models.build", got=f"norm='inplace_abn', activation={self.activation_name!r}",
                        needs="'elu', or 'relu' with a slope: it computes its input from its output", fix="norm='batch_norm'")
        if not 0 < self.width < math.inf:
            raise error(ValueError, "models.build", got=f"width={self.width}", needs="a positive factor", fix="1.0 is the published width")
        if not 0 <= self.modulation <= 1:
            raise error(ValueError, "models.build", got=f"modulation={self.modulation}", needs="a strength from 0 to 1",
                        fix="0.0 changes nothing, 1.0 makes magnitudes equal")
        taken = () if self.norm_name == "none" else list(inspect.signature(NORMS[self.norm_name][0]).parameters)[1:]
        allowed = [n for n in taken if n not in ("form", "dtype", "activation", "slope")]  # those are arguments of `build`
        refuse_unknown("norm_options", self.norm_name, self.norm_options, allowed)

    def residual(self) -> Parts:
        """The same for a network with shortcuts: there, whitening replaces only the first batch norm unless told otherwise."""
        return replace(self, placement=self.placement or ("first" if self.norm_name in WHITENING else "all"))

    def channels(self, published: int) -> int:
        """The number of channels at this width: at least 1."""
        return max(1, round(published * self.width))

    def conv(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, padding: int | None = None) -> nn.Conv2d:
        """A convolution; zeros around the image unless padding=0. A bias only where no norm follows, which would undo it."""
        zeros = kernel // 2 if padding is None else padding
        return nn.Conv2d(inputs, outputs, kernel, stride, zeros, groups=groups, bias=self.norm_name == "none")

    def norm(self, channels: int, *, first: bool = False, activated: bool = False) -> nn.Module:
        """A norm for (N, channels, H, W) that no activation follows at once.

        Args:
            first: it is the network's first.
            activated: ask inplace_abn to do the activation, too; see `norm_and_activation`.
        """
        name = self._name(first)
        module, options = NORMS[name]
        if name == "inplace_abn":
            inside = "elu" if self.activation_name == "elu" else "leaky_relu"
            options = {"activation": inside if activated else "identity", "slope": self.slope}
        chosen = self.norm_options if name == self.norm_name else {}
        return module(channels, **{"form": form_for(name, self.form), **options, **chosen})

    def norm_and_activation(self, channels: int, *, first: bool = False) -> tuple[nn.Module, nn.Module]:
        """A norm, and the activation behind it: nothing, where the norm has it inside."""
        fused = self._name(first) == "inplace_abn"
        return self.norm(channels, first=first, activated=True), nn.Identity() if fused else self.activation()

    def activation(self) -> nn.Module:
        """The activation: ReLU, leaky where there is a slope, or another one of `ACTIVATIONS`."""
        return nn.LeakyReLU(self.slope) if self.slope else ACTIVATIONS[self.activation_name][0]()

    def modulated(self, stack: nn.Sequential, lengths: Sequence[int] | None = None) -> nn.Sequential:
        """The stack, with the modulation around its blocks if one was asked for; `lengths` as in `ModulatedSequential`."""
        if not self.modulation:
            return stack
        found = ModulatedSequential(stack._modules)
        found.strength, found.lengths = self.modulation, lengths
        return found

    def _name(self, first: bool) -> str:
        return self.norm_name if first or self.placement != "first" else "batch_norm"


def form_for(layer: str, form: str | None) -> str | None:
    """`form` where this layer has it, else "derived": "staged", say, is batch norm's, and no weight norm has it."""
    known = layer not in REGISTRY or form in (None, "composed", "derived", *REGISTRY[layer].derived)
    return form if known else "derived"


def choose(what: str, got: Any, choices: Any) -> None:
    """Raise ValueError unless `got` is one of the choices, which the text lists."""
    if got not in choices:
        raise error(ValueError, "models.build", got=f"{what}={got!r}", needs=f"one of {', '.join(map(str, choices))}",
                    fix="check the spelling")


def refuse_unknown(what: str, name: str, got: Iterable[str], allowed: list[str]) -> None:
    """Raise TypeError if there are options other than those allowed, which the text lists."""
    unknown = sorted(set(got) - set(allowed))
    if unknown:
        raise error(TypeError, "models.build", got=f"{what} {', '.join(unknown)} for {name}",
                    needs=f"options among {', '.join(allowed)}" if allowed else "none: it has no options", fix="check the spelling")
