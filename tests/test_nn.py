"""minigrad.nn: registration, state, layers and initial values; PyTorch is the oracle where it is installed."""

import copy
import inspect
import math
from collections import OrderedDict

import numpy as np
import pytest

import layers
import minigrad as mg
import models
from helpers import random_cotangent, relative_error, to_host
from minigrad import nn, optim
from minigrad.core.backend import generator


class Net(nn.Module):
    """A parameter, two buffers, submodules, and a layer that is used twice."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter([2.0])
        self.register_buffer("seen", mg.tensor(0))
        self.register_buffer("scratch", mg.tensor([1.0, 1.0]), persistent=False)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
        self.head = self.body[2]

    def forward(self, x):
        return self.head(self.body(x)) * self.scale


def data(*shape, seed=0, dtype="float32"):
    return mg.tensor(np.random.default_rng(seed).standard_normal(shape).astype(dtype), backend=mg.backend.current_name())


# -- registration ------------------------------------------------------------------------------------------------------


def test_attributes_are_registered_in_pytorchs_order(backend):
    net = Net()
    names = ["scale", "body.0.weight", "body.0.bias", "body.2.weight", "body.2.bias"]
    assert [name for name, _ in net.named_parameters()] == names  # the shared layer once
    assert [name for name, _ in net.named_buffers()] == ["seen", "scratch"]
    assert list(net.state_dict()) == ["scale", "seen", *names[1:], "head.weight", "head.bias"]
    assert [name for name, _ in net.named_modules()] == ["", "body", "body.0", "body.1", "body.2"]
    assert [name for name, _ in net.named_children()] == ["body", "head"]
    assert {p.backend for p in net.parameters()} == {backend}
    assert net.scale is net._parameters["scale"]
    assert "scale" in dir(net)


def test_assignment_follows_the_kind_of_the_value():
    net = Net()
    net.seen = mg.tensor(3)
    assert [name for name, _ in net.named_buffers()] == ["seen", "scratch"]
    net.scale = None
    assert "scale" in net._parameters and "scale" not in net.state_dict()
    net.scale = nn.Parameter([1.0])
    net.head = nn.Parameter([1.0])  # a module makes way for a parameter
    assert "head" in net._parameters and "head" not in net._modules
    net.note = "plain"
    net.note = nn.Identity()
    assert "note" in net._modules and "note" not in vars(net)
    del net.note, net.scale, net.scratch
    assert not hasattr(net, "note") and not hasattr(net, "scale") and not net._non_persistent_buffers_set


@pytest.mark.parametrize("name, value, needs", [
    ("scale", mg.tensor([1.0]), "a Parameter or None"), ("scale", 2.0, "a Parameter or None"),
    ("body", print, "a Module or None"), ("seen", 3, "a constant Tensor or None")])
def test_something_else_on_a_registered_name_raises(name, value, needs):
    with pytest.raises(TypeError, match=needs):
        setattr(Net(), name, value)


def test_a_taped_tensor_is_no_buffer():
    net, x = Net(), mg.tensor([1.0], requires_grad=True)
    with pytest.raises(TypeError, match="detach"):
        net.seen = x * 2.0
    with pytest.raises(TypeError, match="detach"):
        net.register_buffer("other", x)


@pytest.mark.parametrize("name", ["", "a.b", "forward", "training", "body", 3])
def test_unusable_names_raise(name):
    with pytest.raises(ValueError, match="name"):
        Net().register_parameter(name, nn.Parameter([1.0]))


def test_registering_the_wrong_kind_raises():
    with pytest.raises(TypeError, match=r"nn\.Parameter"):
        Net().register_parameter("w", mg.tensor([1.0]))
    with pytest.raises(TypeError, match="instance"):
        nn.Sequential(nn.ReLU)


def test_a_forgotten_super_init_is_named():
    class Forgetful(nn.Module):
        def __init__(self, value):
            self.plain = 1
            self.layer = value

    for value in (nn.ReLU(), nn.Parameter([1.0])):
        with pytest.raises(AttributeError, match=r"self\.layer = \.\.\. before Module.__init__[^$]*super\(\)"):
            Forgetful(value)


def test_missing_attributes_and_forward_are_explained():
    with pytest.raises(AttributeError, match=r"'wieght'.*\n.*weight"):
        _ = nn.Linear(2, 2).wieght  # codespell:ignore wieght
    with pytest.raises(NotImplementedError, match="forward"):
        nn.Module()(1)


def test_parameters_name_their_tape_lines(backend):
    net = Net()
    tape = mg.tape(net(data(3, 4)))
    assert {line.name for line in tape if line.is_leaf} == {"scale", "body.0.weight", "body.0.bias", "body.2.weight", "body.2.bias"}
    outer = nn.ModuleDict({"inner": net})
    assert net.body[0].weight._line.name == "inner.body.0.weight"
    list(net.named_parameters())  # a shorter name does not replace a longer one
    assert net.scale._line.name == "inner.scale" and outer["inner"] is net


def test_a_parameter_owns_its_values(backend):
    x = mg.tensor([1.0, 2.0])
    p = nn.Parameter(x)
    x[0] = 5.0
    assert p.tolist() == [1.0, 2.0] and p.requires_grad and p.is_leaf and isinstance(p, mg.Tensor)
    assert type(copy.deepcopy(p)) is nn.Parameter and type(p * 2.0) is mg.Tensor
    assert not nn.Parameter(x, requires_grad=False).requires_grad
    with pytest.raises(TypeError, match="floating"):
        nn.Parameter([1, 2])
    assert not vars(nn.Parameter).get("__dict__") and repr(p).startswith("Parameter containing:\ntensor(")


# -- containers --------------------------------------------------------------------------------------------------------


def test_sequential_indexes_slices_and_grows():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4))
    assert len(model) == 3 and model[-1] is model[2] and list(model)[1] is model[1]
    part = model[1:]
    assert isinstance(part, nn.Sequential) and list(part.state_dict()) == ["2.weight", "2.bias"] and part[1] is model[2]
    part.append(nn.ReLU()).append(nn.ReLU())
    assert list(part._modules) == ["1", "2", "3", "4"]
    model[1] = nn.Tanh()
    assert isinstance(model[1], nn.Tanh) and model(data(5, 2)).shape == (5, 4)
    with pytest.raises(IndexError, match="from -3 to 2"):
        model[3]


def test_sequential_takes_names_and_may_use_a_layer_twice():
    relu, square = nn.ReLU(), nn.Linear(2, 2, bias=False)
    model = nn.Sequential(OrderedDict([("a", square), ("act", relu), ("b", square), ("act2", relu)]))
    assert list(model.state_dict()) == ["a.weight", "b.weight"] and len(list(model.parameters())) == 1
    w, x = model.a.weight.numpy(), data(3, 2)
    expected = np.maximum(np.maximum(x.numpy() @ w.T, 0) @ w.T, 0)
    assert relative_error(model(x), expected) < 1e-6


def test_module_list_and_dict():
    layers = nn.ModuleList([nn.Linear(1, 1) for _ in range(3)]).append(nn.ReLU())
    assert [type(m).__name__ for m in layers[2:]] == ["Linear", "ReLU"] and list(layers[2:]._modules) == ["0", "1"]
    heads = nn.ModuleDict({"a": nn.ReLU()})
    heads["b"] = nn.Linear(2, 1)
    assert list(heads) == ["a", "b"] and "b" in heads and len(heads) == 2
    assert [k for k, _ in heads.items()] == list(heads.keys()) and list(heads.values()) == [heads["a"], heads["b"]]
    with pytest.raises(TypeError, match="dictionary"):
        nn.ModuleDict([nn.ReLU()])


# -- modes and gradients -----------------------------------------------------------------------------------------------


def test_train_eval_and_apply_reach_every_module():
    net, visited = Net(), []
    assert net.eval() is net and not any(m.training for m in net.modules())
    assert net.train() is net and all(m.training for m in net.modules())
    assert net.apply(visited.append) is net and visited[-1] is net and visited.index(net.body[0]) < visited.index(net.body)


def test_gradients_are_cleared_and_parameters_frozen(backend):
    net = Net()
    net(data(3, 4)).backward(data(3, 4, seed=1))
    net.zero_grad(set_to_none=False)
    assert all(to_host(p.grad).any() == False and p.grad.shape == p.shape for p in net.parameters())  # noqa: E712
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.body.requires_grad_(False)
    assert [name for name, p in net.named_parameters() if p.requires_grad] == ["scale"]
    assert net.requires_grad_() is net and all(p.requires_grad for p in net.parameters())


def test_dropout_drops_in_training_only(backend):
    layer, x = nn.Dropout(0.25), mg.tensor(np.ones((100, 100), "float32"), backend=backend)
    y = layer(x).numpy()
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)} and abs((y == 0).mean() - 0.25) < 0.02
    assert layer.eval()(x) is x
    with pytest.raises(ValueError, match="probability"):
        nn.Dropout(1.5)


# -- state -------------------------------------------------------------------------------------------------------------


def test_state_dict_shares_memory_and_load_copies(backend):
    net, other = Net(), Net()
    state = net.state_dict()
    assert all(not t.requires_grad for t in state.values())
    assert other.load_state_dict(state) == ([], [])
    nn.init.constant_(net.scale, 7.0)
    assert state["scale"].tolist() == [7.0] and other.scale.tolist() == [2.0]
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(net.body.parameters(), other.body.parameters()))
    assert list(net.state_dict("module.")) != list(state)


def test_load_takes_raw_arrays_of_any_backend(backend):
    net = nn.Linear(2, 3)
    net.load_state_dict({"weight": np.ones((3, 2), "float32"), "bias": mg.tensor([1.0, 2.0, 3.0], backend="numpy")})
    assert net.weight.backend == backend and net.bias.tolist() == [1, 2, 3] and net.weight.numpy().all()


def test_a_wrong_state_is_described_and_nothing_is_loaded():
    net = Net()
    state = {k: t.clone() for k, t in net.state_dict().items()}
    before = copy.deepcopy(net.state_dict())
    state["scale"] = mg.tensor([9.0])
    state["body.0.weight"] = mg.tensor(np.zeros((4, 3), "float32"))
    state["body.0.bias"] = mg.tensor(np.zeros(4, "float64"))
    state["body.2.bias"] = [0.0] * 4
    state["extra"] = state.pop("seen")
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(state)
    for text in ("missing: seen", "unexpected: extra", "body.0.weight: a numpy array of shape (4, 3)", "float64", "list"):
        assert text in str(caught.value)
    with pytest.raises(RuntimeError, match="shape"):
        net.load_state_dict(state, strict=False)
    assert all(np.array_equal(t.numpy(), before[k].numpy()) for k, t in net.state_dict().items())
    assert net.load_state_dict({"scale": state["scale"], "extra": state["extra"]}, strict=False) == (
        [k for k in before if k != "scale"], ["extra"])
    assert net.scale.tolist() == [9.0]
    with pytest.raises(TypeError, match="dictionary"):
        net.load_state_dict(net)


def test_two_parameters_can_be_exchanged():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    a, b = net[0].weight.numpy(), net[1].weight.numpy()
    net.load_state_dict({"0.weight": net[1].weight.detach(), "1.weight": net[0].weight.detach()}, strict=False)
    assert np.array_equal(net[0].weight.numpy(), b) and np.array_equal(net[1].weight.numpy(), a)


@pytest.mark.parametrize("write, writer", [
    (lambda net: net.load_state_dict(copy.deepcopy(net.state_dict())), "load_state_dict"),
    (lambda net: nn.init.zeros_(net.head.weight), r"init\.zeros_")])
def test_backward_over_an_older_tape_raises(backend, write, writer):
    net = Net()
    y = net(data(3, 4))
    write(net)
    with pytest.raises(mg.TapeError, match=writer):
        y.backward(data(3, 4, seed=1))


def test_deepcopy_shares_nothing(backend):
    net = Net()
    net(data(3, 4)).backward(data(3, 4, seed=1))
    twin = copy.deepcopy(net)
    before = {k: t.numpy() for k, t in net.state_dict().items()}
    assert twin.head is twin.body[2] and twin.head is not net.head
    twin(data(3, 4)).backward(data(3, 4, seed=1))
    with mg.no_grad():
        for t in (*twin.parameters(), *twin.buffers()):
            t[...] = 0
    twin.eval()
    assert all(np.array_equal(t.numpy(), before[k]) for k, t in net.state_dict().items()) and net.training
    for p, q in zip(net.parameters(), twin.parameters()):
        assert relative_error(p.grad * 2.0, q.grad) < 1e-6 and p._line is not q._line
    assert [n for n, _ in twin.named_parameters()] == [n for n, _ in net.named_parameters()]


def test_to_moves_in_place_with_gradients(backend, fake_device):
    net, away = Net(), "numpy" if backend != "numpy" else "fake"
    x = data(3, 4)
    y = net(x)
    y.backward(data(3, 4, seed=1), retain_graph=True)
    parameters, gradient = list(net.parameters()), net.scale.grad.numpy()
    assert net.to(away) is net and list(map(id, net.parameters())) == list(map(id, parameters))
    assert {t.backend for t in (*net.parameters(), *net.buffers())} == {away} and net.scale.grad.backend == away
    assert np.array_equal(net.scale.grad.numpy(), gradient) and net.head.weight._line.name == "body.2.weight"
    assert np.allclose(net(x.to(away)).numpy(), y.numpy(), rtol=1e-6)
    with pytest.raises(mg.TapeError, match="moved or converted"):
        y.backward(data(3, 4, seed=1))
    with pytest.raises(mg.BackendError, match="cupyy"):
        net.to("cupyy")


def test_astype_converts_the_floating_ones(backend):
    net = Net().astype("float64")
    assert {str(p.dtype) for p in net.parameters()} == {"float64"}
    assert str(net.seen.dtype) == "int64" and str(net.scratch.dtype) == "float64"
    net(data(3, 4, dtype="float64")).backward(data(3, 4, seed=1, dtype="float64"))
    assert str(net.astype("float32").scale.grad.dtype) == "float32"
    with pytest.raises(TypeError, match="floating dtype"):
        net.astype("int64")


def test_hooks_stay_with_a_converted_parameter():
    layer, seen = nn.Linear(2, 1), []
    layer.weight.register_hook(seen.append)
    layer.astype("float64")(data(3, 2, dtype="float64")).backward(data(3, 1, dtype="float64"))
    assert [str(g.dtype) for g in seen] == ["float64"]


# -- text --------------------------------------------------------------------------------------------------------------


def test_repr_is_a_tree():
    assert repr(Net()) == """Net(
  (body): Sequential(
    (0): Linear(in_features=4, out_features=4, bias=True)
    (1): Tanh()
    (2): Linear(in_features=4, out_features=4, bias=True)
  )
  (head): Linear(in_features=4, out_features=4, bias=True)
)"""


def convolutional():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.5), nn.Flatten(), nn.Linear(128, 10))


def test_summary_adds_up_and_changes_nothing(backend):
    model, x = convolutional(), data(4, 3, 8, 8)
    state, lines = generator().bit_generator.state, [p._line for p in model.parameters()]
    rows = [line.split() for line in model.summary((4, 3, 8, 8)).splitlines()]
    assert generator().bit_generator.state == state and [p._line for p in model.parameters()] == lines
    convolution, product = 4 * 8 * 64 * 27, 4 * 128 * 10  # multiply-adds; the image has no gradient
    assert rows[-1] == ["total", "1,514", f"{convolution + product:,}", f"{convolution + 2 * product:,}", f"{mg.tape(model(x)).kept_bytes:,}"]
    assert ["5", "Linear", "(4,", "10)", "1,290", f"{product:,}", f"{2 * product:,}", f"{4 * 4 * 128:,}"] in rows
    assert "total" in model.eval().summary(x)
    with pytest.raises(TypeError, match="shape"):
        model.summary(4)


def multiply_adds(module, x):
    """Forward and backward of the table's last line."""
    words = module.summary(x).splitlines()[-1].split()
    return tuple(int(w.replace(",", "")) for w in words[2:4])


