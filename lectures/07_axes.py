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
# # 7 · One kernel, many axes
#
# **After this lecture you can**
#
# - derive layer, group and instance norm at once, with the axes as a parameter;
# - say exactly where they differ: over which axes a mean is taken, and along which the scale is shared;
# - derive RMS norm, and say which direction it passes on that the others delete;
# - turn relations between the layers into tests;
# - say which of them depend on the batch, and see what that does when batches are small.
#
# You need lecture 02: batch norm's backward in one line.
#
# *Sources:* bn-lecture for the derivation; Ba et al. [ba2016], Ulyanov et al. [ulyanov2016], Wu and He [wu2018], Zhang and Sennrich [zhang2019] for the layers.

# %%
import sys

sys.path[:0] = [".", ".."]  # finds the project from its root and from lectures/

import matplotlib.pyplot as plt
import numpy as np

import layers
import minigrad as mg
import models
from lectures.classroom import FAST, agree, check_homework, relative_error, show_side_by_side, table, train_tiny_cnn
from minigrad import data, optim

rng = np.random.default_rng(7)

# %% [markdown]
# ## The same formula
#
# Images are a box: $N$ samples, $C$ channels, $H \times W$ pixels. Every layer of this lecture takes some part of the box, subtracts
# its mean and
# divides by its standard deviation. They differ in *which part*:
#
# | layer | one mean for each | over the axes |
# |---|---|---|
# | batch norm | channel | N, H, W |
# | layer norm | sample | C, H, W |
# | instance norm | sample and channel | H, W |
# | group norm | sample and group of channels | a part of C, H, W |
#
# Let $A$ be the set of axes, $\overline{a}$ the mean over them (kept as size 1, so that it broadcasts back), $s =
# \sqrt{\overline{(x-\overline x)^2} + \varepsilon}$,
# $\hat x = (x - \overline x)/s$. Nothing in lecture 02's derivation used that $A$ was the batch. So for the cotangent $h$ of $\hat x$:
#
# $$ d_x = \frac1s\Bigl(h - \overline h - \hat x\,\overline{h\hat x}\Bigr). \tag{1} $$
#
# One function for all of them:

# %%
EPS = 1e-3


def normalized(x, axes):
    """x̂ and 1/s."""
    centred = x - x.mean(axes, keepdims=True)
    rstd = 1 / np.sqrt((centred**2).mean(axes, keepdims=True) + EPS)
    return centred * rstd, rstd


def pull_back(h, x, axes):
    """(1): the cotangent of x for the cotangent h of x̂."""
    xhat, rstd = normalized(x, axes)
    return rstd * (h - h.mean(axes, keepdims=True) - xhat * (h * xhat).mean(axes, keepdims=True))


N, C, H, W = 4, 6, 5, 3
X = rng.normal(0.5, 1.5, (N, C, H, W))
HAT = rng.normal(size=X.shape)                                         # the cotangent of x̂
for name, axes in (("batch norm", (0, 2, 3)), ("layer norm", (1, 2, 3)), ("instance norm", (2, 3))):
    t = mg.tensor(X, requires_grad=True)
    centred = t - mg.mean(t, axes, keepdims=True)
    xhat = centred / mg.sqrt(mg.mean(centred * centred, axes, keepdims=True) + EPS)
    agree(name, pull_back(HAT, X, axes), mg.grad(xhat, [t], mg.tensor(HAT))[0])

