"""Every sample of PyTorch's module and optimizer tests, for every class that minigrad has too; learning rates of all schedules."""

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: make torch-oracle installs it")
pytest.importorskip("expecttest", reason="expecttest is not installed, which PyTorch's tests import: make torch-oracle installs it")

import numpy as np
import torch

import minigrad as mg

from .agreements import refused
from .differential import EPS, Without
from .modules import NAMES, compare_module, described, forms_of, module_samples, optimizer_options, optimizer_paths

pytestmark = [pytest.mark.torch_oracle, pytest.mark.filterwarnings("ignore")]
FEW = {"NLLLoss": 24}  # samples compared at least, where it is fewer than half of them


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name, form", [(name, form) for name in NAMES for form in forms_of(name)])
def test_every_module_agrees_in_both_orders(name, form, dtype, tally):
    failures, count = {}, 0
    for training in (True, False):
        for i, sample in enumerate(module_samples(name, dtype, training)):
            count += 1
            try:
                with np.errstate(all="ignore"):
                    order, found = compare_module(name, sample, dtype, training, form, i)
            except Exception as e:
                refused(e, tally, failures, described(sample))
                continue
            tally["different" if found else f"order {order}"] += 1
            if found:
                failures.setdefault(found[0].what, f"{described(sample)}, training={training}\n    " + "\n    ".join(f"{d.what}: {d.text}" for d in found))
    compared = sum(n for what, n in tally.items() if what.startswith("order"))
    assert not failures, f"{tally['different']} samples of {name} differ, {len(failures)} kinds:\n" + "\n".join(failures.values())
    assert compared >= min(FEW.get(name, count), count // 2), f"only {compared} of {count} samples of {name} were compared: {dict(tally)}"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_every_optimizer_takes_the_same_path(name, dtype, tally):
    """12 steps: each adds a few roundings to parameters of size 1."""
    for options in optimizer_options(name):
        try:
            mine, theirs = optimizer_paths(name, options, dtype)
        except Without as e:
            tally[str(e)] += 1
            continue
        for a, b in zip(mine, theirs, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=64 * EPS[dtype], atol=64 * EPS[dtype], err_msg=f"{name}({options})")
        tally["order 0"] += 1
    assert tally["order 0"] >= 2, dict(tally)


SCHEDULES = {
    "StepLR": [{"step_size": 3}, {"step_size": 1, "gamma": 0.5}],
    "MultiStepLR": [{"milestones": [2, 5, 5, 9], "gamma": 0.3}],
    "LinearLR": [{}, {"start_factor": 0.1, "end_factor": 0.7, "total_iters": 7}],
    "CosineAnnealingLR": [{"T_max": 10}, {"T_max": 25, "eta_min": 0.01}],
    "ExponentialLR": [{"gamma": 0.9}],
    "CosineAnnealingWarmRestarts": [{"T_0": 4}, {"T_0": 3, "T_mult": 2, "eta_min": 0.001}],
    "OneCycleLR": [{"max_lr": 0.5, "total_steps": 30}, {"max_lr": 0.5, "total_steps": 30, "pct_start": 0.2, "anneal_strategy": "linear"}],
}


@pytest.mark.parametrize("name, options", [(name, options) for name, several in SCHEDULES.items() for options in several], ids=str)
def test_every_schedule_gives_the_same_rates(name, options, tally):
    if not hasattr(mg.optim, name):
        tally[f"no {name}"] += 1
        pytest.skip(f"minigrad has no {name}")
    rates = []
    for made, library in ((mg.tensor([0.0], requires_grad=True), mg.optim), (torch.zeros(1, requires_grad=True), torch.optim.lr_scheduler)):
        optimizer = (mg.optim if library is mg.optim else torch.optim).SGD([made], lr=0.1, momentum=0.9)
        schedule = getattr(library, name)(optimizer, **options)
        found = []
        for _ in range(25):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        rates.append(found)
    np.testing.assert_allclose(*rates, rtol=1e-12, atol=1e-15)
    tally["order 0"] += 1
