"""models.build: shapes, published numbers of parameters, placement of norms, and that composed and derived forms train alike.

The exhaustive versions are in test_models_slow.py.
"""

import copy
import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import layers
import layers.batch.batch_norm as bn
import minigrad as mg
import models
from helpers import relative_error, to_host
from minigrad import nn, optim
from models import parts
from models.parts import NORMS, WHITENING

# One small network of each kind (the table's other names are the same with other sizes), and the size of its images.
SMALL = {
    "tiny_cnn": (16, {"size": 16, "width": 0.5}),
    "vgg_a": (32, {"width": 1 / 16}),
    "googlenet": (16, {"width": 1 / 16}),  # 70 convolutions, the last on 3 × 3 pixels
    "resnet": (16, {"depth": 8, "width": 0.5, "shortcut": "B"}),
    "plain": (16, {"depth": 8, "width": 0.5}),
    "wide_resnet": (16, {"depth": 10, "k": 2, "width": 0.25}),
    "resnext": (16, {"depth": 11, "cardinality": 2, "base_width": 32, "width": 1 / 16}),
}
WEIGHTS = ["weight_norm", "centered_weight_norm", "weight_standardization", "orthogonal_weight_norm", "spectral_norm"]


def small(name, norm="batch_norm", *, form=None, weight=None, slope=0.1, seed=0, **options):
    """A small network; its whitening groups are small against the number of samples, which the covariance needs."""
    mg.seed(seed)
    options = {"norm_options": {"group_size": 4} if norm in WHITENING else None, **SMALL[name][1], **options}
    return models.build(name, norm=norm, form=form, weight=weight, slope=slope, **options)


def batch(size, n=8, seed=1, channels=3, dtype="float32"):
    """Noise and random labels: no network is at a symmetric point there."""
    rng = np.random.default_rng(seed)
    x, t = rng.standard_normal((n, channels, size, size)).astype(dtype), rng.integers(0, 10, n)
    return mg.tensor(x, backend=mg.backend.current_name()), mg.tensor(t, backend=mg.backend.current_name())


