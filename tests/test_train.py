"""scripts/train.py: training, resuming bit for bit, and everything that can go wrong, each with its own clear end."""

import inspect
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
import models
from benchmarks import depth
from minigrad import checkpoint
from minigrad.kernels.threads import num_threads
from scripts import options as options_module
from scripts import train
from scripts.lock import locked
from scripts.options import Options
from scripts.trainer import Trainer, TrainingError, read_log

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["--dataset", "digits", "--width", "0.25", "--batch-size", "32", "--threads", "1", "--log-interval", "4", "--quiet"]


def run(*arguments):
    return train.main([*SMALL, *map(str, arguments)])


def content(folder):
    """The state and the log of a run, without times and the folder's name."""
    state = checkpoint.load(folder / "last.safetensors", backend="numpy")
    state["options"].pop("out")
    state["options"].pop("max_steps")
    return plain(state), [{k: v for k, v in row.items() if k != "images_per_second"} for row in read_log(folder / "log.csv")]


def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return (value.dtype.name, value.shape, value.numpy().tobytes()) if isinstance(value, mg.Tensor) else value


def test_a_run_writes_log_figure_weights_and_state_and_learns(tmp_path, capsys):
    assert train.main(["--out", str(tmp_path / "run"), "--epochs", "3", "--quiet"]) == 0
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["best.safetensors", "curves.png", "last.safetensors", "log.csv"]
    rows = read_log(tmp_path / "run" / "log.csv")
    assert [row["split"] for row in rows].count("test") == 3 and float(rows[-1]["accuracy"]) > 0.95
    assert "test accuracy 9" in capsys.readouterr().out
    weights = checkpoint.load(tmp_path / "run" / "best.safetensors")
    assert weights["0.weight"].shape == (16, 1, 3, 3)


@pytest.mark.more
@pytest.mark.parametrize("more", [
    ["--augment", "--optimizer", "adam", "--lr", "0.001", "--clip", "1"],
    ["--norm", "inplace_abn", "--slope", "0.01", "--lr-schedule", "step", "--step-size", "1", "--warmup", "5", "--nesterov"],
    ["--norm", "group_norm", "--parametrization", "weight_norm", "--optimizer", "rmsprop", "--lr", "0.001", "--label-smoothing", "0.1"],
    ["--init", "orthonormal", "--penalty", "0.01", "--modulation", "0.5", "--optimizer", "adamw", "--lr-schedule", "constant"],
    ["--norm", "decorrelated_batch_norm", "--form", "composed", "--dtype", "float64"],
], ids=["adam augmented", "in place, step schedule", "weight norm", "orthonormal, modulated", "whitening composed"])
def test_a_stopped_and_resumed_run_ends_with_the_same_bits(tmp_path, more):
    assert run("--out", tmp_path / "whole", "--max-steps", 60, *more) == 0
    assert run("--out", tmp_path / "parts", "--max-steps", 13, *more) == 0
    last = tmp_path / "parts" / "last.safetensors"
    assert train.main(["--resume", str(last), "--max-steps", "47", "--quiet"]) == 0
    assert train.main(["--resume", str(last), "--max-steps", "60", "--quiet"]) == 0
    whole, parts = content(tmp_path / "whole"), content(tmp_path / "parts")
    assert parts[0]["model"] == whole[0]["model"] and parts[0]["optimizer"] == whole[0]["optimizer"] and parts[0]["random"] == whole[0]["random"]


def test_the_log_of_a_run_that_was_interrupted_has_the_same_rows(tmp_path):
    assert run("--out", tmp_path / "whole", "--max-steps", 30) == 0
    first = Trainer(Options(width=0.25, batch_size=32, threads=1, log_interval=4, quiet=True, max_steps=30, out=str(tmp_path / "parts")))
    step = first.train_step

    def stop_at_13(x, t):
        step(x, t)
        first.stopping = first.step == 13
    first.train_step = stop_at_13
    first.run()
    assert train.main(["--resume", str(tmp_path / "parts" / "last.safetensors"), "--quiet"]) == 0
    assert content(tmp_path / "whole") == content(tmp_path / "parts")


def test_a_step_waits_for_the_device_only_at_the_log(fake_device, tmp_path):
    trainer = Trainer(Options(width=0.25, batch_size=32, backend="fake", clip=1.0, augment=True, out=str(tmp_path)))
    try:
        with fake_device.no_sync():
            for x, t in list(trainer.batches(0))[:3]:
                trainer.train_step(x, t)
        assert np.isfinite(trainer.totals()).all()
    finally:
        mg.use("numpy")


def growth(monkeypatch, *arguments):
    """By what factor the gradient grows per layer, in the first step of a run from the command line."""
    found, train_step = [], Trainer.train_step

    def measured(self, x, t):
        found.append(depth.gradients(self.model, x, t))
        train_step(self, x, t)
    with monkeypatch.context() as m:
        m.setattr(Trainer, "train_step", measured)
        try:
            assert run("--max-steps", 1, *arguments) == 0
        finally:
            mg.use("numpy")
    return depth.growth(np.array(found))


