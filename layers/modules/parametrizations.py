"""Weight normalizations on Modules: the weight becomes a computed property, the parameters are what it is computed from.

    model = layers.parametrize(nn.Linear(20, 30), "weight_norm")
    model.weight                                                     # computed again at each access, on the tape
    list(model.state_dict())                                         # PyTorch's keys:
    ['bias', 'parametrizations.weight.original0', 'parametrizations.weight.original1']
    layers.remove_parametrization(model)                             # an ordinary weight again, with the present values

    name                      options (default)                   originals
    weight_norm                                                   original0 = gain (out, 1, ...), original1 = v
    centered_weight_norm      scale (True; False is cwn's "NS")   with scale as weight_norm, else original = v
    weight_standardization    eps (1e-5)                          original = v
    orthogonal_weight_norm    eps (1e-5), group_size (None),      with scale as weight_norm, else original = v
                              scale (False)
    spectral_norm             n_power_iterations (1),             original = W; buffers 0._u (out,), 0._v (d,)
                              eps (1e-12)

v starts as the weight. Gains start as the lengths of v's filters (centred where the layer centres them), so that
weight_norm changes no value at first. The Module's class becomes a subclass with the property, as in PyTorch; `copy.deepcopy`,
`state_dict`, optimizers and `summary` need nothing special.

Source: torch.nn.utils.parametrizations and torch.nn.utils.parametrize, names and state_dict keys.
"""

from __future__ import annotations

import inspect
from functools import cache
from math import prod
from typing import Any, TypeVar

import minigrad as mg
from minigrad import maximum, mean, nn, reshape, sqrt
from minigrad import sum as sum_
from minigrad.core import storage
from minigrad.core.errors import describe, error, integer
from minigrad.core.tensor import state
from minigrad.kernels.half import in_float32, widened

from ..forms import chosen_form
from ..registry import REGISTRY

M = TypeVar("M", bound=nn.Module)

# -- the rules: from originals to the weight ----------------------------------------------------------------------------


class Rule(nn.Module):
    """One registered function as a parametrization, with a gain for each filter if `scale`.

    `start` gives the first values of the originals for a weight, `forward` the weight for the originals.
    """

    name = ""

    def __init__(self, weight: Any, form: str | None, scale: bool = False, **keywords: Any) -> None:
        super().__init__()
        self.form, self.scale, self.keywords = form or chosen_form(), scale, keywords
        REGISTRY[self.name].form(self.form)  # a wrong name fails here

    def start(self, weight: Any) -> tuple[Any, ...]:
        """(gain, v), or (v,) without a scale. v is `weight` itself."""
        if not self.scale:
            return (weight,)
        with mg.no_grad():
            return _lengths(weight, centred=True), weight

    def forward(self, *originals: Any) -> Any:
        """(gain,) v -> weight."""
        w = REGISTRY[self.name].form(self.form)(originals[-1], **self.keywords)
        return w * originals[0] if self.scale else w

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        options = {**self.keywords, **({"scale": True} if self.scale else {}), "form": self.form}
        return ", ".join(f"{k}={v!r}" for k, v in options.items())


@in_float32
def _lengths(weight: Any, *, centred: bool) -> Any:
    """‖filter‖ of each filter, (out, 1, ...), if `centred` without its mean."""
    axes = tuple(range(1, weight.ndim))
    v = weight - mean(weight, axes, keepdims=True) if centred else weight
    return sqrt(sum_(v * v, axes, keepdims=True))


class WeightNorm(Rule):
    """gain · v/‖v‖."""

    name = "weight_norm"

    def __init__(self, weight: Any, form: str | None) -> None:
        super().__init__(weight, form)

    def start(self, weight: Any) -> tuple[Any, ...]:
        """(‖v‖, v)."""
        with mg.no_grad():
            return _lengths(weight, centred=False), weight

    def forward(self, *originals: Any) -> Any:
        """gain (out, 1, ...), v -> weight."""
        gain, v = originals
        return REGISTRY[self.name].form(self.form)(v, reshape(gain, (-1,)))


class CenteredWeightNorm(Rule):
    """gain · (v − mean v)/‖v − mean v‖."""

    name = "centered_weight_norm"

    def __init__(self, weight: Any, form: str | None, scale: bool = True) -> None:
        super().__init__(weight, form, scale)


class WeightStandardization(Rule):
    """(v − mean v)/√(var v + ε)."""

    name = "weight_standardization"

    def __init__(self, weight: Any, form: str | None, eps: float = 1e-5) -> None:
        super().__init__(weight, form, eps=eps)