class Product(nn.Module):
    def __init__(self, spec, *shape):
        super().__init__()
        self.spec, self.w = spec, nn.Parameter(mg.ones(shape))

    def forward(self, x):
        return mg.einsum(self.spec, x, self.w) if self.spec else x @ self.w


@pytest.mark.parametrize(("module", "shape", "forward", "factors"), [
    (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (2, 4, 8, 8), 2 * 6 * 16 * (2 * 9), 1),  # each output: 2 channels of its group, 9 pixels
    (lambda: nn.Conv2d(3, 5, (1, 2), dilation=2, padding="same", bias=False), (1, 3, 4, 6), 5 * 24 * 6, 1),
    (lambda: Product("bnk,bkm->bnm", 5, 3, 4), (5, 7, 3), 5 * 7 * 3 * 4, 1),
    (lambda: Product(None, 3, 4), (5, 7, 3), 5 * 7 * 3 * 4, 1),
    (lambda: nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 10)), (64, 20), 64 * (600 + 300), None),
    (lambda: layers.BatchNorm1d(5), (8, 5), 0, 1),
])
def test_summary_counts_multiply_adds_as_one_does_by_hand(module, shape, forward, factors, backend):
    """Backward: once for the weights; and for the input, where that has a gradient."""
    backward = 64 * (600 + 2 * 300) if factors is None else forward
    assert multiply_adds(module(), shape) == (forward, backward)
    x = data(*shape)
    x.requires_grad = True
    assert multiply_adds(module(), x) == (forward, 2 * forward)


