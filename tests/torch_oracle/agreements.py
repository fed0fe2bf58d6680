"""Every place where minigrad and PyTorch may differ, each with a sentence why. What is not in here must agree.

AGREEMENTS    rows of counterparts.py that are compared with another op of PyTorch
REFUSALS      samples that minigrad refuses: a pattern of its error, which must say so in its own words
PLACES        single elements of a result that may differ: which op, which elements, why
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .differential import Without

AGREEMENTS = {
    "largest": "The largest finite number differs between float32 and the float64 that it is compared with, so the row names one to put there.",
    "stable": "PyTorch promises the order of ties only for a stable sort; minigrad's sort always is one.",
    "ties_share": "max(x, dim) of PyTorch gives a tie to one index, because it returns the index; minigrad returns none and shares, as amax does.",
    "clip_edge": "hardtanh and relu6 of PyTorch have gradient 0 on the edge; minigrad's clip is NumPy's, and passes on the edge as PyTorch's clamp.",
    "softplus_threshold": "PyTorch's softplus is linear above its threshold, an approximation; minigrad's needs none.",
    "symmetric_part": "PyTorch reads one triangle and lets the gradient of the other be its mirror image; minigrad differentiates at the symmetric part.",
    "no_indices": "minigrad's pooling does not return the winners' indices.",
    "squeeze_quiet": "PyTorch's squeeze leaves an axis that is not of size 1; minigrad's raises as NumPy's, so the row names only axes of size 1.",
    "logaddexp": "minigrad has logsumexp only, so the row is compared with PyTorch's logsumexp of the same two numbers.",
    "gather_smaller": "PyTorch's gather takes an index that is smaller than x; minigrad's is NumPy's take_along_axis, so the row cuts x first.",
}


class Refusal(NamedTuple):
    """An error of minigrad where PyTorch computes."""

    pattern: str  # of the error's text
    why: str


REFUSALS = [
    Refusal(r"one floating dtype", "two floating dtypes are not mixed silently"),
    Refusal(r"for an array of 0 axes", "a 0-d array has no axis 0, as in NumPy"),
    Refusal(r"concatenate: got (axis 1 for an array of 1 axes|the shapes)", "PyTorch skips an empty array of one axis for the sake of old code"),
    Refusal(r"take_along_axis: got shape", "indices have as many axes as the array, as in NumPy"),
    Refusal(r"(softmax|log_softmax|logsumexp): got shape .* over the axes .*at least one element", "there is no largest element of nothing, as in NumPy"),
    Refusal(r"(nll_loss|cross_entropy): got scores of shape \(3,\)", "losses have a batch axis"),
    Refusal(r"(pool2d|conv2d): got a numpy tensor of shape \(\d+, \d+, \d+\) .*\(N, C, H, W\)", "images have a batch axis"),
    Refusal(r"BatchNorm\dd: .*shape \(0,", "no images have no mean and variance to train with"),
    Refusal(r"Softplus: got threshold=.*, which minigrad leaves out", "softplus needs no threshold above which it is linear"),
    Refusal(r"got eps=-", "a negative ε is a mistake"),
]


class Place(NamedTuple):
    """Elements in which the two may differ."""

    ops: str  # a pattern of PyTorch's names
    what: str  # a pattern of "value 0", "gradient 1", "second derivative 0"
    where: Callable[[Any, Any, Any], Any]  # (the sample's arrays, ours, theirs) -> boolean array of the elements that are excused
    why: str


def _nan_in(given: Any, o: Any, t: Any) -> Any:
    return np.isnan(given[0])


def _absolutely_near(given: Any, o: Any, t: Any) -> Any:
    """Within 64 ε of what a derivative of at most 1 can make of cotangents of size 1, the inputs' factors included."""
    with np.errstate(all="ignore"):
        scale = np.maximum(1, np.abs(np.broadcast_to(given[0], np.shape(o)) if np.ndim(o) >= np.ndim(given[0]) else np.max(np.abs(given[0]))))
        return np.abs(o.astype("float64") - t) <= 64 * np.finfo(o.dtype).eps * scale


