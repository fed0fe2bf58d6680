"""Checkpoints: what is saved comes back, and a file that is not whole is refused by name."""

import copy
import json
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


# -- files and states of another kind ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("content", "words", "fix"), [
    (b"PK\x03\x04" + bytes(200), "looks like a zip archive: PyTorch's torch.save, or an .npz", r"safetensors\.torch\.save_file"),
    (b"\x80\x04\x95" + bytes(200), "looks like a pickle, which is not read because it can run code", r"safetensors\.torch\.save_file"),
    (b"\x93NUMPY" + bytes(200), "looks like an .npy", r"numpy\.load"), (b"\x89HDF\r\n" + bytes(200), "looks like an HDF5 file", "h5py"),
    (b"\x1f\x8b\x08" + bytes(200), "looks like a gzip-compressed file", "gunzip"), (b"epoch,loss\n1,2\n" * 9, "no safetensors file", "check the name"),
    (b"abc", "no safetensors file", "check the name"), (b"", "which is truncated", "copy it again"),
    (b"\x40\0\0\0\0\0\0\0{}", "truncated or changed", "copy it again"),
])
def test_a_file_of_another_kind_is_said_to_be_one(tmp_path, content, words, fix):
    path = tmp_path / "some.file"
    path.write_bytes(content)
    for read in (checkpoint.load, checkpoint.metadata):
        with pytest.raises(ValueError, match=rf"(?s)checkpoint\.load: got .*some\.file, {len(content)} bytes.*{words}.*fix: .*{fix}"):
            read(path)


@pytest.mark.parametrize("size", [128, 0x8b1f])
def test_a_header_whose_length_looks_like_another_kind_of_file_is_read(tmp_path, size):
    """The first bytes of a file are the length of its header: 128 begins as a pickle does, 35,615 as gzip."""
    text = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode().ljust(size)
    path = tmp_path / "x.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + text + np.float32(1).tobytes())
    assert path.read_bytes()[:1] in (b"\x80", b"\x1f")
    assert checkpoint.load(path)["w"].tolist() == [1.0]


def test_folders_unreadable_files_and_what_is_no_path_are_named(tmp_path, monkeypatch):
    with pytest.raises(IsADirectoryError, match=r"checkpoint\.load: got the folder .*\n.*\n.*name one of its files"):
        checkpoint.load(tmp_path)
    for wrong in (None, 3, b"x.safetensors", open(os.devnull, "rb")):
        with pytest.raises(TypeError, match=r"checkpoint\.load: got .*\n.*the path of a safetensors file"):
            checkpoint.load(wrong)
        if hasattr(wrong, "close"):
            wrong.close()
    (tmp_path / "x").write_bytes(b"")
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda self: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(PermissionError, match="cannot be read: Permission denied") as e:
        checkpoint.load(tmp_path / "x")
    assert e.value.errno == 13


def test_a_module_says_what_to_load_in_the_place_of_a_path_a_module_or_a_whole_run(backend, tmp_path):
    model, optimizer = training()
    path = tmp_path / "run.safetensors"
    checkpoint.save(path, {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    for wrong in (path, str(path)):
        with pytest.raises(TypeError, match=r"fix: .*minigrad\.checkpoint\.load\(path\)"):
            model.load_state_dict(wrong)
    with pytest.raises(TypeError, match=r"fix: .*what its state_dict\(\) returns"):
        model.load_state_dict(training(1)[0])
    state = checkpoint.load(path)
    with pytest.raises(RuntimeError, match=r"(?s)unexpected: model, optimizer.*fix: .*state\['model'\]"):
        model.load_state_dict(state)
    model.load_state_dict(state["model"])
    with pytest.raises(RuntimeError, match=r"build it as the saved one was"):
        nn.Linear(2, 2).load_state_dict(state)


@pytest.mark.parametrize("which", ["optimizer", "schedule"])
def test_optimizers_and_schedules_refuse_the_state_of_something_else(which):
    model, optimizer = training()
    loads = optimizer if which == "optimizer" else optim.lr_scheduler.StepLR(optimizer, 2)
    right, before = copy.deepcopy(loads.state_dict()), repr(loads.state_dict())
    run = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    for wrong in ("run.safetensors", None, [1, 2], model, model.state_dict(), run, {}):
        with pytest.raises(TypeError, match=r"(?s)got .*needs: what the state_dict\(\) of .* returned.*fix: "):
            loads.load_state_dict(wrong)
    if which == "optimizer":
        with pytest.raises(TypeError, match=r'state\["optimizer"\]'):
            loads.load_state_dict(run)
    loads.load_state_dict(right)
    assert repr(loads.state_dict()) == before
