"""Every layer and derivation on random shapes, scales, ε and dtypes. What must hold:

- float64: the derivation agrees with the composed form, in both orders;
- float32: the derivation is within the rounding of its inputs (`layers.verify.agreement.float32_errors`);
- float16: results are those of float64 on the same rounded inputs (`layers.verify.agreement.half_errors`);
- keyword arrays that the caller changes after the forward change no gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import layers
import minigrad as mg
from layers.verify.agreement import WHITENING, bound, derivatives, float32_errors, half_errors, relative_errors, worst

from .programs import explains_itself

WAYS = ("agree", "single", "half", "keywords")


def generate(rng: Any) -> list[str]:
    """One check of one layer."""
    names = [*layers.REGISTRY]
    return [f"{WAYS[rng.integers(len(WAYS))]}({names[rng.integers(len(names))]!r}, {rng.integers(10**6)})"]


def check(statements: list[str]) -> str:
    """Runs them; returns what the last one was."""
    word = ""
    for s in statements:
        word = eval(s, {name: globals()[f"_{name}"] for name in WAYS})
    return word


def inputs(name: str, rng: Any, scale: float = 1.0, mean: float = 0.0) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Random arrays and keywords for a layer of the registry."""
    n, c = int(rng.integers(2, 7)), int(rng.integers(1, 7))
    spatial = tuple(int(v) for v in rng.integers(1, 5, rng.integers(0, 4)))
    x, eps = mean + scale * rng.standard_normal((n, c, *spatial)), float(10.0 ** rng.uniform(-6, 0))
    gamma, beta = rng.normal(1, 0.5, c), rng.standard_normal(c)
    group = None if rng.random() < 0.5 else int(rng.integers(1, c + 1))
    w = mean + scale * rng.standard_normal((c, int(rng.integers(2, 6)), *spatial[:2]))
    match name:
        case "batch_norm":
            return [x, gamma, beta], {"eps": eps}
        case "batch_norm_eval":
            return [x, gamma, beta], {"running_mean": mean + scale * rng.standard_normal(c), "running_var": scale**2 * rng.uniform(0.1, 3, c), "eps": eps}
        case "batch_renorm":
            return [x, gamma, beta], {"running_mean": mean + scale * rng.standard_normal(c), "running_var": scale**2 * rng.uniform(0.1, 3, c),
                                      "r_max": float(rng.uniform(1, 4)), "d_max": float(rng.uniform(0, 5)), "eps": eps}
        case "inplace_abn":
            activation = ("leaky_relu", "elu", "identity")[rng.integers(3)]
            return [x, gamma, 0.3 * beta], {"eps": eps, "activation": activation, "slope": float(rng.uniform(0.05, 1))}
        case "layer_norm" | "rms_norm":
            trail = x.shape[-int(rng.integers(1, x.ndim + 1)):]
            affine = [rng.normal(1, 0.5, trail), rng.standard_normal(trail)]
            return [x, *affine[: 2 if name == "layer_norm" else 1]], {"eps": eps}
        case "instance_norm" | "grn":
            x = mean + scale * rng.standard_normal((n, c, *(spatial or (3,))))
            return [x, gamma, beta], {"eps": eps}
        case "group_norm":
            return [x, gamma, beta], {"groups": int(rng.choice([g for g in range(1, c + 1) if c % g == 0])), "eps": eps}
        case "decorrelated_batch_norm" | "pca_whitening" | "iter_norm":
            return [mean + scale * rng.standard_normal((n + 3 * c, c))], {"eps": max(eps, 1e-3) * scale**2, "group_size": group}
        case "orthogonal_weight_norm":
            return [mean + scale * rng.standard_normal((c, 3 * c + 2))], {"eps": max(eps, 1e-3) * scale**2, "group_size": group}
        case "weight_norm":
            return [w, rng.normal(1, 0.5, c)], {}
        case "centered_weight_norm":
            return [w], {}
        case "weight_standardization":
            return [w], {"eps": eps}
        case "spectral_norm":
            u = rng.standard_normal(c)
            return [w], {"u": u / np.linalg.norm(u)}
        case "whiten_eval":
            return [x], {"mean": rng.standard_normal(c), "projection": rng.standard_normal((c, c))}
        case _:
            return [w], {}


def _drawn(name: str, seed: int, **more: float) -> tuple[Any, str, list[np.ndarray], dict[str, Any]]:
    rng, layer = np.random.default_rng(seed), layers.REGISTRY[name]
    derivation = sorted(layer.derived)[rng.integers(len(layer.derived))]
    return layer, derivation, *inputs(name, rng, **more)


def _refused(f: Any, *args: Any) -> Any:
    try:
        return f(*args)
    except Exception as e:
        if explains_itself(e):
            return None
        raise