def _power_at(second: bool) -> Callable[[Any, Any, Any], Any]:
    """Elements where the base is not positive, and, in second derivatives, where the exponent is 0 or the power leaves the range of the dtype."""
    def where(given: Any, o: Any, t: Any) -> Any:
        base, exponent = np.broadcast_arrays(*given[:2])
        base, exponent = (exponent, base) if given[2] == "__rpow__" else (base, exponent)
        if np.shape(o) != base.shape:
            return False
        at = (base <= 0) & ((exponent < 0) | second | (base < 0))
        return at | (second & ((exponent == 0) | (np.abs(exponent) > 1e6))) | np.isnan(base)
    return where


PLACES = [
    Place("abs|sign|sgn", ".*", _nan_in, "the sign of NaN is NaN, as in NumPy; PyTorch's is 0"),
    Place("nn.functional.(relu|elu)", "(gradient|second).*", _nan_in, "the value is NaN already; relu's gate is closed there, and elu's derivative is NaN"),
    Place("nn.functional.elu", "second.*", lambda given, o, t: given[0] == 0, "a kink: the second derivative is that of the left side, PyTorch's of the right"),
    Place("(sigmoid|nn.functional.(elu|softplus|logsigmoid|silu|mish|tanhshrink))", "(gradient|second).*", _absolutely_near,
          "the derivative comes from the output, which ends in 1 or −1: its error is ε, not ε times a vanishing derivative"),
    Place("pow|__rpow__", "gradient.*", _power_at(False),
          "the derivative of aᵇ in b at a < 0, or at a = 0 and b < 0, does not exist: NaN, where PyTorch has ±Inf"),
    Place("pow|__rpow__", "second.*", _power_at(True), "aᵇ at a ≤ 0; and at b = 0, where PyTorch takes ∂²/∂a∂b for 0 (it is 1/a), or NaN"),
    Place("pow|__rpow__", "gradient.*", lambda given, o, t: np.isnan(t) & (o == 0) & np.isinf(given[0]) & np.isinf(given[1]),
          "∞^−∞: where aᵇ is 0 its derivative in b is 0 here, and 0·∞ in PyTorch"),
    Place("maximum|minimum|(max|min)/binary", "(gradient|second).*", lambda given, o, t: np.isnan(given[0]) | np.isnan(given[1]),
          "a number beside a NaN gets nothing, the NaN all; PyTorch gives both all"),
    Place("logaddexp|nn.functional.mish", "second.*", lambda given, o, t: np.isnan(t) & np.isfinite(o), "PyTorch's second derivative overflows to NaN"),
    Place("linalg.norm/subgradients_at_zero|linalg.norm|norm.*|dist", "second.*", lambda given, o, t: np.isnan(t) & (o == 0),
          "the norm at 0: minigrad goes on with the subgradient 0, PyTorch has NaN"),
    Place("nn.functional.layer_norm", "second.*",
          lambda given, o, t: np.full(np.shape(o), given[0].size == 1 and o.dtype == "float32") & (np.abs(o - t) < 1e-3),
          "a row of one element: the derivative is γ/√ε·(g − g), whose rounding shows with ε = 1e-5"),
]


def refusal_of(error: Exception) -> str | None:
    """Why this error of minigrad is agreed to; None if it is not."""
    text = f"{type(error).__name__}: {error}"
    if "needs: " not in text:
        return None
    return next((r.why for r in REFUSALS if re.search(r.pattern, text, re.DOTALL)), None)


def refused(e: Exception, tally: Any, failures: dict[str, str], sample: str) -> None:
    """Count a sample whose comparison raised: as not comparable, as agreed, or as a failure."""
    why = str(e) if isinstance(e, Without) else refusal_of(e)
    tally["different" if why is None else why] += 1
    if why is None:
        failures.setdefault(repr(e)[:60], f"{sample}\n    raises {e!r}")


def unexplained(name: str, sample: Any, differences: Any) -> tuple[list[Any], set[str]]:
    """(the differences that no agreed place covers, the reasons that cover the others)."""
    left, used = [], set()
    given = [t.detach().numpy() for t in [sample[0], *sample[1]] if hasattr(t, "detach")]
    given = [*(given if len(given) > 1 else [*given, None]), name]
    for d in differences:
        wrong = d.places
        for place in PLACES:
            if wrong is not None and re.fullmatch(place.ops, name) and re.match(place.what, d.what):
                excused = np.broadcast_to(place.where(given, d.ours, d.theirs), np.shape(wrong))
                if (wrong & excused).any():
                    used.add(place.why)
                    wrong = wrong & ~excused
        if wrong is None or wrong.any():
            left.append(d)
    return left, used
