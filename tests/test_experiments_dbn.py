"""What the experiments on whitening and on centred filters compute from what they measure, on data where the answer is known."""

import math

import numpy as np
import pytest

import minigrad as mg
from experiments import cwn_proposition_1, dbn_cost, dbn_pca, dbn_table_a, dbn_table_b
from experiments.registry import Run, Runs
from experiments.timing import inference, random_batch, training_step
from layers.whitening import channel_groups, cost

# -- dbn, tables A and B --------------------------------------------------------------------------------------------------


def test_the_documents_time_of_small_groups_is_a_line_in_their_number():
    assert [dbn_table_a.groups_of(k) for k in (8, 16, 64, 512)] == [344, 172, 43, 8]
    assert dbn_table_a.line_through({"G16": 172.0, "G64": 43.0}) == 344
    assert dbn_table_a.line_through(dbn_table_a.TRAINING) == pytest.approx(693.2, abs=0.1)


def test_one_by_one_is_the_same_step_with_a_stack_for_each_group(monkeypatch):
    x, t = random_batch(0, 6, 8)
    after, cuts, real = [], [], channel_groups.stacks
    monkeypatch.setattr(channel_groups, "stacks", lambda *args: (cuts.append(real(*args)), real(*args))[1])
    for change in (lambda step: step, dbn_table_a.one_by_one):
        mg.seed(0)
        model = dbn_table_a.network("G16", 0.25, 8)
        change(training_step(model, x, t))()
        after.append([p.numpy() for p in model.parameters()])
        assert all(s.stop - s.start == s.d == 4 for cut in cuts for s in cut) == (len(after) == 2) and cuts
        cuts.clear()
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(*after, strict=True))


def test_steps_train_and_inference_leaves_everything_as_it_is():
    x, t = random_batch(0, 6, 8)
    model = dbn_table_b.network("Res-20", "DBN-scale", 0.25, 1)
    norms = [type(m).__name__ for m in model.modules() if "Norm" in type(m).__name__]
    assert norms.count("DecorrelatedBatchNorm2d") == 1 and model.bn1.affine and len(norms) == 19
    before = [p.numpy().copy() for p in model.parameters()]
    training_step(model, x, t)()
    assert any((p.numpy() != b).any() for p, b in zip(model.parameters(), before, strict=True))
    state = {name: v.numpy().copy() for name, v in model.state_dict().items()}
    inference(model, x)()
    assert all((v.numpy() == state[name]).all() for name, v in model.state_dict().items()) and not model.training


def test_growth_tells_a_constant_from_a_share():
    depths, bn = [20, 32, 44, 56], [20.0, 32.0, 44.0, 56.0]
    assert dbn_table_b.growth(depths, bn, [b + 17 for b in bn]) == pytest.approx(0, abs=1e-12)
    assert dbn_table_b.growth(depths, bn, [1.5 * b for b in bn]) == pytest.approx(0.5)


def runs_of(found, results, **sizes):
    """Runs of an experiment with these results, arm by arm, one seed."""
    return Runs([Run({"arm": arm, "seed": 0}, result, 1.0) for arm, result in results.items()], {**found.modes["quick"], **sizes})


def test_the_documents_own_times_agree_with_themselves():
    """Rows made of the document's numbers, in eight turns: every one agrees, except for groups that no one said anything of."""
    def turns(times, names):
        return {name: [times[name] * (1 + 0.001 * i) for i in range(8)] for name in names}
    groups = ("G8", "G16", "G64", "G256", "G512")
    a = turns(dbn_table_a.TRAINING, ("BN", *groups))
    a |= {f"{g}, one by one": a[g] for g in groups[:3]}
    found = runs_of(dbn_table_a.dbn_table_a, {"training": a, "inference": turns(dbn_table_a.INFERENCE, ("BN", *groups))}, groups=groups)
    assert {row.verdict for row in dbn_table_a.rows(found)} == {"agrees"}
    b = {arm: {f"{net}, {norm}": [times[net][i] * (1 + 0.001 * k) for k in range(8)] for net in times for i, norm in enumerate(("BN", "DBN-scale"))}
         for arm, times in (("training", dbn_table_b.TRAINING), ("inference", dbn_table_b.INFERENCE))}
    rows = list(dbn_table_b.rows(runs_of(dbn_table_b.dbn_table_b, b, nets=tuple(dbn_table_b.TRAINING))))
    assert {row.verdict for row in rows} == {"agrees"} and len(rows) == 18


