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
# # 1 · The tape: automatic differentiation in a hundred lines, and then ours
#
# **After this lecture you can**
#
# - say what a cotangent is, and differentiate a program by walking backwards through what it did;
# - write an automatic differentiation engine with broadcasting and derivatives of any order, in less than a hundred
#   lines;
# - read a tape of minigrad: what ran, what it keeps for its backward, and what that costs;
# - recognize three mistakes that an engine should refuse: a missing sum, an overwritten value, a tape used twice;
# - write an op of your own with its rules, check it, and train a network with it.
#
# You need the chain rule, and some NumPy.
#
# *Sources:* the chain rule; `minigrad/core/tensor.py` and `minigrad/core/engine.py` for the engine.

# %%
import sys

sys.path[:0] = [".", ".."]  # finds the project from its root and from lectures/

import inspect
import time
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np

import minigrad as mg
from lectures.classroom import FAST, agree, check_homework, relative_error, show_report, table
from minigrad import data, derivation, optim

rng = np.random.default_rng(1)

# %% [markdown]
# ## The question
#
# A network is a function of a million numbers, and its loss is one number. To train it, we want to know how the loss
# changes with each of the million: a gradient.
#
# The obvious way is to try: move one number a little, evaluate again. For $n$ numbers and a difference to both sides,
# that is $2n$ evaluations, and the result has a third of its digits wrong. The way of this course costs *one*
# evaluation and one walk back through it, whatever $n$ is, and has all digits right. It is not an approximation, and
# it is not algebra either. It is bookkeeping.
#
# ## Backwards, by hand
#
# Take $y = \tanh(w x + b)$, with numbers. A computer does one thing after the other:
#
# $$ p = w x, \qquad z = p + b, \qquad y = \tanh z. $$
#
# For every value, ask: *if this value moves a little, how much does $y$ move?* Call the answer $d_z$ for the value
# $z$: its **cotangent**. The last one is free: $d_y = 1$. Then each line hands it back to what it was made from, with
# the derivative of that line alone:
#
# $$ d_z = d_y\,(1 - y^2), \qquad d_p = d_z, \quad d_b = d_z, \qquad d_w = d_p\, x, \quad d_x = d_p\, w. $$
#
# Nobody had to think about the whole function. Each line knows its own rule, and that is enough.

# %%
x, w, b = 0.5, 2.0, -0.3
p = w * x
z = p + b
y = np.tanh(z)

d_y = 1.0
d_z = d_y * (1 - y * y)
d_p = d_b = d_z
d_w, d_x = d_p * x, d_p * w

h = 1e-6
moved = (np.tanh((w + h) * x + b) - np.tanh((w - h) * x + b)) / (2 * h)
table(["value", "is", "y moves by, per unit"],
      [[name, f"{value:.4f}", f"{d:.4f}"] for name, value, d in (("y", y, d_y), ("z", z, d_z), ("p", p, d_p),
                                                                ("b", b, d_b), ("w", w, d_w), ("x", x, d_x))])
print(f"d_w by trying: {moved:.4f}")
assert abs(moved - d_w) < 1e-9                                       # truncation h², rounding 1e-16/h

# %% [markdown]
# ## An engine
#
# Let the computer keep these books. While the program runs, every result remembers its **parents** and, for each of
# them, the **rule** that takes a cotangent back. The results are numbered as they are made. That is the whole data
# structure; the list of results in their order is called the **tape**.

# %%
class Value:
    """An array, and how it came about: pairs (parent, rule)."""

    __array_ufunc__ = None                                           # NumPy, leave our operators alone
    made = 0

    def __init__(self, data, parents=()):
        self.data, self.parents = np.asarray(data, dtype=float), parents
        Value.made += 1
        self.number = Value.made
        self.shape = self.data.shape


def value(a):
    return a if isinstance(a, Value) else Value(a)


# %% [markdown]
# Now the ops. Two of them are there for shapes, and they are a pair: what the one does forwards, the other does
# backwards. Spreading a row over a matrix makes copies; every copy influences the result; so the cotangents of the
# copies are *added*.

# %%
def broadcast_to(a, shape):
    """Repeat `a` until it has this shape. Backwards: sum the copies."""
    if a.shape == shape:
        return a
    return Value(np.broadcast_to(a.data, shape), [(a, lambda g: sum_to(g, a.shape))])


