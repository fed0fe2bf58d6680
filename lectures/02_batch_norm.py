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
# # 2 · Batch norm: six derivatives, then one line
#
# **After this lecture you can**
#
# - derive the backward of batch norm line by line, with a shape on every line, and check each line where it stands;
# - say what the three paths of its gradient do, and why they add up to the residual of a straight-line fit;
# - write the whole backward as one line, make an op of it, and count what that saves;
# - name four ways in which a batch norm is wrong although a test passes.
#
# You need lecture 01: what a tape is, and what a cotangent is.
#
# *Sources:* bn-lecture, that is, the slides of COMPSCI 682 on the math inside batch normalization: forward pass, backward
# pass, summary.

# %%
import sys

sys.path[:0] = [".", ".."]  # finds the project from its root and from lectures/

import time

import matplotlib.pyplot as plt
import numpy as np

import layers
import minigrad as mg
from lectures.classroom import FAST, HOMEWORK, agree, check_homework, relative_error, show_results, show_side_by_side, table, train_tiny_cnn

rng = np.random.default_rng(2)

# %% [markdown]
# ## Why derive what a tape can do
#
# A tape differentiates anything. So why would anybody take the derivative of batch norm by hand? Because of what you
# get for it:
#
# - **memory and time.** The tape differentiates *your lines*. It cannot know which of their terms cancel.
# - **understanding.** At the end we shall know exactly which part of a gradient batch norm lets through, and which
#   part it refuses. No tape tells you that.
# - **a recipe.** The last slide, bn-lecture "A formula for designing new layers", says how they are made: invent an
#   operation, write its forward pass, derive its backward, simplify. This lecture is that recipe, once, in full. The
#   lectures after it apply it to other layers, and a homework at the end of this one to a layer of your own.
#
# And the tape is our witness. Whatever we write down, it has its own opinion, computed by other means.

# %% [markdown]
# ## The forward pass
#
# A batch of $m$ examples with $C$ features: $x$ is an $m \times C$ matrix. Every column, a *channel*, is normalized
# with its own mean and variance (bn-lecture "Two Simplifications"). Then it gets a scale $\gamma$ and a shift $\beta$ of
# its own, which are learned (bn-lecture "Another detail"). In four lines (bn-lecture "Forward Pass"):
#
# $$
# \begin{aligned}
# \mu &= \tfrac1m \textstyle\sum_i x_i                     && (C) \\
# \sigma^2 &= \tfrac1m \textstyle\sum_i (x_i - \mu)^2      && (C) \\
# \hat x_i &= (x_i - \mu) / \sqrt{\sigma^2 + \varepsilon}  && (m, C) \\
# y_i &= \gamma\, \hat x_i + \beta                         && (m, C)
# \end{aligned}
# $$
#
# The index $i$ runs over the batch. All channels do the same, independently, so they need no index: they come along
# as the last axis of every array. Here it is, with a shape on every line. `mg.named` gives an intermediate value a
# name on the tape.

# %%
def batch_norm(x, gamma, beta, eps):
    """Batch norm of x (m, C), as a graph of primitives."""
    mu = mg.named("mu", mg.mean(x, 0))                               # (C,)
    xc = mg.named("xc", x - mu)                                      # (m, C)
    var = mg.named("var", mg.mean(xc * xc, 0))                       # (C,)
    xhat = mg.named("xhat", xc / mg.sqrt(var + eps))                 # (m, C)
    return mg.named("y", gamma * xhat + beta)                        # (m, C)


m, C, eps = 12, 3, 1e-3
x = mg.tensor(rng.normal(5.0, 2.0, (m, C)), requires_grad=True)      # float64, because the array is
gamma = mg.tensor(rng.normal(1.0, 0.5, C), requires_grad=True)
beta = mg.tensor(rng.normal(size=C), requires_grad=True)

with mg.record() as values:
    y = batch_norm(x, gamma, beta, eps)
mu, var, xhat = (values[name].value.numpy() for name in ("mu", "var", "xhat"))
print("mean of each channel of xhat:    ", xhat.mean(0).round(12))
print("variance of each channel of xhat:", xhat.var(0).round(6))
agree("the same, var / (var + eps)", xhat.var(0), var / (var + eps))

# %% [markdown]
# Somewhere behind $y$ a loss $l$ is computed. All that we ever learn about it is how it changes with $y$: the
# **cotangent** $d_y = \partial l/\partial y$, of the shape of $y$. We write $d_z$ for $\partial l/\partial z$ of
# every value $z$, in formulas and in code; $d_z$ always has the shape of $z$. The task: given $d_y$, find $d_x$,
# $d_\gamma$ and $d_\beta$.
#
# To test a derivation, take a *random* $d_y$. (A loss that is the plain sum of $y$ has $d_y = 1$ everywhere. Its
# gradient is zero, as you will be able to say at the end, and a zero agrees with a great many mistakes.)
#
# The tape's opinion on every named value, our answer sheet, comes in one call:

