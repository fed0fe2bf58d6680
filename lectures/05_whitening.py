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
# # 5 · Whitening: a derivative with a hole in it, and one without
#
# **After this lecture you can**
#
# - whiten a batch by ZCA, and say why this whitening and not another;
# - differentiate through eigenvalues and eigenvectors, in the six steps of the document and in its single formula, and get from one to the other;
# - say why these formulas, and every framework that differentiates an eigendecomposition, give NaN on a batch that is white already;
# - derive the same gradient from a Lyapunov equation, which has no hole;
# - choose what a whitening layer should remember for inference.
#
# You need lecture 02: batch norm's backward as a projection.
#
# *Sources:* dbn (1)-(20), that is, decorrelated batch normalization; Higham [higham2008] for square roots.

# %%
import sys

sys.path[:0] = [".", ".."]  # finds the project from its root and from lectures/

import time

import matplotlib.pyplot as plt
import numpy as np

import layers
import minigrad as mg
from lectures.classroom import FAST, agree, check_homework, relative_error, show_results, show_side_by_side, table, train_tiny_cnn

rng = np.random.default_rng(5)

# %% [markdown]
# ## What batch norm leaves undone
#
# Batch norm gives every channel mean 0 and variance 1. It looks at one channel at a time, so it cannot see that two of them
# carry the same signal. Whitening does more: afterwards the channels are also *uncorrelated*. For $d$ channels and $m$
# samples in the columns of $x$:
#
# $$ \Sigma = \tfrac1m\,x_c x_c^T, \qquad \hat x = W x_c \quad\text{with}\quad W (\Sigma + \varepsilon I)\, W^T = I. $$
#
# Many $W$ do that: if one does, so does $QW$ for every rotation $Q$. An eigendecomposition $\Sigma = D\Lambda D^T$ suggests
# $W = \Lambda^{-1/2}D^T$ (dbn "PCA whitening"). But eigenvectors have arbitrary signs and, where eigenvalues are close, wild
# directions: from batch to batch the axes turn and flip, and the next layer sees its inputs exchanged. dbn says that PCA whitening hardly works
# in deep networks; an experiment at the end of this lecture puts that to the test. ZCA turns back:
#
# $$ W = D\,\Lambda^{-1/2} D^T = (\Sigma + \varepsilon I)^{-1/2}, $$
#
# the only symmetric choice, and the one that moves the data least.

# %%
EPS = 1e-3
mix = np.array([[1.0, 0.25], [0.0, 0.9]])                              # eigenvalues that are not far apart


def pca_and_zca(x):
    """Both whitenings of x (d, m)."""
    centred = x - x.mean(1, keepdims=True)
    values, vectors = np.linalg.eigh(centred @ centred.T / x.shape[1] + EPS * np.eye(len(x)))
    turned = (vectors / np.sqrt(values)).T @ centred                   # Λ^(-1/2) Dᵀ x_c
    return turned, vectors @ turned


batches = [mix @ np.random.default_rng(i).normal(size=(2, 40)) for i in range(6)]
pca, zca = zip(*map(pca_and_zca, batches))
for name, whitened in (("PCA", pca), ("ZCA", zca)):
    worst = max(np.abs(w @ w.T / w.shape[1] - np.eye(2)).max() for w in whitened)
    moved = np.mean([np.linalg.norm(w - (x - x.mean(1, keepdims=True))) for w, x in zip(whitened, batches)])
    print(f"{name}: covariance is the identity to {worst:.0e}; distance from the data {moved:.1f}")
    assert worst < 0.02                                                # ε, beside the smallest eigenvalue
shifts = {name: [np.linalg.norm(w - (x - x.mean(1, keepdims=True))) for w, x in zip(all_, batches)] for name, all_ in (("p", pca), ("z", zca))}
assert all(z <= p + 1e-12 for z, p in zip(shifts["z"], shifts["p"]))

