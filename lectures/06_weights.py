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
# # 6 · Normalizing weights
#
# **After this lecture you can**
#
# - normalize a filter instead of what it computes, and derive the gradient as a projection, twice;
# - prove two orthogonality properties from the projection, and say what they mean for training;
# - say why the length of such a weight can only grow, and what that does to the learning rate;
# - differentiate a spectral norm with a singular vector that is held fixed;
# - put any of them on a layer with one call.
#
# You need lecture 02: a normalization's backward is a projection.
#
# *Sources:* cwn (1)-(5), that is, centered weight normalization; Salimans and Kingma [salimans2016]; Qiao et al. [qiao2019]; Miyato et al. [miyato2018].

# %%
import sys

sys.path[:0] = [".", ".."]  # finds the project from its root and from lectures/

import matplotlib.pyplot as plt
import numpy as np

import layers
import minigrad as mg
import models
from lectures.classroom import FAST, agree, check_homework, show_results, show_side_by_side, table, train_tiny_cnn
from minigrad import data, nn, optim

rng = np.random.default_rng(6)

# %% [markdown]
# ## Why weights
#
# Batch norm normalizes what a layer computes, so it depends on the batch. Why not normalize the layer itself? A filter $w$ matters by its
# direction; its length could be a number of its own:
#
# $$ w = g\,\frac{v}{\lVert v\rVert} \qquad\text{(weight norm: one gain } g \text{ and one direction for each filter).} $$
#
# Nothing here looks at data. It costs next to nothing: a filter has a few hundred elements, the activations of a batch have millions.
#
# ## Weight norm, line by line
#
# $v$ is a matrix with one filter per row: $n$ filters of $k$ elements.

# %%
n, k = 5, 12
V, GAIN = rng.normal(0.3, 1.0, (n, k)), rng.uniform(0.5, 2.0, n)
GW = rng.normal(size=(n, k))                                           # the cotangent of w


def weight_norm(v, gain):
    norm = mg.named("norm", mg.sqrt(mg.sum(v * v, 1, keepdims=True)))  # (n, 1)
    vhat = mg.named("vhat", v / norm)                                  # (n, k)
    return mg.named("w", vhat * mg.expand_dims(gain, 1))               # (n, k)


v, gain = mg.named("v", mg.tensor(V, requires_grad=True)), mg.named("gain", mg.tensor(GAIN, requires_grad=True))
tape = mg.adjoints(weight_norm(v, gain), mg.tensor(GW))
LEN = np.linalg.norm(V, axis=1, keepdims=True)                         # (n, 1)
VH = V / LEN                                                           # (n, k)

GG = (GW * VH).sum(1)                                                  # (n,)    the gain multiplies a row
agree("d_gain", GG, tape["gain"])
GVH = GW * GAIN[:, None]                                               # (n, k)
agree("d_vhat", GVH, tape["vhat"])
GLEN = -(GVH * V).sum(1, keepdims=True) / LEN**2                       # (n, 1)
agree("d_norm", GLEN, tape["norm"])
agree("d_v, two paths", GVH / LEN + GLEN * VH, tape["v"])

# %% [markdown]
# Put $d_{\mathrm{norm}}$ into $d_v$, and the second path takes out of the first what lies along $\hat v$:
#
# $$ d_v = \frac{g}{\lVert v\rVert}\,\bigl(I - \hat v\hat v^T\bigr)\,d_w . $$
#
# Again a projection. Batch norm's deletes two directions, this one deletes one.

# %%
ONE_LINE = GAIN[:, None] / LEN * (GW - VH * (GW * VH).sum(1, keepdims=True))
agree("d_v, one line", ONE_LINE, tape["v"])
for name, form in (("composed", layers.REGISTRY["weight_norm"].composed), ("derived", layers.REGISTRY["weight_norm"].form("derived"))):
    found = mg.grad(form(v, gain), [v, gain], mg.tensor(GW))
    agree(f"the layer, {name}", found[0], ONE_LINE)

