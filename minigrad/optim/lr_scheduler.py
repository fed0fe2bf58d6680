"""Learning-rate schedules with the names and values of `torch.optim.lr_scheduler`.

Each schedule is a function of the epoch t = 0, 1, 2, ... and of the learning rate lr₀ that a group had at the start;
`step()` goes on to the next t and writes the value into the groups. So a schedule overwrites what others write to "lr", and
several of them on one optimizer are combined by `SequentialLR`, not by stepping each.

To resume, load the optimizer's state and the schedule's, in any order, before or after the schedule is built: lr₀ is in the
groups ("initial_lr"), a new schedule that starts at lr₀ leaves "lr" as it is, and loading a schedule writes "lr".
`ReduceLROnPlateau` is not a function of t: it looks at a metric.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..core.errors import describe, error
from .optimizer import Optimizer


class LRScheduler:
    """What all schedules share: the counter and the learning rates at the start.

    Args:
        optimizer: its groups' "initial_lr" or, where there is none yet, "lr" are the values lr₀ (kept there as "initial_lr").
            Their "lr" is set to that of t = 0 if this is not lr₀: a loaded "lr" is not lost.
        last_epoch: −1 to start; to go on without `load_state_dict`, the t reached, with the optimizer's state loaded.
    """

    _kept: tuple[str, ...] = ("initial_lr",)  # what a schedule keeps in the groups

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise error(TypeError, type(self).__name__, got=describe(optimizer), needs="an Optimizer",
                        fix="pass the optimizer, not the model")
        for group in optimizer.param_groups:
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif missing := [name for name in self._kept if name not in group]:
                raise error(ValueError, type(self).__name__, got=f"last_epoch={last_epoch}, but no {' and '.join(missing)} in a group",
                            needs="an optimizer whose saved state has been loaded",
                            fix="optimizer.load_state_dict(...) first, or last_epoch=-1")
        self.optimizer = optimizer
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch: float = last_epoch + 1  # a fraction only where `step` of a schedule takes one
        for i, (group, base) in enumerate(zip(optimizer.param_groups, self.base_lrs)):
            lr = self.lr_at(self.last_epoch, base, i)
            if self.last_epoch or not math.isclose(lr, base):
                group["lr"] = lr

    def lr_at(self, t: float, base: float, group: int) -> float:
        """Learning rate of group number `group`, whose lr₀ is `base`, at epoch t."""
        raise NotImplementedError

    def step(self) -> None:
        """Go on to the next epoch: call it after the optimizer's steps."""
        self.last_epoch += 1
        self._write(self.last_epoch, self.base_lrs)

    def _write(self, t: float, base_lrs: Sequence[float]) -> None:
        for i, (group, base) in enumerate(zip(self.optimizer.param_groups, base_lrs)):
            group["lr"] = self.lr_at(t, base, i)

    def get_last_lr(self) -> list[float]:
        """The present learning rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """{"last_epoch", "base_lrs"}: all there is to save, as the schedule's arguments are in your program."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state, with its learning rates at once."""
        if not isinstance(state_dict, Mapping) or not {"last_epoch", "base_lrs"} <= state_dict.keys():
            raise error(TypeError, f"load_state_dict of {type(self).__name__}", got=describe(state_dict), needs="what the state_dict() of a schedule returned",
                        fix="save schedule.state_dict() beside the model's, and pass it here")
        if len(state_dict["base_lrs"]) != len(self.base_lrs):
            raise error(ValueError, f"load_state_dict of {type(self).__name__}",
                        got=f"{len(state_dict['base_lrs'])} learning rates",
                        needs=f"{len(self.base_lrs)}, one for each group",
                        fix="build the optimizer with the groups of the saved one")
        self.last_epoch, self.base_lrs = state_dict["last_epoch"], list(state_dict["base_lrs"])
        self._write(self.last_epoch, self.base_lrs)


def _for_each_group(op: str, name: str, value: Any, optimizer: Any) -> list[float]:
    """A number, or a list of one for each group, as a list."""
    groups = len(getattr(optimizer, "param_groups", ()))
    values = list(value) if isinstance(value, (list, tuple)) else [value] * groups
    if len(values) != groups:
        raise error(ValueError, op, got=f"{len(values)} values of {name} for {groups} groups", needs="one for each group",
                    fix="pass one number for all of them")
    return values


def _positive(op: str, name: str, value: Any) -> Any:
    if not value > 0:
        raise error(ValueError, op, got=f"{name}={value!r}", needs="a positive number", fix=f"check {name}")
    return value


