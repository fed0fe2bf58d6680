"""Both forms of a network trained side by side: do their gradients agree at every step?

    networks = {form: ... for form in ("composed", "derived")}     # built from one seed
    for step in trained_side_by_side(networks, twin, batches, optimizers, loss):
        print(step.loss, worst(step.differences))

Two networks that train by themselves drift apart, because rounding grows. So at every step the second form's gradient is also taken
at the parameters and running statistics of the first network, by a third network, the twin: what it differs by is rounding, or a mistake
in a derivation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import minigrad as mg
from minigrad import nn, optim
from minigrad.check.relative import relative_error, worst

Loss = Callable[[nn.Module, Any, Any], Any]


@dataclass
class Step:
    """What one step of `trained_side_by_side` found.

    Attributes:
        loss, seconds, kept: form -> loss, time of forward and backward, bytes that the first step's tape kept for the backward pass.
        differences: of the two forms' gradients at equal parameters, relative, one per parameter: see `differences`.
    """

    loss: dict[str, float]
    seconds: dict[str, float]
    kept: dict[str, int]
    differences: list[float]


def smooth_cross_entropy(model: nn.Module, x: Any, t: Any) -> Any:
    """Cross-entropy with label smoothing 0.1: its gradients stay well above rounding, however well a network has learnt."""
    return mg.cross_entropy(model(x), t, label_smoothing=0.1)


def differences(ours: Sequence[Any], reference: Sequence[Any]) -> list[float]:
    """Relative difference ‖a − b‖ / ‖b‖ of each of two lists of gradients (Tensors of equal shapes), in float64.

    The gradient of a parameter that the loss does not depend on, such as a bias in front of a norm, is rounding alone. So a norm
    ‖b‖ below a millionth of the largest one counts as that.
    """
    sizes = [relative_error(g, 0 * g, 1.0) for g in reference]  # ‖b‖
    floor = 1e-6 * worst(sizes)
    return [relative_error(a, b, max(size, floor)) for a, b, size in zip(ours, reference, sizes, strict=True)]


def compared(model: nn.Module, twin: nn.Module, x: Any, t: Any, loss: Loss = smooth_cross_entropy) -> list[float]:
    """Differences of the gradients of `model` and of `twin`, another form of it, at the parameters and statistics of `model`.

    `twin` gets the state of `model`; the running statistics of both move on by this batch.
    """
    twin.load_state_dict(model.state_dict())
    reference = mg.grad(loss(twin, x, t), list(twin.parameters()))
    return differences(mg.grad(loss(model, x, t), list(model.parameters())), reference)


def trained_side_by_side(networks: Mapping[str, nn.Module], twin: nn.Module, batches: Iterable[tuple[Any, Any]],
                         optimizers: Mapping[str, optim.Optimizer], loss: Loss = smooth_cross_entropy) -> Iterator[Step]:
    """Train the networks on the same batches, a step of each per batch; yields what was found, after the step.

    Args:
        networks: form -> network; two of them, with equal parameters at the start.
        twin: a network of the second form.
        batches: pairs (images, labels).
        optimizers: form -> the optimizer of that network's parameters.
        loss: of (network, images, labels) the scalar to minimize.
    """
    first, kept = next(iter(networks.values())), dict[str, int]()
    for x, t in batches:
        twin.load_state_dict(first.state_dict())
        reference = mg.grad(loss(twin, x, t), list(twin.parameters()))
        step = Step({}, {}, kept, [])
        for form, model in networks.items():
            parameters = list(model.parameters())
            start = time.perf_counter()
            value = loss(model, x, t)
            forward = time.perf_counter() - start
            if form not in kept:
                kept[form] = mg.tape(value).kept_bytes
            start = time.perf_counter()
            gradients = mg.grad(value, parameters)
            step.seconds[form] = forward + time.perf_counter() - start
            if model is first:
                step.differences = differences(gradients, reference)
            for parameter, g in zip(parameters, gradients, strict=True):
                parameter.grad = g
            optimizers[form].step()
            step.loss[form] = value.item()
        yield step


__all__ = ["Step", "compared", "differences", "smooth_cross_entropy", "trained_side_by_side"]
