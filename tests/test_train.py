"""scripts/train.py: training, resuming bit for bit, and everything that can go wrong, each with its own clear end."""

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
from minigrad import checkpoint
from scripts import options as options_module
from scripts import train
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
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


def test_a_run_killed_between_the_last_step_of_an_epoch_and_its_test_has_the_test_when_resumed(tmp_path):
    common = ["--checkpoint-interval", 4, "--epochs", 2]  # 44 steps an epoch: a checkpoint falls on its last
    assert run("--out", tmp_path / "whole", *common) == 0
    trainer = Trainer(train.parse([*SMALL, "--out", str(tmp_path / "run"), *map(str, common)])[0])

    def killed():
        raise RuntimeError("killed")
    trainer.test = killed
    with pytest.raises(RuntimeError, match="killed"):
        trainer.run()
    assert run("--resume", tmp_path / "run" / "last.safetensors") == 0
    assert content(tmp_path / "whole") == content(tmp_path / "run")


def test_the_readme_has_the_table_of_all_options():
    assert options_module.table() in (ROOT / "README.md").read_text("utf-8")


# -- on every backend ------------------------------------------------------------------------------------------------------


def test_the_script_trains_where_it_is_told(backend, tmp_path, capsys):
    try:
        assert run("--backend", backend, "--max-steps", 4, "--out", tmp_path / "run") == 0
    finally:
        mg.use("numpy")
    assert (tmp_path / "run" / "last.safetensors").exists()
