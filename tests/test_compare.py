"""scripts/compare.py and benchmarks/depth.py, in small."""

import csv
import os
import signal

import numpy as np
import pytest

import layers
import minigrad as mg
from benchmarks import depth
from minigrad import data
from scripts import compare, demo
from scripts.trainer import Trainer


@pytest.mark.more
def test_norms_forms_and_seeds_are_trained_drawn_and_compared(tmp_path, capsys):
    arguments = ["--width", "0.25", "--epochs", "2", "--quiet", "--out", str(tmp_path), "--norms", "batch_norm,inplace_abn", "--forms", "composed,derived",
                 "--seeds", "0,1", "--log-interval", "5"]
    assert compare.main(arguments) == 1  # inplace_abn needs a slope: the others are not lost
    out = capsys.readouterr()
    assert "needs --slope" in out.err and "batch_norm, derived | 2 |" in out.out
    assert {p.name for p in tmp_path.iterdir()} >= {"compare.md", "compare.png", "batch_norm-composed-0", "batch_norm-derived-1"}
    with open(tmp_path / "batch_norm-composed-0" / "agreement.csv", newline="") as file:
        differences = [float(row["difference"]) for row in csv.DictReader(file)]
    assert len(differences) == 44 and max(differences) < 1e-4
    before = (tmp_path / "batch_norm-derived-1" / "last.safetensors").stat().st_mtime_ns
    assert compare.main([*arguments, "--slope", "0"]) == 1 and (tmp_path / "batch_norm-derived-1" / "last.safetensors").stat().st_mtime_ns == before
    assert compare.main(["--seeds", "one", "--out", str(tmp_path)]) == 2


@pytest.mark.more
def test_a_comparison_leaves_the_run_as_it_is(tmp_path):
    common = ["--width", "0.25", "--max-steps", "6", "--quiet"]
    assert compare.main([*common, "--out", str(tmp_path / "two"), "--forms", "derived,composed"]) == 0
    assert compare.main([*common, "--out", str(tmp_path / "one"), "--forms", "derived"]) == 0
    logs = [(tmp_path / kind / "batch_norm-derived-0" / "log.csv").read_text().splitlines() for kind in ("two", "one")]
    assert [line.rsplit(",", 1)[0] for line in logs[0]] == [line.rsplit(",", 1)[0] for line in logs[1]]


def test_bands_are_those_of_students_t():
    mean, half = compare.band(np.array([[1.0], [2.0], [3.0]]))
    np.testing.assert_allclose((mean[0], half[0]), (2.0, 4.302652729911275 / 3**0.5))
    assert compare.band(np.array([[1.0]]))[1][0] == 0


def test_modulation_keeps_gradients_alike_where_they_grow_without(capsys):
    rates = depth.main(["--fast"])[20]
    assert rates["Gaussian"] > 1.1 and abs(rates["modulation"] - 1) < 0.05 < rates["orthonormal"] - 1


def test_the_benchmark_and_the_models_wrap_what_lecture_04_wraps(rng):
    images, labels = data.synthetic(8, size=8)
    for seed in range(3):
        by_hand, built = (depth.network(20, kind, seed, 0.25) for kind in ("orthonormal", "modulation"))
        for stage in (by_hand.layer1, by_hand.layer2, by_hand.layer3):
            for name, block in list(stage.named_children()):
                setattr(stage, name, layers.Modulated(block, limit=100.0))
        assert depth.gradients(by_hand, mg.tensor(images), mg.tensor(labels)) == depth.gradients(built, mg.tensor(images), mg.tensor(labels))


SMALL = ["--width", "0.25", "--max-steps", "6", "--quiet", "--log-interval", "3"]


def ended(capsys, *arguments):
    """The exit code, and what was written to stderr."""
    try:
        code = compare.main([str(a) for a in arguments])
    except SystemExit as e:
        code = e.code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return code, err


@pytest.mark.parametrize(("arguments", "says"), [
    (["--seeds", "0,0"], "--seeds 0,0: 0 is there twice"), (["--seeds", "1,01"], "1 is there twice"), (["--norms", "none, none"], "none is there twice"),
    (["--forms", "derived,composed,derived"], "derived is there twice"), (["--seeds", ""], "whole numbers"), (["--seeds", "0,"], "whole numbers"),
    (["--seed", "5", "--seeds", "1"], "--seed and --seeds"), (["--norm", "none", "--norms", "none"], "--norm and --norms"),
    (["--seeds", "0.5"], "whole numbers"), (["--seeds", "nan"], "whole numbers"), (["--norms", ""], "one of its values is empty"),
    (["--norms", "batch_norm,,none"], "one of its values is empty"), (["--norms", ","], "one of its values is empty"),
    (["--norms", "batchnorm,none"], "there is no batchnorm; it takes some of batch_norm"), (["--norms", "batch_norm;none"], "there is no batch_norm;none"),
    (["--forms", "sideways"], "there is no sideways; it takes some of composed"), (["--seeds", "-1"], "--seed -1"), (["--seeds=-1,-2"], "--seed -1"),
    (["--lr", "nan"], "--lr nan"), (["--width", "inf", "--norms", "none,batch_norm"], "--width inf"), (["--epochs", "0"], "--epochs 0"),
    (["--out", ""], "--out:"), (["--form", ""], "--form:"),
])
def test_what_makes_no_sense_is_refused_before_anything_is_trained(arguments, says, tmp_path, capsys):
    code, err = ended(capsys, "--out", tmp_path / "out", *SMALL, *arguments)
    assert code == 2 and err.startswith("compare: ") and says in err and not (tmp_path / "out").exists()