@pytest.mark.more
@pytest.mark.parametrize(("model", "seed", "init"), [("plain20", 0, "default"), ("plain20", 1, "orthonormal"), ("plain32", 0, "default")])
def test_modulation_from_the_command_line_keeps_gradients_alike(model, seed, init, tmp_path, monkeypatch):
    """The norm stays the same from block to block. From the first to the last convolution of plain20 the gradient's root mean square then
    halves, because it has a quarter of the elements at the end: by 4 % per layer. What is left is inside the blocks and before the first."""
    common = ["--model", model, "--init", init, "--seed", seed]
    without, full, half = (growth(monkeypatch, *common, "--modulation", s, "--out", tmp_path / str(s)) for s in (0, 1, 0.5))
    assert 0.9 < full <= 1.05 and full + 0.05 < half < without - 0.05


@pytest.mark.more
@pytest.mark.parametrize("init", ["default", "orthonormal"])
@pytest.mark.parametrize("seed", [0, 1])
def test_modulation_from_the_command_line_does_what_lecture_04_and_the_benchmark_measure(backend, seed, init, tmp_path, monkeypatch):
    """On their images: no growth, where it is 1.2 per layer without, and was 1.4 with the modulation around single orthonormal convolutions."""
    from scripts import trainer as module
    images, labels = mg.data.synthetic(64, size=8, seed=3)
    monkeypatch.setattr(module, "load_data", lambda options: {"train": (images[:32], labels[:32]), "test": (images[32:], labels[32:])})
    common = ["--model", "plain20", "--init", init, "--seed", seed, "--backend", backend]
    without, full = (growth(monkeypatch, *common, "--modulation", s, "--out", tmp_path / str(s)) for s in (0, 1))
    assert abs(full - 1) < 0.05 and without > 1.15


@pytest.mark.more
def test_modulation_from_the_command_line_on_every_backend(backend, tmp_path, monkeypatch):
    assert 0.9 < growth(monkeypatch, "--model", "plain20", "--modulation", 1, "--backend", backend, "--out", tmp_path) <= 1.05


# -- ends that are not the end ---------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_the_last_checkpoint(tmp_path, capsys):
    assert run("--out", tmp_path / "run", "--max-steps", 8) == 0
    before = (tmp_path / "run" / "last.safetensors").read_bytes()
    last = tmp_path / "run" / "last.safetensors"
    trainer = Trainer(options_module.merged(train.saved_options(last), {"max_steps": 40}), last)
    next(p for name, p in trainer.model.named_parameters() if name == "4.weight").data[...] = np.inf
    with pytest.raises(TrainingError, match="not finite") as e:
        trainer.run()
    for words in ("step", "learning rate", "parameter", "last.safetensors", "--clip"):
        assert words in str(e.value)
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == before


def test_a_learning_rate_that_is_too_high_is_an_error_not_a_traceback(tmp_path, capsys):
    assert run("--out", tmp_path / "run", "--lr", "1e30", "--norm", "none") == 1
    err = capsys.readouterr().err
    assert "the loss is not finite" in err and "smaller --lr" in err and "Traceback" not in err


def damaged(path, how):
    blob = bytearray(path.read_bytes())
    if how == "truncated":
        blob = blob[: len(blob) // 2]
    elif how == "tampered":
        blob[-5] ^= 1
    else:
        blob = bytearray(b"")
    path.write_bytes(blob)


@pytest.mark.more
@pytest.mark.parametrize("how", ["truncated", "tampered", "empty"])
def test_a_damaged_checkpoint_is_refused(tmp_path, how, capsys):
    assert run("--out", tmp_path / "run", "--max-steps", 4) == 0
    damaged(tmp_path / "run" / "last.safetensors", how)
    assert train.main(["--resume", str(tmp_path / "run" / "last.safetensors")]) == 2
    err = capsys.readouterr().err
    assert "last.safetensors" in err and "Traceback" not in err


@pytest.mark.parametrize(("arguments", "words"), [
    (["--resume", "nowhere.safetensors"], "nowhere.safetensors"),
    (["--init-from", "nowhere.safetensors"], "nowhere.safetensors"),
    (["--norm", "inplace_abn"], "needs --slope"),
    (["--nesterov", "--optimizer", "adam"], "--nesterov needs"),
    (["--batch-size", "0"], "--batch-size 0"),
    (["--batch-size", "5000"], "only 1437 training images"),
    (["--lr", "-1"], "--lr -1"),
    (["--dataset", "cifar10"], "cifar"),
    (["--dataset", "mnist"], "mnist"),
    (["--form", "sideways"], "sideways"),
    (["--backend", "tpu"], "tpu"),
])
def test_what_cannot_work_is_said_before_anything_is_trained(tmp_path, arguments, words, capsys, monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "empty"))
    try:
        assert train.main(["--out", str(tmp_path / "run"), "--quiet", "--max-steps", "2", *arguments]) == 2
    finally:
        mg.use("numpy")
    err = capsys.readouterr().err
    assert words in err.lower() and "Traceback" not in err and not (tmp_path / "run" / "log.csv").exists()


@pytest.mark.more
def test_another_network_or_weights_only_cannot_be_resumed(tmp_path, capsys):
    assert run("--out", tmp_path / "run", "--max-steps", 4) == 0
    last, best = tmp_path / "run" / "last.safetensors", tmp_path / "run" / "best.safetensors"
    assert train.main(["--resume", str(last), "--width", "0.5"]) == 2 and "--width 0.5: the run that is resumed has 0.25" in capsys.readouterr().err
    assert train.main(["--resume", str(last), "--epochs", "50"]) == 2 and "cosine" in capsys.readouterr().err
    assert train.main(["--resume", str(best)]) == 2 and "--init-from" in capsys.readouterr().err
    assert run("--out", tmp_path / "wide", "--init-from", best, "--width", "0.5") == 2
    err = capsys.readouterr().err
    assert "0.weight" in err and "Traceback" not in err
    assert run("--out", tmp_path / "again", "--init-from", best, "--max-steps", 2) == 0