# %%
d_y = rng.normal(size=(m, C))
tape_says = mg.adjoints(y, mg.tensor(d_y))
d_x_tape, d_gamma_tape, d_beta_tape = mg.grad(y, [x, gamma, beta], mg.tensor(d_y), retain_graph=True)
print({name: d.shape for name, d in tape_says.items() if isinstance(name, str)})

# From here on we work by hand, on plain arrays: mu, var, xhat from above, and
X, GAMMA = x.numpy(), gamma.numpy()                                  # (m, C), (C,)
s = np.sqrt(var + eps)                                               # (C,)  our letter for √(σ² + ε)

# %% [markdown]
# ## Six derivatives
#
# Two rules do all the work.
#
# 1. **A value that is used several times collects the sum** of what comes back from each use.
# 2. **What was spread is summed, and what was summed is spread.** If $\gamma$ of shape $(C)$ served all $m$ rows,
#    $d_\gamma$ sums over these rows. If $\mu$ was a mean over the rows, then each row receives $d_\mu/m$.
#
# Rule 2 is why we write shapes: a missing sum is a wrong shape.
#
# ### $d_\gamma$, $d_\beta$ and $d_{\hat x}$
#
# We go backwards, and take what is nearest to the loss first (bn-lecture "∂l/∂γ", "∂l/∂β", "∂l/∂x̂"). In
# $y_i = \gamma\hat x_i + \beta$, both parameters serve all rows, and each $\hat x_i$ serves its own:
#
# $$ d_\gamma = \sum_i d_{y,i}\,\hat x_i \quad (C), \qquad d_\beta = \sum_i d_{y,i} \quad (C), \qquad
#    d_{\hat x,i} = \gamma\, d_{y,i} \quad (m, C). $$

# %%
d_gamma = (d_y * xhat).sum(0)                                        # (C,)
d_beta = d_y.sum(0)                                                  # (C,)
d_xhat = GAMMA * d_y                                                 # (m, C)
agree("d_gamma", d_gamma, d_gamma_tape)
agree("d_beta", d_beta, d_beta_tape)
agree("d_xhat", d_xhat, tape_says["xhat"])

# %% [markdown]
# ### $d_x$: not ready yet
#
# It is tempting to go on to $x$: $\hat x_i = (x_i - \mu)/s$, so $d_x = d_{\hat x}/s$. Let us see how far that is off.

# %%
naive = d_xhat / s
print(f"d_x without thinking: {relative_error(naive, d_x_tape):.0%} wrong")
assert relative_error(naive, d_x_tape) > 0.1

# %% [markdown]
# $x_i$ does not only stand in the numerator of its own $\hat x_i$. It also moves $\mu$ and $\sigma^2$, and these move
# *all* $\hat x_j$ of the channel. There are three paths from $x$ to $y$: directly, through the variance, and through
# the mean. The picture of the tape shows them; dashed arrows are broadcasts.

# %% alt="The tape of batch norm: x feeds mu and xc; xc feeds var and xhat; var feeds xhat through the square root; xhat feeds y."
inputs = [mg.named(name, mg.tensor(t.numpy(), requires_grad=True))
          for name, t in (("x", x), ("gamma", gamma), ("beta", beta))]
ax = mg.tape(batch_norm(*inputs, eps)).draw()
ax.set_title("Three paths from x to y: straight on, through var, through mu")
plt.show()

# %% [markdown]
# So $x$ comes last. First $\sigma^2$, then $\mu$.
#
# ### $d_{\sigma^2}$
#
# Here $\sigma^2$ stands in one place, in $\hat x_i = (x_i - \mu)(\sigma^2 + \varepsilon)^{-1/2}$, for all $i$ (so: a
# sum). Hold $x$ and $\mu$ still, and differentiate (bn-lecture "∂l/∂σ²"):
#
# $$ d_{\sigma^2} = \sum_i d_{\hat x,i}\,\frac{\partial \hat x_i}{\partial \sigma^2}
#                 = \sum_i d_{\hat x,i}\,(x_i - \mu)\cdot\bigl(-\tfrac12\bigr)(\sigma^2 + \varepsilon)^{-3/2} \quad (C). $$

# %%
d_var = (d_xhat * (X - mu) * -0.5 * (var + eps) ** -1.5).sum(0)      # (C,)
agree("d_var", d_var, tape_says["var"])

# %% [markdown]
# ### $d_\mu$
#
# $\mu$ stands in two places: in $\hat x_i$ and in $\sigma^2$. Rule 1 says: two terms (bn-lecture "∂l/∂μ").
#
# $$ d_\mu = \underbrace{\sum_i d_{\hat x,i}\cdot\frac{-1}{s}}_{\text{through } \hat x} +
#          \underbrace{d_{\sigma^2}\cdot\frac1m\sum_i -2(x_i - \mu)}_{\text{through } \sigma^2} \quad (C). $$
#
# Look at the second term. $\sum_i (x_i - \mu)$ is zero, whatever the data: $\mu$ is where it is. The variance has its
# minimum, as a function of the point that one measures from, at the mean; there its slope is zero. bn-lecture prints
# the term and leaves its end "to the board". So do we: keep it in mind, it comes back to haunt somebody at the end of
# this lecture.