def test_summary_counts_a_network_as_its_table_of_layers_does():
    """ResNet-20, a quarter of the width, on 8×8 images: 19 convolutions and one linear layer."""
    stages = [(4, 4, 8, 6), (8, 8, 4, 5), (16, 16, 2, 5)]  # inputs, outputs, size, convolutions
    inner = sum(n * inputs * outputs * 9 * size**2 for inputs, outputs, size, n in stages) + 4 * 8 * 9 * 16 + 8 * 16 * 9 * 4
    first, last = 1 * 4 * 9 * 64, 16 * 10
    model = models.build("resnet20", width=0.25, in_channels=1)
    assert multiply_adds(model, (2, 1, 8, 8)) == (2 * (first + inner + last), 2 * (first + 2 * (inner + last)))


def test_summary_does_not_train_a_running_statistic():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", mg.tensor(0))

        def forward(self, x):
            self.calls[...] = self.calls + 1
            return x

    model = Counting()
    model.summary((2, 2))
    assert model.calls.item() == 0


def test_summary_counts_shared_and_idle_parameters_once():
    net = Net()
    net.spare = nn.Linear(3, 1)
    text = net.summary((2, 4))
    assert text.splitlines()[-1].split()[1] == "45" and text.splitlines()[-2].split() == ["not", "called", "4"]
    assert sum("2 Linear" in line for line in text.splitlines()) == 2 and text.count(" 20") == 2


