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
# # 10 · Twice differentiable
#
# **After this lecture you can**
#
# - say why a derivative rule is a function like any other, and differentiate it again;
# - derive the double backward of batch norm, and recognize it: two symmetric terms and one along $\hat x$;
# - recognize the mistake that makes first derivatives right and second derivatives wrong: a statistic that is kept as a constant;
# - compute Hessian-vector products, train with a gradient penalty, and find the largest eigenvalue of a Hessian.
#
# You need lecture 02: the backward of batch norm in one line.
#
# *Sources:* bn-lecture "∂l/∂x" for the first derivative; the second is derived here.

# %%
import sys

sys.path[:0] = [".", ".."]  # finds the project from its root and from lectures/

import time

import matplotlib.pyplot as plt
import numpy as np

import layers
import minigrad as mg
from lectures.classroom import FAST, check_homework, relative_error, show_side_by_side
from minigrad import data, nn, optim

rng = np.random.default_rng(10)


# %% [markdown]
# ## Why anybody needs a second derivative
#
# Three reasons, all met in practice:
#
# 1. **The loss contains a gradient.** A gradient penalty adds $\lambda\,\lVert\nabla_x \ell\rVert^2$ to the loss. To train, you need
#    the derivative of that, with respect to the weights.
# 2. **Curvature.** The largest eigenvalue of the Hessian bounds the learning rate. Nobody forms a Hessian of a million rows;
#    everybody multiplies it with vectors, $Hv = \nabla_x \langle \nabla_x \ell, v\rangle$.
# 3. **It tells whether a backward is understood.** A first derivative can be right for the wrong reason. We shall see one.
#
# ## A rule is an ordinary function
#
# The rule of $y = x^3$ is $b(g, x) = 3 g x^2$. It has two inputs, and so two derivatives of its own: $\partial b/\partial g = 3x^2$ and
# $\partial b/\partial x = 6 g x$. If the rule is written with differentiable operations, the tape can record it while it runs. That is all
# that `create_graph=True` does.

# %%
x = mg.tensor([0.5, -1.0, 2.0], requires_grad=True, dtype="float64")
y = x * x * x
g = mg.tensor(rng.normal(size=3), requires_grad=True)
(dx,) = mg.grad(y, [x], g, create_graph=True)
print(mg.tape(dx))

v = mg.tensor(rng.normal(size=3))
d_g, d_x = mg.grad(dx, [g, x], v)
print("with respect to g:", relative_error(d_g, 3 * x.numpy() ** 2 * v.numpy()))
print("with respect to x:", relative_error(d_x, 6 * x.numpy() * g.numpy() * v.numpy()))
assert relative_error(d_g, 3 * x.numpy() ** 2 * v.numpy()) < 1e-15 and relative_error(d_x, 6 * x.numpy() * g.numpy() * v.numpy()) < 1e-15

# %% [markdown]
# The printed tape is the tape *of a derivative*: the lines of the forward pass, then the lines that the backward pass added.
#
# ## Batch norm: what there is to differentiate
#
# For one channel with $m$ values, $\mu$ their mean, $s = \sqrt{\mathrm{var} + \varepsilon}$, $\hat x = (x - \mu)/s$ and $y = \gamma\hat x + \beta$.
# Lecture 02 ended with
#
# $$ d_x \;=\; \frac{\gamma}{s}\Bigl(g - \overline{g} - \hat x\;\overline{g\hat x}\Bigr), \qquad \overline{a} = \tfrac1m\textstyle\sum_i a_i . \tag{1} $$
#
# This is a function of $g$, $x$ and $\gamma$. Give its result a cotangent $u$, of the shape of $x$, and ask for the derivatives of
#
# $$ L \;=\; \langle u, d_x\rangle
#   \;=\; \frac{\gamma m}{s}\Bigl(\overline{u g} - \overline{u}\,\overline{g} - \overline{u\hat x}\;\overline{g\hat x}\Bigr). \tag{2} $$
#
# Write $p_u = \overline{u\hat x}$, $p_g = \overline{g\hat x}$, $u_c = u - \overline u$, $g_c = g - \overline g$ and $c = \overline{u_c g_c}$. Then
# $L = \frac{\gamma m}{s}(c - p_u p_g)$: **symmetric in $u$ and $g$**. The Jacobian of batch norm is a symmetric matrix.
#
# ### With respect to $g$: nothing new
#
# $L$ is linear in $g$, and by symmetry the answer is (1) with $u$ in the place of $g$:
#
# $$ d_g = \frac{\gamma}{s}\bigl(u_c - \hat x\, p_u\bigr), \qquad\qquad d_\gamma = \frac{m}{s}\,(c - p_u p_g). \tag{3} $$
#
# ### With respect to $x$: through $s$, and through $\hat x$
#
# *Through $s$.* $\partial s/\partial x = \hat x/m$, so $-\frac{\gamma m}{s^2}(c - p_u p_g)\cdot\frac{\hat x}{m}$.
#
# *Through $\hat x$.* Only the product of the two projections depends on it: $\partial L/\partial \hat x = -\frac{\gamma}{s}(u\,p_g + g\,p_u) =: w$.
# From $\hat x$ to $x$ we pull back as always, $\frac1s(w - \overline w - \hat x\,\overline{w\hat x})$.
#
# The mean of $w$ turns $u$ into $u_c$ and $g$ into $g_c$, and $\overline{w \hat x} = -\frac{2\gamma}{s} p_u p_g$. Added up:
#
# $$ d_x \;=\; -\frac{\gamma}{s^2}\Bigl( p_g\,u_c + p_u\,g_c + \hat x\,\bigl(c - 3\,p_u p_g\bigr)\Bigr). \tag{4} $$
#
# Three terms, symmetric in $u$ and $g$, and $\varepsilon$ appears nowhere but in $s$. Two more sums than the first derivative
# needs ($\overline{ug}$, $\overline{u\hat x}$), and again one combination of arrays. In NumPy, with every shape:


# %%
def double_backward(u, g, x, gamma, eps):
    """Cotangents of g, x and gamma for the cotangent u of batch norm's dx. u, g, x: (m, C); gamma: (C,)."""
    m = len(x)
    s = np.sqrt(x.var(axis=0) + eps)                                   # (C,)
    xhat = (x - x.mean(axis=0)) / s                                    # (m, C)
    u_c, g_c = u - u.mean(axis=0), g - g.mean(axis=0)                  # (m, C)
    p_u, p_g = (u * xhat).mean(axis=0), (g * xhat).mean(axis=0)        # (C,)
    c = (u_c * g_c).mean(axis=0)                                       # (C,)
    d_g = gamma / s * (u_c - xhat * p_u)                               # (m, C)   (3)
    d_gamma = m / s * (c - p_u * p_g)                                  # (C,)     (3)
    d_x = -gamma / s**2 * (p_g * u_c + p_u * g_c + xhat * (c - 3 * p_u * p_g))  # (4)
    return d_g, d_x, d_gamma


# %% [markdown]
# ### Does the tape agree?
#
# The tape knows batch norm in two forms. For `composed` it records the derivative of every primitive and differentiates those again.
# For `one_line` it records formula (1) itself, on top of statistics that are **computed again from $x$**, on the tape.

# %%
m, C, eps = 12, 4, 1e-3
arrays = {"x": rng.normal(2.0, 1.5, (m, C)), "gamma": rng.normal(1.0, 0.5, C), "beta": rng.normal(size=C)}
g_array, u_array = rng.normal(size=(2, m, C))
by_hand = dict(zip(("g", "x", "gamma"), double_backward(u_array, g_array, arrays["x"], arrays["gamma"], eps)))


def second(form):
    """The cotangents of g, x and gamma that the tape finds, for the cotangent u of dx."""
    x, gamma, beta = (mg.tensor(a, requires_grad=True) for a in arrays.values())
    g = mg.tensor(g_array, requires_grad=True)
    (dx,) = mg.grad(form(x, gamma, beta, eps=eps), [x], g, create_graph=True)
    return dict(zip(("g", "x", "gamma"), mg.grad(dx, [g, x, gamma], mg.tensor(u_array))))


batch_norm = layers.REGISTRY["batch_norm"]
for name, form in {"composed": batch_norm.composed, **batch_norm.derived}.items():
    errors = {key: relative_error(value, by_hand[key]) for key, value in second(form).items()}
    print(f"{name:<10}", {key: f"{e:.1e}" for key, e in errors.items()})
    assert max(errors.values()) < 1e-13

# %% [markdown]
# And a witness who knows no calculus: central differences of the *first* derivative.

# %%
def first(x):
    """dx for the array x, cotangent g."""
    t = [mg.tensor(a, requires_grad=True) for a in (x, arrays["gamma"], arrays["beta"])]
    return mg.grad(batch_norm.derived["one_line"](*t, eps=eps), [t[0]], mg.tensor(g_array))[0].numpy()


direction = rng.normal(size=(m, C))
h = 1e-5
differences = np.vdot(u_array, first(arrays["x"] + h * direction) - first(arrays["x"] - h * direction)) / (2 * h)
exact = np.vdot(by_hand["x"], direction)
print(f"central differences {differences:.12f}\nformula (4)         {exact:.12f}")
assert abs(differences - exact) < 1e-8 * abs(exact)

