"""layers/verify/training.py: both forms trained side by side, and that a wrong derivation would be seen."""

import numpy as np
import pytest

import minigrad as mg
import models
from layers.verify.training import compared, differences, smooth_cross_entropy, trained_side_by_side
from minigrad import data, optim


def network(form, norm="batch_norm", **options):
    mg.seed(0)
    return models.build("tiny_cnn", norm=norm, form=form, in_channels=1, size=8, width=0.25, **options).astype("float64")


def batches(n, backend="numpy"):
    images, labels = data.digits("train")
    return data.batches(images[:16 * n].astype("float64"), labels[:16 * n], 16, backend=backend)


def together(backend, steps=3, **options):
    with mg.use(backend):
        networks = {form: network(form, **options) for form in ("composed", "derived")}
        optimizers = {form: optim.SGD(model.parameters(), lr=0.1, momentum=0.9) for form, model in networks.items()}
        return list(trained_side_by_side(networks, network("derived", **options), batches(steps, backend), optimizers)), networks


@pytest.mark.parametrize("options", [{}, {"norm": "decorrelated_batch_norm", "norm_options": {"group_size": 2}}, {"norm": "none", "weight": "spectral_norm"}],
                         ids=["batch norm", "whitening", "spectral norm"])
def test_the_forms_agree_at_every_step(options, backend):
    steps, networks = together(backend, **options)
    assert len(steps) == 3 and len(steps[0].differences) == len(list(networks["derived"].parameters()))
    assert 0 < max(max(s.differences) for s in steps) < 1e-11
    for s in steps:
        assert set(s.loss) == set(s.seconds) == set(s.kept) == {"composed", "derived"} and min(s.seconds.values()) > 0
        np.testing.assert_allclose(s.loss["composed"], s.loss["derived"], rtol=1e-9)


def test_each_network_is_trained_as_it_would_be_alone():
    _, networks = together("numpy")
    alone = network("composed")
    optimizer = optim.SGD(alone.parameters(), lr=0.1, momentum=0.9)
    for x, t in batches(3):
        optimizer.zero_grad()
        smooth_cross_entropy(alone, x, t).backward()
        optimizer.step()
    for name, value in alone.state_dict().items():
        np.testing.assert_array_equal(networks["composed"].state_dict()[name].numpy(), value.numpy())


def test_a_wrong_derivation_is_seen():
    right, wrong = network("derived"), network("derived")
    norm = wrong[1]
    forward = type(norm).forward
    object.__setattr__(norm, "forward", lambda x: forward(norm, x.detach() * 0.5 + x * 0.5))  # half of a gradient
    x, t = next(iter(batches(1)))
    found = compared(right, wrong, x, t)
    assert found[0] > 0.4 and max(found[3:]) < 1e-11


def test_differences_are_relative_and_what_vanishes_is_measured_by_the_largest():
    a, b = [mg.tensor([3.0, 4.0]), mg.tensor([1e-12])], [mg.tensor([3.0, 4.5]), mg.tensor([-1e-12])]
    size = np.hypot(3, 4.5)
    np.testing.assert_allclose(differences(a, b), [0.5 / size, 2e-12 / (1e-6 * size)], rtol=1e-5)
    assert differences([mg.zeros(3)], [mg.zeros(3)]) == [0.0] and np.isnan(differences([mg.tensor([float("nan")])], [mg.tensor([1.0])])[0])
