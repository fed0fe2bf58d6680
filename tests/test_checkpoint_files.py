"""Checkpoints: what is saved comes back, and a file that is not whole is refused by name."""

import os

import numpy as np
import pytest

import layers
import minigrad as mg
from minigrad import checkpoint, nn, optim


def training(seed=0):
    mg.seed(seed)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), layers.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    return model, optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def step(model, optimizer, seed):
    rng = np.random.default_rng(seed)
    x = mg.tensor(rng.normal(size=(5, 1, 8, 8)).astype("float32"), backend=mg.backend.current_name())
    t = mg.tensor(rng.integers(0, 3, 5), backend=mg.backend.current_name())
    optimizer.zero_grad()
    mg.cross_entropy(model(x), t).backward()
    optimizer.step()


def test_a_training_continues_bit_for_bit(backend, tmp_path):
    model, optimizer = training()
    for i in range(3):
        step(model, optimizer, i)
    checkpoint.save(tmp_path / "run.safetensors", {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 3})
    step(model, optimizer, 3)
    other, other_optimizer = training(seed=1)
    state = checkpoint.load(tmp_path / "run.safetensors")
    other.load_state_dict(state["model"])
    other_optimizer.load_state_dict(state["optimizer"])
    assert state["step"] == 3
    step(other, other_optimizer, 3)
    for key, value in model.state_dict().items():
        assert np.array_equal(value.numpy(), other.state_dict()[key].numpy()), key


@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b[: len(b) // 2], lambda b: b[:-3] + bytes([b[-3] ^ 1]) + b[-2:], lambda b: b""])
def test_a_damaged_file_is_refused_by_name(tmp_path, damage):
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, training()[0].state_dict())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises((ValueError, OSError), match=r"model\.safetensors"):
        checkpoint.load(path)


def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, {"step": 1})

    def full(descriptor):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"model\.safetensors"):
        checkpoint.save(path, {"step": 2})
    monkeypatch.undo()
    assert checkpoint.load(path) == {"step": 1} and os.listdir(tmp_path) == ["model.safetensors"]


def test_a_missing_file_and_an_unknown_type_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        checkpoint.load(tmp_path / "nowhere.safetensors")
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path / "x.safetensors", {"f": print})


def test_pytorch_reads_it_and_the_other_way_round(tmp_path):
    torch_files = pytest.importorskip("safetensors.torch")
    pytest.importorskip("torch")
    model = training()[0]
    checkpoint.save(tmp_path / "ours.safetensors", model.state_dict())
    theirs = torch_files.load_file(tmp_path / "ours.safetensors")
    assert {k: tuple(v.shape) for k, v in theirs.items()} == {k: v.shape for k, v in model.state_dict().items()}
    torch_files.save_file(theirs, tmp_path / "theirs.safetensors")
    model.load_state_dict(checkpoint.load(tmp_path / "theirs.safetensors"))
