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
# # 4 · What batch norm does to gradients
#
# **After this lecture you can**
#
# - write down the Jacobian of batch norm, and its whole spectrum, without an eigenvalue routine;
# - name the two directions of a gradient that batch norm deletes, and say why no others;
# - measure how far a layer is from an isometry, and predict what a hundred layers do to a gradient;
# - start and keep weight matrices orthonormal, and derive the penalty's gradient;
# - say what a modulation of gradients is, and why it is not a gradient.
#
# You need lecture 02: batch norm's backward as a projection.
#
# *Sources:* bn-jacobian (1)-(10), and the paper that it supplements, Xie, Xiong and Pu [xie2017], for orthonormality and modulation; Saxe, McClelland
# and Ganguli [saxe2014] for dynamical isometry.

# %%
import sys

sys.path[:0] = [".", ".."]  # finds the project from its root and from lectures/

import matplotlib.pyplot as plt
import numpy as np

import layers
import minigrad as mg
import models
from lectures.classroom import FAST, agree, check_homework, show_results, show_side_by_side, table, train_tiny_cnn
from minigrad import data, nn
from minigrad.check.relative import relative_error

rng = np.random.default_rng(4)

# %% [markdown]
# ## The whole Jacobian, and its blocks
#
# A batch of $m$ samples with $d$ channels goes in, and as much comes out. The Jacobian has $(md)^2$ numbers, most of them zero. Write it in blocks
# $D_{ij}$, one for each pair of samples: how does sample $i$ of the output move with sample $j$ of the input? Channels do not mix, so each block is
# diagonal. That is bn-jacobian (1) and (2). Now sort rows and columns by channel instead of by sample. The same numbers stand in $d$ blocks $J_{kk}$ of
# $m \times m$ along the diagonal, and nothing else is left, bn-jacobian (3). So one channel at a time is enough.

# %%
samples, channels = 6, 4
batch = mg.tensor(rng.normal(size=(samples, channels)))
scale, shift = mg.tensor(rng.uniform(0.5, 2, channels)), mg.tensor(rng.normal(size=channels))
WHOLE = mg.jacobian(lambda x: layers.REGISTRY["batch_norm"].composed(x, scale, shift, eps=0.1), batch).numpy()   # (m, d, m, d)
by_sample = WHOLE.reshape(samples * channels, samples * channels)
by_channel = WHOLE.transpose(1, 0, 3, 2).reshape(samples * channels, samples * channels)
print(f"numbers that are not zero: {np.count_nonzero(by_sample)} of {by_sample.size}; m²d = {samples**2 * channels}")
assert np.count_nonzero(by_sample) == samples**2 * channels
assert all(not WHOLE[:, k, :, l].any() for k in range(channels) for l in range(channels) if k != l)
for k in range(channels):
    block = by_channel[k * samples:(k + 1) * samples, k * samples:(k + 1) * samples]
    alone = layers.batch_norm_jacobian(mg.tensor(batch.numpy()[:, k]), eps=0.1, gamma=float(scale.numpy()[k]))
    agree(f"J_kk of channel {k}", block, alone)

# %% alt="The same matrix twice: sorted by sample it is a grid of small diagonals, sorted by channel four full blocks along the diagonal"
fig, axes = plt.subplots(1, 2, figsize=(8.6, 4.2))
top = np.abs(by_sample).max()
for ax, matrix, step, title in ((axes[0], by_sample, channels, "sorted by sample: blocks $D_{ij}$ are diagonal"),
                                (axes[1], by_channel, samples, "sorted by channel: blocks $J_{kk}$")):
    ax.imshow(np.where(matrix == 0, np.nan, matrix), cmap="RdBu_r", vmin=-top, vmax=top)
    for cut in np.arange(step, samples * channels, step) - 0.5:
        ax.axhline(cut, color="0.8", lw=0.8)
        ax.axvline(cut, color="0.8", lw=0.8)
    ax.set(title=title, xticks=[], yticks=[], xlabel="input", ylabel="output")
    ax.grid(False)
plt.show()

# %% [markdown]
# ## A linear map on gradients
#
# Lecture 02 found, for one channel with $m$ values,
#
# $$ d_x = \rho\,\bigl(g - \overline g - \hat x\,\overline{g\hat x}\bigr), \qquad \rho = \gamma/s . $$
#
# For given data this is *linear* in $g$: a matrix, the transposed Jacobian. Write it down, as bn-jacobian (4)-(6) do:
#
# $$ J = \rho\,\Bigl(I - \tfrac1m U\Bigr), \qquad U = e e^T + \hat x\hat x^T, \quad e = (1, \dots, 1)^T . $$
#
# $J$ is symmetric. Everything that batch norm does to a gradient is in this matrix.

