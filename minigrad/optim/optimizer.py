"""The part that all optimizers share: groups, options, state, and the loop over the parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..core import backend
from ..core.backend import Array
from ..core.errors import BackendError, describe, error, left_out
from ..core.storage import record_write
from ..core.tensor import Tensor
from ..kernels.half import is_half, widened

HINTS = ("foreach", "fused", "capturable")  # options of PyTorch that say how to compute, not what: accepted, and nothing to do
SCHEDULED = ("initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum")  # what schedules keep in a group
BLOCK = 1 << 16  # elements; on NumPy a step goes through large parameters in blocks that stay in the cache


class Optimizer:
    """Base class of all optimizers.

    `param_groups` is a list of dictionaries: "params" and one entry for each option, which may be changed at any time.
    `state` maps a parameter to its raw buffers ("momentum_buffer", "exp_avg", ...) and Python numbers ("step"). Buffers of a
    float16 parameter are float32, and so is a step, after which the parameter is rounded once: Adam's eps of 1e-8 is 0 in float16.

    Args:
        params: leaf Tensors, or dictionaries {"params": Tensors, option: value}, one for each group.
        defaults: the options of groups that do not say otherwise.
        others: PyTorch's options foreach, fused and capturable, which change no value and are ignored; differentiable,
            which is left out; nothing else.

    Raises:
        ValueError: no parameters, a parameter twice, or an option out of range.
        TypeError: anything other than floating leaf Tensors.
    """

    _decoupled = False  # weight decay outside the gradient

    def __init__(self, params: Any, defaults: dict[str, Any], **others: Any) -> None:
        self.defaults = defaults
        self._check_names(others, known=())
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        self._scratch: dict[Any, Array] = {}
        if isinstance(params, (Tensor, Mapping)) or not isinstance(params, Iterable):
            raise self._error(TypeError, describe(params), "an iterable of Tensors or of dictionaries",
                              "model.parameters(), or [x] for one Tensor")
        given = list(params)
        if not given:
            raise self._error(ValueError, "no parameters", "at least one",
                              "create it after the layers; an iterator such as parameters() can be used only once")
        for group in given if isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(group)

    def _error(self, kind: type[Exception], got: str, needs: str, fix: str) -> Exception:
        return error(kind, type(self).__name__, got=got, needs=needs, fix=fix)

    def add_param_group(self, param_group: Any) -> None:
        """Train more parameters: {"params": Tensors, option: value}."""
        if not isinstance(param_group, Mapping) or "params" not in param_group:
            raise self._error(TypeError, describe(param_group), 'a dictionary with "params"',
                              'either only Tensors, or only dictionaries {"params": [...], "lr": 0.1}')
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        self._check_names(param_group)
        group = {**self._known(param_group), "params": params}
        for name, value in self.defaults.items():
            group.setdefault(name, value)
        known = {id(p) for other in self.param_groups for p in other["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise self._error(TypeError, describe(p), "Tensors", "of named_parameters() take the second of each pair")
            if not p.is_leaf or not backend.is_float(p.dtype):
                raise self._error(TypeError, describe(p) if p.is_leaf else f"{describe(p)}, the result of a taped op",
                                  "floating leaf Tensors", "optimize what the computation starts from")
            if id(p) in known:
                raise self._error(ValueError, f"{describe(p)} twice", "each parameter once",
                                  "list a shared parameter in one group only")
            known.add(id(p))
        self._check(group)
        group |= {name: float(v) for name, v in group.items() if isinstance(v, backend.np.generic)}
        self.param_groups.append(group)

    def _check_names(self, group: Mapping[str, Any], known: Sequence[str] = ("params", *SCHEDULED)) -> None:
        """Refuse options that are unknown, or that only PyTorch has."""
        left_out(type(self).__name__, "differentiable", bool(group.get("differentiable")), False, "write the step as ops on Tensors, inside create_graph=True")
        decoupled = bool(group.get("decoupled_weight_decay", self._decoupled))
        if decoupled != self._decoupled:
            raise self._error(ValueError, f"decoupled_weight_decay={decoupled}", f"{self._decoupled}", "AdamW has decoupled weight decay, Adam does not")
        unknown = group.keys() - {*self.defaults, *known, *HINTS, "differentiable", "decoupled_weight_decay"}
        if unknown:
            raise self._error(ValueError, f"the options {sorted(unknown)}", f"options among {list(self.defaults)}",
                              "check the spelling")

    def _known(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a group without those of PyTorch that mean nothing here."""
        return {name: value for name, value in group.items() if name in self.defaults or name in SCHEDULED or name == "params"}

    def _check(self, group: Mapping[str, Any]) -> None:
        """Refuse values out of range."""
        for name in ("lr", "momentum", "weight_decay", "eps", "alpha"):
            value = group.get(name, 0)
            if not isinstance(value, (int, float, backend.np.number)) or not 0 <= value < math.inf:
                raise self._error(ValueError, f"{name}={value!r}", "a number of at least 0", f"check {name}; of a 0-d array take .item()")
        betas = group.get("betas", (0, 0))
        if not isinstance(betas, (tuple, list)) or len(betas) != 2 or not all(0 <= b < 1 for b in betas):
            raise self._error(ValueError, f"betas={betas!r}", "two numbers from 0 to below 1", "betas=(0.9, 0.999)")
        if group.get("nesterov") and (not group["momentum"] or group["dampening"]):
            raise self._error(ValueError, f"momentum={group['momentum']} and dampening={group['dampening']}",
                              "a positive momentum and no dampening, because nesterov=True", "momentum=0.9, dampening=0")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or fill them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if p._grad is not None:
                    p._grad = None if set_to_none else Tensor(backend.namespace(p._grad._data).zeros_like(p._grad._data))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: called first, to compute the loss and its gradients; its result is returned.
        """
        writer = f"{type(self).__name__}.step"
        if closure is not None and not callable(closure):
            raise self._error(TypeError, f"step({describe(closure)})", "nothing, or a function that computes the loss and calls backward", "optimizer.step()")
        loss = None if closure is None else closure()
        for group in self.param_groups:
            todo: list[tuple[dict[str, Any], Array, Array]] = []
            for p in group["params"]:
                if p._grad is None:
                    continue
                array, g, state = p._data, p._grad._data, self.state.get(p)
                if state is None:
                    state = self.state[p] = {}
                if type(g) is not type(array) or (state and any(type(a) is not type(array) and backend.is_array(a) for a in state.values())):
                    raise error(BackendError, writer, got=f"a parameter on {p.backend!r} with a gradient or state elsewhere",
                                needs="all on one backend", fix="call model.to(...) before the first step")
                todo.append((state, array, g))
            xp = backend.namespace(todo[0][1]) if todo else backend.np
            together = xp is not backend.np and self._update_together(xp, group, todo)
            for state, array, g in todo:
                if not together:
                    p = widened(array)
                    self._update(backend.namespace(array), group, state, p, widened(g))
                    if p is not array:
                        array[...] = p
                record_write(array, writer)
        return loss

    def _update_together(self, xp: Any, group: dict[str, Any], todo: Sequence[tuple[dict[str, Any], Array, Array]]) -> bool:
        """Update all (state, parameter, gradient) in one go where there is a kernel for them; False, and nothing done, if not."""
        return False

    def _update(self, xp: Any, group: dict[str, Any], state: dict[str, Any], p: Array, g: Array) -> None:
        """Write the new values into the array `p`; `g` is its gradient and must not change."""
        raise NotImplementedError

    def _blocks(self, xp: Any, g: Array, *written: Array) -> Iterator[tuple[Array, ...]]:
        """(g, *written, and two scratch arrays): whole, or (large ones on NumPy) block by block as flat views."""
        p = written[0]
        whole = p.size <= BLOCK or xp is not backend.np or not all(a.flags.c_contiguous for a in written)
        size, key = p.size if whole else BLOCK, (type(p), p.dtype)
        if key not in self._scratch or self._scratch[key].shape[1] < size:
            self._scratch[key] = xp.empty((2, size), dtype=p.dtype)
        one, two = self._scratch[key][0], self._scratch[key][1]
        if whole:
            yield g, *written, one[:size].reshape(p.shape), two[:size].reshape(p.shape)
            return
        flat = [a.reshape(-1) for a in (g, *written)]
        for i in range(0, p.size, BLOCK):
            n = min(BLOCK, p.size - i)
            yield *(a[i:i + n] for a in flat), one[:n], two[:n]

    # -- saving ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Buffers and options, with numbers in the place of parameters; names, shapes and numbers are PyTorch's.

        Returns:
            {"state": {number: {name: Tensor or Python number}}, "param_groups": [{"params": numbers, option: value}]}
            The Tensors share memory with the optimizer: `copy.deepcopy` them to keep a snapshot.
        """
        params = [p for group in self.param_groups for p in group["params"]]
        number = {id(p): i for i, p in enumerate(params)}
        state = {i: {name: Tensor(v) if backend.is_array(v) else v for name, v in self.state[p].items()}
                 for i, p in enumerate(params) if p in self.state}
        groups = [{**group, "params": [number[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a copy of a state, so that training goes on bit for bit: all of it or, on an error, nothing.

        Args:
            state_dict: as `state_dict` returns it, or that of PyTorch's optimizer of this name. Arrays may be Tensors or
                raw and of any backend, or of PyTorch; numbers of parameters may be text, and tuples lists: what JSON
                makes of them.

        Raises:
            TypeError: anything other than the state of an optimizer.
            ValueError: other groups or options, or buffers of another shape or dtype.
        """
        if not isinstance(state_dict, Mapping) or not {"param_groups", "state"} <= state_dict.keys():
            part = isinstance(state_dict, Mapping) and "optimizer" in state_dict
            got = f"a dictionary of {', '.join(map(repr, list(state_dict)[:4])) or 'nothing'}" if isinstance(state_dict, Mapping) else describe(state_dict)
            raise self._error(TypeError, got, "what the state_dict() of an optimizer returned", 'pass its part of the saved state: state["optimizer"]'
                              if part else "save optimizer.state_dict() beside the model's, and pass it here")
        fix = "build the optimizer with the groups and the class of the saved one"
        for group in state_dict["param_groups"]:
            self._check_names(group)
        groups = [{k: tuple(v) if k == "betas" else v for k, v in self._known(group).items()} for group in state_dict["param_groups"]]
        sizes, own_sizes = ([len(group["params"]) for group in gs] for gs in (groups, self.param_groups))
        if sizes != own_sizes:
            raise self._error(ValueError, f"a state for groups of {sizes} parameters", f"groups of {own_sizes}", fix)
        parameter: dict[int, Tensor] = {}
        for saved, own in zip(groups, self.param_groups):
            if self.defaults.keys() - saved.keys():
                raise self._error(ValueError, f"a state with the options {[k for k in saved if k != 'params']}",
                                  f"{list(self.defaults)}", fix)
            self._check(saved)
            parameter.update(zip(saved.pop("params"), own["params"]))
        new: dict[Tensor, dict[str, Any]] = {}
        for key, values in state_dict["state"].items():
            p = parameter.get(int(key))
            if p is None:
                raise self._error(ValueError, f"a state of parameter {key}", f"numbers among {list(parameter)}", fix)
            new[p] = {name: _plain(name, v) for name, v in values.items() if v is not None}
            for name, v in new[p].items():
                if backend.is_array(v):
                    wanted = "float32" if is_half(p) else str(p.dtype)
                    if v.shape != p.shape or v.dtype != wanted:
                        raise self._error(ValueError, f"{name} of parameter {key}: {describe(v)}", f"shape {p.shape} and dtype {wanted}", fix)
                    new[p][name] = backend.asarray(v, None, p.backend).copy()
        self.state = new
        for saved, own in zip(groups, self.param_groups):
            own.update(saved)

    def __repr__(self) -> str:
        rows = []
        for i, group in enumerate(self.param_groups):
            options = ", ".join(f"{k}={v}" for k, v in group.items() if k != "params")
            rows.append(f"  group {i}: {len(group['params'])} parameters, {options}")
        return "\n".join([f"{type(self).__name__} (", *rows, ")"])


def _plain(name: str, value: Any) -> Any:
    """A buffer as an array, and the number of steps, which PyTorch keeps in a tensor, as an integer."""
    if isinstance(value, Tensor):
        value = value._data
    elif hasattr(value, "__array__") and not backend.is_array(value):  # PyTorch's
        value = backend.np.asarray(backend.plain(value, "load_state_dict"))
    return int(value) if name == "step" else value


__all__ = ["Optimizer"]
