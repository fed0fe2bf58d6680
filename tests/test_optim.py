"""minigrad.optim: formulas, schedules and clipping against PyTorch; saving, blocks, errors and host syncs by themselves."""

import contextlib
import copy
import json
import math

import numpy as np
import pytest

import minigrad as mg
from helpers import relative_error, to_host
from minigrad import nn, optim
from minigrad.optim import optimizer as core

SHAPES = [(3, 4), (5,), (2, 2, 3, 1)]
CASES = {
    "SGD": [{"lr": 0.1}, {"lr": 0.1, "momentum": 0.9}, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05},
            {"lr": 0.1, "momentum": 0.8, "dampening": 0.3}, {"lr": 0.1, "weight_decay": 0.1, "maximize": True},
            {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
            {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}, {}],
    "Adam": [{}, {"lr": 0.05, "betas": (0.8, 0.9), "eps": 1e-3}, {"lr": 0.05, "weight_decay": 0.1}, {"lr": 0.05, "amsgrad": True},
             {"lr": 0.05, "betas": (0.3, 0.99), "amsgrad": True, "weight_decay": 0.1, "maximize": True}],
    "AdamW": [{}, {"lr": 0.05, "weight_decay": 0.3}, {"lr": 0.05, "amsgrad": True, "maximize": True}],
    "RMSprop": [{}, {"lr": 0.05, "alpha": 0.9, "eps": 1e-3}, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1},
                {"lr": 0.05, "centered": True}, {"lr": 0.05, "centered": True, "momentum": 0.5, "maximize": True}],
}
ALL = [(name, options) for name, several in CASES.items() for options in several]
MANY = [("SGD", CASES["SGD"][5]), ("SGD", CASES["SGD"][3]), ("Adam", CASES["Adam"][4]), ("AdamW", CASES["AdamW"][1]),
        ("RMSprop", CASES["RMSprop"][4])]


def variables(rng, dtype="float32", shapes=SHAPES):
    return [mg.tensor(rng.standard_normal(s).astype(dtype), requires_grad=True, backend=mg.backend.current_name())
            for s in shapes]


def set_gradients(params, seed):
    """Gradients that depend on the parameters, so that an error in one step shows in all later ones."""
    rng = np.random.default_rng(seed)
    for p in params:
        g = rng.standard_normal(p.shape).astype(p.dtype)
        p.grad = mg.tensor(g + np.asarray(0.1, g.dtype) * to_host(p._data), backend=p.backend)


def run(optimizer, params, steps, start=0):
    for seed in range(start, start + steps):
        set_gradients(params, seed)
        optimizer.step()
    return [p.numpy() for p in params]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


# -- the formulas ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, options", ALL)
@pytest.mark.parametrize("dtype, bound", [("float64", 1e-13), ("float32", 2e-6)])  # 20 steps of a few roundings each
def test_twenty_steps_agree_with_pytorch(name, options, dtype, bound, rng):
    torch = pytest.importorskip("torch")
    ours = variables(rng, dtype)
    theirs = [torch.tensor(p.numpy(), requires_grad=True) for p in ours]
    groups = lambda ps: [{"params": ps[:2]}, {"params": ps[2:], "lr": 0.03}]
    a, b = getattr(optim, name)(groups(ours), **options), getattr(torch.optim, name)(groups(theirs), **options)
    for seed in range(20):
        set_gradients(ours, seed)
        for p, q in zip(ours, theirs):
            q.grad = torch.tensor(p.grad.numpy())
        if seed == 7:  # a parameter without a gradient is left alone, and its state as well
            ours[1].grad = theirs[1].grad = None
        a.step()
        b.step()
    for p, q in zip(ours, theirs):
        assert relative_error(p, q.detach().numpy()) < bound


@pytest.mark.parametrize("name", CASES)
def test_options_and_defaults_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    ours = getattr(optim, name)([mg.tensor([1.0], requires_grad=True)]).defaults
    theirs = getattr(torch.optim, name)([torch.ones(1, requires_grad=True)]).defaults
    assert ours == {k: theirs[k] for k in ours}
    assert theirs.keys() - ours.keys() <= {"foreach", "fused", "capturable", "differentiable", "decoupled_weight_decay"}


@pytest.mark.parametrize("name, options", MANY)
def test_every_backend_takes_the_same_steps(backend, name, options):
    def result():
        params = variables(np.random.default_rng(0), "float64")
        return run(getattr(optim, name)(params, **options), params, 5)

    here = result()
    with mg.use("numpy"):
        reference = result()
    for a, b in zip(here, reference):
        assert relative_error(a, b) < 1e-14  # a device may contract a·b + c into one rounding