# %%
m, EPS = 12, 0.1
X = rng.normal(2.0, 1.5, m)
S = np.sqrt(X.var() + EPS)
XH = (X - X.mean()) / S
E = np.ones(m)
J = (np.eye(m) - (np.outer(E, E) + np.outer(XH, XH)) / m) / S

one = mg.tensor(np.ones(1))
column = mg.tensor(X[:, None])
tape = mg.jacobian(lambda x: layers.REGISTRY["batch_norm"].composed(x, one, 0.0 * one, eps=EPS), column)
agree("J", J, tape.numpy()[:, 0, :, 0], within=1e-12)
agree("the layer library's", layers.batch_norm_jacobian(mg.tensor(X), eps=EPS), J)
assert np.array_equal(J, J.T)

# %% [markdown]
# ## The spectrum, by hand
#
# $U$ is a sum of two matrices of rank one, so its rank is two at most, bn-jacobian (7), and two eigenvalues are all that it has, bn-jacobian (8). The two
# vectors are orthogonal, because $\sum\hat x_i = 0$. So they are the eigenvectors:
#
# $$ U e = m\,e, \qquad U\hat x = \Bigl(\textstyle\sum\hat x_i^2\Bigr)\hat x = m\,\frac{\mathrm{var}}{\mathrm{var}+\varepsilon}\,\hat x . $$
#
# All vectors orthogonal to both are mapped to zero by $U$, and so multiplied by $\rho$ by $J$. The eigenvalues of $J$, bn-jacobian (9):
#
# $$ \rho\cdot\Bigl(0,\;\frac{\varepsilon}{\mathrm{var}+\varepsilon},\;1,\dots,1\Bigr). $$
#
# No assumption on the data was needed: neither large batches nor a normal distribution.

# %%
predicted = np.sort(np.array([0.0, EPS / (X.var() + EPS), *np.ones(m - 2)]) / S)
agree("eigenvalues", np.linalg.eigvalsh(J) + 1, predicted + 1)
print("times s:", np.round(np.linalg.eigvalsh(J) * S, 4))
print(f"J e = {np.abs(J @ E).max():.0e};  J x̂ = {EPS / (X.var() + EPS):.4f} ρ x̂: {np.abs(J @ XH - EPS / (X.var() + EPS) / S * XH).max():.0e}")
assert np.abs(J @ E).max() < 1e-14

# %% [markdown]
# ### Is it an approximation?
#
# The document gets there in another way. It multiplies out $U^2$, bn-jacobian (10):
#
# $$ U^2 = m\,U + \Bigl(\sum\hat x_i\Bigr)\bigl(e\hat x^T + \hat x e^T\bigr) + \Bigl(\sum\hat x_i^2 - m\Bigr)\hat x\hat x^T . $$
#
# Then it takes $\hat x$ for Gaussian and the batch for large, so that both sums vanish approximately, and concludes $U^2 \approx mU$
# (bn-jacobian "below (10)"). Look again: $\sum\hat x_i$ *is* zero, for any data and any $m$, because $\hat x$ was centred. And
# $\sum\hat x_i^2 = m\,\mathrm{var}/(\mathrm{var}+\varepsilon)$. So
#
# $$ U^2 = m\,U - \frac{m\,\varepsilon}{\mathrm{var}+\varepsilon}\,\hat x\hat x^T , $$
#
# exactly. Without $\varepsilon$ the approximation is an identity. With it, the error does not depend on the batch size, and no batch is large enough.

# %%
rows = []
for size in (4, 16, 64, 256):
    for name, draw in (("Gaussian", rng.normal(size=size)), ("skewed", rng.exponential(size=size))):
        values = (draw - draw.mean()) / draw.std()                     # variance 1, so that ε means the same for all
        found = []
        for eps in (0.0, 0.1):
            xhat = values / np.sqrt(1 + eps)
            UU = np.outer(np.ones(size), np.ones(size)) + np.outer(xhat, xhat)
            agree_to = size * UU - size * eps / (1 + eps) * np.outer(xhat, xhat)
            assert np.linalg.norm(UU @ UU - agree_to) < 1e-12 * np.linalg.norm(UU @ UU)
            found.append(relative_error(size * UU, UU @ UU))
        rows.append((size, name, *found))