def test_lists_may_have_spaces(tmp_path, capsys):
    assert ended(capsys, *SMALL, "--out", tmp_path, "--norms", "none, batch_norm ", "--seeds", " 0,1 ")[0] == 0
    assert {p.name for p in tmp_path.iterdir()} >= {"none-derived-0", "none-derived-1", "batch_norm-derived-0", "batch_norm-derived-1"}


@pytest.mark.more
@pytest.mark.parametrize("forms", ["derived,composed", "derived"])
def test_a_stopped_comparison_goes_on_to_the_same_result(forms, tmp_path, capsys, monkeypatch):
    common = [*SMALL, "--forms", forms, "--norms", "batch_norm,none", "--checkpoint-interval", "2"]
    assert ended(capsys, *common, "--out", tmp_path / "whole")[0] == 0
    step, seen = Trainer.train_step, []

    def signalled(self, x, t):
        step(self, x, t)
        seen.append(self.options.norm)
        if seen.count("none") == 4:
            os.kill(os.getpid(), signal.SIGINT)
    with monkeypatch.context() as m:
        m.setattr(Trainer, "train_step", signalled)
        code, err = ended(capsys, *common, "--out", tmp_path / "parts")
    assert code == 130 and "the same command goes on" in err
    assert ended(capsys, *common, "--out", tmp_path / "parts")[0] == 0
    for run in (p.name for p in (tmp_path / "whole").iterdir() if p.is_dir()):
        for name in ("log.csv", "agreement.csv"):
            if (tmp_path / "whole" / run / name).exists():
                lines = [(tmp_path / k / run / name).read_text().splitlines() for k in ("whole", "parts")]
                whole, parts = ([line.rsplit(",", name == "log.csv")[0] for line in found] for found in lines)  # without the speed
                assert whole == parts
    assert (tmp_path / "parts" / "batch_norm-derived-0" / "agreement.csv").exists() == ("," in forms)


def test_a_run_with_other_options_is_not_trained_over(tmp_path, capsys):
    assert ended(capsys, *SMALL, "--out", tmp_path)[0] == 0
    last = tmp_path / "batch_norm-derived-0" / "last.safetensors"
    before = last.read_bytes()
    code, err = ended(capsys, *SMALL, "--lr", "0.01", "--out", tmp_path)
    assert code == 1 and "holds a run with other options (--lr 0.05)" in err and last.read_bytes() == before
    last.write_bytes(before[:100])
    code, err = ended(capsys, *SMALL, "--out", tmp_path)
    assert code == 1 and "truncated or changed" in err


@pytest.mark.more
@pytest.mark.parametrize("failure", [MemoryError(), OSError(28, "No space left on device"), ValueError("what a layer says")], ids=lambda e: type(e).__name__)
def test_a_failing_run_does_not_stop_the_others_and_a_failing_summary_loses_nothing(failure, tmp_path, capsys, monkeypatch):
    step = Trainer.train_step

    def failing(self, x, t):
        if self.options.norm == "none":
            raise failure
        step(self, x, t)

    def full(*arguments):
        raise failure
    monkeypatch.setattr(Trainer, "train_step", failing)
    code, err = ended(capsys, *SMALL, "--norms", "none,batch_norm", "--out", tmp_path)
    assert code == 1 and "no norm, seed 0 failed" in err and (tmp_path / "compare.md").exists() and (tmp_path / "compare.png").exists()
    monkeypatch.setattr(compare, "draw", full)
    code, err = ended(capsys, *SMALL, "--norms", "batch_norm", "--out", tmp_path)
    assert code == 1 and "the runs are trained and kept" in err


def test_a_folder_that_is_a_file_and_a_log_without_rows_are_said(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, err = ended(capsys, *SMALL, "--out", tmp_path / "file")
    assert code == 1 and "failed" in err
    assert ended(capsys, *SMALL, "--out", tmp_path / "out")[0] == 0
    log = tmp_path / "out" / "batch_norm-derived-0" / "log.csv"
    log.write_text(log.read_text().splitlines()[0] + "\n")
    code, err = ended(capsys, *SMALL, "--out", tmp_path / "out")
    assert code == 1 and "summary" in err


@pytest.mark.parametrize("arguments", [["--epochs", "0"], ["--epochs", "-1"], ["--epochs", "nan"], ["--seed", "-1"], ["--figure", "."]])
def test_the_demo_refuses_what_would_fail_after_its_training(arguments, capsys):
    with pytest.raises(SystemExit) as e:
        demo.main(arguments)
    assert e.value.code == 2 and arguments[0] in capsys.readouterr().err
