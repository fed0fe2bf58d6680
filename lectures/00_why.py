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
# # 0 · Why normalize
#
# **After this lecture you can**
#
# - say what covariate shift is, and measure it inside a network;
# - say what whitening the inputs does to gradient descent, and what batch norm keeps of it: two simplifications and another detail;
# - show each of batch norm's four benefits by an experiment of a few seconds;
# - say what such an experiment shows, and what it does not.
#
# You need to have trained a small network once, in any framework.
#
# *Sources:* bn-lecture "Internal Covariate Shift", "Benefits", "Two Simplifications" and "Another detail"; Ioffe and Szegedy [ioffe2015] for batch norm;
# Santurkar et al. [santurkar2018] for doubts.

# %%
import sys

sys.path[:0] = [".", ".."]  # finds the project from its root and from lectures/

import warnings

import matplotlib.pyplot as plt
import numpy as np

import layers
import minigrad as mg
from lectures.classroom import FAST, agree, show_results, table
from minigrad import data, nn, optim
from minigrad.check.student_t import student_t

rng = np.random.default_rng(0)
warnings.filterwarnings("ignore", category=RuntimeWarning)             # some networks below are meant to blow up

# %% [markdown]
# ## A layer whose inputs move
#
# When the distribution of a learning system's inputs changes, one speaks of **covariate shift**. What was learned on the old inputs may be wrong on the
# new ones. A network has this trouble inside: a layer learns on the outputs of the layers before it, and these learn at the same time. That is
# *internal* covariate shift (bn-lecture "Internal Covariate Shift"). It can be watched. Here is a network of fully connected layers, with and without
# batch norm, on the handwritten digits that come with minigrad.

# %%
images, labels = data.digits("train")
test_images, test_labels = data.digits("test")
images, test_images = (a.reshape(len(a), 64) for a in (images, test_images))
probe = mg.tensor(images[:256])                                        # always the same images, to look at


def network(norm, depth=4, width=32, activation=nn.ReLU, scale=1.0, seed=0):
    """Linear layers of these widths, each with its norm and activation; weights from N(0, scale²·2/n)."""
    mg.seed(seed)
    parts, n = [], 64
    for _ in range(depth):
        linear = nn.Linear(n, width, bias=not norm)                    # batch norm has a shift of its own
        nn.init.normal_(linear.weight, 0.0, scale * (2 / n) ** 0.5)
        parts += [linear, *([layers.BatchNorm1d(width)] if norm else []), activation()]
        n = width
    return nn.Sequential(*parts, nn.Linear(n, 10))


def train(model, lr, steps, seed=0, batch_size=64, rows=slice(None), look=None):
    """The loss at every step; infinite from where it is no longer a number."""
    optimizer, losses, epoch = optim.SGD(model.parameters(), lr=lr), [], 0
    while len(losses) < steps:
        for x, t in data.batches(images[rows], labels[rows], batch_size, shuffle=True, seed=seed, epoch=epoch, drop_last=True):
            if look is not None:
                look(model)
            loss = mg.cross_entropy(model(x), t)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if not np.isfinite(losses[-1]):
                return np.array(losses + [np.inf] * (steps - len(losses)))
            if len(losses) == steps:
                break
        epoch += 1
    return np.array(losses)


def before_activations(model, kind=nn.ReLU):
    """What each activation gets, for the probe images: arrays (256, width)."""
    h, found = probe, []
    with mg.no_grad():
        for part in model:
            if isinstance(part, kind):
                found.append(h.numpy())
            h = part(h)
    return found


history = {}
for norm in (False, True):
    history[norm] = []
    train(network(norm), 0.1, 30 if FAST else 120, look=lambda model, norm=norm: history[norm].append(before_activations(model)[3]))
history = {norm: np.array(h) for norm, h in history.items()}           # (steps, 256, width): the inputs of the fourth activation
shift = {}
for norm, h in history.items():
    mean, spread = h.mean(1), h.std(1)                                 # (steps, width)
    shift[norm] = np.sqrt((((mean - mean[0]) / spread[0]) ** 2).mean(1))   # of a unit's mean, in units of its first spread
    growth = np.sqrt((spread[-1] ** 2).mean() / (spread[0] ** 2).mean())
    print(f"{'with' if norm else 'without'} batch norm: the mean has moved by {shift[norm][-1]:.2f} spreads, the spread has become {growth:.2f} times as large")
assert shift[True][-1] < 0.5 * shift[False][-1]

