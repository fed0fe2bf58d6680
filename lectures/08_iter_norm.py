# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 8 · Differentiating an iteration
#
# **After this lecture you can**
#
# - compute an inverse square root with matrix products alone, and say when the iteration converges;
# - differentiate a loop by hand: run it backwards, one step at a time;
# - count what the backward of a loop has to keep;
# - say what the derivative of an *approximation* approximates, and how fast.
#
# You need lecture 05: whitening, and its derivative by a Lyapunov equation.
#
# *Sources:* IterNorm (Huang et al. [huang2019]), the coupled form of the Newton-Schulz iteration (Higham [higham2008], ch. 6); dbn
# for whitening.

# %%
import sys

sys.path[:0] = [".", ".."]  # finds the project from its root and from lectures/

import time

import matplotlib.pyplot as plt
import numpy as np

import layers
import minigrad as mg
from lectures.classroom import FAST, agree, check_homework, relative_error, show_side_by_side, table, train_tiny_cnn

rng = np.random.default_rng(8)

# %% [markdown]
# ## A square root without eigenvectors
#
# Lecture 05 ended with $W = (\Sigma + \varepsilon I)^{-1/2}$ and a derivative without eigenvectors. Its *value* still came
# from an eigendecomposition: a serial algorithm, slow on a GPU. IterNorm computes $W$ by a handful of matrix products.
#
# Start with numbers. Newton's method for $z^{-2} = a$ is
#
# $$ z \leftarrow \tfrac12\,z\,(3 - a z^2), $$
#
# and it needs no division. If $0 < a z^2 < 3$ at the start, $a z^2$ goes to 1, at the end quadratically: the number of right
# digits doubles in every step.

# %%
a, z, history = 0.3, 1.0, []
for _ in range(8):
    history.append(abs(z * a**0.5 - 1))
    z = 0.5 * z * (3 - a * z * z)
print("relative error after each step:", ", ".join(f"{e:.0e}" for e in history))
assert history[-1] < 1e-14

# %% [markdown]
# For matrices the same formula works with $A$ in the place of $a$, as long as everything commutes. It does, in exact
# arithmetic. Rounding breaks the commuting, and the plain matrix form is unstable. The cure is to carry $Y_k \approx A Z_k$ along,
# the *coupled* iteration:
#
# $$ M_k = \tfrac12\,(3I - Z_k Y_k), \qquad Y_{k+1} = Y_k M_k, \qquad Z_{k+1} = M_k Z_k, \qquad Y_0 = A/t,\; Z_0 = I . $$
#
# $Y_k \to (A/t)^{1/2}$ and $Z_k \to (A/t)^{-1/2}$. The iteration converges if all eigenvalues of $A/t$ are between 0 and 3; dividing
# by the trace $t = \mathrm{tr} A$ makes them at most 1. Then $W = Z_T/\sqrt t$.


# %%
def forward(x, eps, steps):
    """x (d, m) -> x̂ (d, m), and all that the loop has made."""
    d, m = x.shape
    xc = x - x.mean(1, keepdims=True)                                  # (d, m)
    A = xc @ xc.T / m + eps * np.eye(d)                                # (d, d)
    t = np.trace(A)                                                    # a number
    Y, Z, made = A / t, np.eye(d), []
    for _ in range(steps):
        M = 0.5 * (3 * np.eye(d) - Z @ Y)                              # (d, d)
        made.append((Y, Z, M))
        Y, Z = Y @ M, M @ Z
    return Z / np.sqrt(t) @ xc, (xc, A, t, made, Y, Z)


d, m, EPS, STEPS = 4, 30, 1e-3, 5
X = rng.normal(size=(d, d)) @ rng.normal(0.5, 1.0, (d, m))
G = rng.normal(size=(d, m))                                            # the cotangent of x̂
exact_values = np.linalg.eigvalsh(np.cov(X, bias=True) + EPS * np.eye(d))
print(f"eigenvalues of A/t: {exact_values / exact_values.sum()}")
for steps in (1, 3, 5, 7, 12):
    xhat = forward(X, EPS, steps)[0]
    print(f"{steps:2d} steps: ‖cov(x̂) − I‖ = {np.linalg.norm(np.cov(xhat, bias=True) - np.eye(d)):.1e}")
assert np.linalg.norm(np.cov(forward(X, 1e-9, 20)[0], bias=True) - np.eye(d)) < 1e-6