class StepLR(LRScheduler):
    """lr₀·gamma^⌊t / step_size⌋."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size, self.gamma = _positive("StepLR", "step_size", step_size), gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: float, base: float, group: int) -> float:
        """Learning rate at epoch t."""
        return base * self.gamma ** (t // self.step_size)


class MultiStepLR(LRScheduler):
    """lr₀·gamma^(number of milestones up to t)."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1,
                 last_epoch: int = -1) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: float, base: float, group: int) -> float:
        """Learning rate at epoch t."""
        return base * self.gamma ** bisect.bisect_right(self.milestones, t)


class ExponentialLR(LRScheduler):
    """lr₀·gammaᵗ."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: float, base: float, group: int) -> float:
        """Learning rate at epoch t."""
        return base * self.gamma**t


class CosineAnnealingLR(LRScheduler):
    """eta_min + (lr₀ − eta_min)·(1 + cos(πt / T_max)) / 2."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = _positive("CosineAnnealingLR", "T_max", T_max), eta_min
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: float, base: float, group: int) -> float:
        """Learning rate at epoch t."""
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * t / self.T_max)) / 2


class CosineAnnealingWarmRestarts(LRScheduler):
    """Half a cosine from lr₀ down to eta_min in T_0 epochs, then again in T_0·T_mult, T_0·T_mult², ... epochs.

    Source: Loshchilov & Hutter [loshchilov2017]. ``step(t)`` goes to any epoch, which may be a fraction (epoch + batch / batches).
    """

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        for name, value in (("T_0", T_0), ("T_mult", T_mult)):
            if not isinstance(value, int) or value < 1:
                raise error(ValueError, "CosineAnnealingWarmRestarts", got=f"{name}={value!r}", needs="an integer of at least 1", fix=f"check {name}")
        self.T_0, self.T_mult, self.eta_min = T_0, T_mult, eta_min
        super().__init__(optimizer, last_epoch)

    def step(self, epoch: float | None = None) -> None:
        """Go on to the next epoch, or to the one given."""
        if epoch is not None:
            if epoch < 0:
                raise error(ValueError, "CosineAnnealingWarmRestarts.step", got=f"epoch={epoch!r}", needs="an epoch of at least 0", fix="count from 0")
            self.last_epoch = epoch - 1
        super().step()

    def lr_at(self, t: float, base: float, group: int) -> float:
        """Learning rate at epoch t."""
        length: int = self.T_0
        if self.T_mult == 1:
            t = t % length
        while t >= length:
            t, length = t - length, length * self.T_mult
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * t / length)) / 2


