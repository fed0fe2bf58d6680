"""The workshop of the experiments: intervals hold what they promise, verdicts follow from them, and no finished run is lost or repeated."""

import doctest
import json
import math
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from experiments import __main__ as program
from experiments import images, journal, registry, running, statistics, tables, timing
from experiments.registry import ExperimentError, Row, Run, Runs
from experiments.statistics import Band, Interval, above, below, exact, mean, median_ratio, near, paired_difference, ratio, same_sign, share, verdict

ROOT = Path(__file__).parents[1]

# -- intervals ----------------------------------------------------------------------------------------------------------


def coverage(draw, interval, truth, times=2000):
    """The share of intervals that hold the truth."""
    rng = np.random.default_rng(0)
    interval = cache(interval)  # shares are of a few kinds
    found = [interval(draw(rng)) for _ in range(times)]
    return sum(i.low <= truth <= i.high for i in found) / times


@pytest.mark.parametrize("draw, interval, truth, exactly", [
    (lambda rng: tuple(rng.normal(3, 2, 5)), mean, 3.0, True),
    (lambda rng: tuple(map(tuple, rng.normal([[1.0], [0.6]], 1, (2, 4)))), lambda ab: paired_difference(*ab), 0.4, True),
    (lambda rng: tuple(map(tuple, np.exp(rng.normal([[1.0], [0.6]], 0.5, (2, 5))))), lambda ab: ratio(*ab), math.exp(0.4), True),
    (lambda rng: tuple(map(tuple, np.exp(np.clip(rng.standard_cauchy((2, 9)), -1e3, 1e3) * 0.1) * [[2.0], [1.0]])),  # outliers, as clocks have
     lambda ab: median_ratio(*ab), 2.0, False),
    (lambda rng: tuple(map(tuple, rng.exponential(size=(2, 15)))), lambda ab: median_ratio(*ab), 1.0, False),
    (lambda rng: int((rng.random(5) < 0.8).sum()), lambda k: share(k, 5), 0.8, False),
    (lambda rng: int((rng.random(20) < 0.1).sum()), lambda k: share(k, 20), 0.1, False),
], ids=["mean", "paired difference", "ratio", "median ratio, Cauchy", "median ratio, exponential", "share", "share, rare"])
def test_95_percent_of_intervals_hold_the_truth(draw, interval, truth, exactly):
    found = coverage(draw, interval, truth)
    deviation = 3 * math.sqrt(0.95 * 0.05 / 2000)  # three standard deviations of such a share
    assert found >= 0.95 - deviation and (not exactly or found <= 0.95 + deviation), found


def test_pairing_takes_away_what_seeds_have_in_common():
    rng = np.random.default_rng(1)
    common = rng.normal(0, 100, 6)
    found = paired_difference((common + 1).tolist(), (common + rng.normal(0, 0.1, 6)).tolist())
    assert found.high - found.low < 1 < mean(common.tolist()).high - mean(common.tolist()).low


def test_quantiles_of_students_t_are_the_tables_own():
    table = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 11: 2.201, 15: 2.131, 29: 2.045, 30: 2.042, 120: 1.980, 1000: 1.962,
             10**6: 1.960}
    steps = [statistics.student_t(df) - statistics.student_t(df + 1) for df in (99, 100, 101)]  # behind 100 a series takes over from the closed form
    assert max(steps) - min(steps) < 1e-5
    assert {df: round(statistics.student_t(df), 3) for df in table} == table


