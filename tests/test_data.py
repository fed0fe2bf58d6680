"""Data sets and batches, and that the data files travel with the package."""

import configparser
import csv
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
import models
from minigrad import data, downloads, optim
from minigrad.core.tensor import Tensor

ROOT = Path(__file__).resolve().parents[1]


def linear_accuracy(train, test):
    """Test accuracy of ridge regression on one-hot labels: the linear yardstick, without a training loop."""
    mean = train[0].mean(axis=0, dtype=np.float64)
    x, x_test = ((images - mean).reshape(len(images), -1) for images in (train[0], test[0]))
    targets = np.eye(10)[train[1]]
    weights = np.linalg.solve(x.T @ x + 0.01 * len(x) * np.eye(x.shape[1]), x.T @ (targets - targets.mean(axis=0)))
    return (np.argmax(x_test @ weights + targets.mean(axis=0), axis=1) == test[1]).mean()


# -- digits -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows():
    """The file, read independently of the loader: a list of 65 integers per line."""
    with gzip.open(ROOT / "datasets" / "digits.csv.gz", "rt") as f:
        return [[int(v) for v in row] for row in csv.reader(f)]


def test_digits_split_is_the_documented_hash_rule(rows):
    order = sorted(range(len(rows)), key=lambda i: hashlib.sha256(f"minigrad digits {i}".encode()).digest())
    of_class = {digit: [i for i in order if rows[i][64] == digit] for digit in range(10)}
    expected = {"test": sorted(i for members in of_class.values() for i in members[:36]),
                "train": sorted(i for members in of_class.values() for i in members[36:])}
    assert expected["test"][:8] == [0, 1, 15, 19, 31, 37, 41, 43]  # the rule itself must never change
    for split, members in expected.items():
        images, labels = data.digits(split)
        np.testing.assert_array_equal(images.reshape(-1, 64) * 16, [rows[i][:64] for i in members])  # exact in binary
        np.testing.assert_array_equal(labels, [rows[i][64] for i in members])


def test_digits_shapes_dtypes_and_balance():
    images, labels = data.digits()
    assert images.shape == (1437, 1, 8, 8) and images.dtype == np.float32
    assert labels.shape == (1437,) and labels.dtype == np.int64
    assert images.min() == 0 and images.max() == 1
    images, labels = data.digits("test")
    assert images.shape == (360, 1, 8, 8) and np.bincount(labels).tolist() == [36] * 10


def test_digits_labels_belong_to_their_images():
    assert linear_accuracy(data.digits("train"), data.digits("test")) > 0.9


def test_digits_unknown_split_names_the_choices():
    with pytest.raises(ValueError, match=r"data\.digits: got split='valid'\n.*\"train\" or \"test\""):
        data.digits("valid")


@pytest.fixture
def shipped(monkeypatch, tmp_path):
    """A copy of the shipped file from which the loader now reads, free to be damaged."""
    copy = tmp_path / "digits.csv.gz"
    shutil.copy(ROOT / "datasets" / "digits.csv.gz", copy)
    monkeypatch.setattr(data._datasets(), "path", lambda name: tmp_path / name)
    data.digits()
    return copy


def test_missing_file_is_named_with_what_was_expected_and_where_to_get_it(shipped):
    shipped.unlink()
    with pytest.raises(FileNotFoundError) as e:
        data.digits()
    text = str(e.value)
    assert str(shipped) in text and "57,523 bytes" in text and data._datasets().SHA256["digits.csv.gz"] in text
    assert "git checkout" in text and "pip install" in text


@pytest.mark.parametrize("damage", [
    pytest.param(lambda b: b[:-1], id="truncated"),
    pytest.param(lambda b: b"", id="empty"),
    pytest.param(lambda b: b + b"\n", id="longer"),
    pytest.param(lambda b: b[:1000] + bytes([b[1000] ^ 1]) + b[1001:], id="one bit"),
])
def test_damaged_file_is_refused_with_both_checksums(shipped, damage):
    content = damage(shipped.read_bytes())
    shipped.write_bytes(content)
    with pytest.raises(ValueError) as e:
        data.digits()
    text = str(e.value)
    assert str(shipped) in text and f"{len(content):,} bytes" in text and hashlib.sha256(content).hexdigest() in text
    assert "57,523 bytes" in text and data._datasets().SHA256["digits.csv.gz"] in text


# -- files that were downloaded --------------------------------------------------------------------------------------------