table(["batch size", "data", "U² against mU, ε = 0", "ε = 0.1"], [[size, name, f"{a:.0e}", f"{b:.4f}"] for size, name, a, b in rows])
assert all(a < 1e-14 for _, _, a, _ in rows) and np.ptp([b for *_, b in rows]) < 1e-12

# %% [markdown]
# An experiment measures the same on Gaussian and skewed numbers, and on the activations of a network:

# %%
show_results("jacobian_batch_size")

# %% [markdown]
# **Two directions, and only two, are deleted:** a shift of the whole channel, and (except for $\varepsilon$) a change of its scale. Batch
# norm is blind to both in its input, so no gradient can ask for them. All others pass, multiplied by one number, $\rho$. That is almost an
# isometry:
#
# > of the $m$ directions of a channel, $m - 2$ keep their lengths relative to each other exactly.

# %% alt="Left: eigenvalues of J times s, two near zero and the rest one. Right: a random gradient, and what is left of it"
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
left.stem(np.linalg.eigvalsh(J) * S, basefmt=" ")
left.set(xlabel="number", ylabel="eigenvalue, in units of ρ", title="0, ε/(var + ε), and then 1")
g = rng.normal(0.8, 1.0, m) + 0.9 * XH
order = np.argsort(XH)
right.plot(XH[order], g[order], "o", color="0.6", label="gradient g")
line = g.mean() + XH * (g @ XH) / (XH @ XH)
right.plot(XH[order], line[order], "-", color="C1", label="deleted: a constant and a multiple of x̂")
right.plot(XH[order], (g - line)[order], "o", color="C0", label="passed on")
right.set(xlabel="x̂", ylabel="gradient", title="What passes is the residual of a line")
right.legend()
plt.show()

# %% [markdown]
# ## How far from an isometry?
#
# A map is an isometry if it changes no length. For a linear map $J$ and random $v$, compare $\lVert J^T v\rVert$ with $\lVert v\rVert$:
# the mean of the
# quotient says how much a gradient grows, its spread how unequally. Products of $L$ layers multiply such numbers. Anything
# but 1 is raised to the power $L$.

# %%
image = mg.tensor(rng.normal(size=(32, 16, 8, 8)))
sample = {
    "batch norm": layers.BatchNorm2d(16).astype("float64"),
    "ReLU": nn.ReLU(),
    "convolution, Gaussian": nn.Conv2d(16, 16, 3, padding=1, bias=False).astype("float64"),
    "convolution, orthonormal": layers.orthonormal_init(nn.Conv2d(16, 16, 3, padding=1, bias=False)).astype("float64"),
}
nn.init.kaiming_normal_(sample["convolution, Gaussian"].weight, mode="fan_out")
measured = {name: layers.isometry(module, image, probes=8) for name, module in sample.items()}
for name, found in measured.items():
    print(f"{name:<26} {found}")

# %% [markdown]
# Batch norm alone keeps lengths (on data of variance 1). ReLU deletes half. A convolution depends on its weights: that is where one can
# do something.
#
# ## Orthonormal filters
#
# Write the filters of a convolution as rows of a matrix $W$. If the rows are orthonormal, $W W^T = I$, then $W^T$ preserves every
# length: an isometry
# on gradients. To *start* so: the QR decomposition of a Gaussian matrix, with signs fixed so that all rotations are equally likely. To
# *stay* so: a penalty
#
# $$ P(W) = \lVert W W^T - I\rVert_F^2 . $$
#
# Its derivative: $P = \sum G_{ij}^2$ with $G = WW^T - I$. So $d_G = 2G$; $W$ is in the product twice; $G$ is symmetric; altogether
# $4\,G\,W$.

# %%
W = rng.normal(size=(4, 9)) / 3
GRAM = W @ W.T - np.eye(4)
weights = mg.tensor(W, requires_grad=True)
penalty = layers.REGISTRY["orthonormality_penalty"]
scale = float(rng.normal())                                            # a random cotangent, never 1
for name, form in (("composed", penalty.composed), ("derived", penalty.form("derived"))):
    found = mg.grad(form(weights), [weights], mg.tensor(scale, dtype="float64"))[0]
    agree(f"penalty, {name}", found, 4 * scale * GRAM @ W)
