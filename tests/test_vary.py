"""scripts/vary.py, and what scripts/compare.py makes of several seeds: labels, refusals, bands, paired differences."""

import numpy as np
import pytest

from scripts import compare
from scripts.options import FIELDS, Options
from scripts.vary import NOT_VARIED, Axis, axis, described, runs

SMALL = ["--width", "0.25", "--max-steps", "4", "--quiet", "--log-interval", "2"]


@pytest.mark.parametrize(("text", "key", "values", "labels"), [
    ("norm=batch_norm, none", "norm", ("batch_norm", "none"), ["batch_norm", "no norm"]),
    (" lr = 0.1 , 0.05", "lr", (0.1, 0.05), ["lr 0.1", "lr 0.05"]),
    ("batch-size=32,64", "batch_size", (32, 64), ["batch size 32", "batch size 64"]),
    ("parametrization=none,weight_norm", "parametrization", (None, "weight_norm"), ["no parametrization", "weight_norm"]),
    ("norm_options.group_size=8,16", "norm_options.group_size", ("8", "16"), ["group size 8", "group size 16"]),
    ("augment=on,off", "augment", (True, False), ["augment", "no augment"]),
    ("slope=0,0.01", "slope", (0.0, 0.01), ["slope 0.0", "slope 0.01"]),
    ("clip=none,1", "clip", (None, 1.0), ["no clip", "clip 1.0"]),
    ("shortcut=none,A", "shortcut", ("none", "A"), ["no shortcut", "shortcut A"]),
    ("model=resnet20,plain20", "model", ("resnet20", "plain20"), ["resnet20", "plain20"]),
    ("form=composed,stable", "form", ("composed", "stable"), ["composed", "stable"]),
])
def test_any_option_can_vary_and_its_values_become_labels(text, key, values, labels):
    found = axis(text)
    assert (found.key, found.values) == (key, values) and [found.label(v) for v in values] == labels


def test_every_option_of_a_training_can_vary():
    for name, f in FIELDS.items():
        if name not in (*NOT_VARIED, "norm_options", "weight_options"):
            choices = [str(c) for c in f.metadata.get("choices", [])]
            words = choices[:2] or (["on", "off"] if "bool" in str(f.type) else ["derived", "composed"] if name == "form" else ["1", "2"])
            assert len(axis(f"{name}={','.join(words)}").values) == 2, name


@pytest.mark.parametrize(("text", "says"), [
    ("lr", "it takes KEY=VALUE"), ("speed=1,2", "there is nothing to vary called speed; there are model, width"), ("out=a,b", "nothing to vary called out"),
    ("lr.x=1,2", "nothing to vary called lr.x"), ("norm_options=eps=1,eps=2", "norm_options.group_size=8,16"), ("norm_options.=1,2", "one of them"),
    ("lr=0.1,1e-1", "0.1 is there twice"), ("lr=0.1,fast", "it takes numbers"), ("depth=8,8.5", "whole numbers"), ("lr=", "it takes numbers"),
    ("norm=batchnorm", "there is no batchnorm; it takes some of"), ("augment=maybe", "on or off"), ("norm_options.eps=1,,2", "is empty"),
    ("parametrization=none,none", "None is there twice"), ("model=none", "there is no none"),
])
def test_what_cannot_vary_is_refused(text, says):
    with pytest.raises(ValueError, match="--vary") as e:
        axis(text)
    assert says in str(e.value)


def test_runs_are_named_by_what_varies_and_have_folders_of_their_own():
    found = runs(Options(out="r"), [axis("norm_options.eps=1e-3,1e-5"), axis("parametrization=none,weight_norm"), axis("seed=0,1")])
    assert [label for label, _ in found][::2] == [
        "eps 1e-3, no parametrization", "eps 1e-3, weight_norm", "eps 1e-5, no parametrization", "eps 1e-5, weight_norm"]
    assert len({options.out for _, options in found}) == 8 and found[0][1].norm_options == "eps=1e-3"
    assert runs(Options(norm="none", parametrization="centered_weight_norm"), [])[0][0] == "centered_weight_norm"
    assert runs(Options(norm="none"), [axis("seed=0,1")])[0][0] == "no norm"
    assert runs(Options(out="r"), [axis("seed=3")])[0][1].out == "r/batch_norm-derived-3"
    kept = runs(Options(norm_options="momentum=0.2", out="r"), [axis("norm_options.eps=1e-3,1e-5")])[1][1].norm_options
    assert kept == "momentum=0.2,eps=1e-5"


def test_two_runs_that_would_be_the_same_are_refused():
    with pytest.raises(ValueError, match="would be the same run"):
        runs(Options(out="r"), [axis("norm_options.eps=1e-3,0.001")])
    with pytest.raises(ValueError, match="would have the folder"):
        runs(Options(out="r"), [Axis("init_from", ("a b", "a/b"))])


