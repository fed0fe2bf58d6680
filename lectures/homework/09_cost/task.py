"""Homework 09: what batch norm costs, predicted. What the tape keeps and what the ops read and write is measured: the key is the machine's."""

import layers
import minigrad as mg
from minigrad.derivation import Line, Task, random_sizes


def forward(x, gamma, beta, *, eps):
    """x (m, C): m values of each of C channels. gamma, beta (C,)."""
    mu = mg.named("mu", mg.mean(x, 0, keepdims=True))                  # (1, C)
    xc = mg.named("xc", x - mu)                                        # (m, C)
    var = mg.named("var", mg.mean(xc * xc, 0, keepdims=True))          # (1, C)
    rstd = mg.named("rstd", 1.0 / mg.sqrt(var + eps))                  # (1, C)
    xhat = mg.named("xhat", xc * rstd)                                 # (m, C)
    return mg.named("y", xhat * gamma + beta)                          # (m, C)


def cases(rng, dtype):
    """Channels of random sizes."""
    for m, c in random_sizes(rng, (5, 12), (2, 7)):
        yield ({"x": rng.normal(0.7, 1.3, (m, c)).astype(dtype), "gamma": rng.uniform(0.5, 2.0, c).astype(dtype), "beta": rng.normal(size=c).astype(dtype)},
               {"eps": 0.1})


def kept(form, values, activation=None, **keywords):
    """Bytes that the tape keeps behind another op, whose result is x; what a network holds anyway is not counted."""
    held = [mg.tensor(values[name], requires_grad=True) for name in ("x", "gamma", "beta")]
    x = held[0] + 0.0                                                  # a result: leaves are free
    y = form(x, *held[1:], eps=values["eps"], **keywords)
    return mg.tape(y if activation is None else activation(y)).kept_bytes


def passes(values):
    """Readings and writings of arrays of x's size, over all ops of the composed form; a broadcast copies nothing."""
    with mg.record() as seen:
        forward(*(mg.tensor(values[name], requires_grad=True) for name in ("x", "gamma", "beta")), eps=values["eps"])
    size, count = values["x"].size, 0
    for entry in seen:
        if entry.op != "broadcast_to":
            read = {p for p in entry.line.parents if p is not None and p.plan.name.lstrip("_") != "broadcast_to"}
            count += sum(p.shape == values["x"].shape for p in read) + (entry.value.size == size)
    return count


BATCH_NORM, ABN = layers.REGISTRY["batch_norm"], layers.REGISTRY["inplace_abn"]

TASK = Task(
    "09_cost",
    forward,
    cases,
    lines={"kept_composed": 1, "kept_derived": Line(points=2), "kept_then_leaky_relu": 1, "kept_in_place": Line(points=2), "passes_composed": Line(points=2)},
    given={"x_bytes": lambda values: 8 * values["x"].size, "channel_bytes": lambda values: 8 * values["gamma"].size},
    measured={
        "kept_composed": lambda values: kept(forward, values),
        "kept_derived": lambda values: kept(BATCH_NORM.form("derived"), values),
        "kept_then_leaky_relu": lambda values: kept(BATCH_NORM.form("derived"), values, lambda y: mg.leaky_relu(y, 0.01)),
        "kept_in_place": lambda values: kept(ABN.form("derived"), values, slope=0.01),
        "passes_composed": passes,
    },
    hints={
        "kept_composed": ["Go through the ops: which of its inputs, or its result, does each rule need?",
                          "xc (for its square and for the product with rstd) and xhat; sqrt keeps its result, and 1 / sqrt its own."],
        "kept_derived": ["The backward computes xhat again. From what?",
                         "From x, the mean and 1/s of each channel; gamma is a parameter, which is there anyway."],
        "kept_then_leaky_relu": ["What does a leaky ReLU have to know in its backward?", "One more array like x: its own result, or the signs' bearer."],
        "kept_in_place": ["Only the output is large. What does the layer need to rebuild x?",
                          "The output, and a few numbers per channel: count what the tape of a small one prints."],
        "passes_composed": ["Count for each op how many arrays of x's size it reads, and whether it writes one. A mean writes none.",
                            "mean 1, x - mu 2, xc * xc 2 (one array, read once), mean 1, and the three that are left 2 each."],
    },
    source="measured on the tape; inplace-abn section 2 for the layer that works in place",
)
