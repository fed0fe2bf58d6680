"""scripts/evaluate.py: accuracies and losses that one can count by hand, views of images, and files and options that do not fit."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import checkpoint, nn
from scripts import evaluate, train
from scripts.evaluate import Views, evaluated, resized
from scripts.trainer import read_log

SMALL = ["--width", "0.25", "--batch-size", "32", "--threads", "1", "--max-steps", "20", "--quiet"]


class Fixed(nn.Module):
    """Scores that stand in the image: (N, C, 1, 1) -> (N, C)."""

    def forward(self, x):
        return mg.reshape(x, (x.shape[0], -1))


def test_accuracies_loss_and_confusion_are_those_counted_by_hand(backend):
    scores = np.array([[9.0, 1, 2, 3, 4, 5, 6], [9, 1, 2, 3, 4, 5, 6], [9, 1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 0, 0]], "float32")
    labels = np.array([0, 6, 1, 3])  # first, second, last of seven; fourth of equal ones
    with mg.use(backend):
        found = evaluated(Fixed(), scores[:, :, None, None], labels, batch_size=3)
    assert (found.top1, found.top5) == (0.25, 0.75)
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    np.testing.assert_allclose(found.loss, -logs[np.arange(4), labels].mean(), rtol=1e-6)
    assert found.confusion.sum() == 4 and [found.confusion[t, 0] for t in labels] == [1, 1, 1, 1]


def test_scores_that_are_equal_or_not_numbers_are_no_success():
    labels = np.arange(10)
    assert evaluated(Fixed(), np.zeros((10, 10, 1, 1), "float32"), labels).top1 == 0.1
    assert evaluated(Fixed(), np.full((10, 10, 1, 1), np.nan, "float32"), labels).top5 <= 0.5


def test_a_network_is_tested_in_eval_mode_and_stays_in_its_own():
    model = nn.Sequential(nn.Dropout(0.9), Fixed())
    images = np.random.default_rng(0).normal(size=(8, 3, 1, 1)).astype("float32")
    labels = images[:, :, 0, 0].argmax(1)
    assert evaluated(model, images, labels).top1 == 1 and model.training
    assert evaluated(model.eval(), images, labels).top1 == 1 and not model.training


def test_views_are_the_middle_the_corners_and_their_mirror_images():
    image = np.arange(20.0).reshape(1, 1, 4, 5)
    (middle,) = Views(crop=2)(image)
    assert middle.tolist() == [[[[6, 7], [11, 12]]]]
    ten = [view[0, 0].tolist() for view in Views(crop=2, ten=True)(image)]
    assert ten == [[[6, 7], [11, 12]], [[7, 6], [12, 11]], [[0, 1], [5, 6]], [[1, 0], [6, 5]], [[3, 4], [8, 9]], [[4, 3], [9, 8]],
                   [[10, 11], [15, 16]], [[11, 10], [16, 15]], [[13, 14], [18, 19]], [[14, 13], [19, 18]]]
    (whole,) = Views()(image)
    assert whole.tolist() == image.tolist() and [v.shape for v in Views(enlarge=8)(image)] == [(1, 1, 8, 8)]
    with pytest.raises(ValueError, match="--crop 5: the images have 4 × 5"):
        list(Views(crop=5)(image))


def test_ten_crops_average_probabilities():
    image = np.zeros((1, 2, 1, 2), "float32")
    image[0, :, 0, 0], image[0, :, 0, 1] = [0.0, np.log(3)], [0.0, 0.0]  # probabilities of class 1: 0.75 at the left, 0.5 at the right
    found = evaluated(Fixed(), image, np.array([1]), Views(crop=1, ten=True))
    np.testing.assert_allclose(np.exp(-found.loss), (6 * 0.75 + 4 * 0.5) / 10, rtol=1e-6)  # the middle of two pixels is the left one


def test_images_are_enlarged_between_the_centres_of_pixels():
    ramp = np.arange(4.0).reshape(1, 1, 1, 4) * np.ones((1, 1, 4, 1))
    np.testing.assert_allclose(resized(ramp, 8)[0, 0, 3], [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    np.testing.assert_allclose(resized(ramp, 4), ramp)
    np.testing.assert_allclose(resized(np.full((2, 3, 5, 5), 7.0), 9), 7.0)
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6))
    for size in (6, 9, 13):
        expected = torch.nn.functional.interpolate(torch.tensor(x), (size, size), mode="bilinear", align_corners=False).numpy()
        np.testing.assert_allclose(resized(x, size), expected, rtol=0, atol=1e-14)


def ended(capsys, *arguments):
    """Exit code, stdout and stderr of the command."""
    try:
        code = evaluate.main([str(a) for a in arguments])
    except SystemExit as e:
        code = e.code
    finally:
        mg.use("numpy")
    found = capsys.readouterr()
    assert "Traceback" not in found.err
    return code, found.out, found.err


@pytest.fixture(autouse=True)
def drawing(request, monkeypatch):
    """Figures are drawn where a test is about them."""
    if "figure" not in request.node.name and "was_at_its_end[numpy-bn]" not in request.node.name:
        monkeypatch.setattr(evaluate, "draw", lambda confusion, figure, title: figure.write_bytes(bytes(6_000)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of a run with batch norm and ReLU, and of one with in-place ABN and its leaky ReLU."""
    folder = tmp_path_factory.mktemp("runs")
    assert train.main([*SMALL, "--out", str(folder / "bn")]) == 0
    assert train.main([*SMALL, "--norm", "inplace_abn", "--slope", "0.01", "--model", "resnet", "--depth", "8", "--out", str(folder / "abn")]) == 0
    return folder