# -- initial values ----------------------------------------------------------------------------------------------------


def test_one_seed_gives_the_same_values_on_every_backend(backend):
    def values():
        mg.seed(3)
        net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Linear(4, 5), nn.Embedding(6, 2))
        nn.init.orthogonal_(net[1].weight)
        return [p.numpy() for p in net.parameters()]

    here = values()
    with mg.use("numpy"):
        assert all(np.array_equal(a, b) for a, b in zip(here, values()))


def test_default_values_have_pytorchs_distribution():
    for layer, fan_in in ((nn.Linear(200, 300), 200), (nn.Conv2d(16, 64, (3, 5), groups=2), 8 * 15)):
        for p in (layer.weight, layer.bias):
            bound = 1 / math.sqrt(fan_in)
            values = p.numpy()
            # the maximum of n uniform values misses the bound by about bound/n
            assert np.abs(values).max() <= bound * (1 + 1e-6) and np.abs(values).max() > bound * (1 - 10 / p.size)
            assert abs(values.std() * math.sqrt(3) / bound - 1) < 4 / math.sqrt(p.size)


@pytest.mark.parametrize("name, arguments, std", [
    ("normal_", (0.0, 0.3), 0.3), ("uniform_", (-1.0, 1.0), 1 / math.sqrt(3)),
    ("xavier_uniform_", (2.0,), 2 * math.sqrt(2 / 900)), ("xavier_normal_", (), math.sqrt(2 / 900)),
    ("kaiming_uniform_", (0, "fan_in", "relu"), math.sqrt(2 / 100)),
    ("kaiming_normal_", (0.5, "fan_out"), math.sqrt(2 / 1.25 / 800)), ("orthogonal_", (3.0,), 3 / math.sqrt(200))])