@pytest.mark.parametrize("name, options", MANY)
def test_large_parameters_go_block_by_block_to_the_same_values(monkeypatch, name, options):
    results = []
    for block in (7, 1 << 16):
        monkeypatch.setattr(core, "BLOCK", block)
        params = variables(np.random.default_rng(0), shapes=[(5, 6), (4, 3, 2), (8,), (0, 3)])
        params[0]._data = np.asfortranarray(params[0]._data)  # then no flat view exists
        params[1].grad = mg.Tensor(np.asfortranarray(params[1]._data))
        optimizer = getattr(optim, name)(params, **options)
        results.append(run(optimizer, params, 4))
    assert same(*results)


def test_gradients_and_other_tensors_are_not_written_to(backend):
    for name, options in ALL:
        params = variables(np.random.default_rng(0))
        optimizer = getattr(optim, name)(params, **options)
        run(optimizer, params, 1)
        set_gradients(params, 5)
        before = [p.grad.numpy() for p in params]
        optimizer.step()
        assert same(before, [p.grad.numpy() for p in params])


def test_a_step_does_not_wait_for_the_device(backend, xp):
    for name, options in ALL:
        params = variables(np.random.default_rng(0))
        optimizer = getattr(optim, name)(params, **options)
        set_gradients(params, 0)
        with xp.no_sync() if hasattr(xp, "no_sync") else contextlib.nullcontext():
            optim.clip_grad_norm_(params, 0.1)
            optim.clip_grad_value_(params, 0.05)
            optimizer.step()
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)


def test_a_step_between_forward_and_backward_is_named(backend):
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    optimizer = optim.SGD([x], lr=0.1)
    x.grad, y = mg.tensor([1.0, 1.0]), x * x
    optimizer.step()
    with pytest.raises(mg.TapeError, match=r"SGD\.step"):
        y.backward(mg.tensor([1.0, 2.0]))


@pytest.mark.parametrize("name, options", [("SGD", {"lr": 0.1, "momentum": 0.9}), ("AdamW", {"lr": 0.02}), ("RMSprop", {})])
def test_training_a_small_network_decreases_the_loss(backend, xp, name, options):
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((64, 1, 6, 6)).astype("float32"), rng.integers(0, 3, 64)
    x[np.arange(64), 0, labels, labels] += 4.0
    x, t = mg.tensor(x, backend=backend), mg.tensor(labels, backend=backend)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.1), nn.Linear(36, 3))
    loss_of, optimizer = nn.CrossEntropyLoss(), getattr(optim, name)(model.parameters(), **options)
    schedule = optim.CosineAnnealingLR(optimizer, T_max=20)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        with xp.no_sync() if hasattr(xp, "no_sync") else contextlib.nullcontext():
            loss = loss_of(model(x), t)
            loss.backward()
            optim.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
        schedule.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