def loss_curve(name, dtype="float32", steps=3, perturbation=0.0, draw=0, **choices):
    """Losses of a few steps of SGD, the parameters first multiplied by 1 ± `perturbation`."""
    model, (x, t) = small(name, **choices).astype(dtype), batch(SMALL[name][0], dtype=dtype)
    rng = np.random.default_rng(draw)
    for p in model.parameters():
        p.data[...] *= (1 + perturbation * rng.choice([-1.0, 1.0], p.shape)).astype(dtype)
    lr = 0.001 if name == "googlenet" else 0.02  # so deep and on so few pixels, what one step changes grows in the next
    optimizer, losses = optim.SGD(model.parameters(), lr=lr, momentum=0.9), []
    for _ in range(steps):
        loss = mg.cross_entropy(model(x), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def worst(a, b):
    """Largest relative difference of two curves."""
    return np.max(np.abs(a - b) / np.abs(b))


def rounding(name, dtype, draws=2, **choices):
    """What rounding may do to a curve: 64 units in the last place (u.l.p.), or a few times what it does to change all parameters by
    as many u.l.p.: so it is scaled by the conditioning of this network and these steps. Gradients jump where another element
    becomes the largest of its window, or passes a leaky ReLU's kink; a change of 64 u.l.p. meets such places sooner than
    rounding does.
    """
    eps = np.finfo(dtype).eps
    reference = loss_curve(name, dtype, form="composed", **choices)
    changed = [loss_curve(name, dtype, form="composed", perturbation=64 * eps, draw=i, **choices) for i in range(draws)]
    return 64 * eps + 4 * max(worst(curve, reference) for curve in changed)


def count(model):
    return sum(p.size for p in model.parameters())


# -- sizes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_images_become_scores_on_every_backend_and_one_step_changes_every_parameter(backend, name):
    model, (x, t) = small(name), batch(SMALL[name][0], n=4)
    before = {key: to_host(p).copy() for key, p in model.named_parameters()}
    scores = model(x)
    assert scores.shape == (4, 10) and scores.dtype == "float32" and scores.backend == backend
    mg.cross_entropy(scores, t).backward()
    optim.SGD(model.parameters(), lr=0.1).step()
    assert [key for key, p in model.named_parameters() if not np.any(to_host(p) != before[key])] == []


@pytest.mark.parametrize("name, size, in_channels, classes", [
    ("tiny_cnn", 8, 1, 10), ("vgg_a", 8, 1, 10), ("vgg_a", 16, 3, 4), ("vgg_a", 64, 3, 4), ("googlenet", 8, 1, 10), ("googlenet", 32, 3, 7),
    ("resnet20", 8, 1, 10), ("resnet20", 15, 2, 100), ("plain20", 8, 1, 10), ("wrn40_4", 8, 1, 10), ("resnext29_8x64d", 8, 1, 10)])
def test_other_images_and_classes(name, size, in_channels, classes):
    options = {"size": size} if name in ("tiny_cnn", "vgg_a") else {}
    model = models.build(name, in_channels=in_channels, classes=classes, width=1 / 16, **options)
    x, _ = batch(size, n=2, channels=in_channels)
    assert model(x).shape == (2, classes)


@pytest.mark.parametrize("depth", [20, 44, 110])
def test_plain_networks_build_and_take_a_step(depth):
    model = models.build(f"plain{depth}", width=0.25, in_channels=1)
    x, t = batch(8, n=4, channels=1)
    loss = mg.cross_entropy(model(x), t)
    loss.backward()
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    optimizer.step()
    assert np.isfinite(loss.item()) and np.isfinite(mg.cross_entropy(model(x), t).item())
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == depth - 1  # and fc
    assert not any(isinstance(m, models.resnet.ZeroPadded) for m in model.modules())


def test_a_plain_network_is_the_residual_one_without_shortcuts():
    plain, residual = (models.build("resnet", depth=8, width=0.25, shortcut=s) for s in ("none", "A"))
    assert list(plain.state_dict()) == list(residual.state_dict())
    plain.load_state_dict(residual.state_dict())
    x, _ = batch(8)
    assert relative_error(plain(x), residual(x)) > 0.1
    for block in (*residual.layer1, *residual.layer2, *residual.layer3):
        block.plain = True
    assert np.array_equal(plain(x).numpy(), residual(x).numpy())


@pytest.fixture
def unfilled(monkeypatch):
    """Networks without initial values: np.empty takes address space, but hardly any memory or time."""
    monkeypatch.setattr(nn.layers, "_reset", lambda weight, bias: None)
    monkeypatch.setattr(models.registry, "_initialize", lambda model, *how: None)


@pytest.mark.parametrize("name, options, exact, published, unit", [
    ("resnet20", {}, 269_722, 0.27, 0.01), ("resnet32", {}, 464_154, 0.46, 0.01), ("resnet44", {}, 658_586, 0.66, 0.01),
    ("resnet56", {}, 853_018, 0.85, 0.01), ("resnet110", {}, 1_727_962, 1.7, 0.1),               # He et al. [he2016], table 6
    ("plain20", {}, 269_722, 0.27, 0.01), ("plain110", {}, 1_727_962, 1.7, 0.1),
    ("resnet20", {"shortcut": "B"}, 272_474, None, None), ("resnet32", {"shortcut": "B"}, 466_906, None, None),
    ("resnet44", {"shortcut": "B"}, 661_338, None, None), ("resnet56", {"shortcut": "B"}, 855_770, None, None),
    ("resnet110", {"shortcut": "B"}, 1_730_714, None, None),
    ("wrn28_10", {}, 36_479_194, 36.5, 0.1), ("wrn40_4", {}, 8_949_210, 8.9, 0.1),               # Zagoruyko & Komodakis [zagoruyko2016]
    ("wide_resnet", {"depth": 16, "k": 8}, 10_961_370, 11.0, 0.1), ("wide_resnet", {"depth": 40, "k": 2}, 2_243_546, 2.2, 0.1),
    ("resnext29_8x64d", {}, 34_426_698, 34.4, 0.1), ("resnext29_16x64d", {}, 68_155_210, 68.1, 0.1),  # Xie et al. [xie2017resnext], table 7
    ("vgg_a", {}, 9_491_530, None, None), ("googlenet", {}, 15_692_938, None, None),
    ("tiny_cnn", {"size": 8, "in_channels": 1}, 6_138, None, None),
    ("resnet20", {"width": 0.25, "in_channels": 1}, 17_254, None, None)])
def test_numbers_of_parameters_are_the_published_ones(unfilled, name, options, exact, published, unit):
    found = count(models.build(name, **options))
    assert found == exact
    if published is not None:  # in millions, rounded or cut off
        assert abs(found / 1e6 - published) < (unit if name == "resnext29_16x64d" else unit / 2)
    constructor = models.MODELS[name]
    file = importlib.import_module(getattr(constructor, "func", constructor).__module__)
    assert "width" in options or f"{exact:,}" in file.__doc__  # the docstrings say so


def test_convolutions_without_norms_are_those_of_the_published_vgg_a(unfilled):
    model = models.build("vgg_a", norm="none")
    linear = (512 * 7 * 7 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000  # the published classifier, for ImageNet
    assert count(model.features) == 9_220_480 and linear == 123_642_856
    assert round((count(model.features) + linear) / 1e6) == 133  # Simonyan & Zisserman [simonyan2015], table 2


def test_width_multiplies_channels(unfilled):
    for name in models.MODELS:
        half = models.build(name, width=0.5)
        assert 0.2 < count(half) / count(models.build(name)) < 0.6, name  # weights go with the square, tiny ones do not


# -- what is where -------------------------------------------------------------------------------------------------------


def norms_of(model, kind):
    return [name for name, module in model.named_modules() if isinstance(module, kind)]


@pytest.mark.parametrize("name, options, first, all_norms", [
    ("resnet20", {}, "bn1", 19), ("resnet20", {"shortcut": "B"}, "bn1", 21), ("wide_resnet", {"depth": 10, "k": 1}, "layer1.0.bn1", 7),
    ("resnext", {"depth": 11}, "bn1", 13)])
@pytest.mark.parametrize("norm", WHITENING)
def test_whitening_replaces_only_the_first_norm_of_residual_networks(name, options, first, all_norms, norm):
    model = models.build(name, norm=norm, width=1 / 8, **options)
    assert norms_of(model, layers.Whitening) == [first] and len(norms_of(model, layers.BatchNorm2d)) == all_norms - 1
    assert model.state_dict()[f"{first}.weight"].shape == model.state_dict()[f"{first}.bias"].shape  # DBN-scale
    everywhere = models.build(name, norm=norm, width=1 / 8, placement="all", **options)
    assert len(norms_of(everywhere, layers.Whitening)) == all_norms


def test_whitening_is_everywhere_in_networks_without_shortcuts_unless_told_otherwise():
    for name, convolutions in (("vgg_a", 8), ("plain20", 19), ("tiny_cnn", 2)):
        model = models.build(name, norm="decorrelated_batch_norm", width=1 / 8)
        assert len(norms_of(model, layers.DecorrelatedBatchNorm)) == convolutions
        first = models.build(name, norm="decorrelated_batch_norm", width=1 / 8, placement="first")
        assert len(norms_of(first, layers.DecorrelatedBatchNorm)) == 1


def test_dbn_of_table_a_has_no_scale_and_a_batch_norm_in_the_classifier():
    model = models.build("vgg_a", norm="decorrelated_batch_norm", width=1 / 8, norm_options={"affine": False, "group_size": 8})
    whitening = [m for m in model.modules() if isinstance(m, layers.DecorrelatedBatchNorm)]
    assert {m.group_size for m in whitening} == {8} and not any(m.affine for m in whitening)
    assert norms_of(model, layers.BatchNorm1d) == ["classifier.1"]


@pytest.mark.parametrize("name, first", [("tiny_cnn", "1"), ("vgg_a", "features.1"), ("googlenet", "features.conv1.1"), ("plain", "bn1")])
def test_placement_first_takes_the_first_norm(name, first):
    model = small(name, "instance_norm", placement="first")
    assert [n for n, m in model.named_modules() if isinstance(m, layers.InstanceNorm)] == [first]


@pytest.mark.parametrize("placement", ["all", "first"])
@pytest.mark.parametrize("name", SMALL)
def test_inplace_abn_is_batch_norm_and_leaky_relu_in_one_layer(name, placement):
    """The parameters have the same names, so one network's values fit the other; outputs agree in both modes."""
    one, two = small(name, "inplace_abn", placement=placement, seed=1), small(name)
    one.load_state_dict(two.state_dict())
    x, t = batch(SMALL[name][0])
    losses = [mg.cross_entropy(model(x), t) for model in (one, two)]
    assert mg.tape(losses[0]).kept_bytes < mg.tape(losses[1]).kept_bytes
    bound = 64 * np.finfo(np.float32).eps * 4  # ten to twenty layers, each of which rounds differently
    assert relative_error(losses[0], losses[1]) < bound
    assert relative_error(one.eval()(x), two.eval()(x)) < bound
    if placement == "all":
        relus = [m for m in one.modules() if isinstance(m, nn.LeakyReLU)]
        blocks = {"resnet": 3, "resnext": 3, "vgg_a": 1}  # behind sums, and in the classifier
        assert len(relus) == blocks.get(name, 0)


@pytest.mark.parametrize("slope, kind", [(0.0, nn.ReLU), (0.2, nn.LeakyReLU)])
def test_slope_chooses_the_activation(slope, kind):
    model = small("resnet", slope=slope)
    found = [m for m in model.modules() if isinstance(m, nn.ReLU | nn.LeakyReLU)]
    assert len(found) == 7 and all(type(m) is kind for m in found)


@pytest.mark.more
@pytest.mark.parametrize("norm", ["batch_norm", "inplace_abn", "none"])
@pytest.mark.parametrize("name", SMALL)
def test_modulation_keeps_the_norm_of_the_gradient_across_every_block_and_the_names(backend, name, norm, monkeypatch):
    ratios, modulated = [], parts.modulated

    def watched(f, x, strength, limit):
        seen, x = [], mg.identity(x)
        y = mg.identity(modulated(f, x, strength, limit))
        y.register_hook(lambda g: seen.append(np.linalg.norm(to_host(g))))
        if x.requires_grad:  # the image is not trained
            x.register_hook(lambda g: ratios.append(np.linalg.norm(to_host(g)) / seen[0]))
        return y
    monkeypatch.setattr(parts, "modulated", watched)
    (x, t), plain = batch(SMALL[name][0]), small(name, norm)
    model = small(name, norm, modulation=1.0)
    assert list(model.state_dict()) == list(plain.state_dict())
    model.load_state_dict(plain.state_dict())
    assert np.array_equal(to_host(model(x)), to_host(plain(x)))  # the forward is the same
    mg.cross_entropy(model(x), t).backward()
    convolutions = sum(isinstance(m, nn.Conv2d) for m in model.modules())
    assert len(ratios) >= min(3, convolutions - 1) and np.allclose(ratios, 1, atol=1e-3)


def test_modulation_is_off_unless_asked_for_and_of_a_strength():
    assert not any(isinstance(m, parts.ModulatedSequential) for m in small("plain").modules())
    copied = copy.deepcopy(small("plain", modulation=0.5))
    assert [(m.strength, m.limit) for m in copied.modules() if isinstance(m, parts.ModulatedSequential)] == [(0.5, 100.0)] * 3
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="modulation"):
            small("plain", modulation=wrong)
    for wrong in (0.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="width"):
            small("plain", width=wrong)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_weight_normalizations_are_on_all_convolutions_but_projections(weight):
    model = small("resnet", weight=weight)
    computed = {name for name, module in model.named_modules() if isinstance(module, nn.Conv2d) and hasattr(module, "parametrizations")}
    convolutions = {name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    assert convolutions - computed == {"layer2.0.downsample.0", "layer3.0.downsample.0"} and len(computed) == 7
    assert not hasattr(model.fc, "parametrizations")


def test_cwns_vgg_has_centred_filters_scales_biases_and_one_batch_norm():
    model = small("vgg_a", "none", weight="centered_weight_norm", classifier_norm=True)
    conv = model.features[4]  # behind convolution, nothing, activation, pooling
    assert np.abs(conv.weight.numpy().reshape(len(conv.weight), -1).sum(1)).max() < 1e-5
    assert conv.bias is not None and conv.parametrizations["weight"].original0.shape == (8, 1, 1, 1)
    assert norms_of(model, layers.BatchNorm) == ["classifier.1"]


def test_groups_of_orthogonal_filters_fit_into_their_space():
    model = small("resnet", weight="orthogonal_weight_norm")
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and hasattr(module, "parametrizations"):
            group = module.parametrizations["weight"]._modules["0"].keywords["group_size"]
            w = module.weight.numpy()[:group].reshape(group, -1)
            # with eps = 1e-5 a singular value s becomes s/sqrt(s² + eps), and none of a Gaussian d × d/2 matrix is small
            assert group <= max(1, w.shape[1] // 2) and np.abs(w @ w.T - np.eye(group)).max() < 1e-2


def test_initial_weights_have_hes_variance():
    mg.seed(0)
    for norm, fan in (("batch_norm", 64 * 9), ("none", 32 * 9)):
        conv = models.build("resnet20", norm=norm, slope=0.1).layer3[0].conv1
        expected = 2 / (fan * (1 + 0.1**2))
        assert abs(conv.weight.numpy().var() / expected - 1) < 5 * (2 / conv.weight.size) ** 0.5  # five standard errors
    model = models.build("resnet20", norm="none", width=0.25)
    assert not any(p.numpy().any() for key, p in model.named_parameters() if key.endswith("bias"))


def test_form_reaches_every_layer_that_has_it():
    model = small("resnet", "decorrelated_batch_norm", form="simplified", weight="weight_norm")
    forms = {type(m).__name__: m.form for m in model.modules() if hasattr(m, "form")}
    assert forms == {"DecorrelatedBatchNorm2d": "simplified", "BatchNorm2d": "derived", "WeightNorm": "derived"}
    model = small("vgg_a", form="composed", weight="weight_norm")
    assert {m.form for m in model.modules() if hasattr(m, "form")} == {"composed"}
    with layers.use_form("composed"):
        assert {m.form for m in small("vgg_a").modules() if hasattr(m, "form")} == {"composed"}


# -- training ------------------------------------------------------------------------------------------------------------


def cases():
    for name in SMALL:
        for norm in ("batch_norm", "group_norm", "inplace_abn") if name == "googlenet" else NORMS:
            yield name, norm


@pytest.mark.parametrize("name, norm", [pytest.param(*c, marks=[pytest.mark.more] * (c[1] != "batch_norm" or c[0] not in ("plain", "resnet")))
                                        for c in cases()])
def test_composed_and_derived_norms_train_alike(name, norm):
    """float32, every network with every norm (all derivations: in the slow tier)."""
    composed, derived = (loss_curve(name, norm=norm, form=form) for form in ("composed", "derived"))
    assert np.all(np.isfinite(composed)) and np.all(np.isfinite(derived))
    assert worst(derived, composed) <= rounding(name, "float32", norm=norm)


@pytest.mark.more
@pytest.mark.parametrize("name, norm", [(name, norm) for name, norm in cases() if name != "googlenet"])
def test_composed_and_derived_norms_train_alike_in_float64(name, norm):
    """With nine more digits: where float32 is lax because something jumps, a wrong gradient shows here."""
    composed, derived = (loss_curve(name, "float64", norm=norm, form=form) for form in ("composed", "derived"))
    bound = rounding(name, "float64", norm=norm)
    assert worst(derived, composed) <= bound < 1e-9


@pytest.mark.more
@pytest.mark.parametrize("weight", WEIGHTS)
def test_composed_and_derived_weights_train_alike(weight):
    for dtype in ("float32", "float64"):
        composed, derived = (loss_curve("resnet", dtype, weight=weight, form=form) for form in ("composed", "derived"))
        assert np.all(np.isfinite(composed)) and worst(derived, composed) <= rounding("resnet", dtype, weight=weight)


@pytest.mark.more
@pytest.mark.parametrize("dtype, change", [
    ("float32", lambda dx, g: dx * 1.01), ("float64", lambda dx, g: dx * (1 + 1e-6)),
    ("float32", lambda dx, g: dx + 0.01 * g), ("float64", lambda dx, g: dx + 1e-6 * g)])
def test_that_comparison_sees_a_backward_that_is_slightly_wrong(monkeypatch, dtype, change):
    def backward(g, saved, x, gamma, *, eps):
        dx, d_gamma, d_beta = bn.one_line_backward(g, saved, x, gamma, eps=eps)
        return change(dx, g), d_gamma, d_beta

    wrong = mg.by_hand(save=bn.statistics, backward=backward)(bn.batch_norm)
    monkeypatch.setitem(layers.REGISTRY["batch_norm"].derived, "wrong", wrong)
    for name in ("tiny_cnn", "resnet", "vgg_a"):
        composed, other = (loss_curve(name, dtype, form=form) for form in ("composed", "wrong"))
        assert worst(other, composed) > rounding(name, dtype), name


# -- state ---------------------------------------------------------------------------------------------------------------


@pytest.mark.more
@pytest.mark.parametrize("name, norm, weight", [
    *((name, "batch_norm", None) for name in SMALL), *(("resnet", norm, None) for norm in NORMS if norm != "batch_norm"),
    *(("resnet", "batch_norm", weight) for weight in WEIGHTS)])
def test_copies_and_loaded_states_compute_the_same(name, norm, weight):
    model, (x, t) = small(name, norm, weight=weight), batch(SMALL[name][0])
    mg.cross_entropy(model(x), t).backward()
    optim.SGD(model.parameters(), lr=0.02).step()  # running statistics and power iterations have moved
    twin, other = copy.deepcopy(model), small(name, norm, weight=weight, seed=5)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    expected = model.eval()(x).numpy()
    assert np.array_equal(twin.eval()(x).numpy(), expected) and np.array_equal(other.eval()(x).numpy(), expected)
    for p in twin.parameters():
        nn.init.zeros_(p)
    assert np.array_equal(model(x).numpy(), expected)  # the copy shares nothing


def test_keys_are_torchvisions():
    keys = list(models.build("resnet", depth=8, shortcut="B", width=0.25).state_dict())
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    first = ["conv1.weight", *(f"bn1.{n}" for n in norm)]
    block = ["conv1.weight", *(f"bn1.{n}" for n in norm), "conv2.weight", *(f"bn2.{n}" for n in norm)]
    down = [*block, "downsample.0.weight", *(f"downsample.1.{n}" for n in norm)]
    assert keys == [*first, *(f"layer1.0.{k}" for k in block), *(f"layer2.0.{k}" for k in down), *(f"layer3.0.{k}" for k in down),
                    "fc.weight", "fc.bias"]


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_a_torchvision_style_resnet_loads_and_computes_the_same(shortcut):
    torch = pytest.importorskip("torch")
    tnn, functional = torch.nn, torch.nn.functional

    class Block(tnn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1 = tnn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = tnn.BatchNorm2d(outputs)
            self.relu = tnn.ReLU(inplace=True)
            self.conv2 = tnn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = tnn.BatchNorm2d(outputs)
            self.downsample, self.stride = None, stride
            if shortcut == "B" and (stride != 1 or inputs != outputs):
                self.downsample = tnn.Sequential(tnn.Conv2d(inputs, outputs, 1, stride, bias=False), tnn.BatchNorm2d(outputs))

        def forward(self, x):
            y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            if self.downsample is not None:
                x = self.downsample(x)
            elif y.shape != x.shape:
                x = functional.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
            return self.relu(y + x)

    class ResNet20(tnn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = tnn.Conv2d(3, 16, 3, 1, 1, bias=False), tnn.BatchNorm2d(16)
            self.layer1 = tnn.Sequential(Block(16, 16, 1), Block(16, 16, 1), Block(16, 16, 1))
            self.layer2 = tnn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
            self.layer3 = tnn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
            self.fc = tnn.Linear(64, 10)

        def forward(self, x):
            x = self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x))))))
            return self.fc(x.mean((2, 3)))

    torch.manual_seed(0)
    theirs, ours = ResNet20(), models.build("resnet20", shortcut=shortcut)
    for m in theirs.modules():
        if isinstance(m, tnn.BatchNorm2d):  # fresh ones would not show whether they are taken
            for tensor in (m.weight.data, m.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (m.bias.data, m.running_mean):
                tensor.normal_(0, 0.2)
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    for mode in (False, True):
        expected = theirs.train(mode)(torch.from_numpy(x)).detach().numpy()
        assert relative_error(ours.train(mode)(mg.tensor(x)), expected) < 1e-5
    loaded = {key: value.numpy() for key, value in theirs.state_dict().items()}  # the statistics after that training pass
    for key, value in ours.state_dict().items():
        assert relative_error(value, loaded[key]) < 1e-5, key


# -- errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call, kind, says", [
    (lambda: models.build("resnet21"), ValueError, r"name='resnet21'\n.*resnet20, resnet32.*resnext29_16x64d"),
    (lambda: models.build("resnet20", norm="batchnorm"), ValueError, r"norm='batchnorm'\n.*batch_norm, .*none"),
    (lambda: models.build("resnet20", norm="weight_norm", form="staged"), ValueError, r"norm='weight_norm'\n"),
    (lambda: models.build("resnet20", weight="batch_norm"), ValueError, r"weight='batch_norm'\n.*weight_norm, centered_weight_norm"),
    (lambda: models.build("resnet20", form="two_lines"), ValueError, r"form='two_lines'\n.*composed, derived, staged, one_line"),
    (lambda: models.build("resnet20", placement="second"), ValueError, r"placement='second'\n.*all, first"),
    (lambda: models.build("resnet20", width=0), ValueError, r"width=0\n.*positive"),
    (lambda: models.build("resnet", depth=21), ValueError, r"depth=21 for ResNet\n.*6n \+ 2: 8, 14, 20, \.\.\."),
    (lambda: models.build("resnet", depth=2), ValueError, r"depth=2 for ResNet"),
    (lambda: models.build("wide_resnet", depth=20), ValueError, r"6n \+ 4: 10, 16, 22, \.\.\."),
    (lambda: models.build("resnext", depth=28), ValueError, r"9n \+ 2: 11, 20, 29, \.\.\."),
    (lambda: models.build("resnet20", shortcut="C"), ValueError, r"shortcut='C'\n.*A, B, none"),
    (lambda: models.build("resnext29_8x64d", shortcut="none"), ValueError, r"shortcut='none'\n.*A, B"),
    (lambda: models.build("resnet20", k=4), TypeError, r"the options k for resnet20\n.*depth, shortcut"),
    (lambda: models.build("googlenet", size=8), TypeError, r"the options size for googlenet\n.*none"),
    (lambda: models.build("resnet20", norm_options={"groups": 4}), TypeError, r"norm_options groups for batch_norm\n.*eps, momentum"),
    (lambda: models.build("resnet20", norm="none", norm_options={"eps": 1}), TypeError, r"norm_options eps for none\n.*none"),
    (lambda: models.build("resnet20", weight="weight_norm", weight_options={"eps": 1}), TypeError, r"eps"),
    (lambda: models.build("resnet20", norm="inplace_abn"), ValueError, r"slope=0\.0\n.*slope > 0.*\n.*slope=0\.01"),
    (lambda: models.build("vgg_a", size=20), ValueError, r"size=20 for VGG\n.*power of 2"),
    (lambda: models.build("vgg_a", size=40), ValueError, r"size=40 for VGG"),
])
def test_errors_list_the_choices(call, kind, says):
    with pytest.raises(kind, match=f"(?s){says}"):
        call()


def test_every_name_builds_and_every_file_is_documented():
    assert {"resnet20", "vgg_a", "googlenet", "wrn28_10", "resnext29_8x64d"} <= set(models.MODELS)
    for name in models.MODELS:
        assert isinstance(models.build(name, width=1 / 16), nn.Module)


@pytest.mark.parametrize("name", ["models", *(m.name for m in pkgutil.iter_modules(models.__path__, "models."))])
def test_examples_print_what_they_say_and_nothing_public_lacks_a_docstring(name, capsys):
    module = importlib.import_module(name)
    assert not doctest.testmod(module).failed, capsys.readouterr().out
    own = [thing for key, thing in vars(module).items() if not key.startswith("_") and getattr(thing, "__module__", "") == name]
    assert module.__doc__ and all(thing.__doc__ for thing in own if callable(thing))