# %% alt="Bands of a unit's input over training: without batch norm they wander and widen, with batch norm they stay around zero"
fig, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True)
for ax, norm in zip(axes, (False, True)):
    unit = int(np.argsort(np.abs(history[norm].mean(1)[-1] - history[norm].mean(1)[0]))[-4])    # one that moves much, not the most
    low, quarter, middle, upper, high = np.percentile(history[norm][:, :, unit], (5, 25, 50, 75, 95), axis=1)
    steps = np.arange(len(middle))
    ax.fill_between(steps, low, high, alpha=0.18, color="C0", lw=0, label="5 to 95 %")
    ax.fill_between(steps, quarter, upper, alpha=0.35, color="C0", lw=0, label="25 to 75 %")
    ax.plot(steps, middle, color="C0", label="median")
    ax.axhline(0, color="0.4", lw=0.8, ls=":")
    ax.set(title="with batch norm" if norm else "without", xlabel="step")
axes[0].set_ylabel("input of a unit's ReLU, fourth layer")
axes[0].legend(loc="upper left")
plt.show()

# %% [markdown]
# Without batch norm the inputs of this unit wander, with it they stay where they were. That much is measured. Whether this is *why* batch norm helps is
# another question: Santurkar et al. [santurkar2018] found that batch norm still helps when one adds random shifts behind it, and hold that it
# makes the loss smoother. Keep the two questions apart. From here on we ask what whitening does, and what batch norm does.
#
# ## Whitening the inputs
#
# The cure on the slide: whiten the inputs of every layer, so that they have mean zero, variance one and no correlation. For a linear layer and a squared
# loss one can say exactly what that does. The loss is $L(w) = \frac12\overline{(w^T x - t)^2}$, its second derivative is the matrix
# $A = \overline{x x^T}$, and gradient descent with a learning rate $\eta$ multiplies the error along an eigenvector of $A$ by $1 - \eta\lambda$ in every
# step. No direction may explode, so $\eta < 2/\lambda_{\max}$. Then the slowest direction needs a number of steps in proportion to
# $\lambda_{\max}/\lambda_{\min}$, the **condition number** of $A$. A mean that is not zero and features on different scales make it large. Whitening makes
# it one.

# %%
def three_ways(x):
    """Features (m, 2) as they are, normalized each by itself, and whitened."""
    centred = x - x.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(x))
    return {"as they are": x, "each feature normalized": centred / centred.std(0), "whitened": centred @ (vectors / np.sqrt(values)) @ vectors.T}


def features(correlation, spreads, means):
    """400 samples of two features."""
    return rng.normal(size=(400, 2)) @ np.linalg.cholesky([[1.0, correlation], [correlation, 1.0]]).T * np.array(spreads) + np.array(means)


inputs = three_ways(features(0.5, (1.0, 3.5), (1.0, 4.0)))
agree("whitened: covariance", inputs["whitened"].T @ inputs["whitened"] / 400, np.eye(2), within=1e-12)
agree("normalized: variances", inputs["each feature normalized"].var(0), np.ones(2))


def descend(x, steps=400, goal=1e-3):
    """Gradient descent on the quadratic with matrix A = mean of x xᵀ, from a fixed start: the path, and the condition number."""
    A = x.T @ x / len(x)
    eigenvalues = np.linalg.eigvalsh(A)
    w, path = np.array([2.2, 1.4]), []
    for _ in range(steps):
        path.append(w)
        w = w - A @ w / eigenvalues[-1]                                # the learning rate 1/λ_max: no direction overshoots
    path = np.array(path)
    reached = np.linalg.norm(path, axis=1) < goal * np.linalg.norm(path[0])
    return A, path, eigenvalues[-1] / eigenvalues[0], int(np.argmax(reached)) if reached.any() else None


descents = {name: descend(x) for name, x in inputs.items()}
table(["inputs", "condition number", "steps to a thousandth of the error"],
      [[name, f"{c:.1f}", n or "more than 400"] for name, (_, _, c, n) in descents.items()])
conditions = [d[2] for d in descents.values()]
strong = {name: descend(x)[2] for name, x in three_ways(features(0.9, (1.0, 2.0), (0.5, 1.0))).items()}
print("condition numbers with a correlation of 0.9: " + ", ".join(f"{name} {c:.0f}" for name, c in strong.items()))
assert conditions[0] > 1.5 * conditions[1] > 1.5 and strong["each feature normalized"] > 10 and abs(conditions[2] - 1) < 1e-9 and descents["whitened"][3] == 1