# -- saving ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, options", MANY)
def test_training_resumes_bit_for_bit(backend, name, options):
    params = variables(np.random.default_rng(0))
    params.append(mg.tensor([1.0], requires_grad=True))  # never gets a gradient, so it has no state
    optimizer = getattr(optim, name)(params, **options)
    schedule = optim.StepLR(optimizer, 2)
    run(optimizer, params[:3], 3)
    schedule.step()
    saved = copy.deepcopy({"params": [p.detach() for p in params], "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()})
    numbers = {k: saved["optimizer"][k] for k in ("param_groups",)}
    saved["optimizer"]["param_groups"] = json.loads(json.dumps(numbers))["param_groups"]
    saved["optimizer"]["state"] = {  # what a file of arrays and a file of text make of it
        str(i): {k: v.numpy() if isinstance(v, mg.Tensor) else v for k, v in s.items()} for i, s in saved["optimizer"]["state"].items()}
    schedule.step()
    expected = run(optimizer, params[:3], 3, start=3)

    others = [mg.tensor(p, requires_grad=True) for p in saved["params"]]
    again = getattr(optim, name)(others)  # other options: they come with the state
    timetable = optim.StepLR(again, 2)
    again.load_state_dict(saved["optimizer"])
    timetable.load_state_dict(saved["schedule"])
    timetable.step()
    assert same(expected, run(again, others[:3], 3, start=3)) and again.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    assert {k: v for k, v in again.param_groups[0].items() if k != "params"} == {
        k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    assert len(again.state_dict()["state"]) == 3


def test_loading_copies_and_state_dict_shares(backend):
    params = variables(np.random.default_rng(0))
    one, two = (optim.SGD(params, lr=0.1, momentum=0.9) for _ in range(2))
    run(one, params, 1)
    state = one.state_dict()
    two.load_state_dict(state)
    before = two.state[params[0]]["momentum_buffer"].copy()
    run(one, params, 1)
    assert state["state"][0]["momentum_buffer"]._data is one.state[params[0]]["momentum_buffer"]
    assert np.array_equal(to_host(two.state[params[0]]["momentum_buffer"]), to_host(before))


@pytest.mark.parametrize("change, text", [
    (lambda s: s["param_groups"][0]["params"].pop(), "groups of"),
    (lambda s: s["param_groups"][0].pop("momentum"), "options"),
    (lambda s: s["param_groups"][0].update(colour=1), "colour"),
    (lambda s: s["param_groups"][0].update(lr=-1.0), "lr=-1.0"),
    (lambda s: s["state"].update({7: {}}), "parameter 7"),
    (lambda s: s["state"][1].update(momentum_buffer=mg.tensor([1.0])), "momentum_buffer of parameter 1"),
    (lambda s: s["state"][1].update(momentum_buffer=mg.tensor(np.ones(5))), "float64")])
def test_a_wrong_state_is_refused_and_changes_nothing(change, text):
    params = variables(np.random.default_rng(0))
    optimizer = optim.SGD(params, lr=0.1, momentum=0.9)
    run(optimizer, params, 2)
    before, state = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0]["lr"] = 0.5
    change(state)
    with pytest.raises(ValueError, match=text):
        optimizer.load_state_dict(state)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert same([s["momentum_buffer"].numpy() for s in before["state"].values()], [s["momentum_buffer"].numpy() for s in after["state"].values()])


@pytest.mark.parametrize("name, options", [*ALL, ("SGD", {"momentum": 0.9, "foreach": False, "fused": None}), ("Adam", {"capturable": False, "foreach": True})])
def test_states_are_exchanged_with_pytorch(backend, name, options):
    """Both go on from the other's state: with its arrays, its numbers and its options."""
    torch = pytest.importorskip("torch")
    ours = variables(np.random.default_rng(0), "float64", [(3, 4), (), (5,)])
    theirs = [torch.tensor(p.numpy(), requires_grad=True) for p in ours]
    a, b = getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)

    def steps(a, b, seeds):
        for seed in seeds:
            set_gradients(ours, seed)
            for p, q in zip(ours, theirs):
                q.grad = torch.tensor(p.grad.numpy())
            a.step()
            b.step()

    steps(a, b, range(3))
    mine = copy.deepcopy(a.state_dict())
    for state in mine["state"].values():
        state.update({k: torch.tensor(v.numpy()) for k, v in state.items() if isinstance(v, mg.Tensor)})
    described = lambda states: {i: {k: () if k == "step" else tuple(v.shape) for k, v in s.items() if v is not None} for i, s in states.items() if s}
    assert described(mine["state"]) == described(b.state_dict()["state"])
    again, other = getattr(optim, name)(ours), getattr(torch.optim, name)(theirs)
    again.load_state_dict(b.state_dict())
    other.load_state_dict(mine)
    steps(again, other, range(3, 6))
    for p, q in zip(ours, theirs):
        assert relative_error(p, q.detach().numpy()) < 1e-13
    assert {type(s.get("step", 1)) for s in again.state.values()} == {int}


def test_the_state_of_another_kind_of_adam_is_refused():
    torch = pytest.importorskip("torch")
    state = torch.optim.AdamW([torch.ones(1, requires_grad=True)]).state_dict()
    optim.AdamW([X]).load_state_dict(state)
    with pytest.raises(ValueError, match="decoupled"):
        optim.Adam([X]).load_state_dict(state)


def test_deepcopy_of_model_and_optimizer_go_on_together():
    model = nn.Linear(3, 2)
    optimizer = optim.Adam(model.parameters())
    run(optimizer, list(model.parameters()), 2)
    twin, theirs = copy.deepcopy((model, optimizer))
    expected = run(theirs, list(twin.parameters()), 2, start=2)
    assert not same(expected, [p.numpy() for p in model.parameters()])
    assert same(expected, run(optimizer, list(model.parameters()), 2, start=2))


def test_moving_the_model_before_training_keeps_the_optimizer(fake_device):
    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.to("fake")
    run(optimizer, list(model.parameters()), 2)
    assert type(optimizer.state[model.weight]["momentum_buffer"]) is fake_device.ndarray
    model.to("numpy")
    set_gradients(model.parameters(), 0)
    with pytest.raises(mg.BackendError, match="before the first step"):
        optimizer.step()


# -- errors ------------------------------------------------------------------------------------------------------------

X, Y = mg.tensor([1.0], requires_grad=True), mg.tensor([2.0], requires_grad=True)


@pytest.mark.parametrize("make, kind, text", [
    (lambda: optim.SGD([]), ValueError, "no parameters"),
    (lambda: optim.SGD(nn.ReLU().parameters()), ValueError, "no parameters"),
    (lambda: optim.SGD(X), TypeError, r"\[x\]"),
    (lambda: optim.SGD({"params": [X]}), TypeError, "iterable"),
    (lambda: optim.SGD([X, Y, X]), ValueError, "twice"),
    (lambda: optim.SGD([{"params": [X]}, {"params": [Y, X]}]), ValueError, "twice"),
    (lambda: optim.SGD([X * 2.0]), TypeError, "taped op"),
    (lambda: optim.SGD([mg.tensor([1])]), TypeError, "int64"),
    (lambda: optim.SGD(nn.Linear(1, 1).named_parameters()), TypeError, "second of each pair"),
    (lambda: optim.SGD([{"params": [X]}, Y]), TypeError, "dictionaries"),
    (lambda: optim.SGD([{"weights": [X]}]), TypeError, "params"),
    (lambda: optim.SGD([{"params": [X], "beta": 1}]), ValueError, "beta"),
    (lambda: optim.SGD([X], lr=-0.1), ValueError, "lr=-0.1"),
    (lambda: optim.SGD([X], lr=math.nan), ValueError, "lr=nan"),
    (lambda: optim.SGD([X], lr=mg.tensor(0.1)), ValueError, "a number of at least 0"),
    (lambda: optim.SGD([X], momentum=-1), ValueError, "momentum"),
    (lambda: optim.SGD([X], weight_decay=-1), ValueError, "weight_decay"),
    (lambda: optim.SGD([X], nesterov=True), ValueError, "nesterov"),
    (lambda: optim.SGD([X], momentum=0.9, dampening=0.1, nesterov=True), ValueError, "dampening"),
    (lambda: optim.SGD([{"params": [X], "lr": -1}], lr=0.1), ValueError, "lr"),
    (lambda: optim.Adam([X], betas=(0.9, 1.0)), ValueError, "betas"),
    (lambda: optim.Adam([X], eps=-1e-8), ValueError, "eps"),
    (lambda: optim.RMSprop([X], alpha=-1), ValueError, "alpha"),
    (lambda: optim.StepLR(nn.ReLU(), 1), TypeError, "Optimizer"),
    (lambda: optim.SGD([X], differentiable=True), NotImplementedError, "leaves out"),
    (lambda: optim.SGD([X], initial_lr=1.0), ValueError, "initial_lr"),
    (lambda: optim.Adam([X], decoupled_weight_decay=True), ValueError, "AdamW"),
    (lambda: optim.Adam([X], nesterov=True), ValueError, "nesterov"),
    (lambda: optim.OneCycleLR(nn.ReLU(), 1.0, 5), TypeError, "Optimizer"),
    (lambda: optim.OneCycleLR(optim.SGD([X]), 1.0), ValueError, "steps_per_epoch"),
    (lambda: optim.OneCycleLR(optim.SGD([X]), 1.0, 0), ValueError, "total_steps"),
    (lambda: optim.OneCycleLR(optim.SGD([X]), [1.0, 2.0], 5), ValueError, "2 values of max_lr for 1 group"),
    (lambda: optim.OneCycleLR(optim.SGD([X]), 1.0, 5, anneal_strategy="exp"), ValueError, "anneal_strategy"),
    (lambda: optim.OneCycleLR(optim.SGD([X]), 1.0, 5, last_epoch=2), ValueError, "max_lr"),
    (lambda: optim.CosineAnnealingWarmRestarts(optim.SGD([X]), 0), ValueError, "T_0"),
    (lambda: optim.CosineAnnealingWarmRestarts(optim.SGD([X]), 2, 1.5), ValueError, "T_mult"),
    (lambda: optim.CosineAnnealingWarmRestarts(optim.SGD([X]), 2).step(-1), ValueError, "epoch=-1"),
    (lambda: optim.ReduceLROnPlateau(nn.ReLU()), TypeError, "Optimizer"),
    (lambda: optim.ReduceLROnPlateau(optim.SGD([X]), factor=1.0), ValueError, "factor"),
    (lambda: optim.ReduceLROnPlateau(optim.SGD([X]), mode="lowest"), ValueError, "mode"),
    (lambda: optim.ReduceLROnPlateau(optim.SGD([X]), min_lr=[0.1, 0.2]), ValueError, "min_lr"),
    (lambda: optim.SequentialLR(o := optim.SGD([X]), [optim.ReduceLROnPlateau(o)], []), TypeError, "plateau"),
    (lambda: optim.StepLR(optim.SGD([X]), 0), ValueError, "step_size"),
    (lambda: optim.CosineAnnealingLR(optim.SGD([X]), 0), ValueError, "T_max"),
    (lambda: optim.StepLR(optim.SGD([X]), 1, last_epoch=3), ValueError, "initial_lr"),
    (lambda: optim.LinearLR(optim.SGD([X]), 0.0), ValueError, "start_factor"),
    (lambda: optim.LambdaLR(optim.SGD([X]), [abs, abs]), ValueError, "2 functions for 1 group"),
    (lambda: optim.SequentialLR(optim.SGD([X]), [], []), ValueError, "milestones"),
    (lambda: optim.SequentialLR(optim.SGD([X]), [optim.StepLR(optim.SGD([Y]), 1)], []), ValueError, "same optimizer"),
    (lambda: optim.clip_grad_norm_([X], -1.0), ValueError, "max_norm"),
    (lambda: optim.clip_grad_value_([X], -1.0), ValueError, "clip_value"),
    (lambda: optim.clip_grad_norm_(nn.Linear(1, 1).named_parameters(), 1.0), TypeError, "parameters"),
])
def test_mistakes_are_explained(make, kind, text):
    with pytest.raises(kind, match=text):
        make()


def test_a_parameter_without_gradient_is_skipped(backend):
    x, y = variables(np.random.default_rng(0), shapes=[(2,), (3,)])
    optimizer = optim.Adam([x, y], lr=0.1)
    x.grad, before = mg.tensor([1.0, -1.0]), y.numpy()
    optimizer.step()
    assert np.array_equal(y.numpy(), before) and y not in optimizer.state and optimizer.state[x]["step"] == 1
    optimizer.zero_grad()
    assert x.grad is None and "group 0: 2 parameters, lr=0.1" in repr(optimizer)


# -- schedules ---------------------------------------------------------------------------------------------------------

SCHEDULES = {
    "ExponentialLR": lambda lib, o: lib.ExponentialLR(o, 0.9), "restarts": lambda lib, o: lib.CosineAnnealingWarmRestarts(o, 3, eta_min=0.02),
    "longer and longer": lambda lib, o: lib.CosineAnnealingWarmRestarts(o, 2, 3), "one cycle": lambda lib, o: lib.OneCycleLR(o, 0.5, 25),
    "one cycle by epochs": lambda lib, o: lib.OneCycleLR(o, [0.5, 0.7], epochs=6, steps_per_epoch=4, pct_start=0.2, anneal_strategy="linear", div_factor=10,
                                                        final_div_factor=100, base_momentum=0.6, max_momentum=[0.9, 0.8]),
    "three phases": lambda lib, o: lib.OneCycleLR(o, 0.5, 30, three_phase=True), "no momentum": lambda lib, o: lib.OneCycleLR(o, 0.5, 22, cycle_momentum=False),
    "cycle after a warm-up": lambda lib, o: lib.SequentialLR(o, [lib.ExponentialLR(o, 0.5), lib.CosineAnnealingWarmRestarts(o, 4)], [5]),
    "StepLR": lambda lib, o: lib.StepLR(o, 3, 0.5), "MultiStepLR": lambda lib, o: lib.MultiStepLR(o, [7, 2, 2, 11]),
    "CosineAnnealingLR": lambda lib, o: lib.CosineAnnealingLR(o, 6, eta_min=0.01),
    "LinearLR": lambda lib, o: lib.LinearLR(o), "LinearLR down": lambda lib, o: lib.LinearLR(o, 1.0, 0.0, 8),
    "LambdaLR": lambda lib, o: lib.LambdaLR(o, lambda t: 0.9**t), "LambdaLR by group": lambda lib, o: lib.LambdaLR(o, [lambda t: 1 / (1 + t), lambda t: t]),
    "warm-up": lambda lib, o: lib.SequentialLR(o, [lib.LinearLR(o, 0.1, total_iters=4), lib.CosineAnnealingLR(o, 8)], [4]),
    "three": lambda lib, o: lib.SequentialLR(o, [lib.StepLR(o, 1), lib.LambdaLR(o, lambda t: 1 + t), lib.MultiStepLR(o, [3])], [3, 6]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_agree_with_pytorch(name):
    torch = pytest.importorskip("torch")
    ours = optim.SGD([{"params": [X]}, {"params": [Y], "lr": 0.3}], lr=0.1)
    a, b = (torch.ones(1, requires_grad=True) for _ in range(2))
    theirs = torch.optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.3}], lr=0.1)
    one, two = SCHEDULES[name](optim.lr_scheduler, ours), SCHEDULES[name](torch.optim.lr_scheduler, theirs)
    for _ in range(20):
        assert one.get_last_lr() == pytest.approx(two.get_last_lr(), rel=1e-9, abs=1e-12)
        assert [g["momentum"] for g in ours.param_groups] == pytest.approx([g["momentum"] for g in theirs.param_groups], rel=1e-9)
        assert ours.param_groups[0].keys() <= theirs.param_groups[0].keys()
        one.step()
        two.step()