# %% alt="Three scatter plots: correlated data; PCA whitening, where marked points jump from batch to batch; ZCA, where they stay"
mark = np.array([[1.0], [0.5]])
fig, axes = plt.subplots(1, 3, figsize=(11, 3.6))
axes[0].plot(*batches[0], ".", color="0.6", ms=4)
axes[0].set_title("Six batches, one direction")
for x in batches:
    centred = x - x.mean(1, keepdims=True)
    values, vectors = np.linalg.eigh(centred @ centred.T / x.shape[1] + EPS * np.eye(2))
    turn = (vectors / np.sqrt(values)).T
    for ax, w in ((axes[0], np.eye(2)), (axes[1], turn), (axes[2], vectors @ turn)):
        ax.annotate("", (w @ mark).ravel(), (0, 0), arrowprops={"arrowstyle": "->", "color": "C1", "lw": 1.8})
axes[1].plot(*pca[0], ".", color="0.6", ms=4)
axes[1].set_title("PCA whitening: it jumps")
axes[2].plot(*zca[0], ".", color="0.6", ms=4)
axes[2].set_title("ZCA whitening: it stays")
for ax in axes:
    ax.set(xlim=(-4, 4), ylim=(-4, 4), aspect="equal")
plt.show()

# %% [markdown]
# The arrow is the same vector in all six batches. After PCA whitening it points anywhere; after ZCA it points where it did.
#
# ## The forward pass
#
# As in dbn (1)-(6), with a name for every value, so that we can ask the tape for it.

# %%
d, m = 4, 24
x_array = rng.normal(size=(d, d)) @ rng.normal(0.5, 1.0, (d, m))
G = rng.normal(size=(d, m))                                            # the cotangent of x̂


def forward(x):
    """x (d, m) -> x̂ (d, m)."""
    mu = mg.named("mu", mg.mean(x, 1, keepdims=True))                  # (d, 1)
    xc = mg.named("xc", x - mu)                                        # (d, m)
    sigma = mg.named("sigma", xc @ xc.mT / x.shape[1])                 # (d, d)
    lam, D = mg.eigh(sigma)
    lam, D = mg.named("lam", lam), mg.named("D", D)                    # (d,), (d, d)
    s = mg.named("s", (lam + EPS) ** -0.5)                             # (d,)     Λ^(-1/2)
    rotated = mg.named("rotated", D.mT @ xc)                           # (d, m)
    xtilde = mg.named("xtilde", mg.expand_dims(s, 1) * rotated)        # (d, m)
    return mg.named("xhat", D @ xtilde)                                # (d, m)


x = mg.named("x", mg.tensor(x_array, requires_grad=True))
with mg.record() as seen:
    xhat = forward(x)
tape = mg.adjoints(xhat, mg.tensor(G))                                 # the answer sheet: every adjoint by its name
value = {name: seen[name].value.numpy() for name in ("xc", "sigma", "lam", "D", "s", "rotated", "xtilde", "xhat")}
XC, LAM, D, S, ROT, XT = (value[name] for name in ("xc", "lam", "D", "s", "rotated", "xtilde"))

# %% [markdown]
# ## Backward, step by step
#
# Now dbn (7)-(13). $\hat x = D\tilde x$ and $\tilde x = s \circ (D^T x_c)$: matrix products and a row-wise scale. Their rules are old friends.
# (dbn has a matrix $U = \Lambda^{-1/2}D^T$ instead of $s$, and its (8) is the cotangent of $U$.)

# %%
GT = D.T @ G                                                           # cotangent of x̃       (d, m)   dbn (7)
agree("d_xtilde", GT, tape["xtilde"])
GS = (GT * ROT).sum(1)                                                 # of s                  (d,)
agree("d_s", GS, tape["s"])
GL = -0.5 * GS * S**3                                                  # of the eigenvalues    (d,)     dbn (9)
agree("d_lam", GL, tape["lam"])
GR = GT * S[:, None]                                                   # of Dᵀ x_c             (d, m)
GD = G @ XT.T + XC @ GR.T                                              # of D: it is used twice (d, d)  dbn (10)
agree("d_D", GD, tape["D"])
GU = GT @ XC.T                                                         # of U                  (d, d)   dbn (8)
agree("d_lam from d_U", np.diag(GU @ D) * -0.5 * S**3, tape["lam"])
agree("d_D from d_U", GU.T * S + G @ XT.T, tape["D"])