# %% [markdown]
# ## The length can only grow
#
# The projection says: $d_v \perp v$. A step of gradient descent is orthogonal to $v$, so by Pythagoras
#
# $$ \lVert v - \eta\,d_v\rVert^2 = \lVert v\rVert^2 + \eta^2\,\lVert d_v\rVert^2 : $$
#
# the length *never* shrinks, whatever the data say. And $\lVert d_v\rVert \propto 1/\lVert v\rVert$: a longer $v$ takes smaller steps,
# and its direction turns by
# $\eta\lVert d_v\rVert/\lVert v\rVert \propto 1/\lVert v\rVert^2$. The learning rate of the *direction* falls by itself. Let us watch it.

# %%
print("d_v · v for each filter:", np.abs((ONE_LINE * V).sum(1)).max())
assert np.abs((ONE_LINE * V).sum(1)).max() < 1e-14
moved = V - 0.1 * ONE_LINE
agree("Pythagoras", (moved**2).sum(1), (V**2).sum(1) + 0.01 * (ONE_LINE**2).sum(1))

images, labels = data.digits("train")
STEPS = 20 if FAST else 200


def train_and_watch(lr):
    """Mean length of the second convolution's filters, and the angle by which a step turns them, at every step."""
    mg.seed(0)
    model = models.build("tiny_cnn", norm="batch_norm", weight="weight_norm", in_channels=1, size=8)
    parameter = dict(model.named_parameters())["4.parametrizations.weight.original1"]  # v; original0 is the gain
    optimizer = optim.SGD(model.parameters(), lr=lr)
    lengths, angles, step = [], [], 0
    while step < STEPS:
        for x, t in data.batches(images, labels, 64, shuffle=True, seed=0, epoch=step // 22, drop_last=True):
            if step == STEPS:
                break
            before = parameter.numpy().reshape(len(parameter), -1)
            optimizer.zero_grad()
            mg.cross_entropy(model(x), t).backward()
            optimizer.step()
            after = parameter.numpy().reshape(len(parameter), -1)
            norms = np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1)
            lengths.append(float(norms[1].mean()))
            cosine = (before * after).sum(1) / (norms[0] * norms[1])
            angles.append(float(np.sqrt(np.maximum(2 - 2 * cosine, 0)).mean()))
            step += 1
    return np.array(lengths), np.array(angles)


watched = {lr: train_and_watch(lr) for lr in (0.05, 0.2, 0.8)}
for lr, (lengths, _) in watched.items():
    print(f"learning rate {lr}: length {lengths[0]:.3f} -> {lengths[-1]:.3f}, never shorter: {bool((np.diff(lengths) > -1e-5 * lengths[:-1]).all())}")
    assert (np.diff(lengths) > -1e-5 * lengths[:-1]).all()
assert watched[0.8][0][-1] > watched[0.05][0][-1]
squared = float((watched[0.8][0][-1] / watched[0.8][0][0]) ** 2)
print(f"at 0.8, a step of the same gradient turns a filter {squared:.1f} times less at the end than at first")
assert squared > 1.01

# %% alt="Length of the filters against steps for three learning rates, never falling; and the angle of each step, falling"
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
for lr, (lengths, angles) in watched.items():
    left.plot(lengths / lengths[0], label=f"learning rate {lr}")
    right.semilogy(angles, lw=1, label=f"learning rate {lr}")
left.set(xlabel="step", ylabel="mean length, relative to the first", title="The length can only grow")
right.set(xlabel="step", ylabel="angle of a step", title="and slows the direction down")
left.legend()
plt.show()