VALUES = {  # computed by hand: lr at t = 0, 1, 2, ... for lr₀ = 1
    "ExponentialLR": (lambda o: optim.ExponentialLR(o, 0.5), [1, 0.5, 0.25, 0.125]),
    "restarts": (lambda o: optim.CosineAnnealingWarmRestarts(o, 2), [1, 0.5, 1, 0.5, 1]),
    "longer restarts": (lambda o: optim.CosineAnnealingWarmRestarts(o, 1, 2, eta_min=0.2),
                        [1, 1, 0.6, 1, 0.6 + 0.4 * math.sqrt(0.5), 0.6, 0.6 - 0.4 * math.sqrt(0.5), 1]),
    "one cycle": (lambda o: optim.OneCycleLR(o, 2.0, 5, pct_start=0.6, div_factor=4, final_div_factor=2), [0.5, 1.25, 2, 1.125, 0.25]),
    "linear cycle": (lambda o: optim.OneCycleLR(o, 2.0, 6, pct_start=0.5, anneal_strategy="linear", div_factor=2, final_div_factor=4),
                     [1, 1.5, 2, 2 - 1.75 / 3, 2 - 3.5 / 3, 0.25]),
    "three phases": (lambda o: optim.OneCycleLR(o, 3.0, 6, pct_start=0.5, anneal_strategy="linear", div_factor=3, final_div_factor=2, three_phase=True),
                     [1, 2, 3, 2, 1, 0.5]),
}