PLAIN = {("train", "images"): "train-images-idx3-ubyte", ("train", "labels"): "train-labels-idx1-ubyte",
         ("test", "images"): "t10k-images-idx3-ubyte", ("test", "labels"): "t10k-labels-idx1-ubyte"}
NAMED = {"as published": lambda name: f"{name}.gz", "decompressed": lambda name: name, "with a dot": lambda name: name.replace("-idx", ".idx")}


@pytest.fixture
def idx(tmp_path):
    """Writes four small IDX files into a folder under names of one kind; returns their checksums, and what they hold."""
    rng = np.random.default_rng(0)
    arrays = {split: (rng.integers(0, 256, (n, 28, 28), np.uint8), rng.integers(0, 10, n).astype(np.uint8)) for split, n in (("train", 6), ("test", 3))}

    def write(kind, folder=tmp_path / "mnist", packed=gzip.compress):
        checksums = {}
        for (split, part), name in PLAIN.items():
            values = arrays[split][part == "labels"]
            raw = np.array([0x803 if part == "images" else 0x801, *values.shape], ">u4").tobytes() + values.tobytes()
            content = packed(raw) if NAMED[kind](name).endswith(".gz") else raw
            folder.mkdir(parents=True, exist_ok=True)
            (folder / NAMED[kind](name)).write_bytes(content)
            checksums[f"{name}.gz" if kind == "as published" else name] = hashlib.sha256(content).hexdigest()
        return checksums, arrays
    return write


@pytest.mark.parametrize("kind", NAMED)
@pytest.mark.parametrize(("load", "name"), [(data.mnist, "mnist"), (data.fashion_mnist, "fashion-mnist")])
def test_mnists_files_are_read_compressed_or_not_under_either_name(idx, tmp_path, kind, load, name):
    checksums, arrays = idx(kind, tmp_path / name)
    for split in ("train", "test"):
        images, labels = load(split, folder=tmp_path, checksums=checksums)
        np.testing.assert_array_equal(images[:, 0], np.divide(arrays[split][0], np.float32(255)))
        np.testing.assert_array_equal(labels, arrays[split][1])
        assert images.dtype == np.float32 and labels.dtype == np.int64


@pytest.mark.parametrize("kind", NAMED)
def test_files_of_every_name_are_verified(idx, tmp_path, kind):
    checksums, _ = idx(kind)
    with pytest.raises(ValueError, match=r"data\.mnist: got .*train-images.*truncated or changed"):  # not the published ones
        data.mnist(folder=tmp_path)
    path = tmp_path / "mnist" / NAMED[kind]("train-labels-idx1-ubyte")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"train-labels.*truncated or changed"):
        data.mnist(folder=tmp_path, checksums=checksums)


def test_the_published_file_comes_first_and_every_file_has_a_checksum(idx, tmp_path):
    checksums, _ = idx("as published")
    idx("decompressed")
    (tmp_path / "mnist" / "train-images-idx3-ubyte").write_bytes(b"something else")
    data.mnist(folder=tmp_path, checksums=checksums)
    for collection in ("mnist", "fashion-mnist"):
        assert set(downloads.CHECKSUMS[collection]) == {*PLAIN.values(), *(f"{name}.gz" for name in PLAIN.values())}
        assert all(len(downloads.CHECKSUMS[collection][name]) == 64 for name in PLAIN.values())
    assert len({d for checksums in downloads.CHECKSUMS.values() for d in checksums.values()}) == 17


@pytest.mark.parametrize(("load", "name", "wanted"), [(data.mnist, "mnist", "train-images-idx3-ubyte.gz"), (data.cifar10, ".", "cifar-10-binary.tar.gz"),
                                                      (data.fashion_mnist, "fashion-mnist", "train-images-idx3-ubyte.gz")])
def test_a_missing_file_is_named_with_what_is_there_instead(load, name, wanted, tmp_path):
    with pytest.raises(FileNotFoundError) as e:
        load(folder=tmp_path / "nowhere")
    assert wanted in str(e.value) and "download " in str(e.value)
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    with pytest.raises(FileNotFoundError, match=f"in {folder.resolve()} there is nothing"):
        load(folder=tmp_path)
    (folder / "raw").mkdir()
    (folder / "mnist.npz").write_bytes(b"")
    (folder / wanted.replace("idx3", "idx").replace("binary", "python")).write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"there is .*mnist\.npz, raw/") as e:
        load(folder=tmp_path)
    if load is not data.cifar10:
        assert "train-images-idx-ubyte.gz" in str(e.value) and "it may be decompressed" in str(e.value)
        shutil.rmtree(folder)
        with pytest.raises(FileNotFoundError, match=f"in {tmp_path} there is nothing"):
            load(folder=tmp_path)