# %% [markdown]
# Five steps, which the paper takes, do not whiten completely. The directions with large eigenvalues are done, those with small ones
# are still on their way: in one step a small eigenvalue of $ZY$ grows by a factor of at most $\frac94$. That is a feature: directions that
# are mostly noise are not blown up.

# %% alt="Eigenvalues of the whitened covariance against those of the covariance: after more steps smaller ones reach one"
share = np.logspace(-4, 0, 200)                                        # an eigenvalue's share of the trace
fig, ax = plt.subplots(figsize=(7, 4))
for steps, shade in zip((1, 3, 5, 7, 9), np.linspace(0.85, 0.0, 5)):
    y, z = share.copy(), np.ones_like(share)
    for _ in range(steps):
        factor = 0.5 * (3 - z * y)
        y, z = y * factor, z * factor
    ax.semilogx(share, share * z**2, color=plt.cm.viridis(shade), label=f"{steps} steps")
ax.set(xlabel="eigenvalue, as a share of the trace", ylabel="variance after whitening", title="What T steps of Newton-Schulz whiten")
ax.legend(loc="upper left")
plt.show()

# %% [markdown]
# ## The backward of a loop
#
# A loop is a long composition. Its backward is the same loop, *from the last step to the first*, each step replaced by its
# transpose. Write $\delta Q$ for the cotangent of $Q$. One step, with the rule for a product
# ($C = AB$: $\delta A = \delta C\,B^T$, $\delta B = A^T\,\delta C$):
#
# - $Y_{k+1} = Y_k M_k$ gives $\delta M \mathrel{+}= Y_k^T\,\delta Y_{k+1}$ and $\delta Y_k = \delta Y_{k+1} M_k^T$;
# - $Z_{k+1} = M_k Z_k$ gives $\delta M \mathrel{+}= \delta Z_{k+1} Z_k^T$ and $\delta Z_k = M_k^T\,\delta Z_{k+1}$;
# - $M_k = \frac12(3I - Z_k Y_k)$ gives $\delta Z_k \mathrel{-}= \frac12\,\delta M\,Y_k^T$ and $\delta Y_k \mathrel{-}= \frac12
# Z_k^T\,\delta M$.
#
# At the end of the loop $\hat x = Z_T x_c/\sqrt t$ starts it: $\delta Z_T = g\,x_c^T/\sqrt t$ and $\delta Y_T = 0$. At its
# beginning, $Y_0 = A/t$.


# %%
def backward(g, kept):
    """dx for the cotangent g of x̂; the loop is run backwards."""
    xc, A, t, made, _, Z = kept
    m = xc.shape[1]
    dZ, dY = g @ xc.T / np.sqrt(t), np.zeros_like(A)                   # (d, d)
    dt = -0.5 * np.vdot(g, Z @ xc) / t**1.5                            # a number: through W = Z/√t
    for Yk, Zk, Mk in reversed(made):
        dM = Yk.T @ dY + dZ @ Zk.T
        dY, dZ = dY @ Mk.T - 0.5 * Zk.T @ dM, Mk.T @ dZ - 0.5 * dM @ Yk.T
    dA = dY / t                                                        # Z₀ = I is a constant
    dt = dt - np.vdot(dY, A) / t**2                                    # through Y₀ = A/t
    dA = dA + dt * np.eye(len(A))                                      # t = tr A
    dxc = (Z / np.sqrt(t)).T @ g + (dA + dA.T) @ xc / m                # x_c twice in Σ
    return dxc - dxc.mean(1, keepdims=True)


# %% [markdown]
# The tape goes through the composed form and finds the same. (Our layer takes samples in rows, hence the transposes.)

# %%
iter_norm = layers.REGISTRY["iter_norm"]


def from_tape(form, x, g, eps, steps):
    t = mg.tensor(x.T, requires_grad=True)
    return mg.grad(form(t, eps=eps, iterations=steps), [t], mg.tensor(g.T))[0].numpy().T


for steps in (1, 2, 5, 9):
    xhat, kept = forward(X, EPS, steps)
    agree(f"x̂, {steps} steps", xhat, iter_norm.composed(X.T, eps=EPS, iterations=steps).T)
    agree(f"dx, {steps} steps", backward(G, kept), from_tape(iter_norm.composed, X, G, EPS, steps), within=1e-12)
    agree("  the layer's own backward", from_tape(iter_norm.form("derived"), X, G, EPS, steps), backward(G, kept), within=1e-12)

