"""A training in memory, for experiments: the trainer's step on images that are given, with what was measured as the result.

    model = models.build("tiny_cnn", in_channels=images.channels, size=images.pixels)
    history = fit(model, images, Options(epochs=5, lr=0.1, seed=seed))
    history["loss"], history["error"]                 # of each epoch: mean training loss, test error in %
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim
from scripts.options import Options
from scripts.trainer import build_optimizer, learning_rate

from .images import Images

Watch = Callable[[int, nn.Module, Any, Any], None]


def fit(model: nn.Module, images: Images, options: Options, *, watch: Watch | None = None) -> dict[str, Any]:
    """Train `model` in place.

    Args:
        options: of scripts.train; used are the optimizer's and the schedule's, epochs, max_steps, batch_size, augment, seed.
        watch: called after each backward and before the step, with the step's number from 0, the model, and the batch.

    Returns:
        "loss": mean training loss of each epoch; "error", "test_loss": in % and of the test images, after each epoch; "steps". A
        training whose loss is not finite ends there: "diverged" is True, and what it did not reach is chance level and infinity.
    """
    optimizer = build_optimizer(options, model)
    per_epoch = len(images.train[0]) // options.batch_size
    if not per_epoch:
        raise ValueError(f"batch_size={options.batch_size}: there are only {len(images.train[0])} training images")
    schedule = optim.LambdaLR(optimizer, lambda t: learning_rate(options, t, per_epoch))
    augment = data.Augment(0.0 if images.name == "digits" else 0.5, max(1, images.pixels // 8)) if options.augment else None
    history: dict[str, Any] = {"loss": [], "error": [], "test_loss": [], "steps": 0, "diverged": False}
    for epoch in range(options.epochs):
        losses = []
        for x, t in images.batches(options.batch_size, seed=options.seed, epoch=epoch, augment=augment):
            if options.max_steps is not None and history["steps"] >= options.max_steps:
                break
            loss = mg.cross_entropy(model(x), t, label_smoothing=options.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                history["diverged"] = True
                break
            if watch is not None:
                watch(history["steps"], model, x, t)
            if options.clip is not None:
                optim.clip_grad_norm_(model.parameters(), options.clip)
            optimizer.step()
            schedule.step()
            history["steps"] += 1
        if history["diverged"] or not losses:
            break
        found = evaluate(model, *images.test)
        history["loss"].append(float(np.mean(losses)))
        history["error"].append(found["error"])
        history["test_loss"].append(found["loss"])
    if history["diverged"]:
        chance = 100.0 * (1 - 1 / images.classes)
        for name, value in (("loss", math.inf), ("error", chance), ("test_loss", math.inf)):
            history[name] += [value] * (options.epochs - len(history[name]))
    return history


def evaluate(model: nn.Module, x: Any, t: Any, *, batch_size: int = 256) -> dict[str, float]:
    """"error" and "error_top5" in %, and the mean "loss", in eval mode. Scores that are not finite are wrong."""
    model.eval()
    wrong, wrong5, total = 0, 0, 0.0
    try:
        with mg.no_grad():
            for xb, tb in data.batches(x, t, batch_size):
                scores, labels = model(xb).numpy(), tb.numpy()
                order = np.argsort(-scores, 1)
                hits = (order[:, :5] == labels[:, None]) & np.isfinite(scores).all(1, keepdims=True)
                wrong, wrong5 = wrong + int((~hits[:, 0]).sum()), wrong5 + int((~hits.any(1)).sum())
                total += mg.cross_entropy(mg.tensor(scores), tb).item() * len(labels)
    finally:
        model.train()
    return {"error": 100.0 * wrong / len(t), "error_top5": 100.0 * wrong5 / len(t), "loss": total / len(t)}


def inputs_of(model: nn.Sequential, x: Any, kinds: tuple[type, ...]) -> Iterator[tuple[str, nn.Module, Any]]:
    """(name, module, host array that reaches it) for each module of these kinds in a Sequential, when the model gets the Tensor x."""
    with mg.no_grad():
        for name, module in model._modules.items():
            if module is None:
                continue
            if isinstance(module, kinds):
                yield name, module, x.numpy()
            x = module(x)
