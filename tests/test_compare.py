"""scripts/compare.py and benchmarks/depth.py, in small."""

import csv

import numpy as np

from benchmarks import depth
from scripts import compare


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


def test_a_comparison_leaves_the_run_as_it_is(tmp_path):
    common = ["--width", "0.25", "--max-steps", "6", "--quiet"]
    assert compare.main([*common, "--out", str(tmp_path / "two"), "--forms", "derived,composed"]) == 0
    assert compare.main([*common, "--out", str(tmp_path / "one"), "--forms", "derived"]) == 0
    logs = [(tmp_path / kind / "batch_norm-derived-0" / "log.csv").read_text().splitlines() for kind in ("two", "one")]
    assert [line.rsplit(",", 1)[0] for line in logs[0]] == [line.rsplit(",", 1)[0] for line in logs[1]]


def test_bands_are_those_of_students_t():
    mean, half = compare.band(np.array([[1.0], [2.0], [3.0]]))
    np.testing.assert_allclose((mean[0], half[0]), (2.0, 4.303 / 3**0.5))
    assert compare.band(np.array([[1.0]]))[1][0] == 0


def test_modulation_keeps_gradients_alike_where_they_grow_without(capsys):
    rates = depth.main(["--fast"])[20]
    assert rates["Gaussian"] > 1.1 and abs(rates["modulation"] - 1) < 0.05 < rates["orthonormal"] - 1