# %%
through_xhat = (d_xhat * -1 / s).sum(0)                              # (C,)
through_var = d_var * (-2 * (X - mu)).sum(0) / m                     # (C,)
d_mu = through_xhat + through_var                                    # (C,)
agree("d_mu", d_mu, tape_says["mu"])
print("its second term, relative to the first:", f"{np.abs(through_var / through_xhat).max():.0e}")
assert np.abs(through_var / through_xhat).max() < 1e-13

# %% [markdown]
# ### $d_x$, now
#
# All three paths at once, each with the other two held still (bn-lecture "∂l/∂x"). Direct: $1/s$. Through the variance:
# $\partial\sigma^2/\partial x_i = 2(x_i - \mu)/m$. Through the mean: $1/m$.
#
# $$ d_{x,i} = \frac{d_{\hat x,i}}{s} + d_{\sigma^2}\cdot\frac{2(x_i - \mu)}{m} + \frac{d_\mu}{m} \quad (m, C). $$

# %%
direct = d_xhat / s                                                  # (m, C)
by_variance = d_var * 2 * (X - mu) / m                               # (m, C)
by_mean = d_mu / m                                                   # (C,): the same for every row
d_x = direct + by_variance + by_mean                                 # (m, C)
agree("d_x", d_x, d_x_tape)

# %% [markdown]
# Six lines, six agreements. These are the six derivatives of bn-lecture's summary, and this is where most courses
# stop. But look at those three terms again.
#
# ## What the three paths do
#
# Take one channel and plot each path's contribution to $d_{x,i}$ against $\hat x_i$, one dot per example. To see more
# than noise, we give the cotangent a trend: the loss would fall if this channel's values were smaller, and most of
# all if the large ones were.

# %%
n = 24
values_1 = np.sort(rng.normal(5.0, 2.0, n))                              # one channel (n,)
s_1 = np.sqrt(values_1.var() + eps)
xhat_1 = (values_1 - values_1.mean()) / s_1
g_1 = 0.7 + 0.8 * xhat_1 + rng.normal(0, 0.5, n)                         # its cotangent d_y, with γ = 1
slope, height = np.mean(g_1 * xhat_1), np.mean(g_1)
d_var_1 = (g_1 * (values_1 - values_1.mean())).sum() * -0.5 * s_1**-3.0
paths = {"directly": g_1 / s_1,
         "through the variance": d_var_1 * 2 * (values_1 - values_1.mean()) / n,
         "through the mean": np.full(n, -g_1.sum() / s_1 / n)}
d_1 = sum(paths.values())

variable = mg.tensor(values_1[:, None], requires_grad=True)
one_channel = batch_norm(variable, mg.tensor(np.ones(1)), mg.tensor(np.zeros(1)), eps)
agree("sum of the three paths", d_1[:, None], mg.grad(one_channel, [variable], mg.tensor(g_1[:, None]))[0])

# %% alt="Four panels: a rising cloud, plus a falling line, plus a constant, gives a level cloud."
fig, axes = plt.subplots(1, 4, figsize=(11, 3.2), sharex=True, sharey=True)
panels = {**paths, "their sum: $d_x$": d_1}
for ax, (label, contribution), color, sign in zip(axes, panels.items(), ("C0", "C1", "C2", "black"), "++= "):
    ax.axhline(0, color="0.5", lw=0.8)
    ax.plot(xhat_1, contribution, "o", ms=4.5, color=color)
    ax.set_title(label, color=color)
    ax.set_xlabel(r"$\hat x_i$")
    ax.annotate(sign, (1.1, 0.5), xycoords="axes fraction", fontsize=20, ha="center", va="center")
axes[0].set_ylabel(r"contribution to $d_{x,i}$")
fig.get_layout_engine().set(wspace=0.14)
plt.show()

# %% [markdown]
# The path through the mean is the same number for everyone. The path through the variance is a straight line through
# the origin. Neither knows anything about an individual example: all individual information comes directly. And what
# the two do together is easy to see in the fourth panel. The cloud that came in high and tilted goes out level,
# around zero.
#
# Draw the same four panels as one, and that gets a name.