# %% alt="Level lines of a quadratic loss and the path of gradient descent: a narrow valley for raw inputs, an ellipse for normalized, circles for whitened"
fig, axes = plt.subplots(1, 3, figsize=(11, 3.7), sharex=True, sharey=True)
grid = np.stack(np.meshgrid(np.linspace(-2.6, 2.6, 80), np.linspace(-2.6, 2.6, 80)), -1)
for ax, (name, (A, path, condition, _)) in zip(axes, descents.items()):
    height = np.einsum("...i,ij,...j->...", grid, A, grid) / np.linalg.eigvalsh(A)[-1]
    ax.contour(grid[..., 0], grid[..., 1], height, levels=np.array([0.02, 0.1, 0.3, 0.8, 1.6, 3, 5]), colors="0.75", linewidths=0.9)
    ax.plot(*path[:60].T, "o-", ms=3.5, lw=1.2, color="C1")
    ax.plot(0, 0, "+", color="black", ms=9)
    ax.set(title=f"{name}\ncondition number {condition:.1f}", xlabel="$w_1$", aspect="equal")
    ax.grid(False)
axes[0].set_ylabel("$w_2$")
plt.show()

# %% [markdown]
# Normalizing each feature cannot do better than the correlation allows: with 0.9, in the last line, not much is gained. Whitening always comes out at 1.
#
# ## Two simplifications, and another detail
#
# Whitening every layer in every step is expensive, and its derivative is not simple (lecture 05 does it nevertheless). Batch norm keeps the part that is
# cheap (bn-lecture "Two Simplifications"):
#
# 1. **each scalar feature by itself** gets mean 0 and variance 1. Correlations stay. In the picture that is the middle panel: most of the way, not all of it.
#    It costs one pass instead of an eigendecomposition;
# 2. **the mini-batch estimates** mean and variance. The true ones would need the whole data set in every step.
#
# How good are such estimates? The error of a mean of $m$ samples is $\sigma/\sqrt m$, and it is different in every batch: noise, which will come back below.
#
# And *another detail* (bn-lecture "Another detail"): a scale $\gamma$ and a shift $\beta$ for each feature, which are learned. With $\gamma = \sigma$ and
# $\beta = \mu$ the layer can undo itself, so nothing that the network could represent before is lost.

# %%
sizes = (4, 16, 64, 256)
feature = images[:, 28].astype(float)                                  # one pixel
errors = {m: np.array([(batch.mean() - feature.mean(), batch.std() / feature.std() - 1)
                       for batch in (rng.choice(feature, m) for _ in range(1000))]) for m in sizes}
table(["batch size", "error of the mean, in σ", "σ/√m", "relative error of the deviation"],
      [[m, f"{e[:, 0].std() / feature.std():.3f}", f"{m**-0.5:.3f}", f"{np.sqrt((e[:, 1] ** 2).mean()):.3f}"] for m, e in errors.items()])
assert all(abs(e[:, 0].std() / feature.std() * m**0.5 - 1) < 0.1 for m, e in errors.items())   # 1,000 draws: 2 % is one standard error

x = rng.normal(3.0, 2.0, (16, 5))
gamma, beta = mg.tensor(np.sqrt(x.var(0) + 1e-5)), mg.tensor(x.mean(0))
agree("batch norm with γ = s and β = μ", layers.batch_norm(mg.tensor(x), gamma, beta, eps=1e-5), x, within=1e-12)

# %% [markdown]
# ## Four benefits, four experiments
#
# The slide promises four (bn-lecture "Benefits"). Each gets the smallest experiment that can show it: the network above, the digits, three to five seeds.
# Both networks of a pair see the same batches.
#
# ### 1. A higher learning rate
#
# Train with learning rates over four orders of magnitude, for a fixed number of steps.

# %%
SEEDS = (0,) if FAST else (0, 1, 2)
STEPS = 20 if FAST else 60
rates = np.logspace(-2.5, 0.5, 4 if FAST else 7)


def final(norm, lr, seed, **options):
    """Mean loss of the last ten steps; a network that knows nothing has log 10 = 2.3, and one that has exploded counts as that."""
    loss = float(train(network(norm, seed=seed, **options), lr, STEPS, seed)[-10:].mean())
    return min(loss, np.log(10)) if np.isfinite(loss) else np.log(10)