def test_init_functions_have_their_standard_deviation(backend, name, arguments, std):
    mg.seed(0)
    w = nn.Parameter(mg.tensor(np.zeros((200, 25, 2, 2), "float32"), backend=backend))
    assert getattr(nn.init, name)(w, *arguments) is w
    assert abs(w.numpy().std() / std - 1) < 0.03 and abs(w.numpy().mean()) < 0.03 * std


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (6, 2, 3, 3)])
def test_orthogonal_rows_or_columns(backend, shape):
    w = nn.Parameter(mg.tensor(np.zeros(shape), backend=backend))
    w = nn.init.orthogonal_(w).numpy().reshape(shape[0], -1)
    small = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    assert np.abs(small - np.eye(len(small))).max() < 1e-13


def test_orthogonal_matrices_have_both_signs():
    assert {nn.init.orthogonal_(nn.Parameter([[0.0]])).item() for _ in range(50)} == {1.0, -1.0}


def test_init_refuses_what_it_cannot_fill():
    x = mg.tensor([[1.0]], requires_grad=True)
    for wrong in (x * 2.0, mg.tensor([[1]]), np.ones((1, 1))):
        with pytest.raises(TypeError, match="floating Tensor"):
            nn.init.normal_(wrong)
    with pytest.raises(ValueError, match="out, in"):
        nn.init.xavier_uniform_(nn.Parameter([1.0]))
    with pytest.raises(ValueError, match="fan_in"):
        nn.init.kaiming_normal_(x, mode="fan")
    with pytest.raises(ValueError, match="leaky_relu"):
        nn.init.calculate_gain("swish")


# -- layers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make, text", [
    (lambda: nn.Linear(3, 2)(data(4, 5)), r"shape \(\.\.\., 3\)"),
    (lambda: nn.Linear(3, -2), "at least 1"), (lambda: nn.Conv2d(3, 4, 3, groups=2), "divisible"),
    (lambda: nn.Conv2d(3, 4, 0), "kernel_size"), (lambda: nn.Conv2d(3, 4, 3, stride=2, padding="same"), "same"),
    (lambda: nn.Conv2d(3, 4, 3, padding="full"), "padding"), (lambda: nn.GELU("erf"), "tanh"),
    (lambda: nn.Softplus(0.0), "positive"), (lambda: nn.Flatten(2, 1)(data(2, 2, 2)), "start_dim")])
def test_wrong_arguments_are_explained(make, text):
    with pytest.raises(ValueError, match=text):
        make()


