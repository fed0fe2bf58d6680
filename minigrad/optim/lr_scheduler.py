"""Learning-rate schedules with the names and values of `torch.optim.lr_scheduler`.

Each schedule is a function of the epoch t = 0, 1, 2, ... and of the learning rate lr₀ that a group had at the start;
`step()` goes on to the next t and writes the value into the groups. So a schedule overwrites what else writes "lr", and
several of them on one optimizer are combined by `SequentialLR`, not by stepping each.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import describe, error
from .optimizer import Optimizer


class LRScheduler:
    """What all schedules share: the counter and the learning rates at the start.

    Args:
        optimizer: its groups' "lr" are the values lr₀ (kept there as "initial_lr"), and are set to those of t = 0.
        last_epoch: −1 to start; to go on without `load_state_dict`, the t reached, with the optimizer's state loaded.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise error(TypeError, type(self).__name__, got=describe(optimizer), needs="an Optimizer",
                        fix="pass the optimizer, not the model")
        for group in optimizer.param_groups:
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise error(ValueError, type(self).__name__, got=f"last_epoch={last_epoch}, but no initial_lr in a group",
                            needs="an optimizer whose saved state has been loaded",
                            fix="optimizer.load_state_dict(...) first, or last_epoch=-1")
        self.optimizer = optimizer
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def lr_at(self, t: int, base: float, group: int) -> float:
        """Learning rate of group number `group`, whose lr₀ is `base`, at epoch t."""
        raise NotImplementedError

    def step(self) -> None:
        """Go on to the next epoch: call it after the optimizer's steps."""
        self.last_epoch += 1
        for i, (group, base) in enumerate(zip(self.optimizer.param_groups, self.base_lrs)):
            group["lr"] = self.lr_at(self.last_epoch, base, i)

    def get_last_lr(self) -> list[float]:
        """The present learning rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """{"last_epoch", "base_lrs"}: all there is to save, as the schedule's arguments are in your program."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state. The present learning rates come with the optimizer's state."""
        if not isinstance(state_dict, Mapping) or not {"last_epoch", "base_lrs"} <= state_dict.keys():
            raise error(TypeError, f"load_state_dict of {type(self).__name__}", got=describe(state_dict), needs="what the state_dict() of a schedule returned",
                        fix="save schedule.state_dict() beside the model's, and pass it here")
        if len(state_dict["base_lrs"]) != len(self.base_lrs):
            raise error(ValueError, f"load_state_dict of {type(self).__name__}",
                        got=f"{len(state_dict['base_lrs'])} learning rates",
                        needs=f"{len(self.base_lrs)}, one for each group",
                        fix="build the optimizer with the groups of the saved one")
        self.last_epoch, self.base_lrs = state_dict["last_epoch"], list(state_dict["base_lrs"])


def _positive(op: str, name: str, value: Any) -> Any:
    if not value > 0:
        raise error(ValueError, op, got=f"{name}={value!r}", needs="a positive number", fix=f"check {name}")
    return value


class StepLR(LRScheduler):
    """lr₀·gamma^⌊t / step_size⌋."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size, self.gamma = _positive("StepLR", "step_size", step_size), gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: int, base: float, group: int) -> float:
        """Learning rate at epoch t."""
        return base * self.gamma ** (t // self.step_size)


class MultiStepLR(LRScheduler):
    """lr₀·gamma^(number of milestones up to t)."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1,
                 last_epoch: int = -1) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: int, base: float, group: int) -> float:
        """Learning rate at epoch t."""
        return base * self.gamma ** bisect.bisect_right(self.milestones, t)


class CosineAnnealingLR(LRScheduler):
    """eta_min + (lr₀ − eta_min)·(1 + cos(πt / T_max)) / 2."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = _positive("CosineAnnealingLR", "T_max", T_max), eta_min
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: int, base: float, group: int) -> float:
        """Learning rate at epoch t."""
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * t / self.T_max)) / 2


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

    def lr_at(self, t: int, base: float, group: int) -> float:
        """Learning rate at epoch t."""
        share = min(t, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * share)


class LambdaLR(LRScheduler):
    """lr₀·lr_lambda(t), with one function for all groups or a list with one for each."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
                 last_epoch: int = -1) -> None:
        groups = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise error(ValueError, "LambdaLR", got=f"{len(self.lr_lambdas)} functions for {groups} groups",
                        needs="one for each group", fix="pass one function for all of them")
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: int, base: float, group: int) -> float:
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
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: int, base: float, group: int) -> float:
        """Learning rate at epoch t."""
        i = bisect.bisect_right(self.milestones, t)
        return self.schedulers[i].lr_at(t - self.milestones[i - 1] if i else t, base, group)


__all__ = ["CosineAnnealingLR", "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR", "SequentialLR", "StepLR"]