def test_too_few_values_have_no_interval_and_unfit_ones_no_number():
    assert (mean([2.0]).low, mean([2.0]).high) == (-math.inf, math.inf)
    assert (median_ratio([1.0] * 5, [2.0] * 5).low, median_ratio([1.0] * 6, [2.0] * 6).low) == (0.0, 0.5)
    assert mean([1.0, math.nan]).problem == "1 of 2 are not finite" and mean([]).problem
    assert ratio([1.0, 0.0], [1.0, 1.0]).problem and median_ratio([1.0, -1.0], [1.0, 1.0]).problem
    with pytest.raises(ValueError, match="2 and 1 values are not pairs"):
        paired_difference([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match=r"share\(3, 2\)"):
        share(3, 2)


# -- verdicts -----------------------------------------------------------------------------------------------------------


def interval(estimate, half, n=5, scale="linear"):
    return Interval(estimate, estimate - half, estimate + half, n, "made up", scale=scale)


@pytest.mark.parametrize("ours, band, wanted", [
    (interval(0.4, 0.05), near(0.36, absolute=0.2), "agrees"),
    (interval(0.9, 0.1), near(0.36, absolute=0.2), "differs"),
    (interval(-0.9, 0.1), near(0.36, absolute=0.2), "differs"),
    (interval(0.36, 5.0), near(0.36, absolute=0.2), "cannot tell"),         # holds the number, and everything else
    (interval(0.5, 0.1), near(0.36, absolute=0.2), "cannot tell"),          # lies across an edge
    (interval(2.0, 0.5), same_sign(0.1), "agrees"),
    (interval(-2.0, 0.5), same_sign(0.1), "differs"),
    (interval(2.0, 2.5), same_sign(0.1), "cannot tell"),
    (interval(1.4, 0.1), same_sign(4.3, at=1.0), "agrees"),
    (interval(0.8, 0.1), same_sign(4.3, at=1.0), "differs"),
    (interval(1.0, 0.1), above(2.0), "differs"),
    (interval(1.0, 0.1), below(2.0), "agrees"),
    (exact(71 / 32), near(2.2, factor=1.1), "agrees"),
    (mean([1.0]), near(1.0, absolute=5.0), "cannot tell"),                   # one seed proves nothing
    (mean([1.0, math.inf]), near(1.0, absolute=5.0), "cannot tell"),
])
def test_verdicts_on_made_up_results(ours, band, wanted):
    assert verdict(ours, band).split(":")[0] == wanted


def test_a_verdict_that_cannot_tell_says_what_would_be_needed():
    assert verdict(mean([1.0]), near(1.0, absolute=1.0)) == "cannot tell: about 2 seeds would be needed"
    assert verdict(median_ratio([2.0] * 3, [1.0] * 3), above(1.0)) == "cannot tell: about 6 turns would be needed"
    assert verdict(interval(1e-9, 1.0), same_sign(1.0)) == "cannot tell: more than 10,000 seeds would be needed"
    assert verdict(mean([math.nan, 1.0]), above(0.0)) == "cannot tell: 1 of 2 are not finite"


def test_so_many_seeds_are_enough_indeed():
    rng = np.random.default_rng(2)
    few = paired_difference(rng.normal(0.3, 1, 6).tolist(), [0.0] * 6)
    needed = statistics.runs_needed(few, same_sign(1.0))
    deviation = (few.high - few.low) / 2 * math.sqrt(6) / statistics.student_t(5)
    settled = 0
    for _ in range(400):  # if the truth had the estimate's mean and deviation, this many seeds would tell in about half of all cases
        settled += verdict(mean(rng.normal(few.estimate, deviation, needed).tolist()), same_sign(1.0)) == "agrees"
    assert 0.35 < settled / 400 < 0.65


@pytest.mark.parametrize("truth, wrong", [(0.19, "differs"), (0.21, "agrees")])
def test_wrong_verdicts_are_as_rare_as_the_intervals_promise(truth, wrong):
    rng = np.random.default_rng(3)
    found = [verdict(mean(rng.normal(truth, 0.1, 5).tolist()), near(0.0, absolute=0.2)) for _ in range(2000)]
    assert found.count(wrong) / 2000 <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 2000)


def test_bands_refuse_what_has_no_meaning():
    for bad in (lambda: near(1.0), lambda: near(1.0, absolute=1.0, factor=2.0), lambda: near(-1.0, factor=2.0), lambda: near(1.0, absolute=0.0)):
        with pytest.raises(ValueError, match="it takes absolute"):
            bad()
    with pytest.raises(ValueError, match="no sign"):
        same_sign(0.0)
    assert near(2.0, factor=2.0).holds(1.0) and not near(2.0, factor=2.0).holds(0.99)