IMAGES, ROWS = (4, 6, 9, 8), (5, 6)
LAYERS = {  # text for both libraries, with `nn` from either -> shape of the input
    "nn.Linear(6, 3)": ROWS, "nn.Linear(6, 3, bias=False)": (2, 4, 6), "nn.Identity()": ROWS,
    "nn.Conv2d(6, 4, 3)": IMAGES, "nn.Conv2d(6, 4, (3, 2), 2, 1, bias=False)": IMAGES,
    "nn.Conv2d(6, 4, 3, padding='same', dilation=2, groups=2)": IMAGES, "nn.Conv2d(6, 4, (2, 4), padding='same')": IMAGES,
    "nn.Conv2d(6, 6, 3, (2, 1), (0, 2), 1, 6)": IMAGES, "nn.Conv2d(6, 4, 1, padding='valid')": IMAGES,
    "nn.MaxPool2d(2)": IMAGES, "nn.MaxPool2d(3, 2, 1)": IMAGES, "nn.AvgPool2d((2, 3), 2)": IMAGES,
    "nn.AvgPool2d(3, 2, 1, count_include_pad=False)": IMAGES, "nn.AdaptiveAvgPool2d(1)": IMAGES,
    "nn.AdaptiveAvgPool2d((4, 3))": IMAGES, "nn.ReLU()": ROWS, "nn.LeakyReLU(0.2)": ROWS, "nn.ELU(0.7)": ROWS,
    "nn.Sigmoid()": ROWS, "nn.Tanh()": ROWS, "nn.GELU(approximate='tanh')": ROWS, "nn.Softplus(2.0)": ROWS,
    "nn.Softmax(1)": ROWS, "nn.LogSoftmax(dim=-1)": ROWS, "nn.Dropout(0.0)": ROWS, "nn.Flatten()": IMAGES,
    "nn.Flatten(0, 2)": IMAGES, "nn.Embedding(6, 3)": None, "nn.Embedding(6, 3, padding_idx=-2)": None, "nn.Embedding(6, 3, 0, sparse=False)": None,
    "nn.Conv2d(6, 4, 3, 1, (1, 2), padding_mode='reflect')": IMAGES, "nn.Conv2d(6, 4, (2, 3), 2, 2, padding_mode='replicate')": IMAGES,
    "nn.Conv2d(6, 6, 3, 1, (3, 1), 2, 2, False, 'circular')": IMAGES, "nn.Conv2d(6, 4, (2, 4), padding='same', padding_mode='circular')": IMAGES,
    "nn.Conv2d(6, 4, 3, padding='valid', padding_mode='reflect')": IMAGES, "nn.Conv2d(6, 4, 3, padding_mode='zeros', device=None)": IMAGES,
    "nn.MaxPool2d(3, 2, 1, 2, False, True)": IMAGES, "nn.MaxPool2d((2, 3), ceil_mode=True)": IMAGES, "nn.MaxPool2d(2, 1, dilation=(3, 2))": IMAGES,
    "nn.AvgPool2d(3, 2, 1, True)": IMAGES, "nn.AvgPool2d(3, 2, 1, True, False)": IMAGES, "nn.AvgPool2d(2, 3, 0, True, True, 5)": IMAGES,
    "nn.AdaptiveAvgPool2d((None, None))": IMAGES, "nn.AdaptiveAvgPool2d((None, 3))": IMAGES, "nn.AdaptiveAvgPool2d((4, None))": IMAGES,
    "nn.GELU()": ROWS, "nn.ReLU(True)": ROWS, "nn.LeakyReLU(0.2, inplace=True)": ROWS, "nn.ELU(0.7, True)": ROWS, "nn.Dropout(0.0, inplace=True)": ROWS,
    "nn.Softplus(2.0, 20)": ROWS, "nn.Linear(6, 3, True, None)": ROWS,
    "nn.Sequential(nn.Conv2d(6, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(84, 2))": IMAGES}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("text", LAYERS)