by_rate = {norm: np.array([[final(norm, lr, seed) for seed in SEEDS] for lr in rates]) for norm in (False, True)}   # (rates, seeds)
best = {norm: float(rates[losses.mean(1).argmin()]) for norm, losses in by_rate.items()}
good = {norm: rates[losses.mean(1) < 1.5] for norm, losses in by_rate.items()}
print("best learning rate: " + ", ".join(f"{'with' if norm else 'without'} {lr:.2g} (loss {by_rate[norm].mean(1).min():.2f})" for norm, lr in best.items()))
print("learning rates with a loss below 1.5: " + ", ".join(f"{'with' if norm else 'without'} {len(found)} of {len(rates)}" for norm, found in good.items()))
assert best[True] >= best[False] and len(good[True]) >= len(good[False])
assert FAST or (len(good[True]) >= len(good[False]) + 1 and good[True].max() > 2 * good[False].max())
assert FAST or by_rate[True].mean(1).min() < by_rate[False].mean(1).min()

# %% [markdown]
# ### 2. Careless initialization
#
# Draw the first weights too small or too large, up to a factor of thirty, at one learning rate.

# %%
scales = np.array([0.1, 1.0, 3.0]) if FAST else np.array([0.03, 0.1, 0.3, 1.0, 3.0, 10.0])
by_scale = {norm: np.array([[final(norm, 0.1, seed, scale=scale) for seed in SEEDS] for scale in scales]) for norm in (False, True)}
for norm, losses in by_scale.items():
    print(f"{'with' if norm else 'without'} batch norm: " + ", ".join(f"{scale:g}: {loss:.2f}" for scale, loss in zip(scales, losses.mean(1))))
assert (by_scale[True].mean(1) < by_scale[False].mean(1)).all()
assert FAST or (by_scale[True].mean(1)[0] < 1.0 and by_scale[False].mean(1)[0] > 2.2)

# %% [markdown]
# Not *in*sensitive: larger weights make the loss fall more slowly with batch norm, too. The reason is in lecture 06: behind a norm, the length of a weight
# does not change the output, but it divides the gradient.
#
# ### 3. Some regularization
#
# Take 300 of the images, and train until nearly all of them are right. How many of the test images are? With batch norm an image's output depends on the others
# in its batch (simplification 2), and that noise may keep the network from learning the images by heart. Small batches make the noise large.

# %%
def accuracy(model, x, t):
    """Share of right answers, with running statistics."""
    model.eval()
    with mg.no_grad():
        return float((mg.argmax(model(mg.tensor(x)), 1).numpy() == t).mean())


pairs, last = {False: [], True: []}, {False: [], True: []}
for seed in range(2 if FAST else 5):
    few = np.random.default_rng(seed).permutation(len(images))[:300]
    for norm in (False, True):
        model = network(norm, depth=2, width=64, seed=seed)
        losses = train(model, 0.1, 40 if FAST else 200, seed, 10, few)
        pairs[norm].append((accuracy(model, images[few], labels[few]), accuracy(model, test_images, test_labels)))
        last[norm].append(losses[-20:].mean())
pairs = {norm: np.array(p) for norm, p in pairs.items()}               # (seeds, 2): on the 300 images, on the test images
difference = pairs[True][:, 1] - pairs[False][:, 1]
half = student_t(len(difference) - 1) * difference.std(ddof=1) / len(difference) ** 0.5    # 95 %
table(["", "training loss", "right, 300 images", "right, test images"],
      [["with batch norm" if norm else "without", f"{np.mean(last[norm]):.3f}", *(f"{v:.1%}" for v in p.mean(0))] for norm, p in pairs.items()])
print(f"test images: {100 * difference.mean():+.1f} ± {100 * half:.1f} percentage points with batch norm (paired by seed, 95 % interval)")
assert FAST or (difference.mean() > 0 and pairs[True][:, 0].mean() > 0.95)

# %% [markdown]
# The interval says what five seeds are worth. And the experiment does not say *why*: it could be the noise, or that the network with batch norm is simply
# further on after as many steps.
#
# ### 4. Saturated units
#
# Tanh and sigmoid are flat far from zero: a unit that gets large inputs passes on almost no gradient, and hardly recovers. Begin with weights three times too
# large, and count the units whose tanh is beyond ±0.96, where its slope is below a tenth of the largest.