# %% [markdown]
# Here are the two forms once more. Nothing in the right column knows about second derivatives; that its lines are made of ops is enough.

# %%
show_side_by_side("batch_norm", "one_line")

# %% [markdown]
# ## The mistake that hides from a first-order check
#
# An engine that saves $1/s$ in the forward pass and uses it in the backward is fast, and right. Until somebody differentiates the
# backward: if the saved $1/s$ is a plain number there, the path from $x$ through $s$ is gone. The first-order check passes: it asks
# for the value of (1), and the value is right. DeZero 0.0.13 has this mistake in its batch norm.
#
# Here it is in our own engine, made on purpose. The rule is formula (1), but the statistics are detached.


# %%
def detached_backward(g, saved, x, gamma, *, eps):
    """Formula (1) with μ and 1/s as constants."""
    mu, rstd = (s.detach() if isinstance(s, mg.Tensor) else s for s in saved)
    xhat = (x - mu) * rstd
    dx = gamma * rstd * (g - mg.mean(g, 0, keepdims=True) - xhat * mg.mean(g * xhat, 0, keepdims=True))
    return dx, mg.sum(g * xhat, 0), mg.sum(g, 0)


def statistics(x, *, eps):
    return mg.mean(x, 0, keepdims=True), 1.0 / mg.sqrt(mg.var(x, 0, keepdims=True) + eps)


@mg.by_hand(save=statistics, backward=detached_backward)
def careless_batch_norm(xp, x, gamma, beta, *, eps, saved):
    mu, rstd = saved
    return (x - mu) * rstd * gamma + beta


tensors = [mg.tensor(a) for a in arrays.values()]
once = mg.gradcheck(lambda *t: careless_batch_norm(*t, eps=eps), tensors, order=1)
twice = mg.gradcheck(lambda *t: careless_batch_norm(*t, eps=eps), tensors, order=2)
print("first order: ", "accepted" if once else "rejected")
print("second order:", "accepted" if twice else "rejected")
assert once and not twice

wrong = relative_error(second(careless_batch_norm)["x"], by_hand["x"])
print(f"its second derivative is wrong by {wrong:.0%}; with respect to g it is right to {relative_error(second(careless_batch_norm)['g'], by_hand['g']):.0e}")
assert wrong > 0.1

# %% [markdown]
# So the rule of this project: **what is saved is a cache, never the truth.** In first order the cache is used; under `create_graph`
# it is computed again from the inputs, on the tape. That is why the two lines of `batch_norm.py` that call `moments` are not in its backward.
#
# ## Hessian-vector products
#
# Let $f$ be a scalar function. $Hv$ is the derivative of the number $\langle\nabla f, v\rangle$, one more backward. Its cost is a small multiple
# of a gradient's, whatever the size of $H$. `mg.hvp(f, [x], [v])` does that. How else could you get $Hv$? By a difference
# of gradients, $(\nabla f(x + hv) - \nabla f(x - hv))/2h$: and then you must choose $h$.

# %%
target = rng.normal(size=(m, C))


def loss_with(form):
    """A loss that is not linear in batch norm's output, as a function of x."""
    gamma, beta = mg.tensor(arrays["gamma"]), mg.tensor(arrays["beta"])
    return lambda x: mg.mse_loss(mg.tanh(form(x, gamma, beta, eps=eps)), mg.tensor(target))


x, v = mg.tensor(arrays["x"]), mg.tensor(rng.normal(size=(m, C)))
reference = mg.hvp(loss_with(batch_norm.composed), [x], [v])[0].numpy()
ours = relative_error(mg.hvp(loss_with(batch_norm.derived["one_line"]), [x], [v])[0], reference)
careless = relative_error(mg.hvp(loss_with(careless_batch_norm), [x], [v])[0], reference)


def gradient(array):
    t = mg.tensor(array, requires_grad=True)
    return mg.grad(loss_with(batch_norm.derived["one_line"])(t), [t])[0].numpy()


steps = np.logspace(-10, 0, 41)
difference_errors = [relative_error((gradient(arrays["x"] + h * v.numpy()) - gradient(arrays["x"] - h * v.numpy())) / (2 * h), reference) for h in steps]
best = min(difference_errors)
print(f"hand-derived, differentiated again: {ours:.1e}\nconstant statistics:                {careless:.1e}\nbest difference of gradients:       {best:.1e}")
assert ours < 1e-13 and careless > 0.05 and best > 10 * ours