@pytest.mark.parametrize("name", VALUES)
def test_schedules_have_the_values_of_their_formula(name):
    make, expected = VALUES[name]
    schedule = make(optim.SGD([X], lr=1.0))
    for lr in expected:
        assert schedule.get_last_lr() == pytest.approx([lr], rel=1e-12)
        schedule.step()


def test_one_cycle_moves_momentum_or_beta_against_the_learning_rate_and_ends():
    for optimizer, momentum in ((optim.SGD([X], momentum=0.5), lambda g: g["momentum"]), (optim.Adam([X]), lambda g: g["betas"][0])):
        schedule, seen = optim.OneCycleLR(optimizer, 1.0, 4, pct_start=0.5, anneal_strategy="linear"), []
        for _ in range(4):
            seen.append(momentum(optimizer.param_groups[0]))
            schedule.step()
        assert seen == pytest.approx([0.95, 0.85, 0.9, 0.95])
        with pytest.raises(ValueError, match="total_steps=4"):
            schedule.step()
    optimizer = optim.RMSprop([X])
    optim.OneCycleLR(optimizer, 1.0, 4)
    assert optimizer.param_groups[0]["momentum"] == 0.95


def test_restarts_go_to_fractions_of_an_epoch():
    torch = pytest.importorskip("torch")
    ours, theirs = optim.SGD([X], lr=0.3), torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.3)
    one, two = (lib.CosineAnnealingWarmRestarts(o, 2, 2) for lib, o in ((optim, ours), (torch.optim.lr_scheduler, theirs)))
    for t in (0.25, 1.75, 2, 3.5, 0.5, 9.25):
        one.step(t)
        two.step(t)
        assert one.get_last_lr() == pytest.approx(two.get_last_lr(), rel=1e-9)