@pytest.mark.parametrize("module", [statistics, tables], ids=lambda m: m.__name__)
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0


# -- the registry -------------------------------------------------------------------------------------------------------


@pytest.fixture
def toy():
    """An experiment that counts its runs; `toy.calls` is the list of them."""
    calls = []

    @registry.experiment("toy", document="cwn, figure 1", claim="a differs from b", arms={"a": {"x": 1}, "b": {"x": 2}}, seconds=(0, 0),
                         quick={"seeds": 2, "epochs": 1}, default={"seeds": 3, "epochs": 2}, full={"seeds": 9, "epochs": 2, "arms": ["a"]})
    def toy(arm, seed, epochs):
        calls.append((arm, seed))
        if toy.trouble:
            toy.trouble(arm, seed)
        return {"error": seed + epochs + (arm == "b"), "loss": math.inf, "curve": np.arange(2.0)}

    @toy.table
    def rows(runs):
        """Made up."""
        yield Row("b - a", 1.0, paired_difference(runs.values("b", "error"), runs.values("a", "error")), near(1.0, absolute=0.5), headline=True, note="a note")
        yield Row("a | b", None, mean(runs.values("a", "error")))
    toy.calls, toy.trouble = calls, None
    yield toy
    del registry.REGISTRY["toy"]


def run(toy, folder, mode="quick", **more):
    return running.complete(toy, sizes=toy.sizes(mode, None, more.pop("seeds", None)), dataset=None, folder=folder, jobs=1, quiet=True, **more)


def test_the_sizes_of_every_mode_must_fit_the_function():
    def enter(**more):
        return registry.experiment("toy", document="cwn", claim="", arms="ab", seconds=(0, 0), **{
            "quick": {"seeds": 1}, "default": {"seeds": 1}, "full": {"seeds": 1}, **more})(lambda arm, seed: {})
    with pytest.raises(ValueError, match="quick: the sizes are epochs, seeds; it needs seeds"):
        enter(quick={"seeds": 1, "epochs": 2})
    with pytest.raises(ValueError, match="default"):
        enter(default={})
    assert "toy" not in registry.REGISTRY


def test_a_run_is_its_settings_and_more_seeds_leave_the_others_alone(toy):
    few, many = (toy.settings(toy.sizes("quick", None, n), None) for n in (2, 3))
    assert len(few) == 4 and many[:4] == few
    assert few[0] == {"experiment": "toy", "version": 1, "dataset": None, "arm": "a", "options": {"x": 1}, "seed": 0, "epochs": 1}
    assert [s["arm"] for s in toy.settings(toy.sizes("full", None, 1), None)] == ["a"]


def test_sizes_of_a_dataset_go_over_those_of_the_mode():
    modes = {"default": {"seeds": 2, "train": 5}, "default cifar10": {"train": 7}}
    found = registry.Experiment("t", "cwn", "", lambda: {}, {}, ("digits", "cifar10"), modes, (0, 0), False, 1)
    assert found.sizes("default", "cifar10") == {"seeds": 2, "train": 7} and found.sizes("default", "digits", 4) == {"seeds": 4, "train": 5}


def test_all_experiments_of_the_folder_are_listed_and_named_as_their_files():
    known = registry.load_all()
    files = {f.stem for f in (ROOT / "experiments").glob("*.py")} - set(registry.WORKSHOP) - {"__init__"}
    assert set(known) == files and all(e.rows is not None for e in known.values())


def test_a_wrong_name_is_answered_by_the_right_ones(capsys):
    assert program.main(["jacobian_batchsize"]) == 1
    assert "do you mean jacobian_batch_size?" in capsys.readouterr().err


# -- runs and their journal ---------------------------------------------------------------------------------------------