def test_a_folder_in_the_place_of_a_file_many_files_and_an_unreadable_one_are_said(idx, tmp_path, monkeypatch):
    checksums, _ = idx("as published")
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    with monkeypatch.context() as m:
        m.setattr(Path, "read_bytes", lambda self: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        with pytest.raises(PermissionError, match=r"train-images.*cannot be read: Permission denied\n.*\n.*permissions"):
            data.mnist(folder=tmp_path, checksums=checksums)
    path.unlink()
    path.mkdir()
    for i in range(12):
        (tmp_path / "mnist" / f"{i:02}").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"a folder at .*gz; in .* there is 00, .* and 4 more"):
        data.mnist(folder=tmp_path, checksums=checksums)


@pytest.mark.parametrize("how", ["variable", "argument", "default"])
def test_the_home_folder_may_be_written_as_a_tilde(idx, tmp_path, monkeypatch, how):
    checksums, _ = idx("as published", tmp_path / (".cache/minigrad" if how == "default" else "my data") / "mnist")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("MINIGRAD_DATA", "~/my data" if how == "variable" else "")
    assert len(data.mnist(checksums=checksums, folder="~/my data" if how == "argument" else None)[1]) == 6
    if how == "argument":
        assert len(data.mnist(checksums=checksums, folder=Path("~/my data"))[1]) == 6


# -- synthetic --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "size", "classes"), [(0, 32, 10), (1, 8, 1), (30, 9, 3), (300, 16, 20), (7, 64, 20)])
def test_synthetic_shapes_range_and_balance(n, size, classes):
    images, labels = data.synthetic(n, size, classes)
    assert images.shape == (n, 3, size, size) and images.dtype == np.float32 and labels.dtype == np.int64
    assert np.isfinite(images).all() and (images >= 0).all() and (images <= 1).all()
    np.testing.assert_array_equal(labels, np.arange(n) % classes)


def test_synthetic_is_reproducible_and_its_first_images_do_not_depend_on_n():
    images, _ = data.synthetic(600, size=11, classes=7, seed=3)
    for n in (1, 255, 256, 257, 600):  # around the chunks in which it is drawn
        np.testing.assert_array_equal(data.synthetic(n, size=11, classes=7, seed=3)[0], images[:n])


def test_synthetic_seeds_are_independent():
    a, b = (data.synthetic(200, size=16, seed=seed)[0].reshape(200, -1) for seed in (0, 1))
    a, b = a - a.mean(0), b - b.mean(0)
    correlation = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    # Pixels of an image are alike, so 200 images count as about 200 x 3 channels: 5 standard deviations are 0.2.
    assert abs(correlation) < 0.2


@pytest.mark.more
def test_synthetic_classes_differ_and_a_linear_model_is_not_enough():
    accuracy = linear_accuracy(data.synthetic(2000, seed=1), data.synthetic(1000, seed=2))
    assert 0.2 < accuracy < 0.65  # guessing gives 0.1, a small convolutional network 0.98 (datasets/synthetic.md)


def test_synthetic_images_of_one_class_differ_in_more_than_noise():
    images, _ = data.synthetic(200, classes=1)
    assert images.std(axis=0).mean() > 2 * 0.2 / np.sqrt(12)  # the noise alone is uniform, 0.2 wide


def test_difficulty_changes_nothing_at_zero_and_makes_it_harder():
    images, labels = data.synthetic(300, seed=3)
    np.testing.assert_array_equal(data.synthetic(300, seed=3, difficulty=0.0)[0], images)
    assert abs(float(images.astype("float64").mean()) - 0.2882541) < 1e-5  # as it always was
    images, again = data.synthetic(300, seed=3, difficulty=1.0)
    np.testing.assert_array_equal(again, labels)
    assert (images >= 0).all() and (images <= 1).all() and images.dtype == np.float32
    np.testing.assert_array_equal(data.synthetic(257, seed=3, difficulty=1.0)[0], images[:257])
    easy, hard = (linear_accuracy(*(data.synthetic(n, 16, seed=seed, difficulty=d) for n, seed in ((600, 1), (500, 2)))) for d in (0.0, 1.0))
    assert hard + 0.05 < easy