# %% alt="Four drawings of a box of samples by channels: batch norm marks a column, layer norm a row, instance norm a cell, group norm part of a row"
fig, axes_ = plt.subplots(1, 4, figsize=(11, 2.8))
for ax, (name, part) in zip(axes_, {"batch norm": np.s_[:, 2:3], "layer norm": np.s_[1:2, :], "instance norm": np.s_[1:2, 2:3],
                                    "group norm": np.s_[1:2, 2:4]}.items()):
    grid = np.zeros((N, C))
    grid[part] = 1
    ax.imshow(grid, cmap="Blues", vmin=-0.15, vmax=1.3)
    ax.set(title=name, xlabel="channel", xticks=[], yticks=[])
    ax.set_xticks(np.arange(C + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(N + 1) - 0.5, minor=True)
    ax.grid(False)
    ax.grid(which="minor", color="white", lw=2)
axes_[0].set_ylabel("sample")
plt.show()

# %% [markdown]
# Every cell is an image of $H \times W$ pixels. What is marked shares one mean and one variance.
#
# ## Where the scale sits
#
# Behind $\hat x$ come $\gamma$ and $\beta$, and they need not be shared along the same axes. In batch norm $\gamma$ belongs to a
# channel, and so does the mean:
# $h = \gamma g$ is a constant times $g$, and $\gamma$ can be taken out of the means. In layer norm $\gamma$ varies *inside* the part
# that shares a mean:
# $\gamma$ must stay inside. That is the difference between
#
# $$ \frac{\gamma}{s}\bigl(g - \overline g - \hat x\,\overline{g\hat x}\bigr)\ \text{(batch norm)}
#    \qquad\text{and}\qquad \frac1s\bigl(\gamma g - \overline{\gamma g} - \hat x\,\overline{\gamma g\hat x}\bigr)\ \text{(layer norm)}, $$
#
# and a common mistake.

# %%
GAMMA, BETA = rng.uniform(0.5, 2.0, (C, H, W)), rng.normal(size=(C, H, W))
G = rng.normal(size=X.shape)                                           # the cotangent of y
xhat, rstd = normalized(X, (1, 2, 3))
DX = pull_back(GAMMA * G, X, (1, 2, 3))
layer_norm = layers.REGISTRY["layer_norm"]
inputs = [mg.tensor(a, requires_grad=True) for a in (X, GAMMA, BETA)]
tape = mg.grad(layer_norm.composed(*inputs, eps=EPS), inputs, mg.tensor(G))
agree("d_x", DX, tape[0])
agree("d_gamma: summed over samples", (G * xhat).sum(0), tape[1])
agree("d_beta", G.sum(0), tape[2])
outside = GAMMA * pull_back(G, X, (1, 2, 3))
print(f"with γ outside of the means: {relative_error(outside, DX):.0%} wrong")
assert relative_error(outside, DX) > 0.05

# %% [markdown]
# The two reductions of layer norm's backward run in two directions: $\overline{h}$ along a sample, $d_\gamma$ across samples. On a
# large array that is
# the difference between one pass over memory and two (lecture 09). The code:

# %%
show_side_by_side("layer_norm")

# %% [markdown]
# ## Relations are tests
#
# If two layers are special cases of a third, then their values *and gradients* must agree. Such tests need no reference at all:
#
# - group norm with as many groups as channels is instance norm;
# - group norm with one group is layer norm with $\gamma$ shared by the pixels of a channel;
# - on a batch of one sample, instance norm is batch norm.

# %%
small_gamma, small_beta = rng.uniform(0.5, 2.0, C), rng.normal(size=C)


def value_and_gradient(name, x, *parameters, **keywords):
    tensors = [mg.tensor(a, requires_grad=True) for a in (x, *parameters)]
    y = layers.REGISTRY[name].form("derived")(*tensors, eps=EPS, **keywords)
    return y.numpy(), mg.grad(y, [tensors[0]], mg.tensor(G[: len(x)]))[0].numpy()


instance = value_and_gradient("instance_norm", X, small_gamma, small_beta)
for what, ours, theirs in zip(("value", "gradient"), value_and_gradient("group_norm", X, small_gamma, small_beta, groups=C), instance):
    agree(f"GN(C) = IN, {what}", ours, theirs)
spread = np.broadcast_to(small_gamma[:, None, None], (C, H, W)), np.broadcast_to(small_beta[:, None, None], (C, H, W))
for what, ours, theirs in zip(("value", "gradient"), value_and_gradient("group_norm", X, small_gamma, small_beta, groups=1),
                              value_and_gradient("layer_norm", X, *spread)):
    agree(f"GN(1) = LN, {what}", ours, theirs)
for what, ours, theirs in zip(("value", "gradient"), value_and_gradient("instance_norm", X[:1], small_gamma, small_beta),
                              value_and_gradient("batch_norm", X[:1], small_gamma, small_beta)):
    agree(f"IN = BN, one sample, {what}", ours, theirs)

# %% [markdown]
# ## RMS norm: leave the mean alone
#
# $$ r = 1/\sqrt{\overline{x^2} + \varepsilon}, \qquad \hat x = x\,r . $$
#
# The mean is neither taken out nor differentiated. Two paths instead of three:
#
# $$ d_x = r\,\bigl(h - \hat x\,\overline{h\hat x}\bigr). $$
#
# Layer norm's Jacobian deletes two directions, the constant one and (except for $\varepsilon$) $\hat x$. RMS norm's deletes one:

# %%
rows = rng.normal(0.7, 1.2, (3, 9))
gamma_row = rng.uniform(0.5, 2.0, 9)
g_rows = rng.normal(size=rows.shape)
r = 1 / np.sqrt((rows**2).mean(1, keepdims=True) + EPS)
scaled = rows * r
h_rows = gamma_row * g_rows
RMS = r * (h_rows - scaled * (h_rows * scaled).mean(1, keepdims=True))
rms = layers.REGISTRY["rms_norm"]
tensors = [mg.tensor(a, requires_grad=True) for a in (rows, gamma_row)]
for name, form in (("composed", rms.composed), ("derived", rms.form("derived"))):
    agree(f"RMS norm, {name}", mg.grad(form(*tensors, eps=EPS), tensors, mg.tensor(g_rows))[0], RMS)

ones, zeros = mg.tensor(np.ones(9)), mg.tensor(np.zeros(9))
spectra = {}
for name, f in (("layer norm", lambda x: layer_norm.composed(x, ones, zeros, eps=1e-8)), ("RMS norm", lambda x: rms.composed(x, ones, eps=1e-8))):
    J = mg.jacobian(f, mg.tensor(rows[0])).numpy()
    spectra[name] = np.linalg.svd(J, compute_uv=False)
    constant = np.linalg.norm(J @ np.ones(9)) / np.linalg.norm(J)
    print(f"{name}: singular values below 1e-6: {(spectra[name] < 1e-6).sum()};  a constant is {'deleted' if constant < 1e-9 else 'passed'}")
assert (spectra["layer norm"] < 1e-6).sum() == 2 and (spectra["RMS norm"] < 1e-6).sum() == 1

# %% [markdown]
# ## Who depends on the batch?
#
# Only batch norm mixes samples. What one sample becomes depends on which others happen to be in the batch: a kind of noise, larger for
# small batches. And at inference
# there is no batch, so batch norm needs running statistics, and can go wrong where they do not fit. The others are the same function
# always. Measure the
# noise: normalize the same sample among random others.

# %%
digits, digit_labels = data.digits("train")
noise = {}
sizes = (2, 4, 16, 64)
for size in sizes:
    results = {"batch norm": [], "layer norm": []}
    for trial in range(300):
        others = np.random.default_rng(trial).choice(len(digits), size - 1, replace=False)
        batch = np.concatenate([digits[:1], digits[others]]).astype("float64")
        for name, axes in (("batch norm", (0, 2, 3)), ("layer norm", (1, 2, 3))):
            results[name].append(normalized(batch, axes)[0][0])
    noise[size] = {name: float(np.std(values, axis=0).mean()) for name, values in results.items()}
table(["batch size", "noise, batch norm", "noise, layer norm"], [[size, f"{n['batch norm']:.3f}", f"{n['layer norm']:.3f}"] for size, n in noise.items()])
assert noise[2]["batch norm"] > 2.5 * noise[64]["batch norm"] and all(n["layer norm"] < 1e-12 for n in noise.values())

# %% [markdown]
# What does that do to training? The same network on batches of 2 and of 64, with the same number of images in all:

# %%
NORMS = ("batch_norm", "group_norm", "instance_norm", "none")


def test_accuracy(norm, batch_size):
    """After training on so many images, in batches of this size."""
    mg.seed(0)
    model = models.build("tiny_cnn", norm=norm, in_channels=1, size=8)
    optimizer = optim.SGD(model.parameters(), lr=0.05 * min(1.0, batch_size / 16), momentum=0.9)
    seen, epoch, wanted = 0, 0, 400 if FAST else 5000
    while seen < wanted:
        for x, t in data.batches(digits, digit_labels, batch_size, shuffle=True, seed=0, epoch=epoch, drop_last=True):
            optimizer.zero_grad()
            mg.cross_entropy(model(x), t).backward()
            optimizer.step()
            seen += batch_size
            if seen >= wanted:
                break
        epoch += 1
    model.eval()
    test_images, test_labels = data.digits("test")
    with mg.no_grad():
        return float((mg.argmax(model(mg.tensor(test_images)), 1).numpy() == test_labels).mean())


accuracy = {norm: {size: test_accuracy(norm, size) for size in (2, 64)} for norm in NORMS}
table(["norm", "batches of 2", "batches of 64"], [[norm, f"{a[2]:.1%}", f"{a[64]:.1%}"] for norm, a in accuracy.items()])
assert FAST or (accuracy["group_norm"][2] > 0.9 and accuracy["batch_norm"][64] > 0.9)

# %% alt="Noise of a normalized sample against batch size: batch norm's falls like one over the square root, layer norm's is zero"
fig, ax = plt.subplots(figsize=(6.5, 3.6))
ax.loglog(sizes, [noise[s]["batch norm"] for s in sizes], "o-", base=2, label="batch norm")
ax.loglog(sizes, noise[sizes[0]]["batch norm"] * np.sqrt(sizes[0] / np.array(sizes)), ":", color="0.4", label=r"$\propto 1/\sqrt{\mathrm{batch\ size}}$")
ax.set(xlabel="batch size", ylabel="standard deviation of a normalized pixel", title="The company a sample keeps", xticks=sizes, xticklabels=sizes)
ax.minorticks_off()
ax.legend()
plt.show()

# %% [markdown]
# On images as easy as these the noise does no harm: batch norm learns them in pairs as well. What made people look for layers without a batch
# was larger networks, trained for many steps on the statistics of a few samples.
#
# ## Both forms of each, trained

# %%
for norm in ("layer_norm", "group_norm", "instance_norm", "rms_norm"):
    training = train_tiny_cnn(norm, steps=8 if FAST else 60)
    print(f"{norm:<14} accuracy {min(training.accuracy.values()):.1%}, forms agree to {np.median(training.agreement):.0e}, "
          f"kept {training.kept['derived'] / training.kept['composed']:.2f} of composed")
    assert np.median(training.agreement) < 1e-5 and training.kept["derived"] < training.kept["composed"]
exact = train_tiny_cnn("group_norm", steps=5 if FAST else 20, dtype="float64")
assert max(exact.agreement) < 1e-11

# %% [markdown]
# ## What to remember
#
# - One derivation: $\frac1s(h - \overline h - \hat x\,\overline{h\hat x})$, with the mean over whatever the mean is over.
# - $\gamma$ may leave the means only if it is constant where they are taken.
# - Special cases are tests that need no reference.
#
# ## Homework
#
# `homework/07_layer_norm/lines.py`, six lines, and `homework/07_rms_norm/lines.py`, four. The first divides by $D - 1$ and adds $\varepsilon$ to the deviation,
# as many programs do; in the second some features count more than others.
#
#     python -m minigrad.derivation 07_layer_norm lines.py
#     python -m minigrad.derivation 07_rms_norm lines.py
#
# Somebody has learned batch norm by heart, axis and all:


# %%
def d_gamma(d_y, xhat):
    return np.sum(d_y * xhat, axis=1)


report = check_homework("07_layer_norm", d_gamma)
assert [line.code for line in report.lines if line.line == "d_gamma"] == ["wrong axis"]

# %%
report = check_homework("07_layer_norm")

# %%
report = check_homework("07_rms_norm")
