"""What the experiments that train networks do to them and compute from them, where the answer is known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

import layers
import minigrad as mg
import models
from experiments import bn_benefits, cwn_figure_1, deep_plain, iabn_table_1, two_gradients
from experiments.images import load
from experiments.registry import Run, Runs
from experiments.statistics import paired_difference
from minigrad import nn
from scripts.evaluate import evaluated


def runs_of(found, results, sizes):
    """Runs with these results: (arm, seed) -> result."""
    return Runs([Run({"arm": arm, "seed": seed, "options": found.arms[arm]}, result, 1.0) for (arm, seed), result in results.items()], sizes)


# -- bn_benefits --------------------------------------------------------------------------------------------------------


def test_a_batch_in_parts_has_the_statistics_of_its_parts():
    norm = layers.BatchNorm1d(3, affine=False)
    x = mg.tensor(np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32))
    y = bn_benefits.InParts(norm, 2)(x).numpy().reshape(2, 4, 3)
    assert np.allclose(y.mean(1), 0, atol=1e-6) and np.allclose(y.var(1), 1, atol=1e-3)
    norm.eval()
    assert (bn_benefits.InParts(norm, 2).eval()(x).numpy() == norm(x).numpy()).all()


@pytest.mark.parametrize("activation, slope", [(nn.Tanh, lambda z: 1 / np.cosh(z) ** 2), (nn.Sigmoid, lambda z: 1 / np.cosh(z / 2) ** 2)])
def test_saturated_is_the_share_of_flat_places(activation, slope):
    z = np.linspace(-6, 6, 401)[None]
    model = nn.Sequential(activation())
    assert bn_benefits.saturated(model, mg.tensor(z)) == np.mean(slope(z) < 0.1) > 0.3


def test_looking_at_a_network_changes_nothing():
    model = models.build("plain", depth=8, width=0.5, in_channels=1)
    x = mg.tensor(np.random.default_rng(1).normal(size=(4, 1, 8, 8)).astype(np.float32))
    before = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    assert len(bn_benefits.outputs(model, x, (nn.ReLU,))) == 7
    assert all((v.numpy() == before[k]).all() for k, v in model.state_dict().items()) and model.training
    assert not any("forward" in vars(m) for m in model.modules())


def test_moved_counts_standard_deviations_and_factors():
    a = np.array([0.0, 1.0, 5.0]), np.array([1.0, 2.0, 0.0])  # the third channel is dead
    b = np.array([0.5, 0.0, 9.0]), np.array([1.0, 2.0, 0.0])
    assert bn_benefits.moved(a, b) == pytest.approx(0.5)
    assert bn_benefits.moved(a, (a[0], 2 * a[1])) == pytest.approx(math.log(2))
    assert bn_benefits.moved(a, a) == 0


def test_the_largest_rate_is_that_of_a_run_that_learns():
    losses = {0.01: 1.0, 0.03: 0.5, 0.1: 2.2, 0.3: 1.4, 1.0: math.inf, 3.0: math.inf, 10.0: 1.6}
    runs = runs_of(bn_benefits.bn_benefits, {(f"learning rate {lr:g}, without", 0): {"loss": [9.0, loss]} for lr, loss in losses.items()}, {})
    assert bn_benefits.largest_rate(runs, "without") == [0.3]


# -- two_gradients ------------------------------------------------------------------------------------------------------


def test_both_forms_begin_with_equal_parameters_and_biases_that_are_not_0():
    images = load("digits", train=20, test=10)
    pair = [two_gradients.network("group_norm, tiny_cnn", form, images, 3, "float64") for form in ("composed", "derived")]
    for (name, a), (_, b) in zip(*(m.named_parameters() for m in pair), strict=True):
        assert (a.numpy() == b.numpy()).all() and (not name.endswith("bias") or (a.numpy() != 0).all())


def test_a_wrong_derivation_is_found(monkeypatch):
    real = layers.REGISTRY["rms_norm"].derived["one_line"]
    monkeypatch.setitem(layers.REGISTRY["rms_norm"].derived, "one_line", lambda x, *rest, **kw: real(x, *rest, **kw) + 0.01 * mg.mean(x * x))
    images = load("digits", train=40, test=10)
    found = two_gradients.two_gradients.run("rms_norm, tiny_cnn", 0, images, 1, 8)
    assert max(found["float64"]) > two_gradients.WITHIN["float64"]


# -- iabn_table_1 -------------------------------------------------------------------------------------------------------


def test_training_crops_are_parts_of_the_images_of_the_test_images_size():
    images = load("digits", train=40, test=10)
    small = next(iabn_table_1.ways(8)["centre"](images.test[0]))
    crops = iabn_table_1.Crops(images.train, (small, images.test[1]), "digits")
    (x, t), (again, _) = (next(crops.batches(20, seed=1, epoch=2)) for _ in range(2))
    whole, labels = next(images.batches(20, seed=1, epoch=2))
    assert x.shape == (20, 1, 7, 7) and (x.numpy() == again.numpy()).all() and (t.numpy() == labels.numpy()).all()
    found = set()
    for crop, image in zip(x.numpy(), whole.numpy(), strict=True):
        places = [(i, j) for i in range(2) for j in range(2) if (image[:, i:i + 7, j:j + 7] == crop).all()]
        assert places
        found.update(places)
    assert len(found) == 4  # and not all from one place


def test_views_are_the_tables_proportions():
    x = np.zeros((1, 3, 16, 16), np.float32)
    shapes = {way: [v.shape[-1] for v in view(x)] for way, view in iabn_table_1.ways(16).items()}
    assert shapes == {"centre": [14], "10 crops": [14] * 10, "larger": [20]}


@pytest.mark.parametrize("tested, slope", [("ReLU", 1e-30), ("leaky ReLU", iabn_table_1.SLOPE)])
def test_in_place_abn_is_tested_as_the_function_that_it_computes(tested, slope):
    images = load("digits", train=40, test=20)
    model = iabn_table_1.network("inplace_abn", iabn_table_1.SLOPE, images, 0.125)
    with mg.no_grad():
        model(mg.tensor(images.train[0]))
        model.bn1.weight[...] = 0.0  # held away from 0 by the layer
        model.bn1.bias[...] = 0.1
    ours = iabn_table_1.tested_with(tested, model, "inplace_abn", images, 0.125)
    for module in model.modules():
        if isinstance(module, layers.InPlaceABN):
            module.slope = slope
        if isinstance(module, nn.LeakyReLU):  # behind the sums
            module.negative_slope = slope
    results = [evaluated(m, *images.test) for m in (ours, model)]
    assert results[0].loss == pytest.approx(results[1].loss, rel=1e-6) and (results[0].confusion == results[1].confusion).all()


# -- cwn_figure_1 -------------------------------------------------------------------------------------------------------


def test_so_many_seeds_tell_a_difference():
    values = [0.1, 0.9, 0.3, -0.2, 0.7, 1.1]
    found = paired_difference(values, [0.0] * 6)
    scatter = cwn_figure_1.deviation(found)
    assert scatter == pytest.approx(np.std(values, ddof=1))
    for difference in (0.2, 0.36, 0.5, 0.7, 1.0, 2.0, 3.5):
        n, halves = int(cwn_figure_1.seeds_for(difference, scatter)), []
        for k in {max(2, n - 1), n}:
            z = np.arange(k) - (k - 1) / 2
            halves.append(paired_difference((z * scatter / z.std(ddof=1)).tolist(), [0.0] * k).high)
        assert min(halves) <= difference and (n == 2 or max(halves) > difference), (difference, n)
    assert math.isnan(cwn_figure_1.seeds_for(0.36, cwn_figure_1.deviation(paired_difference([1.0], [0.0]))))
    assert math.isnan(cwn_figure_1.seeds_for(0.0001, 10.0))  # more than anybody does


def test_the_three_begin_as_one_network_but_for_the_means():
    images = load("digits", train=40, test=20)
    scores = []
    for weight in ("plain", "WN", "CWN"):
        mg.seed(4)
        model = models.build("googlenet", weight=cwn_figure_1.ARMS[weight], width=1 / 16, in_channels=1)
        with mg.no_grad():
            scores.append(model(mg.tensor(images.train[0])).numpy())
    assert np.allclose(scores[0], scores[1], atol=1e-3) and not np.allclose(scores[0], scores[2], atol=1e-3)


# -- deep_plain ---------------------------------------------------------------------------------------------------------


def test_the_penaltys_gradient_is_added_to_that_of_the_loss():
    model = models.build("plain", depth=8, width=0.25, in_channels=1)
    for p in model.parameters():
        p.grad = mg.ones(p.shape)
    deep_plain.add_penalty(model, 0.5)
    weight = model.conv1.weight.numpy().astype(float).reshape(model.conv1.weight.shape[0], -1)
    wanted = 1 + 0.5 * 4 * (weight @ weight.T - np.eye(len(weight))) @ weight
    assert np.allclose(model.conv1.weight.grad.numpy().reshape(weight.shape), wanted, rtol=1e-4)
    assert all((p.grad.numpy() == 1).all() for p in model.parameters() if p.ndim == 1)


def test_orthonormal_filters_are_at_distance_0():
    model = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False))
    nn.init.orthogonal_(model[0].weight)
    assert deep_plain.distance(model) < 1e-6
    with mg.no_grad():
        model[0].weight[...] = model[0].weight * math.sqrt(2)
    assert deep_plain.distance(model) == pytest.approx(1, rel=1e-5)


def test_every_arm_trains_with_the_best_of_the_same_rates(monkeypatch):
    seen = []

    def fitted(model, images, options):
        seen.append((options.seed, options.lr, options.epochs))
        return {"loss": [abs(options.lr - 0.2)] * options.epochs, "diverged": False}
    monkeypatch.setattr(deep_plain, "fitted", fitted)
    monkeypatch.setattr(deep_plain, "_tried", {})
    monkeypatch.setattr(deep_plain, "evaluate", lambda *_: {"error": 50.0})
    images = load("digits", train=20, test=10)
    found = [deep_plain.deep_plain.run("+ modulation, 20 layers", seed, images, 3, 1, 10) for seed in (0, 1)]
    assert [f["lr"] for f in found] == [0.2, 0.2] and len(found[0]["tried"]) == 3
    assert seen == [(deep_plain.TRIAL, lr, 1) for lr in deep_plain.RATES] + [(0, 0.2, 3), (1, 0.2, 3)]  # one trial for both seeds


def test_growth_is_a_factor_per_layer_from_the_last_to_the_first():
    assert deep_plain.growth([8.0, 4.0, 2.0, 1.0]) == pytest.approx(2)
    assert not deep_plain.trains(SimpleNamespace(result={"loss": [1.0, 2.26]})) and deep_plain.trains(SimpleNamespace(result={"loss": [2.3, 2.2]}))