# -- dbn, section 2 -------------------------------------------------------------------------------------------------------


class Counting(np.ndarray):
    """Counts the multiply-adds of its products."""

    total = 0

    def __matmul__(self, other):
        Counting.total += math.prod(self.shape[:-2]) * self.shape[-2] * self.shape[-1] * other.shape[-1]
        return np.asarray(self) @ np.asarray(other)


@pytest.mark.parametrize("name", ["products", "products, float32"])
def test_the_products_that_are_timed_are_those_that_are_counted(name, monkeypatch):
    real = dbn_cost.matrices
    monkeypatch.setattr(dbn_cost, "matrices", lambda x, s: real(x, s).view(Counting))
    x = np.random.default_rng(0).normal(size=(5, 12, 4, 3)).astype("float32")
    parts = dbn_cost.parts(x, x, 4)
    Counting.total = 0
    parts[name]()
    assert Counting.total == cost.products(12, 4, m=5, h=4, w=3)


# -- dbn, PCA -------------------------------------------------------------------------------------------------------------


def compared(a, b):
    found = {"swapped": [], "flipped": [], "PCA_change": [], "ZCA_change": []}
    dbn_pca.compared(found, a, b)
    return {name: values[0] for name, values in found.items()}


def test_axes_are_compared_by_their_angles(rng):
    white = np.linalg.qr(rng.normal(size=(40, 4)) - 1)[0]
    white = np.linalg.qr(white - white.mean(0))[0].T * 40 ** 0.5                         # (4, 40), covariance I
    a, b = np.diag([1.0, 2, 3, 4]) @ white, np.diag([2.0, 1, 3, 4]) @ white
    assert compared(a[None], a[None]) == {"swapped": 0, "flipped": 0, "PCA_change": 0, "ZCA_change": 0}
    found = compared(a[None], b[None])  # two axes have changed places, and two deviations a factor of 2
    assert (found["swapped"], found["flipped"]) == (0.5, 0)
    assert found["ZCA_change"] == pytest.approx(math.sqrt((0.25 + 1) / 4), rel=1e-3)
    assert found["PCA_change"] == pytest.approx(math.sqrt((1 + 0.25 + 1 + 4) / 4), rel=1e-3)


def test_a_gradient_of_nan_is_a_divergence(monkeypatch):
    class Images:
        classes = 4

    def fails(model, images, options):
        model.weight._data[...] = value
        raise np.linalg.LinAlgError("eigenvalues did not converge")
    monkeypatch.setattr(dbn_pca, "fit", fails)
    value, options = math.nan, type("Options", (), {"epochs": 2})
    assert dbn_pca.trained(mg.nn.Linear(2, 2), Images, options) == {"loss": [math.inf] * 2, "error": [75.0] * 2, "diverged": True}
    value = 1.0  # whatever else it is, is not hidden
    with pytest.raises(np.linalg.LinAlgError):
        dbn_pca.trained(mg.nn.Linear(2, 2), Images, options)


# -- cwn, proposition 1 ---------------------------------------------------------------------------------------------------


def test_the_proposition_is_exact_for_its_two_moments(rng):
    """h takes 2d equally likely values ±σ√d qᵢ + μ1, the qᵢ orthonormal: mean μ1 and covariance σ²I, exactly."""
    d = 9
    q = np.linalg.qr(rng.normal(size=(d, d)))[0] * 1.5 * d ** 0.5
    h, w = np.concatenate([q, -q]) + 2.0, rng.normal(size=(5, d))
    found = cwn_proposition_1.moments(h, cwn_proposition_1.unit(w - w.mean(1, keepdims=True)))
    assert found["var"] == pytest.approx(1, rel=1e-12) and found["mean"] < 1e-12
    assert cwn_proposition_1.moments(h, cwn_proposition_1.unit(w))["mean"] > 0.1
    assert cwn_proposition_1.resemblance(h) == pytest.approx(0, abs=1e-12)


def test_resemblance_is_the_mean_covariance_of_pairs(rng):
    h = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6))
    c = np.cov(h.T, bias=True)
    assert cwn_proposition_1.resemblance(h) == pytest.approx((c.sum() - np.trace(c)) / 30 / (np.trace(c) / 6), rel=1e-12)
