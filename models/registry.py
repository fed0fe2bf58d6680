"""`build`: every network by its name, with any norm, weight normalization, form and width."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import layers
from layers import REGISTRY
from layers.modules.parametrizations import RULES
from minigrad import nn

from .googlenet import GoogLeNet
from .parts import ACTIVATIONS, NORMS, Parts, choose, form_for, refuse_unknown
from .resnet import ResNet
from .resnext import ResNeXt
from .tiny_cnn import tiny_network
from .vgg import VGG
from .wide_resnet import WideResNet

Constructor = Callable[..., nn.Module]

MODELS: dict[str, Constructor] = {
    "tiny_cnn": tiny_network,
    "vgg_a": VGG,
    "googlenet": GoogLeNet,
    "resnet": ResNet,  # with depth=...
    **{f"resnet{depth}": partial(ResNet, depth=depth) for depth in (20, 32, 44, 56, 110)},
    "plain": partial(ResNet, shortcut="none"),
    **{f"plain{depth}": partial(ResNet, depth=depth, shortcut="none") for depth in (20, 32, 44, 56, 110)},
    "wide_resnet": WideResNet,  # with depth=..., k=...
    "wrn28_10": partial(WideResNet, depth=28, k=10),
    "wrn40_4": partial(WideResNet, depth=40, k=4),
    "resnext": ResNeXt,  # with depth=..., cardinality=..., base_width=...
    "resnext29_8x64d": partial(ResNeXt, depth=29, cardinality=8, base_width=64),
    "resnext29_16x64d": partial(ResNeXt, depth=29, cardinality=16, base_width=64),
}


def build(name: str, *, norm: str = "batch_norm", form: str | None = None, weight: str | None = None, width: float = 1.0,
          classes: int = 10, in_channels: int = 3, slope: float = 0.0, placement: str | None = None,
          norm_options: Mapping[str, Any] | None = None, weight_options: Mapping[str, Any] | None = None, modulation: float = 0.0,
          activation: str = "relu", **options: Any) -> nn.Module:
    """A network for images (N, in_channels, H, W), 32×32 unless its file says otherwise, that gives scores (N, classes).

    Args:
        name: a key of `MODELS`.
        norm: a key of `models.parts.NORMS`; models/parts.py has their table. inplace_abn needs slope > 0.
        form: "composed", "derived" or a derivation's name, for all norms and weight normalizations; those that have no
            derivation of this name take their default one. Default: see `layers.use_form`.
        weight: a weight normalization for `layers.parametrize`, on every convolution except projection shortcuts, as in cwn.
            weight_standardization needs a norm behind it: its filters have length √(inputs · kernel).
        width: a factor for all numbers of channels.
        slope: of a leaky ReLU; 0 is ReLU.
        activation: a key of `models.parts.ACTIVATIONS`; with inplace_abn "relu" or "elu".
        placement: "all" norms are `norm`, or only the "first", the others batch norm. Default: "first" for whitening layers in
            networks with shortcuts, as in dbn, otherwise "all".
        norm_options, weight_options: keywords of the norm's Module and of `layers.parametrize`.
        modulation: strength of the gradient-magnitude modulation around every block, 0 (none) to 1: see `layers.Modulated`. A block
            is that of the network's file; in stacks without blocks, each convolution with its norm and activation.
        options: of the network: depth, shortcut, k, ...: see its file.

    Convolutions begin as He et al. [he2015] have it, Gaussian with variance gain²/fan, where fan is outputs · kernel as in the
    published code, or inputs · kernel with norm="none", when the size of activations depends on it. gain² is 2/(1 + slope²) for
    ReLU, and that of `nn.init.calculate_gain` for others (1 where it has none). Biases begin at 0.

    Raises:
        ValueError: an unknown name, form or placement, a number out of its range, or sizes that do not fit; the text lists the choices.
        TypeError: an option that this network does not have.

    >>> import minigrad as mg, models
    >>> model = models.build("resnet20", width=0.25, weight="centered_weight_norm", in_channels=1)
    >>> model(mg.tensor([[[[0.0] * 8] * 8]] * 2)).shape
    (2, 10)
    """
    choose("name", name, MODELS)
    choose("norm", norm, NORMS)
    choose("weight", weight, (None, *RULES))
    derivations = [f for layer in (norm, weight) if layer in REGISTRY for f in REGISTRY[layer].derived]
    choose("form", form, (None, "composed", "derived", *derivations))
    allowed = [n for n in inspect.signature(MODELS[name]).parameters if n not in ("parts", "classes", "in_channels")]
    refuse_unknown("the options", name, options, allowed)
    parts = Parts(norm, form, slope, width, placement, dict(norm_options or {}), modulation, activation)
    model = MODELS[name](parts, classes=classes, in_channels=in_channels, **options)
    _initialize(model, slope, "fan_in" if norm == "none" else "fan_out", ACTIVATIONS[activation][1])
    if weight is not None:
        _parametrize(model, weight, form_for(weight, form), dict(weight_options or {}))
    return model


def _initialize(model: nn.Module, slope: float, mode: str, nonlinearity: str) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, slope, mode, nonlinearity)
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)


def _parametrize(model: nn.Module, weight: str, form: str | None, options: dict[str, Any]) -> None:
    for name, module in list(model.named_modules()):
        if not isinstance(module, nn.Conv2d) or ".downsample." in name:
            continue
        mine = dict(options)
        if weight == "orthogonal_weight_norm":  # centred filters of length d: no more than d − 1 can be orthogonal
            filters, length = module.weight.shape[0], module.weight.size // module.weight.shape[0]
            mine.setdefault("group_size", min(filters, max(1, length // 2)))
        layers.parametrize(module, weight, form=form, **mine)