# %% alt="The cotangent against x-hat with the fitted straight line; vertical sticks from the line to the dots are the gradient with respect to x."
fig, ax = plt.subplots(figsize=(7.2, 4.2))
ax.vlines(xhat_1, height + slope * xhat_1, g_1, color="black", lw=1.4)
ax.plot(xhat_1, g_1, "o", ms=5.5, color="C0")
ax.plot(xhat_1, height + slope * xhat_1, color="C1")
line = height + slope * xhat_1
up, down, far = int(np.argmax(d_1[:8])), int(np.argmin(d_1)), n - 4
for text, color, at, to in (
        ("$g_i = d_{y,i}$: what arrives", "C0", (xhat_1[up], g_1[up]), (0.05, 0.8)),
        (r"$s\,d_{x,i}$: what goes on to $x$", "black", (xhat_1[down], (g_1 + line)[down] / 2), (0.2, 0.04)),
        (r"$\overline{g} + \hat x\;\overline{g\hat x}$: what mean and variance take", "C1", (xhat_1[far], line[far]),
         (0.48, 0.14))):
    ax.annotate(text, at, xytext=to, textcoords="axes fraction", color=color, fontweight="bold",
                arrowprops={"arrowstyle": "-", "color": color, "lw": 0.8})
ax.set(xlabel=r"$\hat x_i$", ylabel="cotangent")
ax.set_title("Batch norm passes down what a straight line cannot explain")
plt.show()

# %% [markdown]
# A straight line is fitted to the cotangent, as a function of $x$. **What batch norm passes down is the residual.**
# The path through the mean subtracts the line's height, and the path through the variance its slope.
#
# It could not be otherwise. Moving all $x_i$ of a channel up by the same amount changes nothing behind the norm, and
# neither does stretching them away from their mean. A gradient that asks for either asks in vain, and batch norm
# removes exactly these two requests. Let a least-squares solver, which knows nothing of batch norm, confirm it. With
# $\varepsilon > 0$ the fit is *ridge regression*, with penalty $\varepsilon$ on the slope: stretching does change
# something then, a little.

# %%
def residual_of_line(g, x, penalty):
    """g − (a + b·(x − mean x)), where a and b minimize mean(residual²) + penalty·b². One channel: (m,)."""
    centred = x - x.mean()
    rows = np.column_stack([np.ones_like(x), centred])               # (m, 2)
    rows = np.vstack([rows, [0, np.sqrt(penalty * len(x))]])         # one more row for the penalty
    a, b = np.linalg.lstsq(rows, np.append(g, 0), rcond=None)[0]
    return g - a - b * centred


fitted = np.column_stack([residual_of_line(d_y[:, c], X[:, c], penalty=eps) for c in range(C)])
agree("γ/s · residual of the fit", GAMMA / s * fitted, d_x_tape)

# %% [markdown]
# ## The one line
#
# Now the algebra that bn-lecture leaves for the board. Write $g$ for $d_y$ and a bar for the mean over the batch, so
# $\sum_i a_i = m\,\bar a$. Each path, with everything put in:
#
# $$
# \begin{aligned}
# \text{directly:}\quad & \frac{d_{\hat x}}{s} = \frac{\gamma}{s}\, g \\
# \text{through the variance:}\quad & \frac{2(x-\mu)}{m}\, d_{\sigma^2}
#     = \frac{2\,s\,\hat x}{m}\cdot\Bigl(-\frac{1}{2 s^3}\Bigr)\,\gamma\,s\sum_i g_i\hat x_i
#     = -\frac{\gamma}{s}\,\hat x\;\overline{g\hat x} \\
# \text{through the mean:}\quad & \frac{d_\mu}{m} = -\frac{1}{m}\cdot\frac{\gamma}{s}\sum_i g_i = -\frac{\gamma}{s}\,\bar g
# \end{aligned}
# $$
#
# The factor $\gamma/s$ is common to all three:
#
# $$ \boxed{\; d_x = \frac{\gamma}{s}\,\Bigl( g - \bar g - \hat x\;\overline{g\hat x} \Bigr) \;} \qquad (m, C) $$
#
# and the two means are old acquaintances: $\bar g = d_\beta/m$ and $\overline{g \hat x} = d_\gamma/m$. The
# parameters' gradients are the *only* sums that the backward needs.

# %%
agree("directly", direct, GAMMA / s * d_y)
agree("through the variance", by_variance, -GAMMA / s * xhat * np.mean(d_y * xhat, 0))
agree("through the mean", by_mean, -GAMMA / s * np.mean(d_y, 0))
agree("the one line", GAMMA / s * (d_y - d_beta / m - xhat * d_gamma / m), d_x_tape)

# %% [markdown]
# ### What it promises
#
# A formula that one understands makes predictions, and predictions are better tests than numbers. From the picture of
# the residual:
#
# 1. It has no mean: $\sum_i d_{x,i} = 0$ for any $\varepsilon$.
# 2. It is nearly orthogonal to $\hat x$: $\sum_i \hat x_i\, d_{x,i} =
#    \frac{\gamma}{s}\,d_\gamma\,\frac{\varepsilon}{\sigma^2 + \varepsilon}$, which is zero for $\varepsilon = 0$.
# 3. A cotangent that *is* a straight line in $\hat x$ gives nothing at all if $\varepsilon = 0$. The cotangent of
#    ones is such a line.
# 4. Multiply the input by $a$ and $\varepsilon$ by $a^2$: the output stays, and so $d_x$ is divided by $a$. Large
#    inputs get small gradients.