# %% [markdown]
# ### Through the eigendecomposition
#
# Now the step that is not an old friend. Move $\Sigma$ a little. First-order perturbation theory says how eigenvalues and
# eigenvectors follow:
#
# $$ d\lambda_i = d_i^T\,d\Sigma\,d_i, \qquad
#    d d_i = \sum_{j\ne i} d_j\,\frac{d_j^T\,d\Sigma\,d_i}{\lambda_i - \lambda_j}. $$
#
# An eigenvector moves towards the others, the more the closer their eigenvalues are. Transposed, this is the backward: with
# $K_{ij} = 1/(\lambda_j - \lambda_i)$ for $i \ne j$, and $0$ on the diagonal,
#
# $$ d_\Sigma = \mathrm{sym}\Bigl(D\bigl(\mathrm{diag}(d_\lambda) + K \circ (D^T d_D)\bigr)D^T\Bigr), $$
#
# which is dbn (11). (The document's $K$ is the transpose of ours.)

# %%
gap = LAM[None, :] - LAM[:, None]                                      # λ_j − λ_i
off = gap != 0
KK = np.zeros((d, d))
KK[off] = 1.0 / gap[off]
INNER = np.diag(GL) + KK * (D.T @ GD)
GSIG = D @ INNER @ D.T
GSIG = 0.5 * (GSIG + GSIG.T)                                           # Σ is symmetric
agree("d_sigma", GSIG, tape["sigma"])
GXC = D @ GR + 2.0 * GSIG @ XC / m                                     # x_c: in Dᵀx_c, and twice in Σ
agree("d_xc", GXC, tape["xc"])
GMU = -GXC.sum(1, keepdims=True)                                       # μ: in every x_c       (d, 1)   dbn (12)
agree("d_mu", GMU, tape["mu"])
GX = GXC + GMU / m                                                     # x: directly, and in the mean   dbn (13)
agree("d_x", GX, tape["x"])

# %% [markdown]
# ## All at once
#
# Put one line into the other, and dbn (14) comes out. With $\tilde g = D^T g$, $F = \tilde g\,\tilde x^T/m$ and $r = \sqrt{\lambda + \varepsilon}$:
#
# $$ d_x = D\,\frac1r\circ\Bigl(\tilde g - \overline{\tilde g} + (S + S^T - \mathrm{diag}\,F)\,\tilde x\Bigr),
#    \qquad S = K \circ \bigl(\lambda F^T + r F r\bigr). $$
#
# It is batch norm's projection again: the mean goes out, and so does the part of $g$ that whitening undoes. It is the code of
# `simplified_backward` in `layers/whitening/decorrelated_batch_norm.py`.

# %%
r = np.sqrt(LAM + EPS)
F = GT @ XT.T / m
SS = KK * ((LAM + EPS)[:, None] * F.T + r[:, None] * F * r)
ONE_LINE = D @ ((GT - GT.mean(1, keepdims=True) + (SS + SS.T - np.diag(np.diag(F))) @ XT) / r[:, None])
agree("the one line", ONE_LINE, tape["x"], within=1e-12)

