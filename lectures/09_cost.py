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
# # 9 · What it costs
#
# **After this lecture you can**
#
# - count the passes over memory that a layer needs, and the least that it could need;
# - say why a normalization is limited by memory and a convolution by arithmetic, with a number for each;
# - predict exactly what a backward keeps, and read it off the tape;
# - write NumPy that stays in the cache, and share it between threads;
# - time two programs so that the result is true tomorrow as well.
#
# You need lecture 02: both forms of batch norm.
#
# *Sources:* Williams, Waterman and Patterson [williams2009] for the roofline; dbn section 2 for the cost of whitening; the rest is measured here.

# %%
import sys

sys.path[:0] = [".", ".."]  # finds the project from its root and from lectures/

import time
from statistics import median

import matplotlib.pyplot as plt
import numpy as np

import layers
import minigrad as mg
from lectures.classroom import FAST, agree, check_homework, table, train_tiny_cnn

rng = np.random.default_rng(9)
mg.set_num_threads(1)                                                  # one thing at a time; threads come later
ROUNDS = 3 if FAST else 15

# %% [markdown]
# ## Two kinds of work
#
# A processor computes, and it fetches. How much of each can it do in a second? Two measurements, on one thread: a large matrix product,
# and a copy of an array that is much larger than any cache.


# %%
def best(work, rounds=ROUNDS):
    """The shortest of some runs, in seconds: for what the machine can do, not for what it usually does."""
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


n = 512 if FAST else 1024
square = rng.normal(size=(2, n, n)).astype("float32")
long = np.ones((2, 1 << (22 if FAST else 25)), "float32")
flops = 2 * n**3 / best(lambda: square[0] @ square[1])
bandwidth = 2 * long[0].nbytes / best(lambda: np.copyto(long[0], long[1]))
print(f"products: {flops / 1e9:.0f} GFLOP/s    copies: {bandwidth / 1e9:.0f} GB/s (read and written)")
balance = flops / bandwidth
print(f"balance: {balance:.1f} operations in the time of one byte")

# %% [markdown]
# **Arithmetic intensity** is operations per byte. Work with less than the balance is limited by memory: the processor waits. Work with
# more is
# limited by arithmetic.
#
# - Batch norm, forward, about 5 operations per element, 3 passes of 4 bytes: $5/12 \approx 0.4$.
# - A 3×3 convolution from 64 to 64 channels: $2\cdot 9\cdot 64$ operations per output element, 8 bytes: 144.
#
# One is below the balance, the other far above. So a normalization's time is *bytes divided by bandwidth*, and nothing that saves
# operations makes it faster. What saves passes does.

# %%
per_norm, per_convolution = 5 / (3 * 4), 2 * 9 * 64 / (2 * 4)
print(f"operations per byte: batch norm {per_norm:.2f}, 3×3 convolution {per_convolution:.0f}")
assert per_norm < 0.5 and per_convolution == 144

# %% alt="Roofline: attainable speed against operations per byte, with batch norm on the slope and a convolution under the flat roof"
intensities = np.logspace(-2, 3, 200)
fig, ax = plt.subplots(figsize=(7, 3.8))
ax.loglog(intensities, np.minimum(flops, intensities * bandwidth) / 1e9, color="0.3")
for name, intensity in (("batch norm", per_norm), ("3×3 convolution", per_convolution)):
    top = min(flops, intensity * bandwidth) / 1e9
    ax.plot([intensity], [top], "o", color="C1")
    ax.annotate(name, (intensity, top), xytext=(6, -16), textcoords="offset points", color="C1")
ax.axvline(balance, color="0.7", ls=":")
ax.set(xlabel="operations per byte", ylabel="GFLOP/s at best", title="Waiting for memory, or for arithmetic")
plt.show()

# %% [markdown]
# ## Counting passes
#
# Let a pass be one reading, or one writing, of an array of $x$'s size. What does batch norm need at least?
#
# | | reads | writes | passes |
# |---|---|---|---|
# | forward: mean and variance | $x$ | | 1 |
# | forward: $y = \gamma\hat x + \beta$ | $x$ | $y$ | 2 |
# | backward: $\sum g$, $\sum g\hat x$ | $g$, $x$ | | 2 |
# | backward: $d_x$ | $g$, $x$ | $d_x$ | 3 |
#
# Three forward and five backward. The sums must be finished before the first element of the result can be written, so $x$ is read twice:
# no trick removes that, as long as $x$ does not fit into the cache.
#
# Composed from primitives, every op is a function of its own: it reads its inputs from memory and writes its result back. Let the tape
# count.
# A NumPy operation with $k$ inputs of $x$'s size makes $k+1$ passes.


