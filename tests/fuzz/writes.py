"""Writes between forward and backward. For each program one of three things must be true:

- a statement raises an error that explains itself (and is left out from then on);
- backward raises one;
- the gradient is the derivative of what the program computed, by difference quotients of the whole program.

Never a silently wrong gradient. Writes into leaves only add numbers that do not depend on them, so that the derivative with
respect to the leaf at the start is what a tape means by its gradient.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

import minigrad as mg

from .programs import ProgramRun, agrees, explains_itself, host
from .tapes import quotient_text

SETUP = ("w0 = leaf('w0', {s}, (4,))", "w1 = leaf('w1', {t}, (4,))", "m0 = leaf('m0', {u}, (4, 4))", "c0 = constant({s}, (4,))",
         "c1 = constant({t}, (4, 4))", "n0 = draw({u}, (4,))", "i0 = np.array([0, 2, 2])", "i1 = mg.tensor([3, 0, 3])",
         "b0 = np.array([True, False, True, True])", "z0 = np.array(2)", "k0 = np.abs(draw({s}, (4,))) + 0.5", "p0 = draw({u}, (4, 4))",
         "u0 = draw({t}, (4,))")
VECTORS = ("w0", "w1", "c0", "w0", "w1")
OPS = ("{a} * {b}", "{a} * {a}", "{a} + {b}", "mg.tanh({a})", "mg.exp({a})", "{a} * n0", "n0 * {a}", "{a} / (2.0 + mg.square({b}))", "{a}[i0] * 2.0",
       "{a}[i1] ** 2", "mg.take({a}, i0) * {b}[0]", "mg.where(b0, {a}, {b} * {b})", "{a}[b0] ** 2", "m0 @ {a}", "mg.matmul(c1, {a})",
       "mg.square({a}) * c0", "{a}[z0] * {b}[1]", "mg.softmax({a} * c0)", "mg.sum({a} * {b}) * {a}", "mg.stack([{a}, {b}])[1] * {a}",
       "mg.cross_entropy(m0, i1[np.array([0, 1, 2, 1])])", "mg.clip({a}, -0.7, 0.9) * n0", "mg.einsum('ij,j->i', m0, {a})", "{a} * w0.clone()",
       "mg.named('q', {a}) * {b}", "mg.take_along_axis(m0, i0[None].repeat(4, 0) % 4, 1)",
       "layers.REGISTRY['batch_norm_eval'].form({f})(m0, {a}, {b}, running_mean=n0, running_var=k0, eps=0.1)",
       "layers.REGISTRY['whiten_eval'].form({f})(m0, mean=n0, projection=p0)", "layers.REGISTRY['spectral_norm'].form({f})(m0, u=u0)",
       "layers.REGISTRY['batch_norm'].form({f})(m0, {a}, {b}, eps=0.1)", "layers.REGISTRY['rms_norm'].form({f})(m0, {a}, eps=0.1)")
VIEWS = ("c0.detach()", "w0.detach()", "c0.reshape(2, 2)", "c0[1:]", "mg.broadcast_to(c0, (2, 4))", "mg.from_array(n0, copy=False)", "c1.T", "c1[0]")
RAW = ("c0.data", "w0.data", "w1.data", "c0.detach().data", "m0.data")
WRITES = ("{c}[1] = 0.3", "{c}[0] = {a}[1] * {a}[1]", "{c}[...] = {a} * {b}", "{c}[1:3] = {a}[:2]", "{c}[i0] = {a}[0]", "{c}[b0] = 0.25", "c1[2] = {a}",
          "c1[1, 2] = {a}[0] * 2.0", "n0[0] += 1.0", "n0[...] = -n0", "i0[0] = 3", "b0[1] = True", "z0[...] = 1", "k0 *= 2.0", "p0[0] = 0.5",
          "u0[0] += 1.0", "{r}[..., 0] += 0.7", "{d}[..., 1] = 0.2", "{d}[..., 0] = {a}[0]", "i1[0] = 1", "must_update(w0, 0.125)",
          "must_update(w1, -0.25)", "must_raise_outside_no_grad(w0)", "with mg.no_grad():\n    w0[1] = float(w0[1].item()) + 0.25",
          "with mg.no_grad():\n    for p in (w0, w1):\n        p -= 0.125",
          "w0.grad = mg.tensor(u0 * 0.0 + 1.0); mg.optim.SGD([w0], lr=0.1).step(); w0.grad = None", "w1.data = w1.numpy() + 0.25",
          "a0 = w0.numpy() + 0.25; w0.data = a0; a0 += 1.0", "a1 = c0.numpy(); c0.data = a1; a1 *= 0.5", "{v} += {a}", "{v} *= 0.5", "c0 += {a}",
          "c0 = c0 * 1.0")


def generate(rng: Any) -> list[str]:
    """The same tensors every time, then ops, views and writes in any order."""
    seeds = {k: int(rng.integers(10**6)) for k in "stu"}
    statements = [s.format(**seeds) for s in SETUP]
    made, views, raws = [], ["c0"], ["n0"]
    for _ in range(rng.integers(3, 12)):
        pick = lambda of: of[rng.integers(len(of))]
        a, b = pick(VECTORS), pick(VECTORS)
        roll = rng.random()
        if roll < 0.5 or not made:
            made.append(f"v{len(made)}")
            statements.append(f"{made[-1]} = " + pick(OPS).format(a=a, b=b, f=repr(pick(("composed", "derived")))))
        elif roll < 0.65:
            if rng.random() < 0.5:
                views.append(f"d{len(views)}")
                statements.append(f"{views[-1]} = {pick(VIEWS)}")
            else:
                raws.append(f"r{len(raws)}")
                statements.append(f"{raws[-1]} = {pick(RAW)}")
        else:
            statements.append(pick(WRITES).format(a=a, b=b, c="c0", d=pick(views), r=pick(raws), v=pick(made)))
    return [*statements, "loss = 0.0", *(f"loss = loss + weigh({k}, {rng.integers(10**6)})" for k in (*made, "c0", "c1", "w0"))]


def check(statements: list[str]) -> str:
    """As `verdict`; an error names the write that was not seen."""
    try:
        return verdict(statements)
    except AssertionError as e:
        if "silently wrong" in str(e):
            raise AssertionError(f"silently wrong through {_culprit(statements)}: {e}") from None
        raise


def verdict(statements: list[str]) -> str:
    """Returns "right", "refused by backward" or "kinked"."""
    run = ProgramRun(statements, tolerant=True)
    value = lambda s: float(host(ProgramRun(statements, s, skipped=frozenset(run.refused), tolerant=True).env["loss"]))
    loss, names = run.env["loss"], list(run.leaves)
    gradients = {k: np.zeros(run.leaves[k].shape) for k in names}
    if not isinstance(loss, mg.Tensor):
        return "no loss"
    if loss.requires_grad:
        try:
            found = mg.grad(loss, [run.leaves[k] for k in names], allow_unused=True)
        except Exception as e:
            if explains_itself(e):
                return "refused by backward"
            raise
        gradients.update({k: host(g) for k, g in zip(names, found, strict=True) if g is not None})
    claimed, size = run.along(gradients)
    right = agrees(claimed, value, size)
    if right is False:
        raise AssertionError(f"silently wrong: {claimed} against {quotient_text(value)}")
    return "right" if right else "kinked"


def _culprit(statements: list[str]) -> str:
    """The write without which the gradient is right."""
    for i, s in enumerate(statements):
        if any(s.startswith(name) for name in ("leaf", "v", "loss")) or not re.search(r"\] [-+*]?= |\w [-+*]= |no_grad|data = |step\(|must_", s):
            continue
        try:
            verdict(statements[:i] + statements[i + 1:])
        except Exception:
            continue
        return repr(s)
    return "no single write"