# %% [markdown]
# ### From the six steps to one line
#
# How does one get there? The document takes six more steps, dbn (15)-(20), and four of its five misprints stand in them. We take them one by one. Write
# $\Lambda$ for the diagonal matrix of $\lambda + \varepsilon$, so that $U = \Lambda^{-1/2}D^T$ and $D = U^T\Lambda^{1/2}$.
#
# 1. *The eigenvalues*, dbn (15) and (16). $\tilde x = U x_c$, so $d_U\,U^T = \tilde g\,x_c^T U^T = \tilde g\,\tilde x^T = m F$, and
#    $d_\Lambda = \mathrm{diag}(d_U\,D)\cdot(-\tfrac12\Lambda^{-3/2}) = -\tfrac12\,m\,\mathrm{diag}(F)\,\Lambda^{-1}$.
#    The first line of (15) is printed with $U$ in the place of $U^T$.
# 2. *The eigenvectors*, dbn (17). $D^T d_D = \Lambda^{1/2}\,U\,d_D = m\,(\Lambda^{1/2}F^T\Lambda^{-1/2} + F) =: m B$. Printed: $U^T$ in the place of $U$.
# 3. *The covariance*, dbn (18), in eight lines. Symmetrize the cotangent of $\Sigma$, and put $B$ in. Then pull the square roots out of the bracket:
#    $D\,(K\circ B)\,D^T = U^T\,\Lambda^{1/2}(K\circ B)\Lambda^{1/2}\,U = U^T\bigl(K\circ(\Lambda F^T + \Lambda^{1/2}F\Lambda^{1/2})\bigr)U$,
#    because multiplying by diagonal matrices commutes with $\circ$. What is in the bracket is our $S$. The eigenvalues' part becomes
#    $-\mathrm{diag}(F)$ in the same way:
#    $d_\Sigma = \frac m2\,U^T\bigl(S + S^T - \mathrm{diag}\,F\bigr)\,U$. One line on the way has its new bracket, and still the old $D$ around it.
# 4. *The mean*, dbn (19). Only the direct path is left, because $\sum_i (x_i - \mu) = 0$: $d_\mu = -U^T\sum_i\tilde g_i$.
# 5. *Together*, dbn (20). In (13), $\frac2m\,d_\Sigma\,x_c = U^T(S + S^T - \mathrm{diag}\,F)\,\tilde x$, and $U^T$ comes out to the left of everything.

# %%
LL, U = LAM + EPS, S[:, None] * D.T                                    # Λ's diagonal (d,), and U (d, d)
agree("(15)", np.diag(GU @ U.T) * -0.5 / LL, tape["lam"])
agree("(16)", -0.5 * m * np.diag(F) / LL, tape["lam"])
printed_15 = np.diag(GU @ U) * -0.5 / LL
B = r[:, None] * F.T / r + F                                           # (d, d)
agree("(17)", m * B, D.T @ GD, within=1e-12)
printed_17 = r[:, None] * (U.T @ GD)
agree("(18), symmetrized", D @ (0.5 * m * (KK * B + (KK * B).T) + np.diag(tape["lam"].numpy())) @ D.T, tape["sigma"], within=1e-12)
agree("(18), square roots out", r[:, None] * (KK * B) * r, SS, within=1e-12)
agree("(18), last line", m / 2 * U.T @ (SS + SS.T - np.diag(np.diag(F))) @ U, tape["sigma"], within=1e-12)
agree("(19)", -U.T @ GT.sum(1, keepdims=True), tape["mu"], within=1e-12)
agree("(20)", U.T @ GT + U.T @ (SS + SS.T - np.diag(np.diag(F))) @ XT - U.T @ GT.mean(1, keepdims=True), tape["x"], within=1e-12)
print(f"as printed: (15) {relative_error(printed_15, tape['lam']):.0%} wrong, (17) {relative_error(printed_17, D.T @ GD):.0%} wrong")
assert relative_error(printed_15, tape["lam"]) > 0.1 and relative_error(printed_17, D.T @ GD) > 0.1

# %% [markdown]
# ## The hole
#
# $K$ divides by differences of eigenvalues. What if two are equal? That is not exotic. A batch that is white already has
# *all* of them equal, and white batches are what this layer is there to make.
#
# The layer itself has no problem there: $(\Sigma+\varepsilon I)^{-1/2}$ is perfectly smooth, equal eigenvalues or not. Only
# the road through the eigenvectors has a hole. Any framework that differentiates an eigendecomposition falls in, PyTorch
# included: its documentation of `linalg.eigh` says that gradients are finite only where eigenvalues are distinct.
#
# Let us drive towards it. The batches below have eigenvalues $1, 1 + \text{gap}, 2, 3, 4$. The exact gradient is computed
# by a method that knows none of our formulas: complex steps in extended precision (`layers.whitening.degenerate_whitening`).

# %%
from layers.whitening.degenerate_whitening import degenerate_comparison, methods, reference

layer = layers.REGISTRY["decorrelated_batch_norm"]
gaps = np.logspace(-15, -0.5, 6 if FAST else 16)
kinds = ("composed through eigh", "staged", "simplified", "stable")