class OneCycleLR(LRScheduler):
    """Up from max_lr / div_factor to max_lr, and down to the first value divided by final_div_factor; momentum the other way.

    Source: Smith & Topin [smith2018]. One step per *batch*; the groups keep "max_lr", "min_lr", "max_momentum" and "base_momentum".

    Args:
        max_lr: the highest learning rate; a number, or a list with one for each group. It replaces the groups' "lr".
        total_steps: the number of values, or in its place epochs and steps_per_epoch.
        pct_start: the share of the steps in which lr rises.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: move "momentum", or the first of "betas", between base_momentum and max_momentum.
        three_phase: down to the first value as slowly as up, and then to the last one.

    Raises:
        ValueError: a step beyond total_steps.
    """

    _kept = ("initial_lr", "max_lr", "min_lr")

    def __init__(self, optimizer: Optimizer, max_lr: float | Sequence[float], total_steps: int | None = None, epochs: int | None = None,
                 steps_per_epoch: int | None = None, pct_start: float = 0.3, anneal_strategy: str = "cos", cycle_momentum: bool = True,
                 base_momentum: float | Sequence[float] = 0.85, max_momentum: float | Sequence[float] = 0.95, div_factor: float = 25.0,
                 final_div_factor: float = 1e4, three_phase: bool = False, last_epoch: int = -1) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise error(ValueError, "OneCycleLR", got="no length", needs="total_steps, or epochs and steps_per_epoch",
                            fix="total_steps=epochs * len(batches)")
            total_steps = epochs * steps_per_epoch
        self.total_steps: int = _positive("OneCycleLR", "total_steps", total_steps)
        if not 0 <= pct_start <= 1 or anneal_strategy not in ("cos", "linear"):
            raise error(ValueError, "OneCycleLR", got=f"pct_start={pct_start!r} and anneal_strategy={anneal_strategy!r}",
                        needs="a share from 0 to 1, and 'cos' or 'linear'", fix="leave them out for 0.3 and 'cos'")
        self.anneal_strategy, self.cycle_momentum, options = anneal_strategy, cycle_momentum, getattr(optimizer, "defaults", {})
        if cycle_momentum and options and not {"momentum", "betas"} & options.keys():
            raise error(ValueError, "OneCycleLR", got=f"the options {list(options)}", needs="momentum or betas among them", fix="cycle_momentum=False")
        values = {"max_lr": max_lr, "max_momentum": max_momentum, "base_momentum": base_momentum}
        lists = {name: _for_each_group("OneCycleLR", name, value, optimizer) for name, value in values.items()}
        for i, group in enumerate(getattr(optimizer, "param_groups", ()) if last_epoch == -1 else ()):
            group["max_lr"] = lists["max_lr"][i]
            group["initial_lr"] = group["max_lr"] / div_factor
            group["min_lr"] = group["initial_lr"] / final_div_factor
            if cycle_momentum:
                group.update({name: lists[name][i] for name in ("max_momentum", "base_momentum")})
        first, last = pct_start * total_steps - 1, total_steps - 1.0  # the steps at which the values below are reached, in a group's names
        self._phases: list[tuple[Any, ...]] = [(first, "max_lr", "base_momentum"), (last, "min_lr", "max_momentum")]
        if three_phase:
            self._phases.insert(1, (2 * first, "initial_lr", "max_momentum"))
        super().__init__(optimizer, last_epoch)
        self._write(self.last_epoch, self.base_lrs)

    def _between(self, t: float, group: dict[str, Any], start: str, which: int) -> float:
        """The value at step t of what begins at group[start] and goes through the values of the phases (1: lr, 2: momentum)."""
        begin, low = 0.0, group[start]
        for phase in self._phases:
            end, high = phase[0], group[phase[which]]
            if t <= end or phase is self._phases[-1]:
                break
            begin, low = end, high
        share = (t - begin) / (end - begin) if end > begin else 1.0
        return high + (low - high) / 2 * (1 + math.cos(math.pi * share)) if self.anneal_strategy == "cos" else (high - low) * share + low

    def lr_at(self, t: float, base: float, group: int) -> float:
        """Learning rate at step t."""
        if t > self.total_steps:
            raise error(ValueError, "OneCycleLR.step", got=f"step {t}", needs=f"at most total_steps={self.total_steps}",
                        fix="total_steps=epochs * len(batches)")
        return self._between(t, self.optimizer.param_groups[group], "initial_lr", 1)

    def _write(self, t: float, base_lrs: Sequence[float]) -> None:
        super()._write(t, base_lrs)
        for group in self.optimizer.param_groups if self.cycle_momentum else ():
            momentum = self._between(t, group, "max_momentum", 2)
            group.update({"betas": (momentum, *group["betas"][1:])} if "betas" in group else {"momentum": momentum})


class LinearLR(LRScheduler):
    """lr₀ times a factor that goes from start_factor to end_factor in total_iters steps: a warm-up.

    Args:
        start_factor: above 0, at most 1.
        end_factor: from 0 to 1.
    """

    def __init__(self, optimizer: Optimizer, start_factor: float = 1.0 / 3, end_factor: float = 1.0,
                 total_iters: int = 5, last_epoch: int = -1) -> None:
        if not (0 < start_factor <= 1 and 0 <= end_factor <= 1):
            raise error(ValueError, "LinearLR", got=f"start_factor={start_factor!r} and end_factor={end_factor!r}",
                        needs="factors up to 1, the first above 0", fix="make lr the largest value that you want")
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = _positive("LinearLR", "total_iters", total_iters)
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: float, base: float, group: int) -> float:
        """Learning rate at epoch t."""
        share = min(t, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * share)