METRICS = [5.0, 4.0, 4.0, 3.9999, 4.1, 3.0, 3.2, math.nan, 3.1, 3.0, 2.9, 2.95, 2.9, 2.9, 2.9, 2.9, -1.0, -1.0, -1.0, -1.0, -1.1, -1.1, -1.1]


@pytest.mark.parametrize("options", [
    {"patience": 1}, {"patience": 0, "factor": 0.5, "cooldown": 2}, {"patience": 2, "threshold": 0.1},
    {"patience": 1, "threshold": 0.05, "threshold_mode": "abs"},
    {"mode": "max", "patience": 1}, {"mode": "max", "patience": 1, "threshold_mode": "abs", "threshold": 0.2}, {"patience": 0, "min_lr": [0.05, 0.001]},
    {"patience": 0, "eps": 1e-3}], ids=str)
def test_reduction_on_a_plateau_agrees_with_pytorch_and_resumes(options):
    torch = pytest.importorskip("torch")
    ours = optim.SGD([{"params": [X]}, {"params": [Y], "lr": 0.3}], lr=0.1)
    theirs = torch.optim.SGD([{"params": [torch.ones(1, requires_grad=True)]}, {"params": [torch.ones(1, requires_grad=True)], "lr": 0.3}], lr=0.1)
    one, two = optim.ReduceLROnPlateau(ours, **options), torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    for i, value in enumerate(METRICS):
        one.step(mg.tensor(np.array(value)) if i % 2 else value)
        two.step(value)
        assert one.get_last_lr() == pytest.approx([g["lr"] for g in theirs.param_groups], rel=1e-9)
        if i == 10:  # go on with new objects, from text
            saved = json.loads(json.dumps(one.state_dict()))
            again = optim.SGD([{"params": [X]}, {"params": [Y]}], lr=7.0)
            again.load_state_dict(ours.state_dict())
            ours, one = again, optim.ReduceLROnPlateau(again, **options)
            one.load_state_dict(saved)