def test_a_new_run_never_overwrites_an_old_one(tmp_path, capsys):
    assert run("--out", tmp_path / "run", "--max-steps", 4) == 0
    before = (tmp_path / "run" / "last.safetensors").read_bytes()
    assert run("--out", tmp_path / "run", "--max-steps", 4) == 1
    assert "holds a run already" in capsys.readouterr().err and (tmp_path / "run" / "last.safetensors").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_said_before_training(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run("--out", tmp_path / "file" / "run") == 1
    assert "cannot write to" in capsys.readouterr().err


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path, capsys, monkeypatch):
    assert run("--out", tmp_path / "run", "--max-steps", 4) == 0
    before = (tmp_path / "run" / "last.safetensors").read_bytes()
    real = os.fsync

    def full(fd):
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".tmp") and "last" in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(28, "No space left on device")
        real(fd)
    monkeypatch.setattr(os, "fsync", full)
    assert train.main(["--resume", str(tmp_path / "run" / "last.safetensors"), "--max-steps", "9", "--quiet"]) == 1
    err = capsys.readouterr().err
    assert "No space left on device" in err and "is whole" in err and "Traceback" not in err
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == before and not list((tmp_path / "run").glob(".last*"))


def start(*arguments):
    command = [sys.executable, "-m", "scripts.train", *map(str, arguments), *([] if "--resume" in arguments else SMALL), "--quiet"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process, seconds=60):
    """True once the condition holds, False if the process ends before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.001)
    raise AssertionError("nothing happened")


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.more)])
def test_ctrl_c_saves_says_how_to_go_on_and_loses_nothing(tmp_path, number):
    process = start("--out", tmp_path / "run", "--epochs", 400)
    log = tmp_path / "run" / "log.csv"
    assert wait_for(lambda: log.exists() and log.stat().st_size > 200, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    last = tmp_path / "run" / "last.safetensors"
    assert process.returncode == 128 + number and f"--resume {last}" in err and "Traceback" not in err
    step = checkpoint.load(last)["step"]
    assert step > 0 and train.main(["--resume", str(last), "--max-steps", str(step + 3), "--quiet"]) == 0


@pytest.mark.slow
def test_twenty_kills_change_nothing(tmp_path):
    """kill -9 at random moments of training and checkpointing: every checkpoint is whole, and the end has the same bits."""
    common = ["--augment", "--checkpoint-interval", 3, "--epochs", 25]
    whole = start("--out", tmp_path / "whole", *common)
    assert whole.wait(300) == 0, whole.stderr.read()
    log, last = tmp_path / "run" / "log.csv", tmp_path / "run" / "last.safetensors"
    luck, kills = random.Random(0), 0
    while True:
        arguments = ["--resume", last] if last.exists() else ["--out", tmp_path / "run", *common]
        process = start(*arguments)
        if kills < 20:
            rows = luck.randrange(1, 8)
            seen = [0, b""]

            def moved(seen=seen, rows=rows):
                """`rows` rows have come since the run began, or that many changes of the checkpoint."""
                now = log.stat().st_size if log.exists() else 0
                if now != seen[0]:
                    seen[:] = [now, seen[1] + b"."]
                return len(seen[1]) > rows
            if wait_for(moved, process):
                time.sleep(luck.random() * 0.01)  # a moment within a step or a checkpoint; whichever it is, nothing depends on it
                process.kill()
                process.wait()
                kills += 1
                if last.exists():
                    assert checkpoint.load(last)["step"] % 3 == 0 or checkpoint.load(last)["step"] % 44 == 0
                continue
        assert process.wait(300) == 0, process.stderr.read()
        break
    assert kills == 20
    assert content(tmp_path / "whole") == content(tmp_path / "run")


@pytest.mark.more
def test_a_run_killed_between_the_last_step_of_an_epoch_and_its_test_has_the_test_when_resumed(tmp_path):
    common = ["--checkpoint-interval", 4, "--epochs", 2]  # 44 steps per epoch: a checkpoint falls on its last
    assert run("--out", tmp_path / "whole", *common) == 0
    trainer = Trainer(train.parse([*SMALL, "--out", str(tmp_path / "run"), *map(str, common)])[0])

    def killed():
        raise KeyboardInterrupt  # not one of the errors after which a run still saves
    trainer.test = killed
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert run("--resume", tmp_path / "run" / "last.safetensors") == 0
    assert content(tmp_path / "whole") == content(tmp_path / "run")

# -- options that make no sense ----------------------------------------------------------------------------------------------

NUMBERS = {name: f for name, f in options_module.FIELDS.items()
           if type(f.default) in (int, float) or (f.default is None and not {"str", "bool"} & {*str(f.type).split()})}


def ended(capsys, *arguments):
    """The exit code of the command, and what it wrote to stderr; argparse ends by SystemExit."""
    try:
        code = train.main([str(a) for a in arguments])
    except SystemExit as e:
        code = e.code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return code, err


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_a_range_and_what_is_outside_is_refused(name, tmp_path, capsys):
    limits = {k: v for k, v in NUMBERS[name].metadata.items() if k in options_module.RANGE}
    assert {"above", "at_least"} & limits.keys(), "a number needs a range"
    outside = ["nan", "inf", "-inf", "1e999", "", "much", *(v - 1 for v in limits.values()), *(limits[k] + 1 for k in ("below", "at_most") if k in limits),
               *(limits[k] for k in ("above", "below") if k in limits)]
    for value in outside:
        if any(k in limits for k in ("below", "at_most")) and isinstance(value, (int, float)) and options_module._inside(value, **limits):
            continue  # one below the upper end may be inside
        code, err = ended(capsys, "--out", tmp_path / "run", f"{options_module.flag(name)}={value}")
        assert code == 2 and options_module.flag(name) in err and not (tmp_path / "run").exists(), (value, err)
    assert options_module.problems(Options()) is None


@pytest.mark.more
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # overflows, which end the run in words
@pytest.mark.parametrize(("name", "value"), [
    *((name, value) for name in NUMBERS for value in (0, 1e300, 10**18)
      if options_module._inside(value, **{k: v for k, v in NUMBERS[name].metadata.items() if k in options_module.RANGE})
      and (isinstance(value, int) or "float" in str(NUMBERS[name].type)) and (name, value) != ("threads", 10**18))])
def test_extreme_numbers_train_or_end_clearly(name, value, tmp_path, capsys):
    more = {"gamma": ["--lr-schedule", "step"], "slope": ["--norm", "inplace_abn"], "momentum": ["--optimizer", "rmsprop"]}.get(name, [])
    code, err = ended(capsys, *SMALL, "--out", tmp_path / "run", "--max-steps", 2, *more, f"{options_module.flag(name)}={value}")
    assert code == 0 or (code in (1, 2) and err.startswith("train: ") and len(err) > 20), err


def test_weights_that_are_computed_are_not_initialized(tmp_path, capsys):
    code, err = ended(capsys, "--out", tmp_path / "run", "--init", "orthonormal", "--parametrization", "weight_norm")
    assert code == 2 and "one of the two" in err and not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", [n for n, f in options_module.FIELDS.items() if "str" in str(f.type)])
def test_empty_texts_are_refused(name, tmp_path, capsys):
    code, err = ended(capsys, "--out", tmp_path / "run", f"{options_module.flag(name)}=")
    assert code == 2 and options_module.flag(name) in err and not (tmp_path / "run").exists()


# -- files that are not what they should be ----------------------------------------------------------------------------------


WRONG = ("missing", "folder", "empty", "text", "tiny", "pickle.pt", "torch.pt", "arrays.npz", "array.npy", "other.safetensors")


def wrong_files(folder):
    """Name -> a path that is neither a run's state nor weights."""
    found = {name: folder / name for name in WRONG}
    found["folder"].mkdir()
    found["empty"].write_bytes(b"")
    found["text"].write_text("step,epoch,loss\n" * 10)
    found["tiny"].write_bytes(b"abc")
    found["pickle.pt"].write_bytes(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.")
    found["torch.pt"].write_bytes(b"PK\x03\x04" + bytes(100))
    np.savez(found["arrays.npz"], w=np.ones(3))
    np.save(found["array.npy"], np.ones(3))
    checkpoint.save(found["other.safetensors"], {"results": {"a": 1}, "step": 3})
    return found


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("option", ["--resume", "--init-from"])
def test_a_wrong_file_is_named_and_said_what_it_is(option, kind, tmp_path, capsys):
    path = wrong_files(tmp_path)[kind]
    code, err = ended(capsys, *([] if option == "--resume" else ["--out", tmp_path / "run"]), option, path)
    assert code == 2 and err.startswith("train: ") and str(path) in err and not (tmp_path / "run").exists()
    says = {"missing": "no file", "folder": "no file at" if option == "--resume" else "the folder", "empty": "0 bytes", "text": "no safetensors file",
            "tiny": "no safetensors", "pickle.pt": "a pickle", "torch.pt": "torch.save", "arrays.npz": ".npz", "array.npy": ".npy",
            "other.safetensors": "no run that can be resumed" if option == "--resume" else "it holds results, step"}
    assert says[kind] in err


@pytest.mark.parametrize("option", ["--resume", "--init-from"])
def test_a_file_that_cannot_be_read_is_named(option, tmp_path, capsys, monkeypatch):
    def refused(self):
        raise PermissionError(13, "Permission denied", str(self))
    (tmp_path / "last.safetensors").write_bytes(b"x")
    monkeypatch.setattr(Path, "read_bytes", refused)
    code, err = ended(capsys, "--out", tmp_path / "run", "--dataset", "synthetic", option, tmp_path / "last.safetensors")
    assert code == 2 and "cannot be read: Permission denied" in err and "permissions" in err


@pytest.mark.more
def test_paths_on_the_command_line_may_begin_with_the_home_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert run("--out=~/a/run", "--max-steps", 2) == 0 and (tmp_path / "a" / "run" / "log.csv").exists()
    assert train.main(["--resume=~/a/run", "--max-steps", "3", "--quiet"]) == 0
    assert run("--out=~/b", "--init-from=~/a/run/best.safetensors", "--max-steps", 1) == 0


@pytest.mark.more
def test_a_run_of_another_folder_or_a_file_of_others_is_never_overwritten(tmp_path, capsys):
    for name, seed in (("a", 0), ("b", 1)):
        assert run("--out", tmp_path / name, "--max-steps", 3, "--seed", seed) == 0
    before = content(tmp_path / "b")
    code, err = ended(capsys, "--resume", tmp_path / "a", "--out", tmp_path / "b", "--max-steps", 6)
    assert code == 1 and "holds a run already" in err and content(tmp_path / "b") == before
    (tmp_path / "a" / "earlier.safetensors").write_bytes((tmp_path / "a" / "last.safetensors").read_bytes())
    code, err = ended(capsys, "--resume", tmp_path / "a" / "earlier.safetensors", "--max-steps", 6)
    assert code == 1 and "holds a run already" in err  # it would overwrite what came later
    assert ended(capsys, "--resume", tmp_path / "a" / "earlier.safetensors", "--max-steps", 6, "--out", tmp_path / "c", "--quiet")[0] == 0
    for foreign in ("name;age\nx;3\n", "\x00\xff" * 10):
        (tmp_path / "d").mkdir(exist_ok=True)
        (tmp_path / "d" / "log.csv").write_bytes(foreign.encode("latin-1"))
        code, err = ended(capsys, *SMALL, "--out", tmp_path / "d", "--max-steps", 2)
        assert code == 1 and "not the log of a training" in err and (tmp_path / "d" / "log.csv").read_bytes() == foreign.encode("latin-1")


# -- what a run begins with --------------------------------------------------------------------------------------------------


@pytest.mark.more
def test_weights_to_begin_with_come_from_a_runs_state_too_in_any_dtype_and_are_not_needed_to_resume(tmp_path):
    assert run("--out", tmp_path / "a", "--max-steps", 3, "--modulation", 1) == 0
    last = tmp_path / "a" / "last.safetensors"
    weights = {k: v.numpy() for k, v in checkpoint.load(last)["model"].items()}
    for dtype in ("float32", "float64"):
        trainer = Trainer(train.parse([*SMALL, "--init-from", str(last), "--dtype", dtype, "--out", str(tmp_path / dtype)])[0])
        for name, value in trainer.model.state_dict().items():
            assert np.array_equal(value.numpy(), weights[name]) and (value.dtype == dtype or name.endswith("num_batches_tracked"))
        trainer.stopping = True
        trainer.run()
    path = tmp_path / "double.safetensors"
    checkpoint.save(path, {k: v.astype("float64") if v.dtype.kind == "f" else v for k, v in weights.items()})
    assert run("--out", tmp_path / "b", "--init-from", path, "--max-steps", 3) == 0
    path.unlink()
    assert run("--resume", tmp_path / "b", "--max-steps", 5) == 0


# -- the end of a run --------------------------------------------------------------------------------------------------------


def files(folder):
    """Name -> content, except of the figure."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "curves.png"}


@pytest.mark.more
def test_a_finished_run_that_is_resumed_says_so_and_changes_nothing(tmp_path, capsys):
    assert run("--out", tmp_path / "run", "--max-steps", 6) == 0
    first, before = capsys.readouterr().out, files(tmp_path / "run")
    for arguments in ([tmp_path / "run" / "last.safetensors"], [tmp_path / "run"], [tmp_path / "run", "--max-steps", 2]):
        assert train.main(["--resume", *map(str, arguments)]) == 0
        out, err = capsys.readouterr()
        assert out == first and "nothing to do: this run has done 6 steps" in err and "--max-steps" in err
        assert files(tmp_path / "run") == before
    assert train.main(["--resume", str(tmp_path / "run"), "--max-steps", "8", "--quiet"]) == 0 and "8 steps" in capsys.readouterr().out


@pytest.mark.more
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), MemoryError(), ValueError("no such colour")])
def test_a_figure_that_cannot_be_drawn_loses_nothing_and_is_drawn_later(tmp_path, capsys, monkeypatch, failure):
    from matplotlib.figure import Figure

    def failing(self, path, **keywords):
        Path(path).write_bytes(b"half")
        raise failure
    with monkeypatch.context() as m:
        m.setattr(Figure, "savefig", failing)
        assert run("--out", tmp_path / "run", "--max-steps", 4) == 1
    out, err = capsys.readouterr()
    assert "4 steps; test accuracy" in out and "cannot draw" in err and f"--resume {tmp_path / 'run' / 'last.safetensors'}" in err and "Traceback" not in err
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["best.safetensors", "last.safetensors", "log.csv"]
    assert len(read_log(tmp_path / "run" / "log.csv")) == 2 and run("--resume", tmp_path / "run") == 0 and (tmp_path / "run" / "curves.png").exists()


class OutOfMemoryError(MemoryError):
    """As CuPy's: cupy.cuda.memory.OutOfMemoryError is a MemoryError."""


class CUDARuntimeError(RuntimeError):
    """As CuPy's, which is none."""


FULL = [OutOfMemoryError("Out of memory allocating 4,294,967,296 bytes (allocated so far: 80,000,000,000 bytes)."), MemoryError(),
        CUDARuntimeError("cudaErrorMemoryAllocation: out of memory"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")]


@pytest.mark.more
@pytest.mark.parametrize(("where", "failure"), [*(("forward", e) for e in FULL), *((where, FULL[0]) for where in ("set-up", "transfer", "optimizer"))])
def test_out_of_memory_is_an_error_with_a_fix_and_the_last_checkpoint_stays(fake_device, backend, where, failure, tmp_path, capsys, monkeypatch):
    from scripts import trainer as module
    assert run("--backend", backend, "--max-steps", 4, "--out", tmp_path / "run") == 0
    before = content(tmp_path / "run")
    steps = []

    def full(*arguments, **keywords):
        raise failure

    def patched_step(self, x, t, step=Trainer.train_step):
        steps.append(self.step)
        if where != "transfer" and len(steps) == 3:
            if where == "optimizer":
                monkeypatch.setattr(self.optimizer, "step", full)
            elif backend == "fake":
                monkeypatch.setattr(fake_device, "empty", full, raising=False)
                monkeypatch.setattr(fake_device, "matmul", full, raising=False)
            else:
                monkeypatch.setattr(mg, "cross_entropy", full)
        step(self, x, t)
    try:
        with monkeypatch.context() as m:
            m.setattr(Trainer, "train_step", patched_step)
            if where == "set-up":
                m.setattr(module, "build_model", full)
            if where == "transfer":
                m.setattr(mg.data, "from_numpy", full)
            code, err = ended(capsys, "--resume", tmp_path / "run", "--max-steps", 9, "--quiet")
            monkeypatch.undo()
    finally:
        mg.use("numpy")
    assert code == (2 if where == "set-up" else 1) and "out of memory" in err and "--batch-size" in err
    assert where == "set-up" or "The last good checkpoint is" in err
    assert content(tmp_path / "run") == before and not (tmp_path / "run" / ".lock").exists()
    assert run("--resume", tmp_path / "run", "--max-steps", 5) == 0
    mg.use("numpy")


@pytest.mark.more
@pytest.mark.parametrize("failure", [FULL[0], FULL[2], KeyboardInterrupt()], ids=lambda e: type(e).__name__)
def test_steps_are_kept_when_their_test_fails_and_a_resumed_run_begins_with_the_test(tmp_path, capsys, monkeypatch, failure):
    assert run("--out", tmp_path / "whole", "--epochs", 2, "--eval-batch-size", 30) == 0
    batches = mg.data.batches

    def full(images, labels, size, **keywords):
        if size == 300:
            raise failure
        return batches(images, labels, size, **keywords)
    with monkeypatch.context() as m:
        m.setattr(mg.data, "batches", full)
        code = run("--out", tmp_path / "run", "--epochs", 2, "--eval-batch-size", 300, "--checkpoint-interval", 40)
    interrupted = isinstance(failure, KeyboardInterrupt)
    assert code == (130 if interrupted else 1) and "Traceback" not in capsys.readouterr().err
    assert checkpoint.load(tmp_path / "run" / "last.safetensors")["step"] == (40 if interrupted else 44)
    assert run("--resume", tmp_path / "run", "--eval-batch-size", 30) == 0
    ours, theirs = content(tmp_path / "run"), content(tmp_path / "whole")
    ours[0]["options"].pop("checkpoint_interval"), theirs[0]["options"].pop("checkpoint_interval")
    assert ours == theirs


def test_an_error_of_a_layer_ends_the_run_in_words(tmp_path, capsys):
    code, err = ended(capsys, *SMALL, "--model", "vgg_a", "--batch-size", 1, "--out", tmp_path / "run")
    assert code == 1 and err.startswith("train: failed after step 0: BatchNorm1d: got") and "There is no checkpoint yet" in err


def test_a_mistake_in_the_program_is_not_hidden(tmp_path, monkeypatch):
    def wrong(self, x, t):
        raise AttributeError("no such thing")
    monkeypatch.setattr(Trainer, "train_step", wrong)
    with pytest.raises(AttributeError, match="no such thing"):
        run("--out", tmp_path / "run")
    assert not (tmp_path / "run" / ".lock").exists()


# -- one process at a time ---------------------------------------------------------------------------------------------------


def test_a_second_process_is_kept_out_and_a_killed_one_leaves_no_lock(tmp_path, capsys):
    out = tmp_path / "run"
    process = start("--out", out, "--epochs", 400, "--checkpoint-interval", 5)
    try:
        assert wait_for((out / "last.safetensors").exists, process)
        log = (out / "log.csv").stat().st_ino
        for arguments in ([*SMALL, "--out", out], ["--resume", out]):
            code, err = ended(capsys, *arguments)
            assert code == 1 and "another process" in err and process.poll() is None
        assert (out / "log.csv").stat().st_ino == log
    finally:
        process.kill()
        process.wait()
    assert (out / ".lock").exists()  # the file, not the lock
    step = checkpoint.load(out / "last.safetensors")["step"]
    assert run("--resume", out, "--max-steps", step + 2) == 0 and not (out / ".lock").exists()


def test_a_lock_holds_between_processes_of_one_folder_only_and_ends_with_its_block(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with locked(tmp_path / "a"), locked(tmp_path / "b"):
        with pytest.raises(BlockingIOError), locked(tmp_path / "a"):
            pass
        assert (tmp_path / "a" / ".lock").exists()
    with locked(tmp_path / "a"):
        pass
    assert not (tmp_path / "a" / ".lock").exists()


def test_a_folder_that_cannot_be_locked_is_said_and_used(tmp_path, capsys, monkeypatch):
    from scripts import lock

    def no_locks(file):
        raise OSError(37, "No locks available")
    monkeypatch.setattr(lock, "_acquire", no_locks)
    assert run("--out", tmp_path / "run", "--max-steps", 2) == 0
    assert "cannot be locked (No locks available)" in capsys.readouterr().err


def test_a_state_that_another_process_has_replaced_is_not_used(tmp_path):
    assert run("--out", tmp_path / "run", "--max-steps", 2) == 0
    options, last = train.parse(["--resume", str(tmp_path / "run"), "--max-steps", "4", "--quiet"])
    slow = Trainer(options, last)
    assert run("--resume", tmp_path / "run", "--max-steps", 3) == 0
    with pytest.raises(TrainingError, match="has changed since it was read"):
        slow.run()
    assert checkpoint.load(last)["step"] == 3


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["parse", "load_data", "build_model", "build_optimizer"])
def test_ctrl_c_during_set_up_is_clean(where, tmp_path, capsys, monkeypatch):
    from scripts import trainer as module

    def interrupted(*arguments):
        raise KeyboardInterrupt
    monkeypatch.setattr(train if where == "parse" else module, where, interrupted)
    assert run("--out", tmp_path / "run") == 130
    assert "stopped before anything was trained" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.more
def test_ctrl_c_before_the_first_step_can_be_resumed_to_the_same_bits(tmp_path, capsys, monkeypatch):
    assert run("--out", tmp_path / "whole", "--max-steps", 6) == 0

    def signalled(self, prepare=Trainer.prepare_folder):
        prepare(self)
        os.kill(os.getpid(), signal.SIGINT)
    with monkeypatch.context() as m:
        m.setattr(Trainer, "prepare_folder", signalled)
        assert run("--out", tmp_path / "run", "--max-steps", 6) == 130
    err = capsys.readouterr().err
    assert "saved at step 0 of 6" in err and "--resume" in err and "Traceback" not in err
    assert run("--resume", tmp_path / "run") == 0
    assert content(tmp_path / "run") == content(tmp_path / "whole")


@pytest.mark.parametrize("module", [*(pytest.param(name, marks=pytest.mark.more) for name in ("scripts", "numpy", "minigrad")), "scripts.trainer"])
def test_ctrl_c_while_modules_are_loaded_leaves_no_traceback(module, tmp_path):
    """At the moment when this module has just been imported."""
    command = [sys.executable, "-X", "importtime", "-m", "scripts.train", "--out", str(tmp_path / "run"), "--quiet", "--epochs", "400"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.split("|")[-1].strip() == module:
            break
    process.send_signal(signal.SIGINT)
    err = "".join(line for line in process.stderr if not line.startswith("import time:"))
    assert process.wait(60) in (130, -signal.SIGINT) and "Traceback" not in err and "stopp" in err  # codespell:ignore stopp


# -- threads -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def threads():
    before = num_threads()
    yield
    mg.set_num_threads(before)


@pytest.mark.more
def test_a_resumed_run_has_the_threads_of_its_beginning(threads, tmp_path, capsys):
    common = [a for a in SMALL if a not in ("--threads", "1")]
    mg.set_num_threads(2)
    assert train.main([*common, "--out", str(tmp_path / "whole"), "--max-steps", "8"]) == 0
    assert train.main([*common, "--out", str(tmp_path / "run"), "--max-steps", "4"]) == 0
    assert checkpoint.load(tmp_path / "run" / "last.safetensors")["machine"]["threads"] == 2 and "threads" not in capsys.readouterr().err
    mg.set_num_threads(1)  # as on another machine
    assert train.main(["--resume", str(tmp_path / "run"), "--max-steps", "8", "--quiet"]) == 0
    assert "goes on with --threads 2, as the run was (usual here is 1)" in capsys.readouterr().err and num_threads() == 2
    for part in ("model", "optimizer"):
        assert content(tmp_path / "run")[0][part] == content(tmp_path / "whole")[0][part]


@pytest.mark.more
def test_another_number_of_threads_may_be_asked_for_and_is_said(threads, tmp_path, capsys):
    assert run("--out", tmp_path / "run", "--max-steps", 4) == 0  # --threads 1
    assert train.main(["--resume", str(tmp_path / "run"), "--max-steps", "6", "--threads", "2", "--quiet"]) == 0
    assert "the run had --threads 1, now it has 2" in (err := capsys.readouterr().err) and "not bit for bit" in err
    assert train.main(["--resume", str(tmp_path / "run"), "--max-steps", "8", "--quiet"]) == 0  # from here on the new number is the run's
    assert "threads" not in capsys.readouterr().err and num_threads() == 2


@pytest.mark.more
@pytest.mark.parametrize(("what", "value"), [("NumPy", "1.0.0"), ("BLAS", "netlib 3"), ("processor", "abacus")])
def test_another_machine_is_said(what, value, tmp_path, capsys):
    assert run("--out", tmp_path / "run", "--max-steps", 4) == 0
    last = tmp_path / "run" / "last.safetensors"
    state = checkpoint.load(last)
    state["machine"][what] = value
    checkpoint.save(last, state)
    assert train.main(["--resume", str(last), "--max-steps", "5", "--quiet"]) == 0
    err = capsys.readouterr().err
    assert f"the run had {what} {value}, now " in err and "not bit for bit" in err


# -- the network ---------------------------------------------------------------------------------------------------------------


def test_every_argument_of_every_network_can_be_typed():
    """All that models.build and the networks take, but what the data decide."""
    taken = {name for constructor in models.MODELS.values() for name in inspect.signature(constructor).parameters}
    assert taken - {"parts", "classes", "in_channels", "size"} == set(options_module.OF_NETWORKS)
    other = {"name": "model", "weight": "parametrization"}
    build = {other.get(n, n) for n in inspect.signature(models.build).parameters} - {"classes", "in_channels", "options"}
    assert build | set(options_module.OF_NETWORKS) <= set(options_module.FIELDS)


@pytest.mark.parametrize(("arguments", "seen"), [
    (["--model", "resnext", "--depth", "11", "--cardinality", "4", "--base-width", "8", "--shortcut", "A"],
     lambda m: m.layer1[0].conv2.groups == 4 and type(m.layer1[0].downsample).__name__ == "ZeroPadded"),
    (["--model", "resnet", "--depth", "8", "--norm", "decorrelated_batch_norm", "--norm-options", "group_size=2, affine=off", "--placement", "all"],
     lambda m: m.layer3[0].bn2.group_size == 2 and m.layer3[0].bn2.weight is None),
    (["--model", "wide_resnet", "--depth", "10", "--k", "2", "--dropout", "0.25"], lambda m: m.layer1[0].dropout.p == 0.25 and m.fc.in_features == 32),
    (["--model", "vgg_a", "--norm", "none", "--classifier-norm", "--activation", "tanh"],
     lambda m: type(m.classifier[1]).__name__ == "BatchNorm1d" and type(m.features[2]).__name__ == "Tanh"),
    (["--channels", "12", "--activation", "elu", "--norm", "inplace_abn"], lambda m: m[0].weight.shape[0] == 3 and m[1].activation == "elu"),
    (["--parametrization", "centered_weight_norm", "--weight-options", "scale=off"], lambda m: len(list(m[0].parametrizations.weight.parameters())) == 1),
], ids=lambda a: a[1] if isinstance(a, list) else "")
def test_options_of_networks_reach_them(arguments, seen, tmp_path):
    trainer = Trainer(train.parse([*SMALL, *arguments, "--out", str(tmp_path)])[0])
    assert seen(trainer.model)
    scores = trainer.model(next(trainer.batches(0))[0])
    assert scores.shape == (32, 10) and np.isfinite(scores.numpy()).all()


@pytest.mark.parametrize(("arguments", "says"), [
    (["--depth", "44"], "--depth: tiny_cnn has no such option; it has --channels"),
    (["--model", "resnet20", "--depth", "44"], "--depth 44: resnet20 means 20; leave it out, or choose --model resnet"),
    (["--model", "plain20", "--depth", "44"], "choose --model plain"), (["--model", "wrn28_10", "--k", "4"], "choose --model wide_resnet"),
    (["--model", "plain20", "--shortcut", "A"], "choose --model resnet20"), (["--model", "resnet", "--depth", "21"], "6n + 2"),
    (["--norm-options", "group_size"], "it takes KEY=VALUE"), (["--norm-options", "eps=1,eps=2"], "eps is there twice"),
    (["--norm-options", "group_size=8"], "group_size for batch_norm"), (["--weight-options", "scale=off"], "--weight-options needs a --parametrization"),
    (["--parametrization", "weight_norm", "--weight-options", "nix=1"], "nix"), (["--norm-options", "eps=much"], "eps"),
    (["--difficulty", "0.5"], "--difficulty is of --dataset synthetic"), (["--train-images", "2000"], "there are only 1437"),
    (["--activation", "tanh", "--slope", "0.1"], "slope"), (["--activation", "tanh", "--norm", "inplace_abn"], "inplace_abn"),
])
def test_options_that_do_not_fit_the_network_are_refused(arguments, says, tmp_path, capsys):
    code, err = ended(capsys, *SMALL, "--out", tmp_path / "run", *arguments)
    assert code in (1, 2) and says in err and not (tmp_path / "run" / "last.safetensors").exists()


def test_only_the_first_training_images_are_used(tmp_path):
    images = mg.data.digits("train")[0]
    trainer = Trainer(train.parse([*SMALL, "--train-images", "100", "--out", str(tmp_path)])[0])
    assert len(trainer.data["train"][0]) == 100 and len(trainer.data["test"][0]) == 360 and trainer.per_epoch == 3
    np.testing.assert_allclose(trainer.data["train"][0].std(), 1, rtol=1e-5)
    assert np.corrcoef(trainer.data["train"][0].ravel(), images[:100].ravel())[0, 1] > 0.9999


def test_the_readme_has_the_table_of_all_options():
    assert options_module.table() in (ROOT / "README.md").read_text("utf-8")


# -- on every backend ------------------------------------------------------------------------------------------------------


def test_the_script_trains_where_it_is_told(backend, tmp_path, capsys):
    try:
        assert run("--backend", backend, "--max-steps", 4, "--out", tmp_path / "run") == 0
    finally:
        mg.use("numpy")
    assert (tmp_path / "run" / "last.safetensors").exists()