class LambdaLR(LRScheduler):
    """lr₀·lr_lambda(t), with one function for all groups or a list with one for each."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[Any], float] | Sequence[Callable[[Any], float]],
                 last_epoch: int = -1) -> None:
        groups = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise error(ValueError, "LambdaLR", got=f"{len(self.lr_lambdas)} functions for {groups} groups",
                        needs="one for each group", fix="pass one function for all of them")
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: float, base: float, group: int) -> float:
        """Learning rate at epoch t."""
        return base * self.lr_lambdas[group](t)


class SequentialLR(LRScheduler):
    """One schedule after the other: number i takes over at milestones[i − 1], and counts its epochs from there.

    >>> import minigrad as mg
    >>> from minigrad import optim
    >>> optimizer = optim.SGD([mg.tensor([0.0], requires_grad=True)], lr=1.0)
    >>> warm_up = optim.LinearLR(optimizer, 0.5, total_iters=2)
    >>> schedule = optim.SequentialLR(optimizer, [warm_up, optim.StepLR(optimizer, 2)], [2])
    >>> rates = []
    >>> for t in range(6):
    ...     rates += schedule.get_last_lr()
    ...     schedule.step()
    >>> rates
    [0.5, 0.75, 1.0, 1.0, 0.1, 0.1]
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int],
                 last_epoch: int = -1) -> None:
        if not schedulers or len(milestones) != len(schedulers) - 1 or list(milestones) != sorted(milestones):
            raise error(ValueError, "SequentialLR",
                        got=f"{len(schedulers)} schedules and the milestones {list(milestones)}",
                        needs="rising milestones, one fewer than schedules",
                        fix="SequentialLR(optimizer, [warm_up, cosine], milestones=[5])")
        if any(s.optimizer is not optimizer for s in schedulers):
            raise error(ValueError, "SequentialLR", got="a schedule of another optimizer", needs="schedules of this one",
                        fix="build all of them with the same optimizer")
        if any(isinstance(s, ReduceLROnPlateau) for s in schedulers):
            raise error(TypeError, "SequentialLR", got="a ReduceLROnPlateau", needs="schedules that are functions of the epoch",
                        fix="step it by itself: plateau.step(validation_loss)")
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        super().__init__(optimizer, last_epoch)
        self._write(self.last_epoch, self.base_lrs)  # over what the single schedules wrote

    def lr_at(self, t: float, base: float, group: int) -> float:
        """Learning rate at epoch t."""
        schedule, t = self._at(t)
        return schedule.lr_at(t, base, group)

    def _at(self, t: float) -> tuple[LRScheduler, float]:
        i = bisect.bisect_right(self.milestones, t)
        return self.schedulers[i], t - self.milestones[i - 1] if i else t

    def _write(self, t: float, base_lrs: Sequence[float]) -> None:
        schedule, t = self._at(t)
        schedule._write(t, base_lrs)


class ReduceLROnPlateau:
    """lr·factor whenever a metric has not become better for more than `patience` calls of ``step(metric)``.

    Args:
        mode: "min": smaller is better; or "max".
        factor: below 1.
        threshold, threshold_mode: better means below best·(1 − threshold) ("rel") or best − threshold ("abs"); for "max" above, with +.
        cooldown: calls after a reduction in which nothing is counted.
        min_lr: never below; a number, or a list with one for each group.
        eps: a reduction by no more than this is left out.
    """

    def __init__(self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10, threshold: float = 1e-4,
                 threshold_mode: str = "rel", cooldown: int = 0, min_lr: float | Sequence[float] = 0, eps: float = 1e-8) -> None:
        if not isinstance(optimizer, Optimizer):
            raise error(TypeError, "ReduceLROnPlateau", got=describe(optimizer), needs="an Optimizer", fix="pass the optimizer, not the model")
        if not factor < 1 or mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise error(ValueError, "ReduceLROnPlateau", got=f"mode={mode!r}, factor={factor!r} and threshold_mode={threshold_mode!r}",
                        needs="'min' or 'max', a factor below 1, and 'rel' or 'abs'", fix="factor=0.1 divides by ten")
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode, self.cooldown, self.eps = threshold, threshold_mode, cooldown, eps
        self.min_lrs = _for_each_group("ReduceLROnPlateau", "min_lr", min_lr, optimizer)
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    def step(self, metrics: Any) -> None:
        """Look at the metric (a number, or a Tensor or array of one element, which then waits for its device) and reduce lr if it is time."""
        value = float(metrics.item() if hasattr(metrics, "item") else metrics)
        self.last_epoch += 1
        sign = 1 if self.mode == "min" else -1
        limit = self.best * (1 - sign * self.threshold) if self.threshold_mode == "rel" else self.best - sign * self.threshold
        better = sign * value < sign * limit
        if better:
            self.best = value
        self.num_bad_epochs = 0 if better else self.num_bad_epochs + 1
        if self.cooldown_counter > 0:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown_counter - 1, 0
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
            for group, least in zip(self.optimizer.param_groups, self.min_lrs):
                lr = max(group["lr"] * self.factor, least)
                if group["lr"] - lr > self.eps:
                    group["lr"] = lr

    def get_last_lr(self) -> list[float]:
        """The present learning rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What it has seen. The learning rates are in the optimizer's state, the arguments in your program."""
        return {name: getattr(self, name) for name in ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state."""
        for name in self.state_dict():
            setattr(self, name, state_dict[name])


__all__ = ["CosineAnnealingLR", "CosineAnnealingWarmRestarts", "ExponentialLR", "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR", "OneCycleLR",
           "ReduceLROnPlateau", "SequentialLR", "StepLR"]