h = 1e-6
direction = rng.normal(size=X.shape)
difference = np.vdot(G, forward(X + h * direction, EPS, STEPS)[0] - forward(X - h * direction, EPS, STEPS)[0]) / (2 * h)
exact = np.vdot(backward(G, forward(X, EPS, STEPS)[1]), direction)
print(f"central differences {difference:.9f}, by hand {exact:.9f}")
assert abs(difference - exact) < 1e-7 * abs(exact)

# %% [markdown]
# It is easy to treat $M$ as a constant, to forget that it enters two products, or to treat the trace as a constant. Each of these mistakes drops
# paths, and leaves a gradient that looks plausible:


# %%
def careless_backward(g, kept, mistake):
    """The same with one mistake."""
    xc, A, t, made, _, Z = kept
    m = xc.shape[1]
    dZ, dY = g @ xc.T / np.sqrt(t), np.zeros_like(A)
    for Yk, Zk, Mk in made if mistake == "not reversed" else reversed(made):
        dM = dZ @ Zk.T + (0 if mistake == "one product" else Yk.T @ dY)
        dM = 0 * dM if mistake == "constant M" else dM
        dY, dZ = dY @ Mk.T - 0.5 * Zk.T @ dM, Mk.T @ dZ - 0.5 * dM @ Yk.T
    dt = 0.0 if mistake == "constant trace" else -0.5 * np.vdot(g, Z @ xc) / t**1.5 - np.vdot(dY, A) / t**2
    dA = dY / t + dt * np.eye(len(A))
    dxc = (Z / np.sqrt(t)).T @ g + (dA + dA.T) @ xc / m
    return dxc - dxc.mean(1, keepdims=True)


kept = forward(X, EPS, STEPS)[1]
agree("no mistake", careless_backward(G, kept, ""), backward(G, kept))
for mistake in ("constant M", "one product", "constant trace"):
    error = relative_error(careless_backward(G, kept, mistake), backward(G, kept))
    print(f"{mistake:<16} {error:.1%} wrong")
    assert error > 0.001
unnoticed = relative_error(careless_backward(G, kept, "not reversed"), backward(G, kept))
print(f"loop not reversed: {unnoticed:.0e}")
assert unnoticed < 1e-10

# %% [markdown]
# The last line is a curiosity, and a warning. *Here* nobody would notice a loop that is not reversed: all matrices are functions of one
# matrix, so they commute, and so do the steps. In any other loop it is wrong. A test can only find what its example lets it see.

# %% [markdown]
# ## What the loop keeps
#
# Backward needs $Y_k, Z_k, M_k$ of every step: $3T$ matrices of $d \times d$. Beside the data, $d \times m$, that is little as long as
# $d \ll m$. Composed, the tape keeps more, because it does not know which of them are the same thing.

# %%
x_large = mg.tensor(np.random.default_rng(0).normal(size=(512, 16)), requires_grad=True) + 0.0  # a result: leaves are free
keeps = {name: mg.tape(form(x_large, eps=EPS, iterations=STEPS)).kept_bytes for name, form in
         (("composed", iter_norm.composed), ("derived", iter_norm.form("derived")))}
table(["form", "kept for backward", "in units of x"], [[name, f"{b:,} B", f"{b / x_large.nbytes:.2f}"] for name, b in keeps.items()])
assert keeps["derived"] < keeps["composed"]
show_side_by_side("iter_norm")

# %% [markdown]
# ## What does the derivative of an approximation approximate?
#
# There are two honest answers to "the derivative of IterNorm":
#
# - the derivative of *what was computed*, $T$ steps and no more: the unrolled one, above;
# - the derivative of *what it stands for*, $(\Sigma + \varepsilon I)^{-1/2}$: by the Lyapunov equation of lecture 05.
#
# As $T$ grows, the first tends to the second. It does so as fast as the values do, once they are nearly there: the derivative of
# a Newton step vanishes at the fixed point, so errors of the past are forgotten, in the derivative as well.