# %%
def d_x_of(X, g, eps):
    """Batch norm's d_x by the tape, for arrays."""
    variable = mg.tensor(X, requires_grad=True)
    y = batch_norm(variable, gamma.detach(), beta.detach(), eps)
    return mg.grad(y, [variable], mg.tensor(g))[0].numpy()


def size(array):
    return np.linalg.norm(array) / np.linalg.norm(d_x)


formula = GAMMA / s * d_gamma * eps / (var + eps)
promises = {
    "1: sum of d_x": size(d_x.sum(0)),
    "2: sum of xhat·d_x, minus its formula": size((xhat * d_x).sum(0) - formula),
    "3: d_x for a straight line, eps = 0": size(d_x_of(X, 3.0 - 2.0 * X, 0.0)),
    "4: d_x for 100·x, times 100, minus d_x": size(100 * d_x_of(100 * X, d_y, 100**2 * eps) - d_x),
}
table(["promise", "size against d_x"], [[name, f"{error:.0e}"] for name, error in promises.items()])
assert max(promises.values()) < 1e-13

# %% [markdown]
# ## An op of our own
#
# To use the one line in a network, it must become the backward of an op. `mg.by_hand` takes three functions: the
# forward, what to save for the backward, and the backward. **The names of the backward's parameters say what the tape
# keeps**: it asks for `x` and `gamma`, so those are kept, and nothing else of size $(m, C)$. $\hat x$ is cheap to
# compute again.

# %%
def statistics(x, *, eps):
    """Mean and 1/s of each channel: two arrays (C,)."""
    return mg.mean(x, 0), 1.0 / mg.sqrt(mg.var(x, 0) + eps)


def backward(g, saved, x, gamma, *, eps):
    """The one line. g, x (m, C); gamma (C,)."""
    mu, rstd = saved                                                 # (C,), (C,)
    xhat = (x - mu) * rstd                                           # (m, C)
    d_gamma, d_beta = mg.sum(g * xhat, 0), mg.sum(g, 0)              # (C,), (C,)
    d_x = gamma * rstd * (g - d_beta / len(x) - xhat * (d_gamma / len(x)))
    return d_x, d_gamma, d_beta


@mg.by_hand(save=statistics, backward=backward)
def batch_norm_by_hand(xp, x, gamma, beta, *, eps, saved):
    """The forward pass on raw arrays; `saved` is what `statistics` returned."""
    mu, rstd = saved
    return (x - mu) * (gamma * rstd) + beta


ours = batch_norm_by_hand(x, gamma, beta, eps=eps)
our_d_x, our_d_gamma, our_d_beta = mg.grad(ours, [x, gamma, beta], mg.tensor(d_y))
agree("forward", ours, y)
agree("d_x", our_d_x, d_x_tape)
agree("d_gamma", our_d_gamma, d_gamma_tape)
agree("d_beta", our_d_beta, d_beta_tape)

# %% [markdown]
# The tape has agreed. `mg.gradcheck` asks an independent witness as well, central differences, with random
# cotangents, in first and in second order. We wrote no second derivative: the backward is made of ops, and the tape
# differentiates those.

# %%
report = mg.gradcheck(lambda *t: batch_norm_by_hand(*t, eps=eps), [x, gamma, beta], order=2)
print(report)
assert report

# %% [markdown]
# ### In the library
#
# For images, $x$ is $(N, C, H, W)$. The statistics of a channel are taken over $N$, $H$ and $W$, so $m = NHW$, and
# nothing else changes. This is `layers/batch/batch_norm.py`: the composed form, beside the backward that we have just
# derived. `paired_sums` computes $\sum g$ and $\sum g\,(x-\mu)$ in one pass over memory, and `combine` computes
# $a\,g + b\,(x - \mu) + c$ in another.

# %%
show_side_by_side("batch_norm", "one_line")

# %% [markdown]
# ## What it saves
#
# The tape keeps what the rules of its lines need. For the composed form, those are two arrays of the size of $x$:
# $x - \mu$ for the square, and $\hat x$ for the product with $\gamma$. For ours it is one, $x$ itself. (We normalize a
# computed value here, as in a network: variables that you hold anyway are not counted.)

# %%
entry = layers.REGISTRY["batch_norm"]
forms = {"composed": entry.composed, **entry.derived}
images = mg.tensor(rng.normal(size=(32, 16, 16, 16)).astype("float32"), requires_grad=True)
parameters = [mg.tensor(rng.normal(1, 0.1, 16).astype("float32"), requires_grad=True) for _ in range(2)]
one_x = images.numpy().nbytes


def tape_of(form):
    """The tape of a norm behind another op."""
    return mg.tape(forms[form](mg.abs(images) * 2.0, *parameters, eps=1e-5))