class OrthogonalWeightNorm(Rule):
    """gain · (Vc Vcᵀ + εI)^(−1/2) Vc for each group of filters."""

    name = "orthogonal_weight_norm"

    def __init__(self, weight: Any, form: str | None, eps: float = 1e-5, group_size: int | None = None, scale: bool = False) -> None:
        super().__init__(weight, form, scale, eps=eps, group_size=group_size)


class SpectralNorm(Rule):
    """W/‖Wᵀu‖, with u from power iteration: a few steps at each access in training, none in evaluation.

    Like PyTorch's, except for one thing: in evaluation σ is ‖Wᵀu‖ for the *present* W; PyTorch uses uᵀWv with the v of the last
    training step, which is smaller by a term of second order in what the optimizer has changed since.
    """

    name = "spectral_norm"
    _wide_buffers = ("_u", "_v")

    def __init__(self, weight: Any, form: str | None, n_power_iterations: int = 1, eps: float = 1e-12) -> None:
        super().__init__(weight, form)
        self.n_power_iterations, self.eps = integer("spectral_norm", "n_power_iterations", n_power_iterations, 1), eps
        for name, size in (("_u", weight.shape[0]), ("_v", prod(weight.shape[1:]))):
            start = mg.tensor([0.0] * size, backend=weight.backend).astype(widened(weight).dtype)
            self.register_buffer(name, _unit(nn.init.normal_(start), eps))
        self._advance(weight, 15)

    def forward(self, *originals: Any) -> Any:
        """W -> W/σ."""
        (w,) = originals
        if self.training and not state.checking:
            self._advance(w, self.n_power_iterations)
        # a copy: a later forward moves _u, and this one's backward still needs the old values
        return REGISTRY[self.name].form(self.form)(w, u=self._u.clone())

    def _advance(self, w: Any, steps: int) -> None:
        """u ← unit(W v), v ← unit(Wᵀ u), `steps` times, without waiting for a GPU."""
        with mg.no_grad():
            matrix, u, v = widened(reshape(w, (w.shape[0], -1))), self._u, self._v
            for _ in range(steps):
                u = _unit(matrix @ v, self.eps)
                v = _unit(matrix.T @ u, self.eps)
        for buffer, new in ((self._u, u), (self._v, v)):
            buffer._data[...] = new._data
            storage.record_write(buffer._data, "spectral norm's power iteration")

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"n_power_iterations={self.n_power_iterations}, eps={self.eps}, form={self.form!r}"


def _unit(x: Any, eps: float) -> Any:
    return x / maximum(sqrt(sum_(x * x)), eps)


RULES: dict[str, type[Rule]] = {rule.name: rule for rule in (WeightNorm, CenteredWeightNorm, WeightStandardization, OrthogonalWeightNorm, SpectralNorm)}

# -- putting them on a Module -------------------------------------------------------------------------------------------


class Parametrization(nn.Module):
    """The originals of one computed tensor; the rule is its submodule "0". A call computes the tensor."""

    def __init__(self, rule: Rule, originals: dict[str, Any]) -> None:
        super().__init__()
        for name, parameter in originals.items():
            self.register_parameter(name, parameter)
        self.register_module("0", rule)

    def forward(self) -> Any:
        """The computed tensor."""
        rule: Any = self._modules["0"]
        return rule.forward(*self._parameters.values())  # not rule(...): in a summary, the whole is one row


@cache
def _class_with(base: type[nn.Module], names: tuple[str, ...]) -> type[nn.Module]:
    """A subclass of `base` in which these attributes are computed; classes are never changed once they are made."""

    def refusing(self: Any, name: str, value: Any) -> None:
        if name in names:
            raise error(TypeError, f"{type(self).__name__}.{name} = ...", got=describe(value), needs=f"no assignment: {name} is computed from its originals",
                        fix=f"an nn.Parameter for module.parametrizations.{name}.{list(self.parametrizations[name]._parameters)[-1]}, "
                            f"or layers.remove_parametrization(module, {name!r}) first")
        base.__setattr__(self, name, value)

    def computed(name: str) -> property:
        return property(lambda self: self.parametrizations[name](), doc=f"{name}, computed from module.parametrizations.{name}.")

    return type(f"Parametrized{base.__name__}", (base,), {"__module__": __name__, "__doc__": base.__doc__, "__setattr__": refusing,
                                                         "_unparametrized": base, "_computed": names, **{n: computed(n) for n in names}})


