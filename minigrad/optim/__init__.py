"""Optimizers, learning-rate schedules and gradient clipping, with the names, defaults and formulas of `torch.optim`.

    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    for epoch in range(epochs):
        for x, t in batches:
            optimizer.zero_grad()
            loss(x, t).backward()
            optim.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        schedule.step()

A step writes into the parameters' arrays in place and never waits for a device. A backward over a tape recorded before
the step raises, because the step is stamped as a write.

>>> import minigrad as mg
>>> from minigrad import optim
>>> x = mg.tensor([1.0, 2.0], requires_grad=True)
>>> x.grad = mg.tensor([1.0, 0.0])
>>> optim.SGD([x], lr=0.5).step()
>>> x
tensor([0.5, 2. ], dtype=float32, requires_grad=True)
"""

from . import lr_scheduler as lr_scheduler
from .algorithms import *  # noqa: F403
from .clip import *  # noqa: F403
from .lr_scheduler import *  # noqa: F403
from .optimizer import *  # noqa: F403