# %%
zca = layers.REGISTRY["decorrelated_batch_norm"]
exact_value = zca.composed(X.T, eps=EPS).T
exact_gradient = from_tape(lambda t, eps, iterations: zca.derived["stable"](t, eps=eps), X, G, EPS, None)
counts = range(1, 21)
value_errors = [relative_error(forward(X, EPS, T)[0], exact_value) for T in counts]
gradient_errors = [relative_error(backward(G, forward(X, EPS, T)[1]), exact_gradient) for T in counts]
print("steps:   ", ", ".join(f"{T}: {v:.0e} / {g:.0e}" for T, v, g in list(zip(counts, value_errors, gradient_errors))[::3]))
assert value_errors[-1] < 1e-11 and gradient_errors[-1] < 1e-10
assert value_errors[2] > 1e-3

# %% alt="Error of value and gradient against the number of steps: slow at first, then quadratic, down to rounding"
fig, ax = plt.subplots(figsize=(7, 4))
ax.semilogy(counts, value_errors, "o-", ms=4, label="value: x̂ against ZCA")
ax.semilogy(counts, gradient_errors, "s-", ms=4, label="gradient: unrolled against Lyapunov")
ax.axvline(5, color="0.6", ls=":")
ax.annotate("the paper's T = 5", (5, 3e-12), xytext=(6, 0), textcoords="offset points", color="0.4")
ax.set(xlabel="steps T", ylabel="relative difference", title="Slow while eigenvalues grow, then quadratic", xticks=range(0, 21, 4))
ax.legend()
plt.show()

# %% [markdown]
# At $T = 5$ the two gradients differ visibly. Which is right? The unrolled one, for the network that is being trained: it is the
# gradient of the loss that is computed. A check with central differences accepts only that one.

# %%
differences = []
for form in (lambda: backward(G, forward(X, EPS, STEPS)[1]), lambda: exact_gradient):
    differences.append(abs(np.vdot(form(), direction) - difference) / abs(difference))
print(f"against central differences of 5 steps: unrolled {differences[0]:.0e}, Lyapunov {differences[1]:.0e}")
assert differences[0] < 1e-7 < 1e-3 < differences[1]

# %% [markdown]
# ## Speed, and a network
#
# Matrix products against an eigendecomposition, whitening 64 channels in groups of 16:

# %%
image = np.random.default_rng(0).normal(size=(32, 64, 8, 8)).astype("float32")
cotangent = mg.tensor(np.random.default_rng(1).normal(size=image.shape).astype("float32"))
seconds = {"iter_norm": [], "decorrelated_batch_norm": []}
for _ in range(2 if FAST else 9):
    for name in seconds:
        t = mg.tensor(image, requires_grad=True)
        start = time.perf_counter()
        mg.grad(layers.REGISTRY[name].form("derived")(t, eps=1e-3, group_size=16), [t], cotangent)
        seconds[name].append(time.perf_counter() - start)
table(["layer", "ms, forward and backward"], [[name, f"{1e3 * np.median(s):.1f}"] for name, s in seconds.items()])

training = train_tiny_cnn("iter_norm", steps=20 if FAST else 120)
training.report()
print(f"gradients of both forms, worst step and parameter: {max(training.agreement):.1e}")
assert max(training.agreement) < 1e-4 and (FAST or min(training.accuracy.values()) > 0.95)
exact_training = train_tiny_cnn("iter_norm", steps=5 if FAST else 20, dtype="float64")
print(f"the same in float64: {max(exact_training.agreement):.1e}")
assert max(exact_training.agreement) < 1e-10

# %% [markdown]
# ## What to remember
#
# - The backward of a loop is the loop backwards, every step transposed; it needs what every step has made.
# - Differentiate what you computed. The derivative of the limit is another function, and a gradient check can tell.
# - Newton's method forgets: near the fixed point errors of value and derivative vanish together.
#
# ## Homework
#
# `homework/08_iter_norm/lines.py` has two steps written out, from $\hat x$ back to $x_c$: eight lines. Mind that $P_1$ is in the cube three
# times, that nothing may be assumed to commute, and that here the Frobenius norm takes the place of the trace.
#
#     python -m minigrad.derivation 08_iter_norm lines.py
#
# Somebody knows that the derivative of $p^3$ is $3p^2$:


# %%
def d_P1(d_P2, d_cube, P1):
    return 1.5 * d_P2 + 3.0 * d_cube @ (P1 @ P1).T


report = check_homework("08_iter_norm", d_P1)
assert [line.verdict for line in report.lines if line.line == "d_P1"] == ["wrong"]

# %%
report = check_homework("08_iter_norm")