# %%
def ops_of(form, x, *parameters, **keywords):
    """The ops that the composed form runs, and how many of their results have the size of x."""
    with mg.record() as seen:
        form(x, *parameters, **keywords)
    entries = [entry for entry in seen if entry.op not in ("broadcast_to", "reshape")]
    return entries, sum(entry.value.size == x.size for entry in entries)


shape = (32, 32, 16, 16) if FAST else (64, 64, 32, 32)
x_array = rng.normal(size=shape).astype("float32")
g_array = rng.normal(size=shape).astype("float32")
gamma, beta = (mg.tensor(rng.normal(1, 0.3, shape[1]).astype("float32"), requires_grad=True) for _ in range(2))
batch_norm = layers.REGISTRY["batch_norm"]
x = mg.tensor(x_array, requires_grad=True)
entries, large = ops_of(batch_norm.composed, x, gamma, beta, eps=1e-5)
print("composed, forward:", ", ".join(f"{entry.name or '·'} = {entry.op}" for entry in entries))
print(f"{large} arrays like x are written; the derived form writes 1")
assert large == 5                                                      # xc, xc², x̂, x̂·γ, y

# %% [markdown]
# ## What is kept
#
# Memory costs twice: the passes take time, and what backward needs must stay. A line of minigrad's tape keeps exactly what its rule
# names as
# parameters. So the answer can be predicted, and read off:
#
# - composed: `xc` (for its square and for the product with `rstd`) and `xhat` (for the product with $\gamma$): 2 arrays like $x$;
# - derived: $x$ itself: 1;
# - in-place ABN: only its *output*, which the next layer keeps anyway: the input's buffer is used again (lecture 03).


# %%
def kept(form, activation=None, **keywords):
    """Bytes that the tape keeps, in units of x's; x is a result, because leaves are free."""
    t = mg.tensor(x_array, requires_grad=True) + 0.0
    y = form(t, gamma, beta, eps=1e-5, **keywords)
    y = y if activation is None else activation(y)
    return mg.tape(y).kept_bytes / x_array.nbytes


counts = {
    "batch norm, composed": kept(batch_norm.composed),
    "batch norm, derived": kept(batch_norm.form("derived")),
    "batch norm, derived, then leaky ReLU": kept(batch_norm.form("derived"), lambda y: mg.leaky_relu(y, 0.01)),
    "in-place ABN with leaky ReLU": kept(layers.REGISTRY["inplace_abn"].form("derived"), slope=0.01),
}
table(["form", "kept, in units of x"], [[name, f"{count:.3f}"] for name, count in counts.items()])
assert [round(c) for c in counts.values()] == [2, 1, 2, 1]
t = mg.tensor(x_array, requires_grad=True) + 0.0
lines = [line for line in mg.tape(batch_norm.composed(t, gamma, beta, eps=1e-5)) if any(a.size == x_array.size for a in line.kept.values())]
print("held by:", ", ".join(f"{line.op} keeps {' and '.join(line.kept)}" for line in lines))
assert [line.op for line in lines] == ["multiply", "multiply", "multiply"]  # xc·xc, xc·rstd, x̂·γ; xc is one array

# %% [markdown]
# ## How to time
#
# Now the clock. First, how *not* to: run the new version once, then the old one once, and divide.

# %%
clock = np.array([3.1, 3.0, 3.2, 3.1, 9.8, 3.0, 3.1])                  # seven runs; during one of them somebody else worked
print(f"mean {clock.mean():.2f}, median {np.median(clock):.2f}, minimum {clock.min():.2f}")
assert np.median(clock) == 3.1 and clock.mean() > 4

derived = batch_norm.form("derived")
v = mg.tensor(g_array)


def step(form):
    """Forward and backward."""
    return mg.grad(form(x, gamma, beta, eps=1e-5), [x, gamma, beta], v)


singles = []
for _ in range(3):
    pair = []
    for form in (batch_norm.composed, derived):
        start = time.perf_counter()
        step(form)
        pair.append(time.perf_counter() - start)
    singles.append(pair[0] / pair[1])
print("composed / derived, one run each, three times:", ", ".join(f"{r:.2f}" for r in singles))

# %% [markdown]
# The first run pays for imports, for memory that the system hands out page by page, for a processor that is still asleep. Other
# programs run from time to time. The clock of the processor changes with its temperature. So:
#
# 1. **warm up**: throw the first runs away;
# 2. **interleave**: A, B, A, B. What changes with time changes both;
# 3. **take the median**, not the mean: one interruption is not a result. (The minimum, for what a machine *can* do);
# 4. **report a ratio** within one run, and the machine beside it. Milliseconds are true for an afternoon;
# 5. **pin threads**: to a fixed set of processors, the same for both (`taskset -c 0,1` on Linux);
# 6. **check that both compute the same.** The fastest program is one that is wrong.