def test_reduction_on_a_plateau_counts_patience_and_cooldown():
    optimizer = optim.SGD([X], lr=1.0)
    schedule, seen = optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, cooldown=2), []
    for value in [3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 1.0, 1.0]:  # bad: 1, 2 (more than patience), cooldown twice, then 1, 2
        schedule.step(value)
        seen += schedule.get_last_lr()
    assert seen == [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]


@pytest.mark.parametrize("order", ["optimizer, build, schedule", "build, optimizer, schedule", "build, schedule, optimizer"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_resumed_schedule_has_the_right_learning_rate_at_once(name, order):
    def optimizer(lr=0.1):
        return optim.SGD([{"params": [X]}, {"params": [Y], "lr": 3 * lr}], lr=lr)

    first = optimizer()
    schedule = SCHEDULES[name](optim, first)
    for _ in range(7):
        schedule.step()
    saved = copy.deepcopy((first.state_dict(), schedule.state_dict()))
    again, other = optimizer(5.0), None
    for what in order.split(", "):
        if what == "build":
            other = SCHEDULES[name](optim, again)
        elif what == "optimizer":
            again.load_state_dict(saved[0])
        else:
            other.load_state_dict(saved[1])
    for _ in range(4):
        assert [{**g, "params": None} for g in again.param_groups] == [{**g, "params": None} for g in first.param_groups]
        schedule.step()
        other.step()


@pytest.mark.parametrize("make", [lambda o: optim.CosineAnnealingLR(o, 10, eta_min=0.01), lambda o: optim.StepLR(o, 2), lambda o: optim.ExponentialLR(o, 0.9),
                                  lambda o: optim.MultiStepLR(o, [3]), lambda o: optim.CosineAnnealingWarmRestarts(o, 10),
                                  lambda o: optim.LambdaLR(o, lambda t: 1 / (1 + t))])
def test_a_schedule_that_is_built_after_the_state_was_loaded_leaves_its_learning_rate(make):
    optimizer = optim.SGD([X], lr=0.1)
    schedule = make(optimizer)
    for _ in range(4):
        schedule.step()
    again = optim.SGD([X], lr=5.0)
    again.load_state_dict(optimizer.state_dict())
    other = make(again)
    assert other.get_last_lr() == schedule.get_last_lr() and other.base_lrs == [0.1]


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_resume(name):
    def make(**keywords):
        optimizer = optim.SGD([{"params": [X]}, {"params": [Y], "lr": 0.3}], lr=0.1)
        return optimizer, SCHEDULES[name](optim, optimizer)

    _, one = make()
    for _ in range(5):
        one.step()
    optimizer, other = make()
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    optimizer.load_state_dict(one.optimizer.state_dict())
    for _ in range(5):
        assert one.get_last_lr() == other.get_last_lr()
        one.step()
        other.step()
    with pytest.raises(ValueError, match="1 learning rates"):
        one.load_state_dict({"last_epoch": 0, "base_lrs": [0.1]})


def test_last_epoch_goes_on_from_a_loaded_optimizer():
    optimizer = optim.SGD([X], lr=1.0)
    schedule = optim.StepLR(optimizer, 2)
    for _ in range(3):
        schedule.step()
    again = optim.SGD([X], lr=5.0)
    again.load_state_dict(optimizer.state_dict())
    assert optim.StepLR(again, 2, last_epoch=3).get_last_lr() == [0.1 ** 2]


# -- clipping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_type", [1, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clip_grad_norm_agrees_with_pytorch(backend, norm_type, max_norm, rng):
    torch = pytest.importorskip("torch")
    ours = [*variables(rng), mg.tensor([1.0], requires_grad=True)]
    set_gradients(ours[:3], 0)
    theirs = [torch.tensor(p.numpy(), requires_grad=True) for p in ours]
    for p, q in zip(ours[:3], theirs):
        q.grad = torch.tensor(p.grad.numpy())
    a = optim.clip_grad_norm_(iter(ours), max_norm, norm_type)
    b = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    assert isinstance(a, mg.Tensor) and a.shape == () and a.backend == backend
    for x, y in [(a, b), *zip([p.grad for p in ours[:3]], [q.grad for q in theirs])]:
        assert relative_error(x.numpy(), y.numpy()) < 1e-6
    optim.clip_grad_value_(ours, 0.01)
    torch.nn.utils.clip_grad_value_(theirs, 0.01)
    assert all(relative_error(p.grad.numpy(), q.grad.numpy()) < 1e-6 for p, q in zip(ours[:3], theirs))


def test_clipping_leaves_taped_gradients_and_mixed_dtypes_right(backend):
    x = mg.tensor([3.0, 4.0], requires_grad=True)
    y = mg.tensor(np.array([0.5]), requires_grad=True, backend=backend)
    (x * x * x).backward(mg.tensor([1.0, 2.0]), create_graph=True)
    taped, y.grad = x.grad, mg.tensor(np.array([12.0]), backend=backend)
    norm = optim.clip_grad_norm_([x, y], 1.0)
    assert norm.item() == pytest.approx(math.sqrt(27**2 + 96**2 + 12**2), rel=1e-6)
    assert taped.tolist() == [27.0, 96.0] and str(x.grad.dtype) == "float32" and str(y.grad.dtype) == "float64"
    assert x.grad.tolist() == pytest.approx([27 / norm.item(), 96 / norm.item()], rel=1e-5)
    half = mg.tensor(np.array([300.0, 400.0], "float16"), requires_grad=True, backend=backend)
    half.grad = half.detach().clone()
    assert optim.clip_grad_norm_(half, 1e3).item() == 500.0  # its squares overflow float16


def test_a_norm_that_is_not_finite(backend):
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    x.grad = mg.tensor([math.inf, 1.0])
    with pytest.raises(mg.NonFiniteError, match="norm inf"):
        optim.clip_grad_norm_(x, 1.0, error_if_nonfinite=True)
    assert x.grad.tolist() == [math.inf, 1.0]
    x.grad = None
    assert optim.clip_grad_norm_(x, 1.0).item() == 0.0


def test_a_closure_computes_the_loss_and_its_result_is_returned(backend, rng):
    for name, options in [(name, several[0]) for name, several in CASES.items()]:
        results = []
        for closed in (False, True):
            (p,) = variables(np.random.default_rng(0), shapes=[(3, 4)])
            optimizer = getattr(optim, name)([p], **{"lr": 0.1, **options})

            def closure(p=p, optimizer=optimizer):
                optimizer.zero_grad()
                loss = (p * p * p).sum()
                loss.backward()
                return loss
            for _ in range(3):
                loss = optimizer.step(closure) if closed else closure()
                if not closed:
                    assert optimizer.step() is None
            results.append((to_host(p), loss.item()))
        assert (results[0][0] == results[1][0]).all() and results[0][1] == results[1][1]
    with pytest.raises(TypeError, match=r"RMSprop: got step\(the float 0.1\)"):
        optimizer.step(0.1)


@pytest.mark.parametrize("number", [np.float32(0.1), np.float16(0.1), np.int64(1)])
def test_numpys_scalars_are_numbers_and_change_no_dtype(number, backend, rng):
    (p,), (q,) = variables(np.random.default_rng(0), shapes=[(3, 4)]), variables(np.random.default_rng(0), shapes=[(3, 4)])
    for variable, momentum in ((p, number), (q, number.item())):
        optimizer = optim.SGD([variable], lr=momentum, momentum=momentum)
        json.dumps(optimizer.state_dict()["param_groups"])
        for _ in range(2):
            set_gradients([variable], 1)
            optimizer.step()
    assert p.dtype == "float32" and (to_host(p) == to_host(q)).all()


@pytest.mark.parametrize("size, dtype", [(1e25, "float32"), (3e37, "float32"), (6e4, "float16"), (1e-30, "float32")])
@pytest.mark.parametrize("norm_type", [2.0, 3.0])
def test_clipping_knows_the_norm_of_any_finite_gradient(size, dtype, norm_type, backend):
    (p,) = variables(np.random.default_rng(0), dtype, [(3, 4)])
    direction = np.random.default_rng(1).uniform(-1, 1, (3, 4))
    p.grad = mg.tensor((size * direction).astype(dtype), backend=backend)
    exact = to_host(p.grad).astype("float64")
    expected = (np.abs(exact) ** norm_type).sum() ** (1 / norm_type)
    norm = optim.clip_grad_norm_([p], 1.0, norm_type)
    assert norm.dtype == "float32" and abs(norm.item() / expected - 1) < 1e-6
    tolerance = 2e-3 if dtype == "float16" else 1e-6
    np.testing.assert_allclose(to_host(p.grad).astype("float64"), exact * min(1, 1 / (expected + 1e-6)), rtol=tolerance, atol=1e-4 * (dtype == "float16"))