show_side_by_side("orthonormality_penalty")

descended = W.copy()
distances = []
for _ in range(60):
    distances.append(np.linalg.norm(descended @ descended.T - np.eye(4)))
    descended -= 0.05 * 4 * (descended @ descended.T - np.eye(4)) @ descended
print(f"‖WWᵀ − I‖ under gradient descent on the penalty: {distances[0]:.2f} at first, {distances[-1]:.0e} after 60 steps")
assert distances[-1] < 1e-3

# %% [markdown]
# (With more rows than columns $WW^T = I$ is impossible; the penalty then takes the smaller Gram matrix, $W^TW$.)
#
# ## A hundred layers without shortcuts
#
# bn-jacobian "title" promises to train *extremely deep* networks: the paper [xie2017] has plain stacks, (convolution, batch norm, ReLU) again and again,
# without shortcuts. Its supplement has no experiment, so here is one of ours. One batch, one backward pass: how large is the gradient at each
# convolution, from the last back to the first?

# %%
DEPTHS = (20,) if FAST else (20, 44, 110)
images, labels = data.synthetic(32, size=8 if FAST else 16, seed=3)


def gradient_sizes(depth, kind, seed):
    """Root mean square of the gradient at the output of every convolution."""
    mg.seed(seed)
    model = models.build(f"plain{depth}", width=0.25 if FAST else 0.5)
    if kind != "Gaussian":
        layers.orthonormal_init(model)
    if kind == "orthonormal, modulated":
        for stage in (model.layer1, model.layer2, model.layer3):
            for name, block in list(stage.named_children()):
                setattr(stage, name, layers.Modulated(block, limit=100.0))
    found, convolutions = {}, [c for c in model.modules() if isinstance(c, nn.Conv2d)]

    def watched(i, conv):
        def forward(image):
            y = type(conv).forward(conv, image)
            y.register_hook(lambda g: found.__setitem__(i, float(np.sqrt(np.mean(g.numpy().astype("float64") ** 2)))))
            return y
        return forward
    for i, conv in enumerate(convolutions):
        object.__setattr__(conv, "forward", watched(i, conv))
    mg.cross_entropy(model(mg.tensor(images)), mg.tensor(labels)).backward()
    return np.array([found[i] for i in range(len(convolutions))])


KINDS = ("Gaussian", "orthonormal", "orthonormal, modulated")
sizes = {depth: {kind: np.median([gradient_sizes(depth, kind, seed) for seed in range(1 if FAST else 3)], axis=0) for kind in KINDS} for depth in DEPTHS}
growth = {depth: {kind: (s[0] / s[-1]) ** (1 / (len(s) - 1)) for kind, s in kinds.items()} for depth, kinds in sizes.items()}
table(["layers", *(f"{kind}: first / last" for kind in KINDS), "growth per layer"],
      [[depth, *(f"{s[0] / s[-1]:.3g}" for s in sizes[depth].values()), ", ".join(f"{v:.3f}" for v in growth[depth].values())] for depth in DEPTHS])
for depth in DEPTHS:
    assert 1.1 < growth[depth]["Gaussian"] < 1.35 and abs(growth[depth]["orthonormal, modulated"] - 1) < 0.05

# %% alt="Gradient size against layer, logarithmic: straight lines that rise towards the first layer, and a flat one with modulation"
fig, axes = plt.subplots(1, len(DEPTHS), figsize=(11, 3.8), sharey=True, squeeze=False)
for ax, depth in zip(axes[0], DEPTHS):
    for kind, s in sizes[depth].items():
        ax.semilogy(range(1, len(s) + 1), s / s[-1], label=kind)
    ax.set(xlabel="convolution, first to last", title=f"{depth} layers")
axes[0][0].set_ylabel("gradient, relative to the last layer")
axes[0][-1].legend()
plt.show()

# %% [markdown]
# The gradient *grows* on its way back, by a factor of about 1.2 per layer. After 110 layers it is millions of times larger at the
# first layer than at the last: no learning rate is right for both.
#
# Why 1.2? Follow the variances through one layer. Let the normalized values be roughly $N(0, 1)$, and $r$ their ReLU. Then
# $\overline{r^2} = \frac12$, but its variance is only $\frac12 - \frac1{2\pi}$: ReLU gives $r$ a mean, and the next batch norm takes
# that out. So
# the next layer's $s^2$ is a weight factor $w$ times $\frac12 - \frac1{2\pi}$. On the way back a gradient is divided by
# $s$, multiplied by the same weights, and
# halved by ReLU. The weights cancel:
#
# $$ \frac{\lVert d_{\text{in}}\rVert^2}{\lVert d_{\text{out}}\rVert^2} \approx \frac{1/2}{1/2 - 1/(2\pi)} = \frac{\pi}{\pi - 1} \approx 1.47 = 1.21^2 . $$
#
# (Yang et al. [yang2019], "A mean field theory of batch normalization", prove it for wide fully connected networks.)