kept = {form: tape_of(form).kept_bytes for form in forms}            # the ops in front keep nothing more
table(["form", "bytes kept", "in arrays like x"],
      [[form, f"{b:,}", f"{b / one_x:.3f}"] for form, b in kept.items()])
assert 1.99 < kept["composed"] / one_x < 2.01 and kept["one_line"] / one_x < 1.01
print(tape_of("composed"), tape_of("one_line"), sep="\n\n")

# %% [markdown]
# And time? Timings depend on the machine, and on what else it does. So we take turns, take the median, and compare
# ratios; we assert nothing tight.

# %%
shape = (8, 16, 16, 16) if FAST else (64, 64, 32, 32)
x_big, g_big = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
x_big, g_big = mg.tensor(x_big, requires_grad=True), mg.tensor(g_big)
p_big = [mg.ones(x_big.shape[1], requires_grad=True) for _ in range(2)]
spent = {form: [] for form in forms}
for turn in range(3 if FAST else 11):
    for form in forms:
        start = time.perf_counter()
        mg.grad(forms[form](x_big, *p_big, eps=1e-5), [x_big, *p_big], g_big)
        if turn:                                                     # the first turn warms up
            spent[form].append(time.perf_counter() - start)
medians = {form: float(np.median(t)) for form, t in spent.items()}
table(["form", "forward and backward, ms", "against composed"],
      [[form, f"{1e3 * t:.1f}", f"{t / medians['composed']:.2f}"] for form, t in medians.items()])

# %% [markdown]
# ## Does it train the same?
#
# A small convolutional network with two batch norms learns the handwritten digits twice: once with the composed form
# and once with the derived one. Same seed, same batches. At every step, both forms' gradients are also taken at the
# *same* parameters. If the derivation is right, all that is left is rounding: about $10^{-7}$ in float32, $10^{-16}$
# in float64, times the few operations in between.

# %%
steps = 25 if FAST else 150
runs = {dtype: train_tiny_cnn("batch_norm", steps=steps, dtype=dtype) for dtype in ("float32", "float64")}
runs["float32"].report()
worst = {dtype: max(run.agreement) for dtype, run in runs.items()}
print("largest relative difference of any gradient:", {dtype: f"{w:.0e}" for dtype, w in worst.items()})
assert worst["float32"] < 1e-5 and worst["float64"] < 1e-12
assert FAST or min(runs["float32"].accuracy.values()) > 0.95

# %% alt="Left: two loss curves on top of each other. Right: gradient differences at every step, near 1e-6 in float32 and near 1e-15 in float64."
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
left.plot(runs["float32"].loss["composed"], lw=5, alpha=0.35, label="composed")
left.plot(runs["float32"].loss["derived"], lw=1.1, color="black", label="derived by hand")
left.set(xlabel="step", ylabel="training loss", title="One seed, two batch norms")
left.legend()
for (dtype, run), color in zip(runs.items(), ("C0", "C1")):
    right.semilogy(run.agreement, ".", color=color)
    unit = np.finfo(dtype).eps / 2
    right.axhline(unit, color=color, ls=":", lw=1)
    for text, height, above in ((dtype, max(run.agreement), 6), ("unit roundoff", unit, -11)):
        right.annotate(text, (0, height), xytext=(0, above), textcoords="offset points", color=color)
right.set(xlabel="step", ylabel="relative difference", ylim=(1e-17, 1e-4))
right.set_title("Gradients of both forms, worst parameter")
plt.show()

# %% [markdown]
# That was one network and one norm. The project's own claim is that this holds for every norm in every network of `models`. If the experiment has been run,
# here is what it found:

# %%
show_results("two_gradients")

# %% [markdown]
# ## Four ways to be wrong although a test passes
#
# ### 1. The shortcut formula for the variance
#
# $\sigma^2 = \overline{x^2} - \bar x^2$ needs only one pass over the data. In exact arithmetic it is right, and on
# data with mean zero it passes every test. But it subtracts two numbers of size $\mu^2$ to get one of size
# $\sigma^2$: with unit roundoff $u$, expect a relative error of about $u\,(\mu/\sigma)^2$.

# %%
def shortcut(v):
    return np.mean(v * v) - np.mean(v) ** 2


def two_passes(v):
    return np.mean((v - np.mean(v)) ** 2)


def batch_of_mean(mean):
    """1,000 float32 values of variance about 1."""
    return (mean + rng.normal(size=1000)).astype(np.float32)


unit = np.finfo(np.float32).eps / 2                                  # 6e-8
ratios = np.logspace(0, 5, 21)
errors = {shortcut: [], two_passes: []}
for ratio in ratios:
    batches = [batch_of_mean(ratio) for _ in range(20)]
    for formula, found in errors.items():
        found.append(max(abs(formula(v) / v.astype(np.float64).var() - 1) for v in batches))
