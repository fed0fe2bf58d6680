"""Values, gradients and second derivatives agree with PyTorch's, in float64, wherever PyTorch has the op.

Each pair is called on the same random arrays and pulled back with the same random cotangents: g gives the gradients d,
and d with a second set of cotangents the derivative of ⟨d, w⟩ in the inputs and in g.
"""

import itertools

import numpy as np
import pytest

import minigrad as mg
from helpers import random_cotangent, relative_error

torch = pytest.importorskip("torch")
F = torch.nn.functional
torch.set_num_threads(1)

BOUND = 1e-10  # of relative errors; 1e-15 per rounding, conditions up to 1e3, sums of up to 1e3 terms


def normal(*shapes):
    return lambda rng: [np.asarray(rng.standard_normal(s)) for s in shapes]


def positive(*shapes):
    return lambda rng: [np.asarray(rng.uniform(0.5, 2, s)) for s in shapes]


def distinct(*shapes):
    """No ties for max and sort, and nothing at 0."""
    return lambda rng: [(rng.permutation(int(np.prod(s))).reshape(s) + 0.25 - np.prod(s) // 2) / 8 for s in shapes]


def symmetric(n, *batch, shift=4.0):
    """Positive definite, with different eigenvalues."""
    def make(rng):
        a = rng.standard_normal((*batch, n, n)) * 0.3
        return [a + np.swapaxes(a, -1, -2) + np.diag(shift + np.arange(n))]
    return make


def invertible(n, *batch):
    return lambda rng: [rng.standard_normal((*batch, n, n)) + 3 * np.eye(n)]


def both(*makers):
    return lambda rng: [a for make in makers for a in make(rng)]


def sym(a):
    return (a + a.mT) / 2


def indices(values):
    """(for minigrad, for torch)"""
    return mg.tensor(np.array(values)), torch.tensor(values)


def pull_back(xs, ys, gs, ws, grad):
    """[values, gradients, second derivatives in the inputs and cotangents], None for what has no influence."""
    first = grad(ys, xs, gs, True)
    used = [(d, w) for d, w in zip(first, ws, strict=True) if d is not None and d.requires_grad]
    second = grad([d for d, _ in used], [*xs, *gs], [w for _, w in used], False) if used else [None] * (len(xs) + len(gs))
    return [*ys, *first, *second]


def ours(f, arrays, gs, ws):
    xs, gs = ([mg.tensor(a, requires_grad=True) for a in group] for group in (arrays, gs))
    y = f(*xs)
    return pull_back(xs, list(y) if isinstance(y, tuple) else [y], gs, [mg.tensor(w) for w in ws], lambda ys, xs, gs, create:
                     mg.grad(ys, xs, gs, create_graph=create, allow_unused=True))


def theirs(f, arrays, gs, ws):
    xs, gs = ([torch.tensor(a, requires_grad=True) for a in group] for group in (arrays, gs))
    y = f(*xs)
    return pull_back(xs, list(y) if isinstance(y, (tuple, list)) else [y], gs, [torch.tensor(w) for w in ws], lambda ys, xs, gs, create:
                     torch.autograd.grad(ys, xs, gs, create_graph=create, allow_unused=True))


def as_array(t):
    return t.numpy() if isinstance(t, mg.Tensor) else t.detach().numpy(force=True)


def agree(f, g, arrays, rng):
    with mg.no_grad():
        ys = f(*(mg.tensor(a) for a in arrays))
    gs = [random_cotangent(rng, y.shape, "float64") for y in (ys if isinstance(ys, tuple) else (ys,))]
    ws = [random_cotangent(rng, a.shape, "float64") for a in arrays]
    for mine, other in zip(ours(f, arrays, gs, ws), theirs(g, arrays, gs, ws), strict=True):
        mine, other = (None if t is None else as_array(t) for t in (mine, other))
        if mine is None or other is None:  # no influence: the other may have computed the zeros
            assert all(t is None or not np.abs(t).max(initial=0) > 1e-12 for t in (mine, other))
        elif np.abs(other).max(initial=0) < 1e-12:
            assert mine.shape == other.shape and np.abs(mine).max(initial=0) < 1e-12
        else:
            assert relative_error(mine, np.asarray(other)) <= BOUND


UNARY = {"exp": normal, "expm1": normal, "sin": normal, "cos": normal, "tanh": normal, "sigmoid": normal, "square": normal, "negative": normal,
         "abs": distinct, "relu": distinct, "log": positive, "log1p": positive, "sqrt": positive}
PAIRS = [(name, getattr(mg, name), getattr(torch, name), make((3, 4))) for name, make in UNARY.items()]
PAIRS += [(f"{name} {a} {b}", getattr(mg, name), getattr(torch, torch_name), make(a, b))
          for name, torch_name, make in [("add", "add", normal), ("subtract", "sub", normal), ("multiply", "mul", normal), ("divide", "div", positive),
                                         ("maximum", "maximum", normal), ("minimum", "minimum", normal), ("power", "pow", positive)]
          for a, b in [((3, 4), (3, 4)), ((3, 1), (4,)), ((), (2, 3)), ((2, 1, 3), (4, 1))]]
PAIRS += [
    ("softplus", mg.softplus, F.softplus, normal((3, 4))),
    ("elu", lambda x: mg.elu(x, 0.7), lambda x: F.elu(x, 0.7), distinct((3, 4))),
    ("leaky_relu", lambda x: mg.leaky_relu(x, 0.2), lambda x: F.leaky_relu(x, 0.2), distinct((3, 4))),
    ("gelu", mg.gelu, F.gelu, normal((3, 4))),
    ("gelu by tanh", lambda x: mg.gelu(x, "tanh"), lambda x: F.gelu(x, approximate="tanh"), normal((3, 4))),
    ("erf", lambda x: mg.erf(3.0 * x), lambda x: torch.erf(3.0 * x), normal((3, 4))),
    ("clip", lambda x: mg.clip(x, -0.3, 0.5), lambda x: torch.clip(x, -0.3, 0.5), distinct((3, 4))),
    ("power 3", lambda x: x**3, lambda x: x**3, normal((3, 4))),
    ("power -1.5", lambda x: x**-1.5, lambda x: x**-1.5, positive((3, 4))),
    ("number to a power", lambda x: 2.5**x, lambda x: 2.5**x, normal((3, 4))),
    ("where", lambda x, y: mg.where(x > y, x * x, y), lambda x, y: torch.where(x > y, x * x, y), normal((3, 4), (4,))),
    ("max of all", mg.max, torch.max, distinct((3, 4))),
    ("max over axes", lambda x: mg.max(x, (0, 2)), lambda x: torch.amax(x, (0, 2)), distinct((2, 3, 4))),
    ("max with ties", lambda x: mg.max(mg.relu(x), 1), lambda x: torch.amax(torch.relu(x), 1), lambda rng: [-rng.uniform(1, 2, (3, 4))]),
    ("min keepdims", lambda x: mg.min(x, 1, keepdims=True), lambda x: torch.amin(x, 1, keepdim=True), distinct((3, 4))),
    ("var ddof 1", lambda x: mg.var(x, (0, 2), ddof=1), lambda x: torch.var(x, (0, 2), correction=1), normal((2, 3, 4))),
    ("std", lambda x: mg.std(x, 1), lambda x: torch.std(x, 1, correction=0), normal((2, 3, 4))),
    ("moments", lambda x: mg.moments(x, (0, 2)), lambda x: torch.var_mean(x, (0, 2), correction=0, keepdim=True)[::-1], normal((2, 3, 4))),
    ("cumsum", lambda x: mg.cumsum(x, 1), lambda x: torch.cumsum(x, 1), normal((3, 4))),
    ("logsumexp", lambda x: mg.logsumexp(x, (0, 1)), lambda x: torch.logsumexp(x, (0, 1)), normal((2, 3, 4))),
    ("softmax", lambda x: mg.softmax(x, 1), lambda x: torch.softmax(x, 1), normal((2, 3, 4))),
    ("log_softmax", lambda x: mg.log_softmax(x, 0), lambda x: torch.log_softmax(x, 0), normal((2, 3, 4))),
    ("norm", lambda x: mg.norm(x, axis=(0, 1), keepdims=True), lambda x: torch.linalg.vector_norm(x, dim=(0, 1), keepdim=True), normal((2, 3, 4))),
    ("reshape", lambda x: mg.reshape(x * x, (4, 3)), lambda x: torch.reshape(x * x, (4, 3)), normal((3, 4))),
    ("transpose", lambda x: mg.transpose(x, (2, 0, 1)), lambda x: x.permute(2, 0, 1), normal((2, 3, 4))),
    ("moveaxis", lambda x: mg.moveaxis(x, 0, -1), lambda x: torch.moveaxis(x, 0, -1), normal((2, 3, 4))),
    ("flip", lambda x: mg.flip(x, (0, 2)), lambda x: torch.flip(x, (0, 2)), normal((2, 3, 4))),
    ("concatenate", lambda *xs: mg.concatenate(xs, 1), lambda *xs: torch.cat(xs, 1), normal((3, 2), (3, 1), (3, 3))),
    ("stack", lambda *xs: mg.stack(xs, -1), lambda *xs: torch.stack(xs, -1), normal((3, 2), (3, 2))),
    ("split", lambda x: mg.split(x, 3, 1), lambda x: torch.tensor_split(x, 3, 1), normal((2, 6))),
    ("pad", lambda x: mg.pad(x, ((1, 0), (2, 3)), 1.5), lambda x: F.pad(x, (2, 3, 1, 0), value=1.5), normal((2, 3))),
    ("getitem", lambda x: x[1:, None, ::2] ** 2, lambda x: x[1:, None, ::2] ** 2, normal((3, 4))),
    ("repeated rows", lambda x: x[indices([0, 2, 2])[0]] ** 2, lambda x: x[indices([0, 2, 2])[1]] ** 2, normal((3, 4))),
    ("mask", lambda x: x[x > 0] ** 2, lambda x: x[x > 0] ** 2, normal((3, 4))),
    ("take", lambda x: mg.take(x, indices([1, 1, 0])[0], axis=1), lambda x: torch.index_select(x, 1, indices([1, 1, 0])[1]), normal((3, 4))),
    ("take_along_axis", lambda x: mg.take_along_axis(x, indices([[0, 3, 3]] * 3)[0], 1),
     lambda x: torch.take_along_dim(x, indices([[0, 3, 3]] * 3)[1], 1), normal((3, 4))),
    ("embedding", lambda w: mg.embedding(indices([[0, 2], [2, 1]])[0], w), lambda w: F.embedding(indices([[0, 2], [2, 1]])[1], w), normal((3, 4))),
    ("broadcast_to", lambda x: mg.broadcast_to(x, (2, 3, 4)), lambda x: torch.broadcast_to(x, (2, 3, 4)), normal((3, 1))),
    ("sum_to", lambda x: mg.sum_to(x, (3, 1)), lambda x: x.sum_to_size(3, 1), normal((2, 3, 4))),
    ("outer", mg.outer, torch.outer, normal((3,), (4,))),
    ("tril", lambda x: mg.tril(x, -1), lambda x: torch.tril(x, -1), normal((3, 4))),
    ("triu", lambda x: mg.triu(x, 1), lambda x: torch.triu(x, 1), normal((2, 3, 4))),
    ("diagonal", lambda x: mg.diagonal(x, 1, 0, 2), lambda x: torch.diagonal(x, 1, 0, 2), normal((3, 2, 4))),
    ("trace", mg.trace, torch.trace, normal((3, 4))),
    ("inv", mg.inv, torch.linalg.inv, invertible(3, 2)),
    ("det", mg.det, torch.linalg.det, invertible(4)),
    ("solve", mg.solve, torch.linalg.solve, both(invertible(3, 2), normal((2, 3, 2)))),
    ("cholesky", mg.cholesky, lambda a: torch.linalg.cholesky(sym(a)), symmetric(3)),
    ("eigvalsh", mg.eigvalsh, lambda a: torch.linalg.eigvalsh(sym(a)), symmetric(3, 2)),
    ("eigh", lambda a: (lambda w, v: (w, v * v))(*mg.eigh(a)), lambda a: (lambda w, v: (w, v * v))(*torch.linalg.eigh(sym(a))), symmetric(3)),
    ("inv_sqrtm", mg.inv_sqrtm, lambda a: (lambda w, v: (v / torch.sqrt(w)[..., None, :]) @ v.mT)(*torch.linalg.eigh(sym(a))), symmetric(3)),
]
PAIRS += [(f"{name} {axis}", lambda x, n=name, a=axis: getattr(mg, n)(x, a), lambda x, n=name, a=axis: getattr(torch, n)(x, a), normal((2, 3, 4)))
          for name in ("sum", "mean") for axis in (0, (0, 2), (-1, 0))]
PAIRS += [(f"matmul {a} {b}", mg.matmul, torch.matmul, normal(a, b)) for a, b in
          [((3, 4), (4, 2)), ((4,), (4,)), ((3, 4), (4,)), ((4,), (2, 4, 3)), ((2, 1, 3, 4), (5, 4, 2)), ((2, 3, 4), (4, 2))]]
PAIRS += [(f"einsum {spec}", lambda *xs, s=spec: mg.einsum(s, *xs), lambda *xs, s=spec: torch.einsum(s, *xs), normal(*shapes)) for spec, *shapes in
          [("ij,jk,kl->li", (2, 3), (3, 4), (4, 2)), ("bij,bjk->ik", (2, 3, 4), (2, 4, 2)), ("ii->i", (3, 3)), ("...i,...i->...", (2, 3), (1, 3)),
           ("i,j,k->kij", (2,), (3,), (4,))]]


@pytest.mark.parametrize("name, f, g, inputs", PAIRS, ids=[pair[0].replace("-", "−") for pair in PAIRS])
def test_values_and_both_derivatives_agree(name, f, g, inputs, rng):
    agree(f, g, inputs(rng), rng)


def test_lyapunov_solves_the_kronecker_system(rng):
    (s,), (c,) = symmetric(3)(rng), normal((3, 3))(rng)
    eye = torch.eye(3, dtype=torch.float64)

    def kronecker(s, c):
        return torch.linalg.solve(torch.kron(sym(s), eye) + torch.kron(eye, sym(s)), c.reshape(-1)).reshape(3, 3)

    agree(mg.lyapunov, kronecker, [s, c], rng)


# -- convolution and pooling over a random grid of parameters --------------------------------------------------------------


def convolutions(count):
    """(shape of x, shape of w, keywords), drawn once, only such that fit."""
    rng, found = np.random.default_rng(11), []
    while len(found) < count:
        kernel, stride, padding, dilation = (rng.integers(low, high, 2) for low, high in ((1, 4), (1, 4), (0, 3), (1, 3)))
        groups, image = int(rng.choice([1, 1, 2, 3])), rng.integers(3, 9, 2)
        if (image + 2 * padding >= dilation * (kernel - 1) + 1).all():
            channels, out = groups * rng.integers(1, 3), groups * rng.integers(1, 3)
            pairs = {name: tuple(map(int, v)) for name, v in (("stride", stride), ("padding", padding), ("dilation", dilation))}
            x, w = (int(rng.integers(1, 3)), int(channels), *map(int, image)), (int(out), int(channels) // groups, *map(int, kernel))
            found.append((x, w, {**pairs, "groups": groups}))
    return found


@pytest.mark.parametrize("x, w, keywords", convolutions(40), ids=str)
def test_conv2d_agrees(x, w, keywords, rng):
    arrays = normal(x, w, (w[0],))(rng)
    agree(lambda x, w, b: mg.conv2d(x, w, b, **keywords), lambda x, w, b: F.conv2d(x, w, b, **keywords), arrays, rng)


def windows(count):
    """(shape of x, kernel, stride, padding)"""
    rng, found = np.random.default_rng(12), []
    while len(found) < count:
        kernel, stride, image = rng.integers(1, 4, 2), rng.integers(1, 4, 2), rng.integers(3, 9, 2)
        padding = rng.integers(0, kernel // 2 + 1)
        if (image + 2 * padding >= kernel).all():
            found.append(((2, 2, *map(int, image)), *(tuple(map(int, v)) for v in (kernel, stride, padding))))
    return found


@pytest.mark.parametrize("x, kernel, stride, padding", windows(30), ids=str)
def test_pooling_agrees(x, kernel, stride, padding, rng):
    arrays = distinct(x)(rng)
    agree(lambda x: mg.max_pool2d(x, kernel, stride, padding), lambda x: F.max_pool2d(x, kernel, stride, padding), arrays, rng)
    agree(lambda x: mg.avg_pool2d(x, kernel, stride, padding), lambda x: F.avg_pool2d(x, kernel, stride, padding), arrays, rng)
    agree(lambda x: mg.avg_pool2d(x, kernel, stride, padding, False, False),
          lambda x: F.avg_pool2d(x, kernel, stride, padding, count_include_pad=False), arrays, rng)


@pytest.mark.parametrize("window", [(2, 2, 0), (3, 1, 1), (3, 2, 0)], ids=str)
def test_max_pool2d_gives_ties_to_the_same_element_as_torch(window, rng):
    array = rng.integers(0, 2, (2, 3, 6, 6)).astype(float)
    agree(lambda x: mg.max_pool2d(x, *window), lambda x: F.max_pool2d(x, *window), [array], rng)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 2), (5, 4), (7, 6), 3], ids=str)
def test_adaptive_avg_pool2d_agrees(size, rng):
    agree(lambda x: mg.adaptive_avg_pool2d(x, size), lambda x: F.adaptive_avg_pool2d(x, size), normal((2, 2, 7, 6))(rng), rng)


# -- losses -----------------------------------------------------------------------------------------------------------------

REDUCTIONS = ("mean", "sum", "none")
LOGITS = [(5, 4), (3, 4, 2), (2, 3, 2, 2)]


@pytest.mark.parametrize("shape, how, smoothing", [*itertools.product(LOGITS, REDUCTIONS, (0.0, 0.1, 1.0))], ids=str)
def test_cross_entropy_agrees(shape, how, smoothing, rng):
    labels = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    agree(lambda x: mg.cross_entropy(x, labels, reduction=how, label_smoothing=smoothing),
          lambda x: F.cross_entropy(x, torch.tensor(labels), reduction=how, label_smoothing=smoothing), normal(shape)(rng), rng)


@pytest.mark.parametrize("shape, how, smoothing", [*itertools.product(LOGITS, REDUCTIONS, (0.0, 0.1))], ids=str)
def test_cross_entropy_with_probabilities_agrees(shape, how, smoothing, rng):
    p = np.moveaxis(rng.dirichlet(np.ones(shape[1]), (shape[0], *shape[2:])), -1, 1).copy()
    agree(lambda x: mg.cross_entropy(x, mg.tensor(p), reduction=how, label_smoothing=smoothing),
          lambda x: F.cross_entropy(x, torch.tensor(p), reduction=how, label_smoothing=smoothing), normal(shape)(rng), rng)


@pytest.mark.parametrize("shape, how", [*itertools.product(LOGITS, REDUCTIONS)], ids=str)
def test_nll_loss_agrees(shape, how, rng):
    labels = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    agree(lambda x: mg.nll_loss(x, labels, how), lambda x: F.nll_loss(x, torch.tensor(labels), reduction=how), normal(shape)(rng), rng)


@pytest.mark.parametrize("how", REDUCTIONS)
def test_mse_and_binary_cross_entropy_agree(how, rng):
    agree(lambda x, t: mg.mse_loss(x, t, how), lambda x, t: F.mse_loss(x, t, reduction=how), normal((3, 4), (3, 4))(rng), rng)
    t = rng.uniform(0, 1, (3, 4))
    agree(lambda x: mg.binary_cross_entropy_with_logits(x, mg.tensor(t), how),
          lambda x: F.binary_cross_entropy_with_logits(x, torch.tensor(t), reduction=how), [rng.standard_normal((3, 4)) * 20], rng)


def some(rng, *choices):
    return choices[int(rng.integers(len(choices)))]


@pytest.mark.parametrize("seed", range(60))
def test_losses_with_weights_and_ignored_labels_agree(seed):
    rng = np.random.default_rng(seed)
    shape, how, smoothing, ignored = some(rng, *LOGITS), some(rng, *REDUCTIONS), some(rng, 0.0, 0.2, 1.0), some(rng, -100, 0, 1, 255)
    labels = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    if ignored not in (0, 1):
        labels[rng.random(labels.shape) < 0.3] = ignored
    w = some(rng, None, rng.uniform(0.5, 2, shape[1]))
    mine, other = (None, None) if w is None else (mg.tensor(w), torch.tensor(w))
    dtype = some(rng, "int64", "int32", "int16") if ignored != 255 else "uint8"
    labels.flat[0] = 2  # so that one counts
    agree(lambda x: mg.cross_entropy(x, labels.astype(dtype), mine, None, ignored, None, how, smoothing),
          lambda x: F.cross_entropy(x, torch.tensor(labels), other, None, ignored, None, how, smoothing), normal(shape)(rng), rng)
    agree(lambda x: mg.nll_loss(x, labels.astype(dtype), mine, None, ignored, None, how),
          lambda x: F.nll_loss(x, torch.tensor(labels), other, None, ignored, None, how), normal(shape)(rng), rng)
    p = np.moveaxis(rng.dirichlet(np.ones(shape[1]), (shape[0], *shape[2:])), -1, 1).copy()
    agree(lambda x, p: mg.cross_entropy(x, p, mine, reduction=how, label_smoothing=smoothing),
          lambda x, p: F.cross_entropy(x, p, other, reduction=how, label_smoothing=smoothing), [*normal(shape)(rng), p], rng)


@pytest.mark.parametrize("w, p", [((4,), None), (None, (4,)), ((3, 1), (4,)), ((3, 4), ()), ((1, 4), (3, 4))], ids=str)
@pytest.mark.parametrize("how", REDUCTIONS)
def test_weighted_binary_cross_entropy_and_mse_agree(how, w, p, rng):
    w, p = (None if shape is None else rng.uniform(0.5, 2, shape) for shape in (w, p))
    both_kinds = [(None if a is None else make(a)) for make in (mg.tensor, torch.tensor) for a in (w, p)]
    t = rng.uniform(0, 1, (3, 4))
    agree(lambda x, t: mg.binary_cross_entropy_with_logits(x, t, both_kinds[0], None, None, how, both_kinds[1]),
          lambda x, t: F.binary_cross_entropy_with_logits(x, t, both_kinds[2], None, None, how, both_kinds[3]), [rng.standard_normal((3, 4)) * 20, t], rng)
    agree(lambda x, t, w: mg.mse_loss(x, t, None, None, how, w), lambda x, t, w: F.mse_loss(x, t, None, None, how, w),
          [*normal((3, 4), (3, 4))(rng), rng.uniform(0.5, 2, (3, 4))], rng)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_mean_over_nothing_is_nan_with_gradient_0(weighted):
    x, y = np.ones((2, 3)), np.array([-100, -100])
    w = np.ones(3) if weighted else None
    a, b = mg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    for how, expected in (("mean", np.nan), ("sum", 0.0)):
        ours = mg.cross_entropy(a, mg.tensor(y), w, reduction=how)
        theirs = F.cross_entropy(b, torch.tensor(y), None if w is None else torch.tensor(w), reduction=how)
        np.testing.assert_equal([ours.item(), theirs.item()], [expected, expected])
        (g,) = mg.grad(ours, [a])
        (h,) = torch.autograd.grad(theirs, [b])
        assert not g.numpy().any() and not h.numpy().any()


def more_windows(count):
    """(shape of x, kernel, stride, padding, dilation, ceil_mode), such that fit without dilation too."""
    rng, found = np.random.default_rng(13), []
    while len(found) < count:
        kernel, stride, dilation, image = rng.integers(1, 5, 2), rng.integers(1, 4, 2), rng.integers(1, 4, 2), rng.integers(2, 9, 2)
        padding = rng.integers(0, kernel // 2 + 1)
        if (image + 2 * padding > dilation * (kernel - 1)).all() and (image >= dilation).all():  # each window sees a pixel
            found.append(((1, 2, *map(int, image)), *(tuple(map(int, v)) for v in (kernel, stride, padding, dilation)), len(found) % 3 > 0))
    return found


@pytest.mark.parametrize("x, kernel, stride, padding, dilation, up", more_windows(40), ids=str)
def test_pooling_with_dilation_and_rounded_up_agrees(x, kernel, stride, padding, dilation, up, rng):
    arrays = distinct(x)(rng)
    agree(lambda x: mg.max_pool2d(x, kernel, stride, padding, dilation, up), lambda x: F.max_pool2d(x, kernel, stride, padding, dilation, up), arrays, rng)
    for include, divisor in ((True, None), (False, None), (False, 3)):
        agree(lambda x, i=include, d=divisor: mg.avg_pool2d(x, kernel, stride, padding, up, i, d),
              lambda x, i=include, d=divisor: F.avg_pool2d(x, kernel, stride, padding, up, i, d), arrays, rng)


@pytest.mark.parametrize("mode, name", [("edge", "replicate"), ("reflect", "reflect"), ("wrap", "circular")])
@pytest.mark.parametrize("widths", [((0, 1), (2, 3)), ((3, 0), (1, 1)), ((3, 3), (3, 3))], ids=str)
def test_padding_by_the_image_agrees(mode, name, widths, rng):
    (top, bottom), (left, right) = widths
    agree(lambda x: mg.pad(x, ((0, 0), (0, 0), *widths), mode=mode) ** 2, lambda x: F.pad(x, (left, right, top, bottom), name) ** 2,
          normal((2, 2, 4, 5))(rng), rng)


def test_embedding_with_a_padding_row_agrees(rng):
    mine, other = indices([[0, 2, 1], [2, 1, 1]])
    for row in (1, -2, 0, None):
        agree(lambda w, row=row: mg.embedding(mine, w, row) ** 3, lambda w, row=row: F.embedding(other, w, row) ** 3, normal((3, 4))(rng), rng)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_conv2d_with_named_padding_agrees(padding, rng):
    for kernel, dilation in (((3, 2), 1), ((4, 3), (1, 2)), ((1, 1), 3)):
        agree(lambda x, w, d=dilation: mg.conv2d(x, w, None, 1, padding, d), lambda x, w, d=dilation: F.conv2d(x, w, None, 1, padding, d),
              normal((1, 2, 6, 7), (3, 2, *kernel))(rng), rng)