@pytest.mark.slow
def test_a_tiny_network_gets_60_to_90_percent_of_harder_images():
    """About 79 % at 0.3 and 75 % at 0.5 (datasets/synthetic.md)."""
    found = {}
    for difficulty in (0.3, 0.5):
        mg.seed(0)
        model = models.build("tiny_cnn", size=32)
        images, labels = data.synthetic(2000, seed=0, difficulty=difficulty)
        tests, truth = data.synthetic(500, seed=1, difficulty=difficulty)
        statistics = data.channel_statistics(images)
        images, tests = (data.normalize(i, *statistics) for i in (images, tests))
        optimizer = optim.SGD(model.parameters(), lr=0.005, momentum=0.9, weight_decay=5e-4)
        schedule = optim.CosineAnnealingLR(optimizer, 15)
        for epoch in range(15):
            for x, t in data.batches(images, labels, 64, shuffle=True, seed=0, epoch=epoch, drop_last=True):
                optimizer.zero_grad()
                mg.cross_entropy(model(x), t).backward()
                optimizer.step()
            schedule.step()
        model.eval()
        with mg.no_grad():
            found[difficulty] = float((mg.argmax(model(mg.tensor(tests)), 1).numpy() == truth).mean())
    assert 0.6 < found[0.5] < found[0.3] < 0.92, found


@pytest.mark.parametrize("wrong", [{"n": -1}, {"size": 7}, {"classes": 0}, {"classes": 21}, {"seed": -1}, {"difficulty": 1.5}, {"difficulty": float("nan")}])
def test_synthetic_names_a_number_outside_its_limits(wrong):
    (name, value), = wrong.items()
    with pytest.raises(ValueError, match=rf"data\.synthetic: got .*{name}={value}\b.*\n.*{name} "):
        data.synthetic(**{"n": 4, **wrong})


# -- batches ----------------------------------------------------------------------------------------------------------

IMAGES = np.arange(10 * 6, dtype=np.float32).reshape(10, 1, 2, 3)
LABELS = np.arange(10)


def numbers(batches):
    return [y.numpy().tolist() for _, y in batches]


@pytest.mark.parametrize(("batch_size", "drop_last", "sizes"), [
    (4, False, [4, 4, 2]), (4, True, [4, 4]), (5, True, [5, 5]), (10, False, [10]), (11, False, [10]), (11, True, []),
])
def test_batches_length_and_sizes(batch_size, drop_last, sizes):
    batches = data.batches(IMAGES, LABELS, batch_size, drop_last=drop_last)
    assert len(batches) == len(sizes) and [len(b) for b in numbers(batches)] == sizes


def test_batches_of_nothing():
    batches = data.batches(IMAGES[:0], LABELS[:0], 4, shuffle=True)
    assert len(batches) == 0 and numbers(batches) == []


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_are_pairs_of_tensors_that_visit_each_row_once(shuffle):
    seen = []
    for x, y in data.batches(IMAGES, LABELS, 3, shuffle=shuffle):
        assert isinstance(x, Tensor) and isinstance(y, Tensor) and not x.requires_grad
        assert x.dtype == np.float32 and y.dtype == np.int64
        np.testing.assert_array_equal(x.numpy(), IMAGES[y.numpy()])
        seen += y.numpy().tolist()
    assert sorted(seen) == list(range(10)) and (seen == list(range(10))) is not shuffle