def sum_to(a, shape):
    """Sum until this shape is left. Backwards: everyone gets a copy."""
    if a.shape == shape:
        return a
    new = a.data.ndim - len(shape)
    axes = (*range(new), *(new + i for i, length in enumerate(shape) if length == 1))
    return Value(a.data.sum(axes, keepdims=True).reshape(shape), [(a, lambda g: broadcast_to(g, a.shape))])


def together(a, b):
    a, b = value(a), value(b)
    shape = np.broadcast_shapes(a.shape, b.shape)
    return broadcast_to(a, shape), broadcast_to(b, shape)


# %% [markdown]
# With shapes out of the way, each rule is the line from a table of derivatives. Look at how they are written: `g *
# b`, where `g` and `b` are `Value`s. The rules compute with the same ops as everybody else. Keep that in mind.

# %%
def add(a, b):
    a, b = together(a, b)
    return Value(a.data + b.data, [(a, lambda g: g), (b, lambda g: g)])


def multiply(a, b):
    a, b = together(a, b)
    return Value(a.data * b.data, [(a, lambda g: g * b), (b, lambda g: g * a)])


def power(a, n):
    return Value(a.data**n, [(a, lambda g: g * n * power(a, n - 1))])


def exp(a):
    out = Value(np.exp(a.data), [(a, lambda g: g * out)])
    return out


def log(a):
    return Value(np.log(a.data), [(a, lambda g: g * power(a, -1))])


def tanh(a):
    out = Value(np.tanh(a.data), [(a, lambda g: g * (1 - out * out))])
    return out


def transpose(a):
    return Value(a.data.T, [(a, lambda g: transpose(g))])


def matmul(a, b):
    """(m, n) @ (n, k)"""
    return Value(a.data @ b.data, [(a, lambda g: g @ transpose(b)), (b, lambda g: transpose(a) @ g)])


def subtract(a, b):
    return add(a, multiply(-1.0, b))


Value.__add__ = Value.__radd__ = add
Value.__mul__ = Value.__rmul__ = multiply
Value.__sub__, Value.__rsub__ = subtract, lambda a, b: subtract(b, a)
Value.__matmul__ = matmul

# %% [markdown]
# And backward. A value may have been used several times; then several cotangents come back to it, and they add up.
# Its own rules may run only when all of them are there. Going through the tape from its end sees to that: whoever
# uses a value was made after it.

# %%
def tape(y):
    """All values that `y` was made from, and `y`, in the order in which they were made."""
    found, waiting = {y}, [y]
    while waiting:
        for parent, _ in waiting.pop().parents:
            if parent not in found:
                found.add(parent)
                waiting.append(parent)
    return sorted(found, key=lambda v: v.number)


def gradient(y, xs, g=1.0):
    """Cotangents of all `xs`, for the cotangent `g` of `y`."""
    cotangents = {y: value(g)}
    for result in reversed(tape(y)):
        for parent, rule in result.parents:
            d = rule(cotangents[result])
            cotangents[parent] = cotangents[parent] + d if parent in cotangents else d
    return [cotangents[x] for x in xs]


functions = (Value.__init__, value, broadcast_to, sum_to, together, add, multiply, power, exp, log, tanh, transpose,
             matmul, subtract, tape, gradient)
count = sum(len(inspect.getsource(f).splitlines()) for f in functions)
print(f"{len(functions)} functions, {count} lines")
assert count < 90                                                    # a dozen more: the class, the operators

# %% [markdown]
# That is all. Does it agree with our calculation by hand, and does it have derivatives of derivatives?

# %%
wv, xv, bv = Value(w), Value(x), Value(b)
yv = tanh(wv * xv + bv)
dw, dx, db = gradient(yv, [wv, xv, bv])
agree("d_w", dw.data, d_w)
agree("d_x", dx.data, d_x)
agree("d_b", db.data, d_b)

(dww,) = gradient(dw, [wv])
agree("d²y/dw²", dww.data, -2 * y * (1 - y * y) * x * x)