# %%
def interleaved(works, rounds=ROUNDS):
    """Median seconds of each, in turns, after a turn that does not count."""
    found = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            found[name].append(time.perf_counter() - start) if turn else None
    return {name: median(seconds) for name, seconds in found.items()}


agree("derived, against composed", step(derived)[0], step(batch_norm.composed)[0], within=1e-5)
seconds = interleaved({"composed": lambda: step(batch_norm.composed), "derived": lambda: step(derived)})
least = 8 * x_array.nbytes / bandwidth
table(["form", "ms", "against 8 passes at the speed of a copy"],
      [[name, f"{1e3 * s:.2f}", f"{s / least:.1f}"] for name, s in seconds.items()])
print(f"composed / derived = {seconds['composed'] / seconds['derived']:.1f}")

# %% [markdown]
# ## Staying in the cache
#
# The derived form calls three kernels: `moments`, `paired_sums` and `combine`. Look at the last. It computes $a\,g + b\,(x - \mu) + c$.
# Written with
# NumPy on whole arrays, each operation reads and writes the large arrays: after `g * a` has passed over 17 MB, its beginning is no
# longer in the
# cache when the next operation wants it. Do the same *block by block*, and temporaries never reach memory:


# %%
def whole(g, x, mu, a, b, c):
    """a·g + b·(x − mu) + c, on whole arrays."""
    return a * g + b * (x - mu) + c


def blocked(g, x, mu, a, b, c, rows):
    """The same for `rows` images at a time, into one result."""
    out, spare = np.empty_like(x), np.empty_like(x[:rows])
    for i in range(0, len(x), rows):
        o, s = out[i:i + rows], spare[:len(x) - i]
        np.subtract(x[i:i + rows], mu, out=o)
        np.multiply(o, b, out=o)
        np.multiply(g[i:i + rows], a, out=s)
        np.add(o, s, out=o)
        np.add(o, c, out=o)
    return out


mu, a, b, c = (rng.normal(size=(1, shape[1], 1, 1)).astype("float32") for _ in range(4))
agree("blocked, against whole", blocked(g_array, x_array, mu, a, b, c, 2), whole(g_array, x_array, mu, a, b, c), within=1e-6)
sizes = [r for r in (1, 2, 4, 8, 16, 32, 64) if r <= shape[0]]
for r in sizes:
    assert np.array_equal(blocked(g_array, x_array, mu, a, b, c, r), blocked(g_array, x_array, mu, a, b, c, sizes[-1]))
times = interleaved({"whole": lambda: whole(g_array, x_array, mu, a, b, c),
                     **{r: (lambda r=r: blocked(g_array, x_array, mu, a, b, c, r)) for r in sizes}})
image_bytes = x_array[0].nbytes
print(f"whole arrays {1e3 * times['whole']:.1f} ms; blocks: " + ", ".join(f"{r * image_bytes >> 10} KB {1e3 * times[r]:.1f}" for r in sizes))

# %% alt="Time of one fused pass against the size of a block: short for blocks that fit the cache, longer for whole arrays"
fig, ax = plt.subplots(figsize=(7, 3.6))
ax.semilogx([r * image_bytes / 1024 for r in sizes], [1e3 * times[r] for r in sizes], "o-", base=2)
ax.axhline(1e3 * times["whole"], color="C1", ls="--")
ax.annotate("whole arrays, new memory for every temporary", (sizes[0] * image_bytes / 1024, 1e3 * times["whole"]), xytext=(0, 5),
            textcoords="offset points", color="C1")
ax.set(xlabel="block, KB of one array", ylabel="ms", title="a·g + b·(x − μ) + c, block by block")
ax.set_ylim(0, 1.25e3 * times["whole"])
plt.show()

# %% [markdown]
# Temporaries are expensive twice: they are written and read, and each is *new memory*, which the system must find and clear. The small
# blocks
# reuse one buffer.
#
# ## Threads
#
# NumPy lets go of Python's lock while it works on an array, so two Python threads can work on two halves. One rule: BLAS has threads of
# its own,
# and both together fight for the processors. minigrad holds BLAS at one thread and shares the work itself (`mg.set_num_threads`).

# %%
agreements = []
speeds = {}
for threads in (1, 2):
    mg.set_num_threads(threads)
    agreements.append(step(derived)[0].numpy())
    speeds[threads] = interleaved({"derived": lambda: step(derived)})["derived"]
