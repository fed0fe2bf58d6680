"""The GPU benchmark runs on every backend, so that it is no surprise on the day that there is a GPU."""

import json

import pytest

from benchmarks import gpu


@pytest.mark.more
def test_the_rehearsal_measures_everything_and_checks_it(backend, tmp_path, capsys):
    gpu.main(["--backend", backend, "--small", "--repeats", "1", "--out", str(tmp_path)])
    (report,) = tmp_path.glob("gpu_*.json")
    found = json.loads(report.read_text("utf-8"))
    assert {row["layer"] for row in found["norms"]} == {*gpu.NORMS} and len(found["steps"]) == 2
    assert all(row["error"] < 1e-5 for row in found["norms"])
    assert "rehearsal" in report.with_suffix(".md").read_text("utf-8") and "batch norm" in capsys.readouterr().out