answers = [float(shortcut(batch_of_mean(1e4))) for _ in range(20)]
print(f"mean 10,000, variance 1, 20 batches: the shortcut says {min(answers):.0f} to {max(answers):.0f}")
print(f"two passes: largest relative error for any mean up to 100,000: {max(errors[two_passes]):.0e}")
assert min(answers) < 0 and max(errors[two_passes]) < 1e-3

# %% alt="Largest relative error of the variance against mean over standard deviation: the shortcut follows the square law, two passes stay near roundoff."
fig, ax = plt.subplots(figsize=(7, 3.8))
ax.axhspan(1, 1e5, color="C1", alpha=0.12, lw=0)
ax.annotate("no digit is right: the variance may be negative", (1.2, 1e2), color="C1", fontsize=9.5)
ax.loglog(ratios, unit * ratios**2, ":", color="0.4")
ax.annotate(r"$u\,(\mu/\sigma)^2$", (2e3, unit * 4e6), xytext=(8, -10), textcoords="offset points", color="0.4")
for formula, color, text, above in ((shortcut, "C1", r"$\overline{x^2} - \bar x^2$", 12),
                                    (two_passes, "C0", r"$\overline{(x - \bar x)^2}$", -20)):
    ax.loglog(ratios, errors[formula], "o-", ms=4, color=color)
    ax.annotate(text, (ratios[9], errors[formula][9]), xytext=(0, above), textcoords="offset points",
                color=color, ha="center", fontsize=12)
ax.set(xlabel=r"$\mu/\sigma$", ylabel="relative error of the variance", ylim=(3e-9, 1e5))
ax.set_title("One pass over the data, and what it costs: float32, worst of 20 batches")
plt.show()

# %% [markdown]
# ### 2. A test with two examples
#
# With $m = 2$ a straight line goes through both points, and the residual is nothing: $\hat x = \pm 1$ (for
# $\varepsilon = 0$), and $d_x = 0$ for *every* cotangent. A test on two examples compares rounding with rounding. If
# it compares absolute values, it accepts anything small.
#
# ### 3. A test with a great many examples
#
# Forget the path through the variance. How wrong does that make $d_x$? With a *random* cotangent, the line that is
# not subtracted has a slope of about $1/\sqrt m$: the larger the test, the smaller the mistake. (In a trained network
# cotangents are not random, and the mistake matters. The test does not see it.)

# %%
def without_variance_path(X, g, eps):
    """A wrong d_x: γ/s·(g − mean g)."""
    return GAMMA / np.sqrt(X.var(0) + eps) * (g - g.mean(0))


draws, rows = np.random.default_rng(3), []
for n in (2, 3, 8, 32, 512, 8192):
    sizes, mistakes = [], []
    for _ in range(5 if FAST else 25):
        X_n, g_n = draws.normal(size=(2, n, C))
        right, wrong = d_x_of(X_n, g_n, 1e-5), without_variance_path(X_n, g_n, 1e-5)
        sizes.append(np.linalg.norm(right) / np.linalg.norm(GAMMA * g_n))
        mistakes.append(relative_error(wrong, right))
    rows.append((n, np.median(sizes), np.median(mistakes)))
table(["examples m", "size of d_x against γ·g", "relative error without the variance path"],
      [[f"{n:,}", f"{size:.1e}", f"{mistake:.1e}"] for n, size, mistake in rows])
assert rows[0][1] < 1e-2 < rows[2][1]                                # m = 2: the true gradient all but vanishes
assert rows[-1][2] < 0.05 < rows[2][2]                               # m = 8192: the mistake all but vanishes

# %% [markdown]
# A test that can tell right from wrong is small, but not tiny; its cotangent is random; its tolerance is that of
# rounding. And it can be asked whether it could have failed: `mg.gradcheck` has the verdict "no power" for a probe in
# which a wrong gradient could hide.

# %%
def all_ones(x):
    """A 'loss' that is the plain sum of batch norm's output."""
    return batch_norm(x, gamma.detach(), beta.detach(), eps).sum()


report = mg.gradcheck(all_ones, [x])
print(report)
assert not report and "no power" in str(report)

# %% [markdown]
# ### 4. A first derivative that is right for the wrong reason
#
# Remember the second term of $d_\mu$, which is zero. May we drop it? Let us hold $\mu$ constant inside the variance,
# so that the tape never sees that path. And a second temptation: an engine saves $1/s$ in the forward pass and treats
# it as a number in the backward. Both give the right $d_x$, to the last digit. Then somebody wants a second
# derivative, for a gradient penalty or a Hessian-vector product.

# %%
def mean_held_constant(x, gamma, beta, eps):
    """Batch norm without the path from the mean through the variance."""
    mu = mg.mean(x, 0)
    away = x - mu.detach()
    return gamma * (x - mu) / mg.sqrt(mg.mean(away * away, 0) + eps) + beta


def backward_of_constants(g, saved, x, gamma, *, eps):
    """The one line, with the saved statistics as plain numbers."""
    return backward(g, [t.detach() if isinstance(t, mg.Tensor) else t for t in saved], x, gamma, eps=eps)