def _become(module: Any, names: tuple[str, ...]) -> None:
    """Give `module` the class in which exactly these attributes are computed."""
    base: Any = getattr(type(module), "_unparametrized", type(module))
    module.__class__ = _class_with(base, names) if names else base


def parametrize(module: M, name: str, *, tensor_name: str = "weight", form: str | None = None, **options: Any) -> M:
    """Compute a parameter of `module` (a weight of shape (out, in, *kernel)) by a weight normalization, from now on.

    Args:
        module: a layer with this parameter, such as nn.Linear or nn.Conv2d. It is changed in place.
        name: "weight_norm", "centered_weight_norm", "weight_standardization", "orthogonal_weight_norm" or "spectral_norm".
        tensor_name: the parameter.
        form: "composed", "derived" or a derivation's name; default: see `use_form`.
        options: of the normalization, see the table at the top of this file.

    Returns:
        The module. Nothing is cached: each access to the parameter computes it.

    Raises:
        ValueError: an unknown name, no such parameter, or one that is computed already.
        TypeError: an option that this normalization does not have.

    Make an optimizer afterwards: a gain is a new parameter. (v is the old one, so that an optimizer made before goes on with it.)

    >>> import layers
    >>> from minigrad import nn
    >>> layer = layers.parametrize(nn.Linear(3, 4), "weight_norm")
    >>> [name for name, _ in layer.named_parameters()]
    ['bias', 'parametrizations.weight.original0', 'parametrizations.weight.original1']
    >>> layer.weight.shape
    (4, 3)
    """
    if name not in RULES:
        raise error(ValueError, "parametrize", got=f"the name {name!r}", needs=f"one of {', '.join(RULES)}",
                    fix="add a penalty to the loss" if name == "orthonormality_penalty" else "check the spelling")
    done: tuple[str, ...] = getattr(type(module), "_computed", ())
    weight = module._parameters.get(tensor_name)
    if weight is None or weight.ndim < 2:
        has = ", ".join(n for n, p in module._parameters.items() if p is not None and p.ndim > 1) or "none"
        got = f"{tensor_name!r} of {type(module).__name__}" + (", which is computed already" if tensor_name in done else "")
        raise error(ValueError, "parametrize", got=got, needs=f"a parameter of the module itself, with two axes or more (it has: {has})",
                    fix="pass the layer rather than the network, or tensor_name=...")
    allowed = list(inspect.signature(RULES[name]).parameters)[2:]
    if not options.keys() <= {*allowed}:
        raise error(TypeError, "parametrize", got=f"the options {sorted(options)} for {name}", needs=f"options among {allowed}", fix="check the spelling")
    rule = RULES[name](weight, form, **options)
    *gains, _ = rule.start(weight)
    _rename(weight)
    originals = {"original0": nn.Parameter(gains[0], requires_grad=weight.requires_grad), "original1": weight} if gains else {"original": weight}
    delattr(module, tensor_name)
    _become(module, (*done, tensor_name))
    if not done:
        module.parametrizations = nn.ModuleDict()
    module.parametrizations[tensor_name] = Parametrization(rule, originals).train(module.training)
    return module


def remove_parametrization(module: M, tensor_name: str = "weight") -> M:
    """Make a computed parameter an ordinary one again, with its present values (of evaluation: no power iteration).

    The Parameter is the one that was `original` or `original1`, so that an optimizer goes on with it; its gradient is dropped.

    Returns:
        The module.

    Raises:
        ValueError: `tensor_name` is not computed.
    """
    done: tuple[str, ...] = getattr(type(module), "_computed", ())
    if tensor_name not in done:
        raise error(ValueError, "remove_parametrization", got=f"{tensor_name!r} of {type(module).__name__}",
                    needs=f"a computed parameter (it has: {', '.join(done) or 'none'})", fix="pass the layer that was parametrized, and its tensor_name")
    parametrization: Any = module.parametrizations[tensor_name]
    with mg.no_grad():
        value = parametrization.eval()()
    parameter = list(parametrization._parameters.values())[-1]
    parameter.data, parameter.grad = value, None
    _rename(parameter)
    left = tuple(n for n in done if n != tensor_name)
    _become(module, left)
    delattr(module.parametrizations, tensor_name)
    if not left:
        del module.parametrizations
    module.register_parameter(tensor_name, parameter)
    return module


def _rename(parameter: nn.Parameter) -> None:
    """Forget the name of its tape line: it gets the one of its new place."""
    if parameter._line is not None:
        parameter._line.note("name", None)


__all__ = ["parametrize", "remove_parametrization"]