# %% [markdown]
# The higher the learning rate, the faster it wears itself out: the length grows with $\eta^2$, and takes the angle of all later steps with
# it. That is one reason why such networks forgive a learning rate that is too high, and why weight decay, which makes $v$ shorter again,
# acts on them as on the learning rate.
#
# ## Centred weight norm
#
# cwn also takes out the mean of each filter:
#
# $$ v_c = v - \overline v, \qquad w = v_c/\lVert v_c\rVert . $$
#
# ### What it does to the output
#
# Let $z = w^T h$ be what the filter computes. If all inputs share one mean, $\mathrm E[h] = \mu\mathbf 1$, a centred filter does not see it, cwn (1):
#
# $$ \mathrm E[z] = w^T\,\mathrm E[h] = \mu\,w^T\mathbf 1 = 0 . $$
#
# And if in addition the inputs are uncorrelated with one variance, $\mathrm{cov}(h) = \sigma^2 I$, a filter of length 1 passes the variance on, cwn (2):
#
# $$ \mathrm{var}(z) = \mathrm E\bigl[w^T(h - \mathrm E h)\cdot (w^T(h - \mathrm E h))^T\bigr] = w^T\,\mathrm{cov}(h)\,w = \sigma^2\,w^Tw = \sigma^2 . $$
#
# That is cwn "proposition 1". (The document prints a product of two expectations, which is zero, where the expectation of a product must stand. And it asks for
# Gaussian inputs. The proof does not need them.) Try it: on independent inputs of a skewed distribution, on inputs with one mean that are correlated,
# and on inputs with different means.

# %%
def output_statistics(h, filters):
    """Mean and variance of z, over samples and filters, in units of the standard deviation and variance of h."""
    z = h @ filters.T
    return z.mean(0) / np.sqrt(h.var(0).mean()), z.var(0) / h.var(0).mean()


def unit(v):
    return v / np.linalg.norm(v, axis=1, keepdims=True)


samples, width = 20_000 if FAST else 50_000, 48
draws = np.random.default_rng(61)
filters = draws.normal(0.3, 1.0, (32, width))
kinds = {"length 1": unit(filters), "centred, length 1": unit(filters - filters.mean(1, keepdims=True))}
common = draws.normal(size=(samples, 1))
inputs = {
    "independent, Gaussian": 2.0 + 1.5 * draws.normal(size=(samples, width)),
    "independent, after ReLU": np.maximum(draws.normal(size=(samples, width)), 0),
    "correlated": 2.0 + 1.5 * (np.sqrt(0.5) * common * np.linspace(-1, 1, width) + draws.normal(size=(samples, width))),
    "different means": np.linspace(-1, 3, width) + draws.normal(size=(samples, width)),
}
found = {name: {kind: output_statistics(h, f) for kind, f in kinds.items()} for name, h in inputs.items()}
table(["inputs", *(f"{kind}: {what}" for kind in kinds for what in ("largest |E z|/σ", "var z/σ²"))],
      [[name, *(cell for kind in kinds for cell in (f"{np.abs(by[kind][0]).max():.2f}", f"{by[kind][1].min():.2f} to {by[kind][1].max():.2f}"))]
       for name, by in found.items()])
for name in ("independent, Gaussian", "independent, after ReLU"):
    mean, variance = found[name]["centred, length 1"]
    assert np.abs(mean).max() < 5 / np.sqrt(samples) and np.abs(variance - 1).max() < 20 / np.sqrt(samples)   # the sampling error of each
    assert np.abs(found[name]["length 1"][0]).max() > 1
assert np.ptp(found["correlated"]["centred, length 1"][1]) > 0.5                  # the variance depends on the filter
assert np.abs(found["different means"]["centred, length 1"][0]).max() > 0.3       # and the mean comes through

# %% alt="Densities of what three filters compute behind a ReLU: without centring they are shifted apart, with centring all stand at zero"
fig, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharex=True, sharey=True)
h = inputs["independent, after ReLU"]
for ax, (kind, f) in zip(axes, kinds.items()):
    for shade, row in zip(np.linspace(0, 0.9, 6), f):
        ax.hist(h @ row / h.std(), bins=np.linspace(-6, 10, 120), density=True, histtype="step", lw=1.4, color=plt.cm.viridis(shade))
    ax.axvline(0, color="0.4", lw=0.8, ls=":")
    ax.set(title=f"Filters of {kind}" if kind == "length 1" else "Filters of length 1, centred", xlabel="z, in units of the inputs' σ")
axes[0].set_ylabel("density, one line per filter")
plt.show()

# %% [markdown]
# The first two rows keep the promise, though one of them is not Gaussian. With correlated inputs the variance depends on the filter, and with different
# means the mean comes through. In a trained network inputs are correlated and have means of their own. How much of the promise is left there?