careless_op = mg.by_hand(save=statistics, backward=backward_of_constants)(batch_norm_by_hand.primitive.forward)
candidates = {
    "composed": batch_norm,
    "our op": lambda x, gamma, beta, eps: batch_norm_by_hand(x, gamma, beta, eps=eps),
    "mean held constant in the variance": mean_held_constant,
    "saved statistics as constants": lambda x, gamma, beta, eps: careless_op(x, gamma, beta, eps=eps),
}
direction = mg.tensor(rng.normal(1.0, 1.0, (m, C)))                  # with a mean: there the lost path shows
weights = mg.tensor(rng.normal(size=(m, C)))
first, second = {}, {}
for name, form in candidates.items():
    def loss(t, form=form):
        return (mg.tanh(form(t, gamma.detach(), beta.detach(), eps)) * weights).sum()
    variable = mg.tensor(X, requires_grad=True)
    first[name] = mg.grad(loss(variable), [variable])[0]
    second[name] = mg.hvp(loss, [mg.tensor(X)], [direction])[0]
table(["batch norm", "error of the gradient", "error of the Hessian-vector product"],
      [[name, *(f"{relative_error(found[name], found['composed']):.1%}" for found in (first, second))]
       for name in candidates])
assert all(relative_error(d, first["composed"]) < 1e-13 for d in first.values())
assert relative_error(second["our op"], second["composed"]) < 1e-12
assert all(relative_error(second[name], second["composed"]) > 0.01 for name in list(candidates)[2:])

# %% [markdown]
# A term that *is zero here* is not a term that *is not there*: its derivative need not be zero. Our op gets it right
# because what it saves is a cache. When the backward is itself recorded, `statistics` runs once more, on the tape.
# Lecture 10 takes this up.
#
# ## What to remember
#
# - Two rules: uses add up; what was spread is summed, what was summed is spread. Write the shape on every line.
# - $d_x = \frac{\gamma}{s}\bigl(g - \bar g - \hat x\,\overline{g \hat x}\bigr)$: the residual of a straight-line fit
#   of the cotangent. Batch norm refuses the part of a gradient that asks to shift or to stretch a channel.
# - The two sums are $d_\beta$ and $d_\gamma$. One array is kept, and two passes over memory do it all.
# - Test with a random cotangent, a dozen examples and the tolerance of rounding; test second derivatives as second
#   derivatives.
#
# ## Homework
#
# Now you, and with a difference: in the homework each example has a *share*, so that some count more than others. Where all shares are
# $1/m$, it is the batch norm of this lecture. `lectures/homework/02_batch_norm/lines.py` has seven functions to write: the six derivatives,
# and the one line. A function's arguments are the values and the derivatives that it needs, by their names. Each is judged alone,
# with the right derivatives from the lines above, so one mistake does not spoil the others.
#
# The checker has no answer key. It takes the forward pass apart and compares your line with every path through the
# tape. Here is what it says of the $d_x$ that was "not ready yet":

# %%
def d_x(d_xhat, rstd):
    return d_xhat * rstd


report = check_homework("02_batch_norm", d_x)
assert report.lines[0].code == "eval formula"

# %% [markdown]
# At inference, with fixed statistics, that line would have been right. And this is about your file, as often as you
# like. (On a command line: `python -m minigrad.derivation 02_batch_norm lines.py`; and `--hint d_var` helps out.)

# %%
report = check_homework("02_batch_norm")

# %% [markdown]
# ### A layer of your own
#
# The recipe of the last slide, bn-lecture "A formula for designing new layers", has four steps: brainstorm an operation, design its forward pass, derive its
# backward, optimize it. First a layer that is in no book. It divides by the *mean absolute deviation* instead of the standard deviation, so that one outlier
# counts less. `lectures/homework/11_design_a_layer/lines.py` has its seven lines. Somebody differentiates the absolute value and forgets the numerator:

# %%
def d_xc(d_dev, xc, m):
    return d_dev * np.sign(xc) / m


report = check_homework("11_design_a_layer", d_xc)
assert report.lines[0].code == "missing path"

# %%
report = check_homework("11_design_a_layer")

# %% [markdown]
# Then invent one. `design.py` in the same folder is a file with all parts of a design: what it is for, the forward pass, the lines, the op. It holds a simple
# example, mean-only batch norm. Replace it by your own, and run `python -m lectures.design design.py`. Your own forward pass is the answer key for your lines;
# the op is checked in both orders; then your layer and batch norm train the same small network from the same seeds.

# %%
from lectures.design import designed

finished = designed(HOMEWORK / "11_design_a_layer" / "design.py", seeds=2 if FAST else 5, steps=10 if FAST else 60)

# %% [markdown]
# An interval that contains zero means that these seeds cannot tell. It does not mean that the layers are equal. (And a layer that loses here may win elsewhere:
# this network is small, and its images are easy.)