def with_gap(size, generator):
    """A centred batch (32, 5) whose covariance has the eigenvalues 1, 1 + size, 2, 3, 4."""
    noise = generator.normal(size=(32, 5))
    basis = np.linalg.qr(noise - noise.mean(0))[0]
    return 32**0.5 * (basis * np.sqrt([1.0, 1.0 + size, 2.0, 3.0, 4.0])) @ np.linalg.qr(generator.normal(size=(5, 5)))[0].T


forms = methods()
errors = {kind: [] for kind in kinds}
for size in gaps:
    found = {kind: [] for kind in kinds}
    for trial in range(3):
        generator = np.random.default_rng([trial, 5])
        batch, cotangent = with_gap(size, generator), generator.normal(size=(32, 5))
        exact = reference(batch, cotangent, 1e-5)
        with np.errstate(all="ignore"):
            for kind in kinds:
                found[kind].append(relative_error(forms[kind](batch, cotangent, 1e-5), exact))
    for kind in kinds:
        errors[kind].append(float(np.nanmedian(found[kind])) if not np.isnan(found[kind]).all() else np.nan)
print("gap 1e-15: " + ", ".join(f"{kind} {errors[kind][0]:.0e}" for kind in kinds))
print("gap 0.3:   " + ", ".join(f"{kind} {errors[kind][-1]:.0e}" for kind in kinds))
assert max(errors["stable"]) < 1e-12 < 1e-3 < errors["staged"][0] and errors["staged"][-1] < 1e-13

# %% alt="Relative error of the gradient against the gap between two eigenvalues: three lines rise like 1/gap, one stays at rounding"
fig, ax = plt.subplots(figsize=(7.5, 4.2))
for i, kind in enumerate(kinds):
    ax.loglog(gaps, errors[kind], "o-", ms=3, color=f"C{i}", label=kind)
ax.loglog(gaps, 1e-16 / gaps, ":", color="0.4", label="rounding / gap")
ax.set(xlabel="gap between two eigenvalues", ylabel="relative error of d_x, float64", title="The road through the eigenvectors has a hole")
ax.set_ylim(1e-16, 10)
ax.legend()
plt.show()

# %% [markdown]
# The error of every form that uses $K$ is rounding divided by the gap. It is not a matter of luck: the terms of the sum grow
# like $1/\text{gap}$, and cancel.
#
# On batches that are *exactly* degenerate, with the median of a few batches each:

# %%
rows = degenerate_comparison(trials=1 if FAST else 3)
names = ("composed through eigh", "staged", "simplified", "composed", "stable")
by = {(row.batch, row.dtype, row.method): row.error for row in rows}
table(["batch", *names], [[batch, *(f"{by[batch, 'float64', n]:.0e}" for n in names)] for batch in dict.fromkeys(row.batch for row in rows)])
assert all(row.error < 1e-12 for row in rows if row.method == "stable" and row.dtype == "float64")
assert all(row.error < 1e-5 for row in rows if row.method == "stable" and row.dtype == "float32")
assert any(np.isnan(row.error) for row in rows if row.method == "staged")

# %% [markdown]
# Setting $K$ to zero where eigenvalues meet, as some implementations do, hides the NaN and gives a wrong gradient.
#
# ## The same derivative without eigenvectors
#
# Forget $D$ and $\Lambda$. Differentiate what *defines* $W$. With $A = \Sigma + \varepsilon I$:
#
# $$ W A W = I \;\Longrightarrow\; dW\,A W + W\,dA\,W + W A\,dW = 0 . $$
#
# $AW = WA = R$, the square root $A^{1/2}$. So
#
# $$ dW\,R + R\,dW = -\,W\,dA\,W, $$
#
# a **Lyapunov equation** for $dW$. $R$ is positive definite, so it always has exactly one solution; in the eigenbasis of $R$ its
# elements are divided by $r_i + r_j$, a *sum*, which never vanishes. Nothing is left of the gaps. The map from right side to
# solution is symmetric, so transposing it costs nothing:
#
# $$ d_A = -\,W\,T\,W \quad\text{with}\quad T R + R T = \mathrm{sym}(d_W). $$
#
# Check it on our batch, by a solver that knows no eigenvectors at all: as $d^2$ linear equations.

# %%
AA = value["sigma"] + EPS * np.eye(d)
WW = D @ np.diag(S) @ D.T
RR = AA @ WW                                                           # A^(1/2)