# %% [markdown]
# The second derivative was not programmed. The rules were made of ops, the ops recorded themselves, so a gradient has
# a tape of its own. **One rule serves all orders.** It is the idea that this whole project is built on.
#
# ## The price of a gradient
#
# Now the promise from the beginning: a gradient costs a few evaluations of the function, whatever the number of
# inputs. We measure it on $f(x) = \sum_k \tanh^2(A x)_k$ with more and more inputs, against differences, which need
# $2n$ evaluations.

# %%
def seconds(action, least=0.004 if FAST else 0.02):
    """Time of one call: the best of several rounds that take a while each."""
    action()
    rounds = []
    for _ in range(3):
        calls, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < least:
            action()
            calls += 1
        rounds.append(spent / calls)
    return min(rounds)


def by_differences(f, x, h=1e-5):
    """The gradient of f at x (n, 1), by 2n evaluations."""
    d, e = np.empty_like(x), np.zeros_like(x)
    for i in range(len(x)):
        e[i] = h
        d[i] = (f(x + e) - f(x - e)) / (2 * h)
        e[i] = 0
    return d


sizes = [4, 16, 64, 256] if FAST else [4, 16, 64, 256, 1024, 4096]
price = {"differences": [], "our engine": [], "minigrad": []}
for n in sizes:
    A, point = rng.normal(size=(64, n)) / np.sqrt(n), rng.normal(size=(n, 1))
    matrix = {"our engine": Value(A), "minigrad": mg.tensor(A)}

    def plain(x, A=A):
        return float((np.tanh(A @ x) ** 2).sum())

    def by_our_engine(A=matrix["our engine"], point=point):
        x = Value(point)
        return gradient(sum_to(power(tanh(A @ x), 2), ()), [x])[0].data

    def by_minigrad(A=matrix["minigrad"], point=point):
        x = mg.tensor(point, requires_grad=True)
        return mg.grad((mg.tanh(A @ x) ** 2).sum(), [x])[0]

    def by_trying(plain=plain, point=point):
        return by_differences(plain, point)

    once = seconds(lambda plain=plain, point=point: plain(point))
    for name, way in (("differences", by_trying), ("our engine", by_our_engine), ("minigrad", by_minigrad)):
        price[name].append(seconds(way) / once)
    assert relative_error(by_minigrad(), by_our_engine()) < 1e-13
    error = relative_error(by_trying(), by_our_engine())
    assert error < 1e-7                                              # two thirds of the digits
for name, ratios in price.items():
    print(f"a gradient by {name:<12} costs {', '.join(f'{r:.0f}' for r in ratios)} evaluations")
assert price["our engine"][-1] < price["differences"][-1] / 4

# %% alt="Cost of a gradient in evaluations of the function: differences grow with the number of inputs, both tapes stay level."
fig, ax = plt.subplots(figsize=(7, 3.8))
labels = (("differences", "C1", -14, 4), ("our engine", "C2", 0, 8), ("minigrad", "C0", 0, -16))
for name, color, right, above in labels:
    ax.loglog(sizes, price[name], "o-", color=color)
    ax.annotate(name, (sizes[-2], price[name][-2]), xytext=(right, above), textcoords="offset points", color=color,
                fontweight="bold", ha="right" if right else "center")
ax.loglog(sizes, 2 * np.array(sizes), ":", color="0.5", zorder=0)
ax.annotate("$2n$", (sizes[1], 2 * sizes[1]), xytext=(8, -10), textcoords="offset points", color="0.4")
ax.set(xlabel="number of inputs $n$", ylabel="evaluations for one gradient")
ax.set_title("A gradient has a price, and it does not grow with $n$")
plt.show()

# %% [markdown]
# Differences follow $2n$. The tapes stay level, and at first all they pay for is bookkeeping: a dozen Python calls,
# for a function that takes microseconds. With large arrays that fades. Our engine stays more expensive than minigrad,
# for a reason worth naming: it hands cotangents to *everything*, the matrix $A$ too, though nobody asked for that one.
#
# ## A network, with two engines
#
# A hundred lines can train a network. Here is one with a hidden layer, for the digits that come with minigrad,
# written so that it runs on our engine and on minigrad alike: only the functions `tanh`, `exp`, `log`, `sum_to` are
# taken from one or the other. The loss is cross-entropy: $\log\sum_k e^{z_k} - z_{\text{label}}$, on average.