# %%
show_results("cwn_proposition_1")

# %% [markdown]
# ### Its gradient
#
# Two projections follow each other: $v \to v_c$ takes out the constant direction, $v_c \to w$ the direction of $w$. They are orthogonal to each
# other, so, as in cwn (3),
#
# $$ d_v = \frac1{\lVert v_c\rVert}\Bigl(d_w - w\,(d_w\cdot w) - \overline{d_w}\Bigr) . $$

# %%
VC = V - V.mean(1, keepdims=True)
LC = np.linalg.norm(VC, axis=1, keepdims=True)
WC = VC / LC
CENTRED = (GW - WC * (GW * WC).sum(1, keepdims=True) - GW.mean(1, keepdims=True)) / LC
cwn = layers.REGISTRY["centered_weight_norm"]
agree("d_v, centred", CENTRED, mg.grad(cwn.composed(v), [v], mg.tensor(GW))[0])
zeros = {"the sum of d_v": CENTRED.sum(1), "d_v · w": (CENTRED * WC).sum(1), "and so d_v · v": (CENTRED * V).sum(1)}
print("; ".join(f"{words}: {np.abs(values).max():.0e}" for words, values in zeros.items()))
assert all(np.abs(values).max() < 1e-13 for values in zeros.values())
show_side_by_side("centered_weight_norm")

# %% [markdown]
# **Two properties**, cwn (4) and (5), which are cwn "proposition 2": the gradient sums to zero, and it is orthogonal to the weight. Read backwards: the
# mean of $v$ and its length never receive a signal. The mean stays where it was at the start; the length grows by Pythagoras.
#
# Weight standardization (Qiao et al. [qiao2019]) gives the filter variance 1 instead of length 1: with $\varepsilon = 0$ it is $\sqrt k$ times the
# same.

# %%
standardized = layers.REGISTRY["weight_standardization"].form("derived")(v, eps=0.0)
agree("WS = √k · CWN", standardized, np.sqrt(k) * cwn.form("derived")(v).numpy())

# %% [markdown]
# ## All filters at once
#
# Length 1 for each filter; why not all of them orthogonal to each other? Orthogonal weight norm whitens the rows, $W = (V_cV_c^T +
# \varepsilon I)^{-1/2}V_c$, as
# lecture 05 whitens channels, and its backward is the same Lyapunov equation. And spectral norm bounds what a matrix can do to any
# vector: divide by the
# largest singular value.

# %%
own = layers.REGISTRY["orthogonal_weight_norm"].form("derived")(v, eps=0.0).numpy()
agree("rows are orthonormal", own @ own.T, np.eye(n), within=1e-12)

# %% [markdown]
# ### Spectral norm: a derivative that leaves something out
#
# $\sigma = \lVert W^Tu\rVert$ for the leading left singular vector $u$. The layer keeps $u$ between steps, improves it by one power
# iteration under `no_grad`, and holds it
# *fixed* when differentiating. Is that allowed? $\sigma$ is a maximum over $u$: at the maximum its derivative with respect to $u$ is
# zero. So if $u$ is the singular
# vector, nothing is lost; if it is only near, the error is of second order.

# %%
W = rng.normal(size=(4, 7))
left_vectors, singular, right_vectors = np.linalg.svd(W)
spectral = layers.REGISTRY["spectral_norm"]
w_t = mg.tensor(W, requires_grad=True)
cotangent = rng.normal(size=W.shape)


def exact_gradient():
    """Of W/σ₁(W), with dσ₁ = u₁ᵀ dW v₁."""
    sigma = singular[0]
    return cotangent / sigma - np.sum(cotangent * W) / sigma**2 * np.outer(left_vectors[:, 0], right_vectors[0])