def test_finished_runs_are_not_repeated(toy, tmp_path):
    runs = run(toy, tmp_path)
    assert len(toy.calls) == len(runs) == 4 and runs.values("b", "error") == [2, 3] and runs.arms == ["a", "b"]
    assert runs[0].result["loss"] == math.inf and runs.pooled("a", "curve") == [0.0, 1.0, 0.0, 1.0]
    again = run(toy, tmp_path, seeds=3)
    assert toy.calls[4:] == [("a", 2), ("b", 2)] and len(again) == 6
    assert again[0].result == runs[0].result


def test_other_options_of_an_arm_or_another_version_are_other_runs(toy, tmp_path):
    run(toy, tmp_path)
    toy.arms["b"]["x"] = 3
    run(toy, tmp_path)
    assert toy.calls[4:] == [("b", 0), ("b", 1)]
    toy.version = 2
    run(toy, tmp_path)
    assert len(toy.calls) == 10


def test_a_stopped_experiment_goes_on(toy, tmp_path):
    def stop(arm, seed):
        if (arm, seed) == ("a", 1):
            raise KeyboardInterrupt
    toy.trouble = stop
    with pytest.raises(KeyboardInterrupt):
        run(toy, tmp_path)
    toy.trouble = None
    run(toy, tmp_path)
    assert toy.calls == [("a", 0), ("b", 0), ("a", 1), ("a", 1), ("b", 1)]


def test_a_failed_run_stops_no_other_and_is_named(toy, tmp_path):
    def fail(arm, seed):
        if (arm, seed) == ("b", 0):
            raise ArithmeticError("singular")
    toy.trouble = fail
    with pytest.raises(ExperimentError, match=r"(?s)1 of 4 runs failed.*b, seed 0: .*ArithmeticError: singular"):
        run(toy, tmp_path)
    assert len((tmp_path / "runs.jsonl").read_text("utf-8").splitlines()) == 3


@pytest.mark.parametrize("cut", [1, 20])
def test_a_torn_last_line_is_reported_and_done_again(toy, tmp_path, capsys, cut):
    run(toy, tmp_path)
    path = tmp_path / "runs.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    runs = run(toy, tmp_path)
    assert "the last line is torn" in capsys.readouterr().err
    assert toy.calls[4:] == [("b", 1)] and len(runs) == 4
    assert [json.loads(line)["settings"] for line in path.read_text("utf-8").splitlines()] == [json.loads(line)["settings"] for line in whole.splitlines()]


def test_a_damaged_line_is_named(toy, tmp_path):
    run(toy, tmp_path)
    path = tmp_path / "runs.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"settings"', b'"sittings"', 1))
    with pytest.raises(ExperimentError, match=r"runs.jsonl, line 1: not a finished run"):
        run(toy, tmp_path)


def test_a_second_process_is_refused(toy, tmp_path):
    with journal.opened(tmp_path), pytest.raises(ExperimentError, match="another process runs this experiment"):
        run(toy, tmp_path)
    assert toy.calls == []