# %%
def loss_of(ops, x, onehot, w1, b1, w2, b2):
    """x (N, 64), onehot (N, 10) -> ()"""
    z = ops.tanh(x @ w1 + b1) @ w2 + b2                              # (N, 10)
    log_total = ops.log(ops.sum_to(ops.exp(z), (x.shape[0], 1)))     # (N, 1)
    return ops.sum_to((log_total - z) * onehot, ()) * (1.0 / x.shape[0])


ours = SimpleNamespace(tanh=tanh, exp=exp, log=log, sum_to=sum_to)
images, labels = data.digits("train")
images, onehot = images.reshape(len(images), 64).astype(float), np.eye(10)[labels]
start = [rng.normal(size=(64, 32)) / 8, np.zeros(32), rng.normal(size=(32, 10)) / 6, np.zeros(10)]


def step_of_ours(arrays, x, t):
    parameters = [Value(a) for a in arrays]
    loss = loss_of(ours, Value(x), Value(t), *parameters)
    return float(loss.data), [d.data for d in gradient(loss, parameters)]


def step_of_minigrad(arrays, x, t):
    parameters = [mg.tensor(a, requires_grad=True) for a in arrays]
    loss = loss_of(mg, mg.tensor(x), mg.tensor(t), *parameters)
    return loss.item(), [d.numpy() for d in mg.grad(loss, parameters)]


losses, worst, arrays = [], 0.0, start
for k in range(20 if FAST else 200):
    rows = slice(64 * (k % 22), 64 * (k % 22) + 64)
    loss, gradients = step_of_ours(arrays, images[rows], onehot[rows])
    _, reference = step_of_minigrad(arrays, images[rows], onehot[rows])
    worst = max(worst, *(relative_error(a, b) for a, b in zip(gradients, reference)))
    arrays = [a - 0.5 * d for a, d in zip(arrays, gradients)]
    losses.append(loss)
right = np.argmax(np.tanh(images @ arrays[0] + arrays[1]) @ arrays[2] + arrays[3], 1) == labels
print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}, {right.mean():.1%} of the training images right")
print(f"largest difference of a gradient between the two engines, at any step: {worst:.0e}")
assert losses[-1] < 0.7 * losses[0] and worst < 1e-12

# %% [markdown]
# Second order, too. The product of the Hessian with a vector $v$ is the derivative of $\langle \nabla l, v\rangle$;
# our engine gets it by asking `gradient` twice.

# %%
vectors = [rng.normal(size=a.shape) for a in arrays]
parameters = [Value(a) for a in arrays]
first = gradient(loss_of(ours, Value(images[:64]), Value(onehot[:64]), *parameters), parameters)
slope = sum((sum_to(d * v, ()) for d, v in zip(first, vectors)), Value(0.0))
products = mg.hvp(lambda *t: loss_of(mg, mg.tensor(images[:64]), mg.tensor(onehot[:64]), *t),
                  [mg.tensor(a) for a in arrays], [mg.tensor(v) for v in vectors])
for name, mine, theirs in zip(("w1", "b1", "w2", "b2"), gradient(slope, parameters), products):
    agree(f"Hessian times v, {name}", mine.data, theirs, within=1e-11)  # a loss near its minimum: terms cancel

# %% [markdown]
# ## What is missing
#
# Our engine is right. It is not yet good. It keeps *every* intermediate array until the tape is thrown away; it
# records while it differentiates, even if nobody wants a second derivative; you cannot see what it recorded; and if
# somebody overwrites an array that a rule still needs, it silently computes nonsense. The rest of this lecture shows
# how minigrad deals with each of these.
#
# ### A rule says what it needs
#
# This is how minigrad's ops look. Forward and derivative stand together, with one line per rule:

# %%
for op in (mg.add, mg.multiply, mg.tanh, mg.exp):
    print(inspect.getsource(op.primitive.forward))

# %% [markdown]
# A rule's first parameter is the cotangent. **The names of the others say what the tape must keep**: `b` is the other
# factor, `out` the result, and `add` needs nothing. Our closures keep all they can see. Here the engine knows, and
# can be asked:

# %%
x = mg.tensor(rng.normal(size=1000), requires_grad=True)
w = mg.tensor(rng.normal(size=1000), requires_grad=True)


def kept_by(f):
    """Arrays that f(z) keeps beyond what is there anyway, for a computed z of 1,000 numbers."""
    z = x + w
    return mg.tape(f(z)).kept_bytes / z.data.nbytes