mg.set_num_threads(1)
print(f"one thread {1e3 * speeds[1]:.2f} ms, two {1e3 * speeds[2]:.2f} ms: {speeds[1] / speeds[2]:.2f} times")
agree("two threads, against one", agreements[1], agreements[0], within=1e-5)

# %% [markdown]
# Not twice as fast, and it cannot be: two threads share one memory. How far they get is a property of the machine, which is why this
# line asserts
# no number.
#
# ## On a GPU
#
# The same file, with one word changed: `mg.use("cupy")`. What changes in the reasoning?
#
# - **Bandwidth is the same law** with other numbers: an H100 copies at about 3,000 GB/s, a hundred times a processor core. The eight
# passes stay eight.
# - **Calls are not free.** Launching a kernel costs some microseconds. Composed batch norm launches dozens; that is why fused kernels
# matter even more.
# - **The clock lies.** A call returns before the work is done. `time.perf_counter()` around it measures the launch. Wait for the device
# (CUDA events, or
#   a synchronization before each reading of the clock).
# - **Looking costs.** `loss.item()`, `float(t)`, `if t > 0` wait until the device has finished everything, and copy. One look a step
# can cost more than the
#   step. The training loop of `scripts/train.py` looks once per log interval, and a test with a strict stand-in for CuPy proves that.
#
# Here is such a look on the tape of minigrad. The stand-in in `tests/fakecupy` counts them; on NumPy it costs nothing, so you never notice.


# %%
def careful(losses):
    """The sum stays where it is; one look at the end."""
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    return total.item() / len(losses)


def careless(losses):
    """A look every time."""
    return sum(loss.item() for loss in losses) / len(losses)


three, five = 1 + 2, 2 + 3                                             # the table above
assert 4 * (three + five) * x_array.size == 8 * x_array.nbytes

losses = [mg.tensor(float(v)) for v in rng.normal(size=8)]
print(f"the same number: {careful(losses):.6f} and {careless(losses):.6f}; one look, and eight")
assert abs(careful(losses) - careless(losses)) < 1e-6

# %% [markdown]
# ## In a network
#
# What does all this come to where a norm is one layer among others? The small CNN again, trained with both forms. `report` shows what a step keeps, and how
# long it takes. Convolutions and the linear layer have their share of both, so the ratios are smaller than those of the layer alone.

# %%
training = train_tiny_cnn("batch_norm", steps=10 if FAST else 60)
training.report()
share = training.kept["derived"] / training.kept["composed"]
print(f"kept: {share:.2f} of composed; the layer alone {counts['batch norm, derived'] / counts['batch norm, composed']:.2f}")
assert counts["batch norm, derived"] / counts["batch norm, composed"] < share < 1
assert max(training.agreement) < 1e-4

# %% [markdown]
# ## What to remember
#
# - A normalization costs bytes. Eight passes are the least for batch norm, and a hand-derived form comes near them.
# - What a backward keeps can be computed on paper, and should be.
# - Blocks that fit the cache, buffers that are used again, and one owner of the threads: that is most of fast NumPy.
# - Warm up, interleave, take medians, report ratios, check the result.
#
# ## Homework
#
# Predict, then measure. `homework/09_cost/lines.py` has five functions that return numbers: what the tape of a batch norm keeps in four forms, to the byte, and
# how often the composed form goes over memory. There is no answer key: the checker runs the layers and asks the tape.
#
#     python -m minigrad.derivation 09_cost lines.py
#
# Somebody thinks that the derived form keeps nothing but $x$:

# %%
def kept_derived(x_bytes):
    return x_bytes


report = check_homework("09_cost", kept_derived)
assert [line.code for line in report.lines if line.line == "kept_derived"] == ["miscounted"]

# %% [markdown]
# A few bytes, but they have a reason: which two numbers per channel are those?

# %%
report = check_homework("09_cost")

# %% [markdown]
# ## Questions
#
# Three numbers that no tape can tell, because they are about the best that is possible. Fill them in and run the cell.

# %%
answers = {
    # passes over arrays of x's size, at least, for the forward of layer norm (rows fit the cache)
    "layer norm, forward": None,
    # ... and for its backward, when dγ and dβ are found in the same pass as the row sums
    "layer norm, backward": None,
    # arrays of x's size that a stack of 20 (convolution, batch norm, ReLU) keeps with derived batch norm: each convolution and each batch
    # norm keeps its input, ReLU its output
    "20 layers": None,
}
key = {"layer norm, forward": 2, "layer norm, backward": 3, "20 layers": 40}
for question, answer in answers.items():
    print(f"{question}: " + ("not answered yet" if answer is None else "right" if answer == key[question] else "think again"))