def solve_lyapunov(a, b):
    """T with T a + a T = b, as a linear system with the Kronecker sum."""
    n = len(a)
    return np.linalg.solve(np.kron(np.eye(n), a) + np.kron(a, np.eye(n)), b.ravel()).reshape(n, n)


GW = G @ XC.T
TT = solve_lyapunov(RR, 0.5 * (GW + GW.T))
GSIG_STABLE = -WW @ TT @ WW
through_w = mg.tensor(value["sigma"], requires_grad=True)
(d_through_w,) = mg.grad(mg.inv_sqrtm(through_w + EPS * mg.eye(d, dtype="float64")), [through_w], mg.tensor(GW))
agree("d_sigma, Lyapunov", GSIG_STABLE, d_through_w, within=1e-12)
GXC_STABLE = WW @ G + 2.0 * GSIG_STABLE @ XC / m
agree("d_x, Lyapunov", GXC_STABLE - GXC_STABLE.mean(1, keepdims=True), tape["x"], within=1e-12)

# %% [markdown]
# The same $d_x$, to rounding, though $d_\Sigma$ came by another road. Collected into one line, with $\hat x = W x_c$:
#
# $$ d_x = W\,\bigl(g - \overline{g} - T'\,\hat x\bigr), \qquad R\,T' + T' R = H + H^T,\quad H = g\,x_c^T/m. $$
#
# For $d = 1$ this is batch norm: $R = s$, $T' = \overline{g\hat x}$. For a white batch $R = I$, and $T'$ is the symmetric part of
# $g\hat x^T/m$.

# %%
H = G @ XC.T / m
TP = solve_lyapunov(RR, H + H.T)
agree("one line, no eigenvectors", WW @ (G - G.mean(1, keepdims=True) - TP @ value["xhat"]), tape["x"], within=1e-12)

v = rng.normal(2.0, 3.0, (1, 50))
g1 = rng.normal(size=(1, 50))
s1 = np.sqrt(v.var() + EPS)
x1 = (v - v.mean()) / s1
lyapunov_1d = (g1 - g1.mean() - solve_lyapunov(np.array([[s1]]), 2 * g1 @ (v - v.mean()).T / 50) @ x1) / s1
agree("one channel: batch norm", lyapunov_1d, (g1 - g1.mean() - x1 * (g1 * x1).mean()) / s1)

# %% [markdown]
# In the layer it looks like this. (It uses $D$ too, but only as a rotation into coordinates where $\Sigma$ is diagonal, so that
# the Lyapunov equation is a division.)

# %%
show_side_by_side("decorrelated_batch_norm", "stable")
report = mg.gradcheck(lambda x: layer.derived["stable"](x, eps=1e-3), [mg.tensor(rng.normal(size=(9, 3)))], order=2)
print("second order, central differences:", "right" if report else report)
assert report

# %% [markdown]
# ## What it costs, and groups
#
# An eigendecomposition of a $d \times d$ matrix takes on the order of $d^3$ operations. dbn whitens groups of $K$ channels. Its count (dbn section 2) says that
# this adds $\frac{K}{d\,F_hF_w} + \frac{K^2}{d\,mhw\,F_hF_w}$ to the operations of a convolution with filters of $F_h\times F_w$: little, where $K$ is small
# (dbn "negligible overhead"). Its clock says something else (dbn table A): the smallest groups are expensive, because they are whitened one after the other
# (dbn "small groups cost more"). Here all groups of a layer go into one batched call.

# %%
image = np.random.default_rng(0).normal(size=(32, 64, 8, 8)).astype("float32")
cotangent = np.random.default_rng(1).normal(size=image.shape).astype("float32")
seconds = {}
sizes = (1, 4, 16, 64)
for _ in range(2 if FAST else 7):
    for size in sizes:
        t = mg.tensor(image, requires_grad=True)
        start = time.perf_counter()
        mg.grad(layer.form("derived")(t, eps=1e-3, group_size=size), [t], mg.tensor(cotangent))
        seconds.setdefault(size, []).append(time.perf_counter() - start)