keeps = {
    "z + z": kept_by(lambda z: z + z),
    "3 z": kept_by(lambda z: z * 3.0),
    "z · z": kept_by(lambda z: z * z),
    "exp z": kept_by(mg.exp),
    "tanh z": kept_by(mg.tanh),
    "sum of z": kept_by(mg.sum),
    "tanh(z) · exp(z)": kept_by(lambda z: mg.tanh(z) * mg.exp(z)),
}
table(["computed", "arrays kept for the backward"], [[name, f"{n:.0f}"] for name, n in keeps.items()])
assert list(keeps.values()) == [0, 0, 1, 1, 1, 0, 2]

# %% [markdown]
# The last row is worth a thought. The product needs both factors, `tanh` and `exp` need their results, and these are
# the same two arrays: kept once.
#
# ### A tape that can be read
#
# `mg.tape` prints what was recorded: which op ran on which lines, the shapes, what each line keeps. `mg.named` gives
# a line a name.

# %%
def layer(x, w, b):
    z = mg.named("z", x @ w + b)
    return mg.named("h", mg.tanh(z))


x = mg.named("x", mg.tensor(rng.normal(size=(5, 3)), requires_grad=True))
w = mg.named("w", mg.tensor(rng.normal(size=(3, 4)), requires_grad=True))
b = mg.named("b", mg.tensor(rng.normal(size=4), requires_grad=True))
out = layer(x, w, b)
print(mg.tape(out))

# %% [markdown]
# There is the broadcast, a line like any other: `b` of shape $(4)$ is spread over 5 rows before it is added.
# Therefore the rule of `add` is just `g`, and no rule of any op ever deals with shapes. (Engines without this line
# repeat an "unbroadcast" in every rule, and forget it in some.)
#
# The same tape as a picture, with the size of the cotangent in each box; the dashed arrow is the broadcast.

# %% alt="The tape of one layer: x and w meet in a matrix product, b is broadcast and added, tanh gives h; each box shows the norm of its gradient."
d_h = rng.normal(size=out.shape)
ax = mg.tape(out).draw(gradients=mg.adjoints(out, mg.tensor(d_h)))
ax.set_title("One layer of a network, and the size of the gradient everywhere")
plt.show()

# %% [markdown]
# Read it from the right. The same numbers by hand, on arrays:

# %%
says = mg.adjoints(out, mg.tensor(d_h))
d_z = d_h * (1 - out.numpy() ** 2)                                   # (5, 4)
agree("d_z", d_z, says["z"])
agree("d_w", x.numpy().T @ d_z, says["w"])
agree("d_x", d_z @ w.numpy().T, says["x"])
agree("d_b", d_z.sum(0), says["b"])

# %% [markdown]
# ### Both orders, one rule
#
# In minigrad too, a rule is ordinary code. But it is run in two ways. Usually on bare arrays: fast, nothing is
# recorded. With `create_graph=True` the *same line* gets Tensors, records itself, and can be differentiated again.

# %%
t = mg.tensor([0.3, -1.2], requires_grad=True, dtype="float64")
g, v = (mg.tensor(rng.normal(size=2)) for _ in range(2))
cube = t * t * t
(plain,) = mg.grad(cube, [t], g, retain_graph=True)
(taped,) = mg.grad(cube, [t], g, create_graph=True)
print("on arrays: ", plain, "on a tape:", plain.requires_grad)
print("on Tensors:", taped, "on a tape:", taped.requires_grad)
agree("both", plain, taped)
agree("second derivative", mg.grad(taped, [t], v)[0], 6 * t.numpy() * g.numpy() * v.numpy())
assert taped.requires_grad and not plain.requires_grad

# %% [markdown]
# ### Three mistakes, refused
#
# *A missing sum.* An op whose rule forgets that `b` was spread over the rows returns a gradient of the wrong shape.
# NumPy would broadcast it along, and training would go wrong quietly.

# %%
def refused(action):
    """What the engine says."""
    try:
        action()
    except mg.TapeError as error:
        print(error)
        return str(error)
    raise AssertionError("not refused")


@mg.primitive(a=lambda g, b: g * b, b=lambda g, a: g * a)
def scale_rows(xp, a, b):
    """a (m, n) times b (n,), with a rule for b that forgets the sum over the rows."""
    return a * b