# %% alt="Relative error of a Hessian-vector product: a V for differences, a line at 25 percent, a line at rounding"
fig, ax = plt.subplots(figsize=(7, 4))
ax.loglog(steps, difference_errors, "-", color="C0")
ax.annotate("difference of two gradients", (steps[20], difference_errors[20]), xytext=(10, -4), textcoords="offset points", color="C0")
ax.axhline(careless, color="C1", ls="--")
ax.annotate(f"statistics kept as constants: {careless:.0%} wrong for every $h$", (1e-10, careless), xytext=(0, 5), textcoords="offset points", color="C1")
ax.axhline(ours, color="C2")
ax.annotate(f"batch norm by hand, differentiated again: {ours:.0e}", (1e-10, ours), xytext=(0, 5), textcoords="offset points", color="C2")
ax.annotate("rounding / $h$", (steps[8], difference_errors[8]), xytext=(2, 8), textcoords="offset points", color="0.4")
ax.annotate("truncation, $h^2$", (steps[33], difference_errors[33]), xytext=(-6, 8), textcoords="offset points", color="0.4", ha="right")
ax.set(xlabel="step $h$ of the difference", ylabel="relative error of $Hv$", title="Three ways to multiply with a Hessian", ylim=(1e-17, 10))
plt.show()

# %% [markdown]
# The V is the fate of every difference quotient. Its best point keeps about two thirds of the digits, and in practice nobody knows where
# it is. The careless line lies far above it: a second derivative that ignores a path is worse than any difference.
#
# ## A gradient penalty, with both forms
#
# We train a small network on the shipped digits with $\ell + \lambda\,\overline{\lVert \nabla_x \ell_i\rVert^2}$. Its second term makes the
# network less sensitive to its input. Every step differentiates the backward of two batch norms.

# %%
images, labels = data.digits("train")
images = images.astype("float64")
N_STEPS = 8 if FAST else 80


def network(form):
    mg.seed(1)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), layers.BatchNorm2d(8, form=form), nn.Tanh(), nn.AvgPool2d(2),
                         nn.Conv2d(8, 16, 3, padding=1), layers.BatchNorm2d(16, form=form), nn.Tanh(), nn.Flatten(),
                         nn.Linear(256, 10)).astype("float64")


def penalized(model, x, t, weight):
    """Loss, its mean squared gradient with respect to an image, and their weighted sum."""
    x = mg.tensor(x, requires_grad=True)
    loss = mg.cross_entropy(model(x), mg.tensor(t))
    (dx,) = mg.grad(loss, [x], create_graph=True)
    squared = mg.sum(dx * dx) * len(t)                                 # the loss is a mean: N·dx is one image's gradient
    return loss, squared, loss + weight * squared


def train(form, weight, steps=N_STEPS):
    """Losses, squared gradients, the first step's parameter gradients, and seconds per step."""
    model = network(form)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    history, gradients, seconds = [], None, []
    for i, (x, t) in enumerate((x, t) for epoch in range(10) for x, t in data.batches(images, labels, 64, shuffle=True, seed=0, epoch=epoch, drop_last=True)):
        if i == steps:
            break
        start = time.perf_counter()
        loss, squared, total = penalized(model, x.numpy(), t.numpy(), weight)
        optimizer.zero_grad()
        total.backward()
        gradients = gradients or [p.grad.numpy() for p in model.parameters()]
        optimizer.step()
        seconds.append(time.perf_counter() - start)
        history.append((loss.item(), squared.item()))
    return np.array(history).T, gradients, float(np.median(seconds))


runs = {form: train(form, 0.1) for form in ("composed", "derived")}
plain, _, _ = train("derived", 0.0)
# A convolution's bias before batch norm has gradient 0 except for rounding: compare what is not noise.
agreement = max(relative_error(a, b) for a, b in zip(runs["derived"][1], runs["composed"][1]) if np.linalg.norm(b) > 1e-10)
curves = relative_error(runs["derived"][0], runs["composed"][0])
print(f"gradients of the penalized loss, both forms: {agreement:.1e};  all {N_STEPS} steps' losses: {curves:.1e}")
print(f"seconds per step: composed {runs['composed'][2]:.4f}, derived {runs['derived'][2]:.4f}")
print(f"squared input gradient at the end: {runs['derived'][0][1, -5:].mean():.3f} with the penalty, {plain[1, -5:].mean():.3f} without")
assert agreement < 1e-11 and curves < 1e-6
assert runs["derived"][0][1, -5:].mean() < plain[1, -5:].mean()