def test_on_a_full_disk_nothing_is_lost(toy, tmp_path):
    resource = pytest.importorskip("resource")
    run(toy, tmp_path)
    path = tmp_path / "runs.jsonl"
    whole = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 30, limits[1]))  # there is room for a part of a line
    try:
        with pytest.raises(ExperimentError, match=r"(?s)cannot write .*4 finished runs are whole\. Make room.*append this line") as caught:
            run(toy, tmp_path, seeds=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == whole
    path.write_bytes(whole + str(caught.value).splitlines()[-1].encode() + b"\n")
    before = len(toy.calls)
    assert len(run(toy, tmp_path, seeds=3)) == 6 and toy.calls[before:] == [("b", 2)]


def test_what_json_cannot_say_is_refused_where_it_is_returned(toy, tmp_path):
    toy.run = lambda arm, seed, epochs: {"model": object()}
    with pytest.raises(ExperimentError, match="a run returned a object, which JSON cannot say"):
        run(toy, tmp_path)


def test_the_key_does_not_depend_on_the_order_or_on_numpy():
    assert journal.key({"a": 1, "b": (1.0, None)}) == journal.key({"b": (np.float64(1.0), None), "a": np.int64(1)})


def test_a_file_that_cannot_be_written_is_named(toy, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExperimentError, match=r"cannot write to .*file"):
        run(toy, tmp_path / "file")


def test_timings_are_not_taken_side_by_side(toy, tmp_path):
    toy.timing = True
    with pytest.raises(ExperimentError, match="would measure each other"):
        running.complete(toy, sizes=toy.sizes("quick", None), dataset=None, folder=tmp_path, jobs=2)


# -- tables -------------------------------------------------------------------------------------------------------------


def test_the_table_has_the_documents_number_ours_and_the_verdict(toy, tmp_path):
    runs = run(toy, tmp_path)
    tables.write(toy, runs, dataset=None, folder=tmp_path, stem="table", command="python -m experiments toy --quick")
    page = (tmp_path / "table.md").read_text("utf-8")
    assert "| b - a | 1 | 1 ± 0 (n = 2) | agrees | within ± 0.5 | Student's t of paired differences |" in page
    assert "a \\| b | – | 1.5 ± 6.35 (n = 2) |  |" in page and "- b - a: a note" in page and "Made up." in page and "epochs 1" in page
    found = json.loads((tmp_path / "table.json").read_text("utf-8"))
    assert found["rows"][0]["verdict"] == "agrees" and found["sizes"] == {"seeds": 2, "epochs": 1} and found["runs"] == 4
    assert (tmp_path / "table.png").read_bytes()[:4] == b"\x89PNG"


def test_the_readmes_table_is_made_of_the_headlines(toy, tmp_path):
    tables.write(toy, run(toy, tmp_path / "toy"), dataset=None, folder=tmp_path / "toy", stem="table", command="")
    lines = tables.readme({"toy": toy}, tmp_path).splitlines()
    assert len(lines) == 3 and lines[2].startswith("| cwn, figure 1 | b - a | 1 | 1") and "[toy](experiments/results/toy/" in lines[2]


def test_the_readme_has_the_committed_results():
    text = (ROOT / "README.md").read_text("utf-8")
    made = tables.readme(registry.load_all(), ROOT / "experiments" / "results")
    assert text.split("<!-- python -m experiments --readme -->\n")[1].split("\n<!-- end -->")[0] == made


def test_commands_in_results_have_no_places_of_a_machine(toy, tmp_path):
    assert program.main(["toy", "--quick", "--out", str(tmp_path), "--jobs=1", "--data", "there", "--quiet", "--seeds", "2"]) == 0
    assert json.loads((tmp_path / "toy" / "table.json").read_text("utf-8"))["command"] == "python -m experiments toy --quick --seeds 2"


@pytest.mark.parametrize("arguments, words", [
    (["toy", "--dataset", "digits"], "it reads no images"), (["toy", "--seeds", "0"], "--seeds 0: it takes 1 or more")])
def test_wrong_options_are_answered(toy, arguments, words, capsys):
    assert program.main(arguments) == 1
    assert words in capsys.readouterr().err


# -- timing and images --------------------------------------------------------------------------------------------------


@pytest.mark.more
def test_turns_are_interleaved_and_the_clock_is_read_around_each():
    order, now = [], [0.0]

    def thing(name, seconds):
        def do():
            order.append(name)
            now[0] += seconds
        return do
    times = timing.interleaved({"a": thing("a", 1.0), "b": thing("b", 3.0)}, 3, clock=lambda: now[0])
    assert times == {"a": [1.0] * 3, "b": [3.0] * 3} and "".join(order) == "baabbaab"


def test_reduced_sets_are_balanced_small_and_normalized():
    found = images.load("digits", train=100, test=50, pixels=4)
    assert found.train[0].shape == (100, 1, 4, 4) and found.test[0].shape == (50, 1, 4, 4) and (found.channels, found.pixels, found.classes) == (1, 4, 10)
    assert np.bincount(found.train[1]).tolist() == [10] * 10
    assert abs(found.train[0].mean()) < 1e-5 and abs(found.train[0].std() - 1) < 1e-5
    noisy, clean = (images.load("synthetic", train=40, test=20, pixels=8, noise=noise, classes=20) for noise in (0.5, 0.0))
    assert noisy.classes == 20 and abs(noisy.train[0] - clean.train[0]).max() > 0.1
    again = images.load.__wrapped__("synthetic", train=40, test=20, pixels=8, noise=0.5, classes=20)
    assert all((a[0] == b[0]).all() for a, b in zip(again[:2], noisy[:2]))


def test_impossible_sizes_and_missing_data_are_said():
    with pytest.raises(ValueError, match="pixels=3: it takes a divisor of 8"):
        images.load("digits", train=20, test=20, pixels=3)
    with pytest.raises(ValueError, match="it takes one of digits"):
        images.load("digit", train=20, test=20)


def test_missing_data_are_found_before_anything_is_run(tmp_path, capsys):
    assert program.main(["jacobian_batch_size", "--quick", "--dataset", "cifar10", "--data", str(tmp_path / "none"), "--out", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "cifar-10-binary.tar.gz" in err and "--data FOLDER" in err and "Nothing was run" in err


@pytest.mark.slow
def test_cifar10_is_read_from_the_official_layout(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    record = np.zeros((10_000, 3073), np.uint8)
    record[:, 0], record[:, 1:] = np.arange(10_000) % 10, np.arange(10_000)[:, None] % 251
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        (folder / name).write_bytes(record.tobytes())
    found = images.load("cifar10", train=50, test=20, pixels=16, folder=str(tmp_path))
    assert found.train[0].shape == (50, 3, 16, 16) and np.bincount(found.test[1]).tolist() == [2] * 10


# -- the real thing -----------------------------------------------------------------------------------------------------


KILLED = """
import os, signal, sys
from pathlib import Path
from experiments import registry, running
from experiments.registry import Row
flag = Path(sys.argv[1]) / "flag"

@registry.experiment("killed", document="cwn", claim="", arms=("a", "b"), seconds=(0, 0), quick={"seeds": 3}, default={"seeds": 3}, full={"seeds": 3})
def killed(arm, seed):
    print(arm, seed, flush=True)
    if seed == 1 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"x": seed}

running.complete(killed, sizes=killed.sizes("quick", None), dataset=None, folder=Path(sys.argv[1]), jobs=1, quiet=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows kills in another way")
def test_a_killed_process_loses_at_most_the_run_that_it_was_at(tmp_path):
    first, second = (subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True) for _ in range(2))
    assert first.returncode == -signal.SIGKILL and first.stdout.split("\n")[:-1] == ["a 0", "b 0", "a 1"]
    assert second.returncode == 0 and second.stdout.split("\n")[:-1] == ["a 1", "b 1", "a 2", "b 2"], second.stderr


@pytest.mark.slow
def test_runs_side_by_side_give_the_same_results(tmp_path):
    found = []
    for jobs in (1, 2):
        folder = tmp_path / str(jobs)
        done = subprocess.run([sys.executable, "-m", "experiments", "jacobian_batch_size", "--quick", "--jobs", str(jobs), "--out", str(folder), "--quiet"],
                              cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        lines = (folder / "jacobian_batch_size" / "runs.jsonl").read_text("utf-8").splitlines()
        found.append(sorted(json.dumps([json.loads(line)["settings"], json.loads(line)["result"]]) for line in lines))
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(registry.load_all()))
def test_every_quick_run_runs(name, tmp_path, capsys):
    assert program.main([name, "--quick", "--jobs", "1", "--out", str(tmp_path), "--quiet"]) == 0, capsys.readouterr().err
    assert "| verdict |" in capsys.readouterr().out
    assert list((tmp_path / name).glob("*.png"))


def test_runs_are_a_sequence():
    runs = Runs([Run({"arm": "a", "seed": 1}, {"x": 2}, 0.1), Run({"arm": "a", "seed": 0}, {"x": 1}, 0.1)], {})
    assert runs.values("a", "x") == [1, 2] and [r.seed for r in runs] == [1, 0]
    assert Band(0, 1, "").holds(1) and Row("q", None, exact(1.0)).verdict == ""