at_u1 = spectral.form("derived")(w_t, u=mg.tensor(left_vectors[:, 0]))
agree("at the singular vector", mg.grad(at_u1, [w_t], mg.tensor(cotangent))[0], exact_gradient(), within=1e-12)
rows = []
for size in (1e-1, 1e-2, 1e-3):
    u = left_vectors[:, 0] + size * left_vectors[:, 1]
    u /= np.linalg.norm(u)
    near = spectral.form("derived")(w_t, u=mg.tensor(u))
    found = mg.grad(near, [w_t], mg.tensor(cotangent))[0].numpy()
    rows.append((size, abs(np.linalg.norm(W.T @ u) / singular[0] - 1), float(np.linalg.norm(found - exact_gradient()))))
table(["error of u", "error of σ", "error of the gradient"], [[f"{a:.0e}", f"{b:.0e}", f"{c:.0e}"] for a, b, c in rows])
assert rows[1][1] < 0.02 * rows[0][1] * 1.1

# %% [markdown]
# The *value* is wrong in second order only. The gradient's error is of first order: it points along the $u$ that was used. That is the
# price of one power iteration
# instead of a decomposition, and small as long as $u$ follows.
#
# ## On a layer
#
# `layers.parametrize` puts any of these on a `Linear` or `Conv2d`: the parameter is $v$, and `weight` is computed when it is read.

# %%
conv = nn.Conv2d(3, 8, 3)
layers.parametrize(conv, "centered_weight_norm")
print({name: p.shape for name, p in conv.named_parameters()})
agree("each filter has mean 0", conv.weight.numpy().reshape(8, -1).sum(1) + 1, np.ones(8), within=1e-6)

# %% [markdown]
# ## Networks trained with both forms
#
# With centred weight norm on every convolution, and no other normalization: a gain for each filter sets the scale. (Behind a batch norm
# that gain would have no effect and no gradient.)

# %%
training = train_tiny_cnn("none", steps=20 if FAST else 120, weight="centered_weight_norm")
training.report()
print(f"gradients of both forms, worst parameter: {np.median(training.agreement):.1e} in the median step, {max(training.agreement):.1e} in the worst")
assert np.median(training.agreement) < 1e-5 and (FAST or min(training.accuracy.values()) > 0.95)
exact = train_tiny_cnn("none", steps=5 if FAST else 120, weight="centered_weight_norm", dtype="float64")
print(f"the same in float64: {max(exact.agreement):.1e}")
assert max(exact.agreement) < 1e-9

# %% [markdown]
# In nearly all steps the float32 gradients agree in six digits. In a single step they may differ in the third digit: is a form wrong? No: in float64 they
# agree to the end. Rounding has pushed a value across the kink of a ReLU, or exchanged two nearly equal maxima in a pooling window, and there the
# gradient *jumps*. Medians over steps, and a run with more digits, tell such a jump from a mistake.
#
# ## Does it help?
#
# The document reports a test error of 5.64 % with centred weight norm, 6.00 % without and 6.01 % with weight norm (cwn figure 1, cwn "5.64 %"). The difference
# of 0.36 points is 36 of CIFAR-10's 10,000 test images. How many seeds does it take to tell such a difference from luck? The experiment says:

# %%
show_results("cwn_figure_1")

# %% [markdown]
# ## What to remember
#
# - What a parametrization cannot change, its gradient cannot ask for: length and mean are projected out.
# - Orthogonal steps make the length grow, and a growing length is a falling learning rate.
# - A maximum may be differentiated with its maximizer held fixed. An approximate one, almost.
#
# ## Homework
#
# Three parts: `homework/06_weight_norm`, `06_centered_weight_norm` and `06_spectral_norm`, twelve lines together. Each has something
# that this lecture does not have: an $\varepsilon$ beside the length, a gain, a bound.
#
#     python -m minigrad.derivation 06_weight_norm lines.py
#
# Somebody forgets that the length depends on $v$:


# %%
def d_v_one_line(d_w, gain, norm, eps):
    return gain[:, None] / (norm + eps) * d_w


report = check_homework("06_weight_norm", d_v_one_line)
assert [line.code for line in report.lines if line.line == "d_v_one_line"] == ["missing path"]

# %%
report = check_homework("06_weight_norm")

# %%
report = check_homework("06_centered_weight_norm")

# %%
report = check_homework("06_spectral_norm")