# %%
def saturated(model):
    """Share of tanh units beyond 0.96, all layers together."""
    return float(np.mean([np.abs(np.tanh(h)) > 0.96 for h in before_activations(model, nn.Tanh)]))


share, tanh_loss = {}, {}
for norm in (False, True):
    share[norm] = []
    model = network(norm, activation=nn.Tanh, scale=3.0)
    tanh_loss[norm] = train(model, 0.3, 30 if FAST else 100, look=lambda model, norm=norm: share[norm].append(saturated(model)))
    print(f"{'with' if norm else 'without'} batch norm: {share[norm][0]:.0%} saturated at first, {share[norm][-1]:.0%} at the end; "
          f"loss {tanh_loss[norm][-10:].mean():.2f}")
assert share[False][-1] > 0.4 and share[True][-1] < 0.15 and 1 - np.tanh(np.arctanh(0.96)) ** 2 < 0.1

# %% alt="Four panels, with and without batch norm: loss against learning rate, loss against initial scale, test accuracy by seed, share of saturated units"
fig, axes = plt.subplots(2, 2, figsize=(10, 6.6))
colors, names = {False: "C1", True: "C0"}, {False: "without", True: "with batch norm"}
for ax, grid, found, label in ((axes[0, 0], rates, by_rate, "learning rate"), (axes[0, 1], scales, by_scale, "scale of the first weights")):
    for norm, losses in found.items():
        ax.plot(grid, losses, "-", color=colors[norm], lw=0.7, alpha=0.5)
        ax.plot(grid, losses.mean(1), "o-", ms=4, color=colors[norm], label=names[norm])
    ax.set(xscale="log", xlabel=label, ylabel=f"loss after {STEPS} steps", ylim=(0, 2.45))
    ax.axhline(np.log(10), color="0.5", lw=0.8, ls=":")
axes[0, 0].legend(loc="lower left")
axes[0, 0].set_title("1. Higher learning rates")
axes[0, 1].set_title("2. Careless initialization")
for a, b in zip(pairs[False][:, 1], pairs[True][:, 1]):
    axes[1, 0].plot([0, 1], [100 * a, 100 * b], "o-", color="0.55", ms=4, lw=1)
axes[1, 0].plot([0, 1], [100 * pairs[norm][:, 1].mean() for norm in (False, True)], "s-", color="black", ms=6, lw=2)
axes[1, 0].set(xticks=[0, 1], xticklabels=["without", "with batch norm"], xlim=(-0.4, 1.4), ylabel="test images right, %", title="3. Some regularization")
axes[1, 0].annotate(f"{100 * difference.mean():+.1f} ± {100 * half:.1f} points", (0.5, 0.06), xycoords="axes fraction", ha="center")
for norm, values in share.items():
    axes[1, 1].plot(100 * np.array(values), color=colors[norm], label=names[norm])
axes[1, 1].set(xlabel="step", ylabel="saturated tanh units, %", ylim=(0, None), title="4. Saturated units")
plt.show()

# %% [markdown]
# Small networks, easy images, few seeds: these curves illustrate a slide, they do not prove it. An experiment asks the same questions with more seeds and
# harder images. What it found is read from its files:

# %%
show_results("bn_benefits")

# %% [markdown]
# ## What to remember
#
# - A layer's inputs move while the layers before it learn. One can measure that; whether it is the reason for what follows is disputed.
# - Whitening makes the condition number one. Batch norm keeps the diagonal part of it, estimated from the batch, and can undo itself.
# - Learning rate, initialization, noise, saturation: four claims, four experiments, each with a control.
#
# ## Questions
#
# 1. In the middle panel of the valleys, what would the condition number be if the two features had correlation $r$ after normalization? (The matrix is
#    $\begin{pmatrix}1 & r\\ r & 1\end{pmatrix}$.)
# 2. In experiment 1, is the whole difference due to batch norm? What else is different between the two networks? How would you find out?
# 3. In experiment 3, which control would tell noise from faster training?
#
# The first can be answered by the machine:

# %%
correlation = np.corrcoef(inputs["each feature normalized"].T)[0, 1]


def condition_number(r):
    """Of the normalized inputs with correlation r, 0 < r < 1."""
    ### BEGIN SOLUTION
    return (1 + r) / (1 - r)
    ### END SOLUTION


try:
    answer = condition_number(correlation)
    print("right" if abs(answer / descents["each feature normalized"][2] - 1) < 1e-9 else "think again")
except NotImplementedError as turn:
    print(turn)