# %% alt="Loss and squared input gradient against steps: both forms on top of each other, the input gradient smaller with the penalty"
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
for ax, row, label in ((left, 0, "cross-entropy"), (right, 1, "mean squared gradient of an image's loss")):
    ax.plot(runs["composed"][0][row], lw=5, alpha=0.35, color="C0", label="penalty, composed")
    ax.plot(runs["derived"][0][row], lw=1.2, color="black", label="penalty, derived by hand")
    ax.plot(plain[row], color="C1", lw=1.5, label="no penalty")
    ax.set(xlabel="step", ylabel=label, yscale="log")
left.set_title("The loss falls either way")
right.set_title("Only the penalty keeps the network calm")
right.legend()
plt.show()

# %% [markdown]
# ## The largest eigenvalue of a Hessian
#
# Multiply a random vector with $H$ again and again: it turns towards the eigenvector of the largest eigenvalue in absolute value. Gradient descent
# with step $\eta$ on a quadratic is stable while $\eta\,\lambda_{\max} < 2$. Here is $\lambda_{\max}$ of the trained network's loss, over all of
# its parameters, by power iteration with `mg.hvp`'s two ingredients.

# %%
model = network("derived")
parameters = list(model.parameters())
batch, answers = mg.tensor(images[:128]), mg.tensor(labels[:128])


def hessian_times(vectors):
    """One Hessian-vector product over all parameters."""
    found = mg.grad(mg.cross_entropy(model(batch), answers), parameters, create_graph=True)
    return [g.numpy() for g in mg.grad(list(found), parameters, [mg.tensor(v) for v in vectors])]


def dot(a, b):
    return sum(float(np.vdot(p, q)) for p, q in zip(a, b))


vectors = [rng.normal(size=p.shape) for p in parameters]
estimates = []
for _ in range(6 if FAST else 25):
    norm = dot(vectors, vectors) ** 0.5
    vectors = [w / norm for w in vectors]
    product = hessian_times(vectors)
    estimates.append(dot(vectors, product))
    vectors = product
print("estimates:", ", ".join(f"{e:.3f}" for e in estimates[::4]), f"... so eta below {2 / estimates[-1]:.2f} for plain gradient descent here")

# Symmetry is a test that costs two products: <a, H b> = <b, H a>.
a, b = ([rng.normal(size=p.shape) for p in parameters] for _ in range(2))
ab, ba = dot(a, hessian_times(b)), dot(b, hessian_times(a))
print(f"symmetry: {ab:.12f} and {ba:.12f}")
assert abs(ab - ba) < 1e-9 * max(abs(ab), abs(ba), 1) and estimates[-1] > 0
assert FAST or abs(estimates[-1] - estimates[-2]) < 0.01 * estimates[-1]

# %% [markdown]
# Remember that test. A second derivative is symmetric, whatever the function. A "Hessian" that is not has lost a path, and a random pair of
# vectors finds it:

# %%
def asymmetry(form):
    f = loss_with(form)
    a, b = (mg.tensor(rng.normal(size=(m, C))) for _ in range(2))
    forth, back = (np.vdot(p.numpy(), mg.hvp(f, [x], [q])[0].numpy()) for p, q in ((a, b), (b, a)))
    return abs(forth - back) / max(abs(forth), abs(back))


print(f"hand-derived: {asymmetry(batch_norm.derived['one_line']):.0e}   constant statistics: {asymmetry(careless_batch_norm):.0e}")
assert asymmetry(batch_norm.derived["one_line"]) < 1e-11 < 1e-3 < asymmetry(careless_batch_norm)

# %% [markdown]
# ## What to remember
#
# - A rule that is made of differentiable operations has derivatives of its own: write it once, and all orders follow.
# - The double backward of batch norm is $-\frac{\gamma}{s^2}\bigl(p_g u_c + p_u g_c + \hat x(c - 3p_up_g)\bigr)$.
# - Check second derivatives as second derivatives: differences of gradients, another form, symmetry.

# %% [markdown]
# ## Homework
#
# The double backward of a batch norm that takes out only a part of $\hat x$, line by line: `homework/10_double_backward/lines.py` has seven stubs,
# from $d_\gamma$ to the counterpart of formula (4) in one line. Every line is checked on its own:
#
#     python -m minigrad.derivation 10_double_backward lines.py
#
# What happens to somebody who forgets that the mean $p_g$ depends on $\hat x$, as the careless batch norm above does?


# %%
def d_xhat(d_r, p, t):
    return -d_r * t * p


report = check_homework("10_double_backward", d_xhat)
assert [line.code for line in report.lines if line.line == "d_xhat"] == ["missing path"]

# %%
report = check_homework("10_double_backward")