def test_layers_agree_with_pytorch(backend, text, rng):
    torch = pytest.importorskip("torch")
    shape = LAYERS[text]
    values = rng.integers(0, 6, (3, 4)) if shape is None else rng.standard_normal(shape)
    theirs, ours = eval(text, {"nn": torch.nn}).double(), eval(text).astype("float64")
    assert {k: tuple(v.shape) for k, v in theirs.state_dict().items()} == {k: v.shape for k, v in ours.state_dict().items()}
    if "padding_idx" in text:
        assert not to_host(ours.weight)[ours.padding_idx].any() and ours.padding_idx == theirs.padding_idx
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    x, y = mg.tensor(values, shape is not None, backend=backend), torch.tensor(values, requires_grad=shape is not None)
    a, b = ours(x), theirs(y if "rue" not in text else y * 1.0)  # inplace refuses a leaf
    assert a.shape == tuple(b.shape) and np.allclose(a.numpy(), b.detach().numpy(), rtol=1e-10, atol=1e-12)
    if not b.requires_grad:
        return
    g = random_cotangent(rng, a.shape, "float64")
    a.backward(mg.tensor(g, backend=backend)) if a is not x else None
    b.backward(torch.tensor(g)) if a is not x else None
    if type(ours).__name__ in ("ReLU", "LeakyReLU", "ELU", "Dropout"):  # PyTorch's may have written into y
        assert np.array_equal(x.numpy(), values)
    pairs = [*zip(ours.parameters(), theirs.parameters()), *([(x, y)] if shape is not None and a is not x else [])]
    for p, q in pairs:
        assert np.allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("text", [k for k in LAYERS if any(s in k for s in ("Linear", "Conv2d", "Flatten", "Embedding", "LU("))])
def test_layers_print_as_in_pytorch(text):
    torch = pytest.importorskip("torch")
    assert repr(eval(text)) == repr(eval(text, {"nn": torch.nn}))


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "NLLLoss", "MSELoss", "BCEWithLogitsLoss"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_agree_with_pytorch(name, reduction, rng):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((6, 4))
    target = rng.integers(0, 4, 6) if name in ("CrossEntropyLoss", "NLLLoss") else rng.random((6, 4))
    smoothing = {"label_smoothing": 0.1} if name == "CrossEntropyLoss" else {}
    ours = getattr(nn, name)(reduction=reduction, **smoothing)(mg.tensor(x), mg.tensor(target))
    theirs = getattr(torch.nn, name)(reduction=reduction, **smoothing)(torch.tensor(x), torch.tensor(target))
    assert np.allclose(ours.numpy(), theirs.numpy(), rtol=1e-12)


@pytest.mark.parametrize("text", [
    "nn.CrossEntropyLoss(w, None, 2)", "nn.CrossEntropyLoss(w, ignore_index=1, reduction='sum', label_smoothing=0.3)",
    "nn.CrossEntropyLoss(None, None, 0, None, 'none')",
    "nn.NLLLoss(w, None, 2)", "nn.NLLLoss(weight=w, reduction='none')", "nn.NLLLoss(None, None, 1, None, 'sum')", "nn.MSELoss(None, None, 'sum')",
    "nn.BCEWithLogitsLoss(w, None, None, 'sum')", "nn.BCEWithLogitsLoss(weight=w, pos_weight=2 * w)", "nn.BCEWithLogitsLoss(pos_weight=w, reduction='none')"])
def test_weighted_losses_agree_with_pytorch_and_keep_the_weights_as_buffers(text, backend, rng):
    torch = pytest.importorskip("torch")
    x, w = rng.standard_normal((6, 4)), rng.uniform(0.5, 2, 4)
    target = rng.integers(0, 4, 6) if "Entropy" in text or "NLL" in text else rng.random((6, 4))
    ours, theirs = eval(text, {"nn": nn, "w": mg.tensor(w, backend=backend)}), eval(text, {"nn": torch.nn, "w": torch.tensor(w)})
    assert list(ours.state_dict()) == list(theirs.state_dict())
    y = ours(mg.tensor(x, backend=backend), mg.tensor(target, backend=backend))
    assert y.backend == backend and np.allclose(y.numpy(), theirs(torch.tensor(x), torch.tensor(target)).numpy(), rtol=1e-12)


def test_weights_of_a_loss_move_and_convert_with_it(fake_device):
    loss = nn.CrossEntropyLoss(np.array([1.0, 2.0, 3.0]))
    loss.to("fake").astype("float32")
    x = mg.tensor(np.zeros((2, 3), "float32"), backend="fake")
    assert loss.weight.backend == "fake" and loss(x, mg.tensor([0, 2], backend="fake")).item() == pytest.approx(math.log(3))


def test_padding_of_a_convolution_is_numpys(backend, rng):
    for mode, name in (("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")):
        layer, plain = nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode=mode), nn.Conv2d(2, 3, 3)
        plain.load_state_dict(layer.state_dict())
        x = rng.standard_normal((2, 2, 5, 4)).astype("float32")
        expected = plain(mg.tensor(np.pad(x, ((0, 0), (0, 0), (2, 2), (1, 1)), mode=name), backend=backend))
        assert np.array_equal(layer(mg.tensor(x, backend=backend)).numpy(), expected.numpy())
    for mode, fits in (("reflect", 3), ("circular", 4)):
        image = mg.tensor(np.ones((1, 1, 4, 4), "float32"), backend=backend)
        nn.Conv2d(1, 1, 3, padding=fits, padding_mode=mode)(image)
        with pytest.raises(ValueError, match="border"):
            nn.Conv2d(1, 1, 3, padding=fits + 1, padding_mode=mode)(image)