table(["group size", "ms, forward and backward"], [[size, f"{1e3 * np.median(seconds[size]):.1f}"] for size in sizes])
plain = layers.REGISTRY["batch_norm"].form("derived")
one = layer.form("derived")(mg.tensor(image), eps=1e-3, group_size=1)
ones, zeros = mg.ones(64), mg.zeros(64)
agree("group size 1 is batch norm", one, plain(mg.tensor(image), ones, zeros, eps=1e-3), within=1e-5)

# %% [markdown]
# What the formula, the document's clock and ours say of whole networks is the subject of three experiments (their last runs):

# %%
for name in ("dbn_cost", "dbn_table_a", "dbn_table_b"):
    show_results(name)

# %% [markdown]
# ## What to remember for inference
#
# In training every batch has its own $\Sigma$. At inference one matrix serves all. What should be averaged? The covariances, taking
# the root once? Or the projections $W$ themselves, as the paper's code does? $\Sigma \mapsto \Sigma^{-1/2}$ is convex, so the average
# of projections is larger than the projection of the average (Jensen's inequality). With few samples per batch it is much larger:

# %%
channels, samples, count = 8, 16, 300 if FAST else 2000
many = np.random.default_rng(2).normal(size=(count, channels, samples))
many -= many.mean(2, keepdims=True)
covariances = many @ many.transpose(0, 2, 1) / (samples - 1)
values, vectors = np.linalg.eigh(covariances)
projections = (vectors / np.sqrt(values + 1e-5)[:, None]) @ vectors.transpose(0, 2, 1)
averaged = np.linalg.eigvalsh(covariances.mean(0))
from_covariance = float(np.mean(1 / np.sqrt(averaged)))
from_projections = float(np.mean(np.linalg.eigvalsh(projections.mean(0))))
print(f"true scale 1; from the averaged covariance {from_covariance:.2f}, from averaged projections {from_projections:.2f}")
assert abs(from_covariance - 1) < 0.02 and from_projections > 1.3

# %% [markdown]
# A network that is trained with one and tested with the other sees inputs that are forty percent too large. Our Module averages the
# covariance unless told otherwise.
#
# ## A network trained with both forms
#
# Composed, with `inv_sqrtm` on the tape, and by hand, in groups of four channels. Float32 data are whitened in float64 inside,
# so the two gradients often agree in every bit. (With all 16 channels in one group and $\varepsilon = 10^{-5}$ the same network
# learns its training images as well, and fails on half of the test images: directions in which the digits hardly vary are blown
# up to variance 1, differently in every batch.)

# %%
training = train_tiny_cnn("decorrelated_batch_norm", steps=20 if FAST else 120, norm_options={"group_size": 4})
training.report()
print(f"gradients of both forms, worst step and parameter: {max(training.agreement):.1e}")
assert max(training.agreement) < 1e-4 and (FAST or min(training.accuracy.values()) > 0.95)

# %% [markdown]
# And PCA whitening, which turns with every batch? The experiment trains it beside ZCA and batch norm, and measures how the axes turn:

# %%
show_results("dbn_pca")

# %% [markdown]
# ## What to remember
#
# - ZCA is the symmetric whitening: smooth in the covariance, and nearest to the data.
# - Formulas with $1/(\lambda_i - \lambda_j)$ are right, and useless near equal eigenvalues: rounding divided by the gap.
# - Differentiate what defines an object, not how you computed it. $WAW = I$ has no eigenvectors in it, and its derivative has none either.
#
# ## Homework
#
# Two parts: `homework/05_whitening/lines.py` takes the document's road, seven lines from $d_{\tilde x}$ to $d_x$, with samples in rows;
# `homework/05_whitening_stable/lines.py` takes the other, three lines, one of them hard.
#
#     python -m minigrad.derivation 05_whitening lines.py
#     python -m minigrad.derivation 05_whitening_stable lines.py
#
# A classic: $x_c$ makes the covariance, and somebody forgets that it is also what is whitened.


# %%
def d_xc(d_sigma, xc, m):
    return 2 * xc @ d_sigma / m


report = check_homework("05_whitening", d_xc)
assert [line.code for line in report.lines if line.line == "d_xc"] == ["missing path"]

# %%
report = check_homework("05_whitening")

# %%
report = check_homework("05_whitening_stable")