def test_the_title_says_what_all_runs_have_in_common():
    axes = [axis("norm=batch_norm,none"), axis("seed=0,1")]
    assert described(Options(model="plain20", width=0.25, parametrization="weight_norm"), axes) == "plain20, weight_norm, width 0.25 on digits"
    assert described(Options(), [axis("model=resnet20,plain20"), axis("dataset=digits,synthetic")]) == "batch_norm"


@pytest.mark.parametrize(("arguments", "says"), [
    (["--vary", "lr=1,2", "--vary", "lr=3,4"], "lr varies twice"), (["--norms", "none,batch_norm", "--vary", "norm=none,batch_norm"], "norm varies twice"),
    (["--lr", "1", "--vary", "lr=1,2"], "--lr and --vary lr: use one of the two"), (["--vary", "depth=8,14"], "--depth: tiny_cnn has no such option"),
    (["--vary", "norm_options.eps=1e-3,0.001"], "would be the same run"), (["--vary", "slope=2,3"], "--slope 2"),
])
def test_what_makes_no_sense_is_refused_before_training(arguments, says, tmp_path, capsys):
    assert compare.main([*SMALL, "--out", str(tmp_path / "out"), *arguments]) == 2
    assert says in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.more
def test_differences_are_paired_and_few_seeds_are_said(tmp_path, capsys):
    common = [*SMALL, "--out", str(tmp_path), "--vary", "parametrization = none, weight_norm", "--slope", "0.01"]
    assert compare.main([*common, "--seeds", "0,1"]) == 0
    out = capsys.readouterr().out
    assert "With fewer than 3 seeds (2 here) there are no intervals" in out and "| weight_norm | 2 |" in out and " to " not in out
    assert out.startswith("tiny_cnn, batch_norm, width 0.25, slope 0.01 on digits\n")
    assert compare.main([*common, "--seeds", "0,1,2"]) == 0  # one more run each
    out = capsys.readouterr().out
    assert "fewer" not in out and out.count(" to ") == 1 and "minus that of no parametrization, in percentage points, paired by seed" in out
    assert (tmp_path / "compare.png").stat().st_size > 20_000


def log(folder, accuracies):
    folder.mkdir(parents=True)
    rows = [f"{k},0,test,{1 - a},{a},0.1,nan" for k, a in enumerate(accuracies)]
    (folder / "log.csv").write_text("\n".join(["step,epoch,split,loss,accuracy,lr,images_per_second", *rows, ""]), "utf-8")
    return folder


def test_pairs_are_of_equal_seeds_and_a_missing_one_is_left_out(tmp_path):
    groups = {"a": {0: log(tmp_path / "a0", [0.1, 0.5]), 1: log(tmp_path / "a1", [0.6]), 2: log(tmp_path / "a2", [0.9])},
              "b": {2: log(tmp_path / "b2", [0.95]), 0: log(tmp_path / "b0", [0.9, 0.56])}, "c": {7: log(tmp_path / "c7", [0.2])}}
    ((name, n, difference, half),) = compare.paired(groups)
    assert (name, n) == ("b", 2)
    np.testing.assert_allclose((difference, half), (0.055, 12.706204736432095 * np.std([0.06, 0.05], ddof=1) / 2**0.5), rtol=1e-9)


def test_bands_stay_within_what_is_possible():
    mean, low, high = compare.limits(np.array([[0.99], [1.0], [0.94]]), "accuracy")
    assert high[0] == 1.0 and 0 < low[0] < 0.94 and mean[0] < 1
    mean, low, high = compare.limits(np.array([[1e-3], [1.0], [0.5]]), "loss")
    assert 0 < low[0] < 1e-3 and high[0] > 1 and np.isclose(mean[0], (1e-3 * 0.5) ** (1 / 3))
    assert (compare.limits(np.zeros((3, 1)), "loss")[1] > 0).all()


@pytest.mark.more
def test_another_comparison_in_the_folder_is_not_overwritten(tmp_path, capsys):
    small = ["--dataset", "digits", "--train-images", "64", "--batch-size", "32", "--epochs", "1", "--quiet", "--out", str(tmp_path)]
    assert compare.main(["--vary", "lr=0.1,0.05", *small]) == 0
    kept = (tmp_path / "compare.md").read_text("utf-8")
    assert compare.main(["--vary", "momentum=0,0.9", *small]) == 2
    assert "holds the comparison of lr 0.1, lr 0.05: --out another folder" in capsys.readouterr().err
    assert (tmp_path / "compare.md").read_text("utf-8") == kept
    assert compare.main(["--vary", "lr=0.1,0.05,0.01", *small]) == 0  # more of the same goes on