@pytest.mark.more
@pytest.mark.parametrize("name", ["bn", "abn"])
def test_a_run_is_tested_as_it_was_at_its_end(name, runs, capsys, backend, tmp_path):
    row = [r for r in read_log(runs / name / "log.csv") if r["split"] == "test"][-1]
    for path in (runs / name, runs / name / "last.safetensors"):
        code, out, _ = ended(capsys, path, "--backend", backend, "--figure", tmp_path / "c.png")
        assert code == 0 and f"top-1 {float(row['accuracy']):.2%}" in out and f"loss {float(row['loss']):.4f}" in out
    assert (tmp_path / "c.png").stat().st_size > 5_000


@pytest.mark.more
def test_the_same_weights_with_another_activation_or_view(runs, capsys):
    found = {arguments: ended(capsys, runs / "bn", *arguments) for arguments in [
        (), ("--slope", "0.3"), ("--activation", "tanh"), ("--form", "composed"), ("--crop", "8"), ("--enlarge", "10", "--crop", "8", "--ten-crops")]}
    assert all(code == 0 for code, *_ in found.values())
    lines = [out.splitlines()[1] for _, out, _ in found.values()]
    assert lines[0] == lines[3] == lines[4] and len(set(lines)) == 4
    figures = {path.name for path in (runs / "bn").glob("confusion*.png")}  # none has taken the place of another
    assert {"confusion.png", "confusion-slope_0.3.png", "confusion-activation_tanh.png", "confusion-crop_8.png",
            "confusion-crop_8-ten_crops_True-enlarge_10.png"} <= figures
    code, _, err = ended(capsys, runs / "bn", "--crop", "8", "--ten-crops")
    assert code == 2 and "five of them would be the whole image; --enlarge 10" in err
    for arguments, said in ((("--out", "x"), "--figure"), (("--lr", "9"), "--lr: it is for training"), (("--label-smoothing", "0.1"), "--label-smoothing: ")):
        code, _, err = ended(capsys, runs / "bn", *arguments)
        assert code == 2 and said in err
    code, out, _ = ended(capsys, runs / "abn", "--enlarge", "12", "--crop", "10")
    assert code == 0 and "360 test images" in out


def test_in_place_abn_is_tested_with_a_relu_as_batch_norm_and_relu(runs):
    options, path = evaluate.parse([str(runs / "abn"), "--slope", "0"])[1], runs / "abn" / "best.safetensors"
    images = mg.data.digits("test")[0][:16]
    relu = evaluate.network(options, path, images).eval()
    leaky = evaluate.network(evaluate.parse([str(runs / "abn"), "--slope", "1e-9"])[1], path, images).eval()
    np.testing.assert_allclose(relu(mg.tensor(images)).numpy(), leaky(mg.tensor(images)).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("arguments", "says"), [
    (["nowhere.safetensors"], "no file at nowhere"), ([""], "WEIGHTS"), (["--crop", "0", "x"], "--crop 0"), (["--enlarge", "-1", "x"], "--enlarge -1"),
    (["RUN", "--crop", "9"], "the images have 8 × 8"), (["RUN", "--enlarge", "12"], "Linear"), (["RUN", "--width", "0.5"], "0.weight"),
    (["RUN", "--dataset", "synthetic"], "0.weight"), (["RUN", "--dataset", "cifar10"], "cifar"), (["RUN", "--model", "vgg_a"], "got what does not fit"),
    (["RUN", "--activation", "tanh", "--slope", "0.1"], "slope"), (["RUN", "--slope", "nan"], "--slope nan"),
])
def test_what_does_not_fit_is_said(arguments, says, runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    code, _, err = ended(capsys, *[runs / "bn" if a == "RUN" else a for a in arguments])
    assert code == 2 and err.startswith("evaluate: ") and says in err


def test_weights_without_a_run_need_the_options_of_their_network(runs, tmp_path, capsys):
    state = checkpoint.load(runs / "bn" / "best.safetensors")
    checkpoint.save(tmp_path / "w.safetensors", state)
    assert "0.weight" in ended(capsys, tmp_path / "w.safetensors")[2]
    assert ended(capsys, tmp_path / "w.safetensors", "--width", "0.25")[1].splitlines()[1] == ended(capsys, runs / "bn")[1].splitlines()[1]
    checkpoint.save(tmp_path / "old.safetensors", state, {"options": "Options(model='tiny_cnn')"})
    assert ended(capsys, tmp_path / "old.safetensors", "--width", "0.25")[0] == 0


def test_a_figure_that_cannot_be_drawn_leaves_the_numbers(runs, tmp_path, capsys):
    code, out, err = ended(capsys, runs / "bn", "--figure", tmp_path / "missing" / "c.png")
    assert code == 1 and "top-1" in out and "cannot draw" in err


def test_weights_that_do_not_say_how_they_were_trained_are_said(tmp_path, capsys):
    mg.seed(0)
    mg.checkpoint.save(tmp_path / "w.safetensors", evaluate.build_model(evaluate.Options(), 1, 8).state_dict())
    code, _, err = ended(capsys, tmp_path / "w.safetensors")
    assert code == 0 and "does not say how it was trained" in err