def _agree(name: str, seed: int) -> str:
    """ε down to 1e-6, so that derivatives reach 10³ and their derivatives 10⁶: what one rounding of the inputs changes counts too."""
    layer, derivation, arrays, keywords = _drawn(name, seed)
    order = 1 + seed % 2
    if derivation in ("staged", "simplified") and name in WHITENING:
        return "divides by gaps"
    expected = _refused(derivatives, layer.composed, arrays, keywords, "numpy", seed, order)
    found = _refused(derivatives, layer.derived[derivation], arrays, keywords, "numpy", seed, order)
    if expected is None or found is None:
        if (expected is None) != (found is None):
            raise AssertionError(f"{name}, {derivation}: one form refuses what the other computes")
        return "refused"
    rng = np.random.default_rng(seed)
    moved = derivatives(layer.composed, [a * (1 + 2.0**-52 * rng.uniform(-1, 1, a.shape)) for a in arrays], keywords, "numpy", seed, order)
    allowed = bound(name, order) + 64 * worst(relative_errors(moved, expected))
    if _alone(name, arrays, keywords):  # dx is 0, as the difference of terms of this size, which the bound does not know
        spread = keywords["eps"] ** 0.5 if "eps" in keywords else arrays[0].reshape(len(arrays[0]), -1).std(1).min()
        size = spread**-order * max(np.abs(a).max() for a in arrays)
        if not worst([np.abs(f - e).max() for f, e in zip(found, expected, strict=True) if e is not None]) <= 1e-13 * size:
            raise AssertionError(f"{name}, {derivation}: order {order} is off by more than the rounding of terms of size {size:.1e}")
        return "one element"
    error = worst(relative_errors(found, expected))
    if not error <= allowed:
        raise AssertionError(f"{name}, {derivation}: order {order} is off by {error:.1e}, allowed {allowed:.1e}")
    return "agree"


def _single(name: str, seed: int) -> str:
    rng = np.random.default_rng(seed + 1)
    scale = float(10.0 ** rng.uniform(-3, 3))
    layer, derivation, arrays, keywords = _drawn(name, seed, scale=scale, mean=scale * float(rng.choice([0, 0, 1, 30])))
    if (derivation in ("staged", "simplified") and name in WHITENING) or derivation == "form_2":
        return "divides by gaps, or by γ"
    case = ("drawn", tuple(a.astype("float32") for a in arrays), {k: v.astype("float32") if isinstance(v, np.ndarray) else v for k, v in keywords.items()})
    found = _refused(float32_errors, layer, derivation, case)
    if found is None:
        return "refused"
    if _alone(name, case[1], keywords):  # dx = 0 is the difference of two terms γ/√ε·g, and the bound knows only results
        return "one element"
    for i, (error, allowed) in enumerate(found):
        if not error <= allowed:
            raise AssertionError(f"{name}, {derivation}: float32 result {i} is off by {error:.1e}, allowed {allowed:.1e} (scale {scale:.1e})")
    return "single"


def _alone(name: str, arrays: Any, keywords: dict[str, Any]) -> bool:
    """Is the gradient 0 whatever g is, as the difference of two large terms: one element alone, or a centred pair (±1 whatever it was)?"""
    x = arrays[0]
    if name in ("centered_weight_norm", "weight_standardization"):
        return x.size == 2 * x.shape[0]
    return (name == "group_norm" and x.size == x.shape[0] * keywords["groups"]) or (name == "layer_norm" and arrays[1].size == 1)


def _half(name: str, seed: int) -> str:
    """float16 at scales 1e-3, 1, 300, 3000, or around 1000, within the bound of `layers.agreement.half_errors`."""
    rng = np.random.default_rng(seed + 2)
    scale, mean = [(1e-3, 0.0), (1.0, 0.0), (300.0, 0.0), (3000.0, 0.0), (1.0, 1000.0)][rng.integers(5)]
    layer, derivation, arrays, keywords = _drawn(name, seed, scale=scale, mean=mean)
    if name in WHITENING or derivation == "form_2":
        return "not in float16"
    arrays = [np.clip(a, -6e4, 6e4).astype("float16") for a in arrays]
    small = {k: np.asarray(v, "float16") if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
    if any(isinstance(v, np.ndarray) and not np.isfinite(v).all() for v in small.values()):
        return "not in float16"
    if _alone(name, arrays, keywords):
        return "one element"
    form = ("composed", derivation)[rng.integers(2)]
    found = _refused(half_errors, layer, form, ("drawn", tuple(arrays), small))
    if found is None:
        return "refused"
    if not max(found) <= 1:
        raise AssertionError(f"{name}, {form}: float16 results are off by {[f'{e:.2g}' for e in found]} bounds (scale {scale:g}, mean {mean:g})")
    return "half"


def _keywords(name: str, seed: int) -> str:
    """Raw keyword arrays belong to the caller, who may write into them: the tape has a copy, or backward says who wrote."""
    layer, derivation, arrays, keywords = _drawn(name, seed)
    raw = {k: v.copy() for k, v in keywords.items() if isinstance(v, np.ndarray)}
    if not raw:
        return "no arrays"
    form = layer.form(("composed", derivation)[seed % 2])
    results = []
    for spoiled in (False, True):
        given = {k: v.copy() for k, v in raw.items()}
        xs = [mg.tensor(a, requires_grad=True) for a in arrays]
        try:
            y = form(*xs, **{**keywords, **given})
        except Exception as e:
            if explains_itself(e):
                return "refused"
            raise
        for v in given.values():
            v += spoiled
        g = mg.tensor(np.random.default_rng(seed).standard_normal(y.shape))
        try:
            results.append([d.numpy() for d in mg.grad(y, xs, g)])
        except mg.TapeError:
            return "guarded"
    if not all(np.array_equal(a, b) for a, b in zip(*results, strict=True)):
        raise AssertionError(f"{name}: a keyword array changed after the forward changes the gradient")
    return "keywords"