# %%
predicted_growth = float(np.sqrt(np.pi / (np.pi - 1)))
print(f"predicted {predicted_growth:.3f} per layer; measured " + ", ".join(f"{growth[d]['Gaussian']:.3f} ({d} layers)" for d in DEPTHS))
assert all(abs(growth[d]["Gaussian"] / predicted_growth - 1) < 0.06 for d in DEPTHS)

# %% [markdown]
# Orthonormal filters make the lines straighter and the seeds more alike. They do not change the slope: it comes from ReLU and batch norm.
#
# ## Modulation
#
# The paper [xie2017] therefore rescales gradients between layers. Its supplement does not say how, so the formula here is ours: a block $y
# = f(x)$ passes on
#
# $$ q^{-1}\,d_x, \qquad q = \lVert d_x\rVert/\lVert d_y\rVert , $$
#
# so that what arrives is as large as what came. It is **not a gradient** of anything. Its direction is right for one path; its length
# is made up.
# A gradient check says so, and must:

# %%
plain = nn.Sequential(nn.Linear(3, 4), nn.Tanh()).astype("float64")
modulated = layers.Modulated(plain)
point = mg.tensor(rng.normal(size=(5, 3)))
honest, made_up = mg.gradcheck(plain, [point]), mg.gradcheck(modulated, [point])
print("without modulation:", "a gradient" if honest else "not a gradient", "   with:", "a gradient" if made_up else "not a gradient")
assert honest and not made_up

t = mg.tensor(point.numpy(), requires_grad=True)
v = mg.tensor(rng.normal(size=(5, 4)))
true, scaled = mg.grad(plain(t), [t], v)[0].numpy(), mg.grad(modulated(t), [t], v)[0].numpy()
agree("its direction", scaled / np.linalg.norm(scaled), true / np.linalg.norm(true))
agree("its length is that of the cotangent", np.linalg.norm(scaled), np.linalg.norm(v.numpy()))

# %% [markdown]
# Shortcuts, the usual cure, do it differently: $x + f(x)$ has the Jacobian $I + J_f$, whose first part neither grows nor shrinks.
#
# So far one backward pass. Do such networks *train*? That takes longer than a lecture, so it is an experiment: plain networks of 20, 44 and 110 layers, with
# Gaussian weights, orthonormal ones, the penalty, and the modulation.

# %%
show_results("deep_plain")

# %% [markdown]
# ## A network with orthonormal weights, trained with both forms of batch norm

# %%
training = train_tiny_cnn("batch_norm", steps=20 if FAST else 120)
training.report()
print(f"gradients of both forms, worst step and parameter: {max(training.agreement):.1e}")
assert max(training.agreement) < 1e-4 and (FAST or min(training.accuracy.values()) > 0.95)

# %% [markdown]
# ## What to remember
#
# - Batch norm's Jacobian is $\rho$ times a projection. It deletes a constant and a multiple of $\hat x$, and nothing else.
# - 1.2 is not near 1: $1.2^{110}$ is half a billion.
# - A quantity that helps training need not be a gradient. It should not be called one.
#
# ## Homework
#
# `homework/04_jacobian/lines.py`: a Jacobian between centring and batch norm, as a function of $v$ and of $\hat x$, five lines.
# `homework/04_orthonormality/lines.py`: a penalty that takes absolute values instead of squares, three.
#
#     python -m minigrad.derivation 04_jacobian lines.py
#     python -m minigrad.derivation 04_orthonormality lines.py
#
# Somebody thinks that $W$ is in $WW^T$ once:


# %%
def d_W(d_gram, W):
    return d_gram @ W


report = check_homework("04_orthonormality", d_W)
assert [line.verdict for line in report.lines if line.line == "d_W"] == ["wrong"]

# %%
report = check_homework("04_jacobian")

# %%
report = check_homework("04_orthonormality")