rows = mg.tensor(rng.normal(size=(5, 3)), requires_grad=True)
scale = mg.tensor(rng.normal(size=3), requires_grad=True)
product = scale_rows(rows, scale)
says = refused(lambda: mg.grad(product, [scale], mg.tensor(rng.normal(size=(5, 3)))))
assert "rule of scale_rows" in says and "(3,)" in says

# %% [markdown]
# *An overwritten value.* The optimizer takes its step *between* forward and backward. The rule of the product would
# then use the new weights for the old loss. Every array has a version, every write counts it up, and backward
# compares. The text names the writer:

# %%
parameter = mg.tensor(rng.normal(size=3), requires_grad=True)
loss = (parameter * parameter * parameter).sum()
parameter.grad = mg.tensor(np.ones(3))
optim.SGD([parameter], lr=0.1).step()
says = refused(lambda: mg.grad(loss, [parameter]))
assert "SGD.step" in says

# %% [markdown]
# *A tape used twice.* To save memory, a line lets go of its arrays as soon as its rule has run. A second walk finds
# nothing, and says what to do:

# %%
loss = (parameter * parameter).sum()
mg.grad(loss, [parameter])
says = refused(lambda: mg.grad(loss, [parameter]))
assert "retain_graph" in says

# %% [markdown]
# Our hundred lines would have answered the second one: with a wrong number.

# %%
weight = Value([1.0, 2.0, 3.0])
cubes = weight * weight * weight
weight.data -= 0.5                                                   # a step, at the wrong time
(wrong,) = gradient(cubes, [weight], np.ones(3))
print("the gradient at [1, 2, 3] is [3, 12, 27], but our engine says", wrong.data.tolist())
assert relative_error(wrong.data, [3.0, 12.0, 27.0]) > 0.1

# %% [markdown]
# ## An op of your own
#
# You can add an op that minigrad does not have: a forward pass, and a rule for each input. Take the bump $y = e^{-x^2/w^2}$, with a width $w$ of its own
# in every column. By the table of derivatives,
#
# $$ \frac{\partial y}{\partial x} = -\frac{2x}{w^2}\,y, \qquad \frac{\partial y}{\partial w} = \frac{2x^2}{w^3}\,y . $$
#
# With `mg.elementwise`, inputs of different shapes are spread before your op sees them, by `broadcast_to` lines on the tape. So no rule needs a sum. Both
# rules ask for `out`, and the tape keeps it once.

# %%
@mg.elementwise(x=lambda g, x, w, out: -2 * g * x / (w * w) * out, w=lambda g, x, w, out: 2 * g * x * x / (w * w * w) * out)
def bump(xp, x, w):
    """exp(−x²/w²): x (m, n), w (n,)."""
    return xp.exp(-(x / w) ** 2)


point, widths = mg.tensor(rng.normal(size=(5, 3))), mg.tensor(rng.uniform(0.5, 1.5, 3))
report = mg.gradcheck(bump, [point, widths], order=2)                  # a random cotangent, and a witness who knows no rules: differences
print(report)
assert report

# %% [markdown]
# Order two as well: the rules are made of ops, so they can be differentiated. Now a slip: the power of $w$ is wrong in one rule. The shape is right, the
# network would even train. The check sees it, and says for which input.

# %%
@mg.elementwise(x=lambda g, x, w, out: -2 * g * x / (w * w) * out, w=lambda g, x, w, out: 2 * g * x * x / (w * w) * out)
def slip(xp, x, w):
    return xp.exp(-(x / w) ** 2)


report = mg.gradcheck(slip, [point, widths])
print(report)
assert not report

# %% [markdown]
# And in a network: the digits, with bumps as activations, whose widths are learned along with the weights.

# %%
def bump_network(x, w1, b1, widths, w2, b2):
    """x (N, 64) -> scores (N, 10)"""
    return bump(x @ w1 + b1, widths) @ w2 + b2