def test_the_padding_row_of_an_embedding_is_zero_and_stays(backend, rng):
    layer = nn.Embedding(5, 3, padding_idx=1)
    words, g = np.array([[1, 0, 1], [4, 4, 1]]), rng.standard_normal((2, 3, 3)).astype("float32")
    assert not layer.weight.numpy()[1].any() and layer.weight.numpy()[[0, 2, 3, 4]].all()
    layer(mg.tensor(words, backend=backend)).backward(mg.tensor(g, backend=backend))
    expected = np.zeros((5, 3), "float32")
    np.add.at(expected, words, g * (words != 1)[..., None])
    assert relative_error(layer.weight.grad, expected) < 1e-6 and not layer.weight.grad.numpy()[1].any()
    with mg.no_grad():
        layer.weight[1] = 7.0  # a given value is used, and not trained
    assert layer(mg.tensor([1])).tolist() == [[7.0, 7.0, 7.0]]


def test_an_adaptive_pool_keeps_sizes_of_none(backend, rng):
    x = mg.tensor(rng.standard_normal((2, 1, 4, 6)), backend=backend)
    assert np.array_equal(nn.AdaptiveAvgPool2d(None)(x).numpy(), x.numpy())  # PyTorch's takes None in a pair only
    expected = x.numpy().reshape(2, 1, 4, 3, 2).mean(-1)
    assert np.allclose(nn.AdaptiveAvgPool2d((None, 3))(x).numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize("make, name", [
    (lambda: nn.Linear(2, 2, device="cuda"), "device='cuda'"), (lambda: nn.Conv2d(1, 1, 1, device="cuda"), "device"),
    (lambda: nn.Embedding(2, 2, device="cuda"), "device"), (lambda: nn.Embedding(2, 2, max_norm=1.0), "max_norm=1.0"),
    (lambda: nn.Embedding(2, 2, norm_type=1.0), "norm_type"), (lambda: nn.Embedding(2, 2, scale_grad_by_freq=True), "scale_grad_by_freq"),
    (lambda: nn.Embedding(2, 2, sparse=True), "sparse"), (lambda: nn.MaxPool2d(2, return_indices=True), "return_indices"),
    (lambda: mg.max_pool2d(mg.tensor(np.ones((1, 1, 2, 2))), 2, return_indices=True), "return_indices"), (lambda: nn.Softplus(threshold=1), "threshold"),
    (lambda: nn.CrossEntropyLoss(size_average=False), "size_average"), (lambda: nn.MSELoss(None, False), "reduce"),
    (lambda: mg.cross_entropy(mg.tensor([[1.0]]), mg.tensor([0]), "mean", 0.1), "size_average")])
def test_what_is_left_out_is_said(make, name):
    with pytest.raises(NotImplementedError, match=f"{name}.*minigrad leaves out"):
        make()


@pytest.mark.parametrize("make", [lambda: nn.Sigmoid(inplace=True), lambda: nn.Tanh(1), lambda: Net.__base__(width=3)])
def test_unknown_arguments_name_the_class(make):
    with pytest.raises(TypeError, match=r"^(Sigmoid|Tanh|Module): got the arguments (inplace|1|width)"):
        make()


def test_constructors_have_pytorchs_arguments_at_their_places():
    """All except private ones, so that ported code never meets an unknown keyword or puts a value into another place."""
    torch = pytest.importorskip("torch")
    places = {"POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD"}
    for ours, theirs in ((nn, torch.nn), (layers, torch.nn), (optim.lr_scheduler, torch.optim.lr_scheduler)):
        for name in sorted({*vars(ours)} & {*vars(theirs)}):
            if not inspect.isclass(getattr(ours, name)) or not inspect.isclass(getattr(theirs, name)) or name == "Parameter":
                continue
            mine, other = (inspect.signature(getattr(lib, name)).parameters for lib in (ours, theirs))
            assert {k for k in other if k[0] != "_" and k not in ("args", "kwargs")} <= {*mine}, name
            order = [k for k, p in mine.items() if p.kind.name in places]
            assert order == [k for k, p in other.items() if p.kind.name in places][:len(order)], name
            assert all(mine[k].default == other[k].default for k in order if name not in ("Softmax", "LogSoftmax")), name


def test_gains_agree_with_pytorch():
    torch = pytest.importorskip("torch")
    for name, param in (("linear", None), ("tanh", None), ("relu", None), ("leaky_relu", 0.3), ("leaky_relu", None), ("selu", None)):
        assert nn.init.calculate_gain(name, param) == torch.nn.init.calculate_gain(name, param)