def test_batches_order_is_a_function_of_seed_and_epoch():
    def order(**keywords):
        return numbers(data.batches(IMAGES, LABELS, 3, shuffle=True, **keywords))

    batches = data.batches(IMAGES, LABELS, 3, shuffle=True, seed=1, epoch=2)
    assert numbers(batches) == numbers(batches) == order(seed=1, epoch=2)
    assert len({str(order(seed=seed, epoch=epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_batches_order_does_not_touch_global_random_state():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    numbers(data.batches(IMAGES, LABELS, 3, shuffle=True))
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_writing_to_a_batch_leaves_the_data_set_alone():
    images = IMAGES.copy()
    for x, _ in data.batches(images, LABELS, 4):
        x.data[...] = -1
    np.testing.assert_array_equal(images, IMAGES)


@pytest.mark.parametrize("by_name", [True, False])
def test_batches_live_on_the_chosen_backend_in_the_order_of_the_host(backend, by_name):
    expected = numbers(data.batches(IMAGES, LABELS, 4, shuffle=True, seed=5, backend="numpy"))
    batches = data.batches(IMAGES, LABELS, 4, shuffle=True, seed=5, backend=backend if by_name else None)
    assert {(x.backend, y.backend) for x, y in batches} == {(backend, backend)}
    assert numbers(batches) == expected


@pytest.mark.parametrize(("images", "labels", "keywords", "kind", "match"), [
    (IMAGES, LABELS[:9], {}, ValueError, r"\(10, 1, 2, 3\) and labels \(9,\)"),
    (IMAGES, np.int64(3), {}, TypeError, "for labels"),
    (IMAGES, np.array(3), {}, ValueError, r"labels \(\)"),
    (IMAGES.tolist(), LABELS, {}, TypeError, "for images the list"),
    (IMAGES, LABELS, {"batch_size": 0}, ValueError, "batch_size=0"),
    (IMAGES, LABELS, {"epoch": -1}, ValueError, "epoch=-1"),
    (IMAGES, LABELS, {"seed": -1}, ValueError, "seed=-1"),
])
def test_batches_say_what_is_wrong(images, labels, keywords, kind, match):
    with pytest.raises(kind, match=r"data\.batches: got " + f".*{match}"):
        data.batches(images, labels, **{"batch_size": 2, **keywords})


# -- packaging --------------------------------------------------------------------------------------------------------

LOAD = """
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
sys.meta_path[:] = [BuiltinImporter, FrozenImporter, PathFinder]  # without the finder of an editable install
import minigrad.data as data
print(data.__file__)
print(data.digits("test")[0].shape, "datasets" in sys.modules)
"""


def run_in(folder, code, path):
    """Run `code` in a fresh interpreter whose first import folder is `path`, away from this checkout."""
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)


def test_setup_cfg_lists_every_package_folder():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    folders = {".".join(init.parent.relative_to(ROOT).parts)
               for top in ("minigrad", "layers", "models") for init in ROOT.glob(f"{top}/**/__init__.py")}
    assert set(config["options"]["packages"].split()) == folders | {"minigrad.datasets"}


def test_checksums_cover_every_data_file():
    shipped = {p.name: p for p in (ROOT / "datasets").iterdir() if p.suffix == ".gz"}
    datasets = data._datasets()
    assert set(datasets.SHA256) == set(datasets.BYTES) == set(shipped)
    for name, path in shipped.items():
        assert path.stat().st_size == datasets.BYTES[name]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == datasets.SHA256[name]


def test_bare_checkout_loads_the_sibling_folder(tmp_path):
    checkout = tmp_path / "a bare checkout"
    for name in ("minigrad", "datasets"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", checkout)
    result = run_in(tmp_path / "elsewhere", LOAD, checkout)
    assert result.stdout.splitlines() == [str(checkout / "minigrad" / "data.py"), "(360, 1, 8, 8) False"], result.stderr


def test_another_package_called_datasets_is_never_taken_for_ours(tmp_path):
    site = tmp_path / "site"
    shutil.copytree(ROOT / "minigrad", site / "minigrad", ignore=shutil.ignore_patterns("__pycache__"))
    (site / "datasets").mkdir()
    (site / "datasets" / "__init__.py").write_text("raise SystemExit('imported the wrong package')")
    result = run_in(tmp_path / "elsewhere", LOAD, site)
    assert "no package minigrad.datasets" in result.stderr and "pip install" in result.stderr
    assert "wrong package" not in result.stderr


@pytest.mark.slow
def test_wheel_contains_the_data_and_loads_it_elsewhere(tmp_path):
    source, site = tmp_path / "source", tmp_path / "site packages"
    packages = [ROOT / name for name in ("minigrad", "layers", "models", "datasets") if (ROOT / name).is_dir()]
    for folder in packages:
        shutil.copytree(folder, source / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    built = subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    names = {p.relative_to(site).as_posix() for p in site.rglob("*")}
    assert {"minigrad/py.typed", "minigrad/minigrad.mplstyle"} <= names
    assert {p.relative_to(ROOT).as_posix() for p in (ROOT / "minigrad").rglob("*.cu")} <= names
    assert {f"minigrad/datasets/{p.name}" for p in (ROOT / "datasets").iterdir() if p.suffix} <= names
    assert "datasets" not in names
    result = run_in(tmp_path / "elsewhere", LOAD, site)
    assert result.stdout.splitlines() == [str(site / "minigrad" / "data.py"), "(360, 1, 8, 8) False"], result.stderr