bumps = [mg.tensor(a.astype("float32"), requires_grad=True) for a in (start[0], start[1], np.full(32, 1.5), start[2], start[3])]
optimizer, bump_losses = optim.SGD(bumps, lr=0.2, momentum=0.9), []
for k in range(20 if FAST else 200):
    rows = slice(64 * (k % 22), 64 * (k % 22) + 64)
    loss = mg.cross_entropy(bump_network(mg.tensor(images[rows].astype("float32")), *bumps), mg.tensor(labels[rows]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    bump_losses.append(loss.item())
right = np.argmax(bump_network(mg.tensor(images.astype("float32")), *bumps).numpy(), 1) == labels
moved_widths = bumps[2].numpy()
print(f"loss {bump_losses[0]:.3f} -> {bump_losses[-1]:.3f}, {right.mean():.1%} of the training images right")
print(f"widths, 1.5 at first: from {moved_widths.min():.2f} to {moved_widths.max():.2f}")
assert bump_losses[-1] < 0.8 * bump_losses[0] and np.ptp(moved_widths) > 0.01

# %% [markdown]
# ## What to remember
#
# - A cotangent $d_z$ says how the result moves with $z$, and has $z$'s shape. Each line hands cotangents back with
#   its own derivative; uses add up.
# - Numbered lines need no sorting: backwards is the reversed order of recording.
# - Spread and sum are each other's derivative. Make them ops, and no other rule has to think about shapes.
# - Rules made of ops can be differentiated. Rules that say what they need can be kept cheaply.
# - An op of your own is a forward pass and a rule per input. Check it before you train with it.
#
# ## Homework
#
# A warm-up for the derivations to come. $z = x w + b$, $h = z \cdot z$ and $y = \log(1 + h)$; you get $d_y$. Write
# five lines, on NumPy arrays. A function's arguments are the values and the cotangents that it needs, by name. The
# checker takes `network` apart and judges each line alone.

# %%
def network(x, w, b):
    """x (m, n), w (n, k), b (k,) -> y (m, k)"""
    z = mg.named("z", x @ w + b)
    h = mg.named("h", z * z)
    return mg.named("y", mg.log(1.0 + h))


def d_h(d_y, h):
    """(m, k)"""
    ### BEGIN SOLUTION
    return d_y / (1.0 + h)
    ### END SOLUTION


def d_z(d_h, z):
    """(m, k)"""
    ### BEGIN SOLUTION
    return 2.0 * z * d_h
    ### END SOLUTION


def d_b(d_z):
    """(k,)"""
    ### BEGIN SOLUTION
    return np.sum(d_z, axis=0)
    ### END SOLUTION


def d_w(d_z, x):
    """(n, k)"""
    ### BEGIN SOLUTION
    return np.transpose(x) @ d_z
    ### END SOLUTION


def d_x(d_z, w):
    """(m, n)"""
    ### BEGIN SOLUTION
    return d_z @ np.transpose(w)
    ### END SOLUTION


inputs = {"x": rng.normal(size=(7, 3)), "w": rng.normal(size=(3, 4)), "b": rng.normal(size=4)}
show_report(derivation.check(network, [d_h, d_z, d_b, d_w, d_x], inputs=inputs))

# %% [markdown]
# Then an op of your own: the smooth absolute value $y = \sqrt{x^2 + w^2}$, round at zero, the rounder the larger $w$. Derive it first, in
# `homework/01_own_op/lines.py`: five lines, judged like the ones above.
#
#     python -m minigrad.derivation 01_own_op lines.py
#
# Somebody forgets that every row uses $w$:

# %%
def d_w_rule(d_y, w, y):
    return d_y * w / y


report = check_homework("01_own_op", d_w_rule)
assert [line.verdict for line in report.lines if line.line == "d_w_rule"] == ["wrong shape"]

# %%
report = check_homework("01_own_op")

# %% [markdown]
# Then make the op. Its rules are your last two lines, without the sum, which `broadcast_to` does.

# %%
def rule_of_x(g, x, out):
    ### BEGIN SOLUTION
    return g * x / out
    ### END SOLUTION


def rule_of_w(g, w, out):
    ### BEGIN SOLUTION
    return g * w / out
    ### END SOLUTION


@mg.elementwise(x=rule_of_x, w=rule_of_w)
def smooth_abs(xp, x, w):
    return xp.sqrt(x * x + w * w)


try:
    report = mg.gradcheck(smooth_abs, [point, widths], order=2)
    print(report)
    if not report and "your turn" not in str(report):
        print("a rule is wrong: compare it with your lines")
except NotImplementedError as turn:
    print(turn)
