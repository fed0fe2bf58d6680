"""A training run: its whole state, one step of it, and how it is saved, resumed and stopped without losing anything.

    trainer = Trainer(Options(model="resnet20", width=0.25))
    trainer.run()

The state is that of the network, the optimizer, the schedule and the random numbers, and the number of steps done: the order of
the images and their augmentation follow from seed and epoch alone. So a run that is killed and resumed ends with the same
bits as one that was not. For this it keeps the number of threads, by which sums are cut into parts; what else the last bits
depend on (versions of NumPy and BLAS, the processor) is in the state too, and a difference is reported when the run is resumed.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import inspect
import io
import json
import math
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl
from tqdm import tqdm

import layers
import minigrad as mg
import models
from minigrad import backend, checkpoint, data, nn, optim
from minigrad.files import remove_leftovers, write_atomically
from minigrad.kernels.threads import num_threads

from .lock import locked
from .options import OF_NETWORKS, Options, keywords, problems

# What options, files, data and the machine can be wrong about. Anything else is a mistake in the program, and should be seen as one.
FAILURES = (OSError, ValueError, TypeError, RuntimeError, ArithmeticError, MemoryError)
COLUMNS = ("step", "epoch", "split", "loss", "accuracy", "lr", "images_per_second")


class TrainingError(Exception):
    """A run cannot go on; the text says what happened, what is kept, and what usually helps."""


def explained(e: BaseException) -> str:
    """The text of an error; if memory ran out, also what helps."""
    text = str(e) or type(e).__name__
    if isinstance(e, MemoryError) or "out of memory" in text.lower() or "ALLOC_FAILED" in text:  # CUDA's libraries have their own errors
        return f"out of memory: {text}\nUsual fixes: a smaller --batch-size (in a test, --eval-batch-size), a smaller --width, --norm inplace_abn."
    return text


def load_data(options: Options) -> dict[str, tuple[Any, Any]]:
    """Images and labels of the splits "train" and "test", each channel normalized with the training set's statistics."""
    if options.dataset == "synthetic":
        found = {"train": data.synthetic(options.train_images or 2000, seed=0, difficulty=options.difficulty),
                 "test": data.synthetic(500, seed=1, difficulty=options.difficulty)}
    else:
        found = {split: getattr(data, options.dataset)(split) for split in ("train", "test")}
    images, labels = found["train"]
    if options.train_images and options.train_images > len(images):
        raise ValueError(f"--train-images {options.train_images}: there are only {len(images)}")
    found["train"] = images[:options.train_images], labels[:options.train_images]
    statistics = data.channel_statistics(found["train"][0])
    return {split: (data.normalize(images, *statistics).astype(options.dtype), labels) for split, (images, labels) in found.items()}


def initial_weights(path: str | os.PathLike[str], dtype: str) -> dict[str, Any]:
    """The weights in a file as host arrays, floating ones in `dtype`: a state_dict, or the one called "model" in a run's state.

    Raises:
        FileNotFoundError, ValueError: no such file, damaged, or without weights.
    """
    state = checkpoint.load(path, backend="numpy")
    found = state["model"] if isinstance(state.get("model"), dict) else state
    other = [str(k) for k, v in found.items() if not isinstance(v, mg.Tensor)]
    if other or not found:
        raise ValueError(f"--init-from {path}: it holds {', '.join(other[:8]) or 'nothing'}; it needs weights: a state_dict, or the state of a run")
    return {k: v.numpy().astype(dtype if v.dtype.kind == "f" else v.dtype) for k, v in found.items()}


def build_model(options: Options, channels: int, size: int) -> nn.Module:
    """The network with the options' norm, form, weights and modulation."""
    own: dict[str, Any] = {name: getattr(options, name) for name in OF_NETWORKS if getattr(options, name) is not None}
    if "size" in inspect.signature(models.MODELS[options.model]).parameters:
        own["size"] = size
    model = models.build(options.model, norm=options.norm, form=options.form, weight=options.parametrization, width=options.width,
                         in_channels=channels, slope=options.slope, activation=options.activation, placement=options.placement,
                         norm_options=keywords("norm_options", options.norm_options),
                         weight_options=keywords("weight_options", options.weight_options), modulation=options.modulation, **own)
    if options.init == "orthonormal":
        layers.orthonormal_init(model)
    model.astype(options.dtype)
    if options.init_from is not None:
        model.load_state_dict(initial_weights(options.init_from, options.dtype))
    return model.to(options.backend)


def build_optimizer(options: Options, model: nn.Module) -> optim.Optimizer:
    """The optimizer with the options' numbers."""
    common: dict[str, Any] = {"lr": options.lr, "weight_decay": options.weight_decay}
    if options.optimizer == "sgd":
        return optim.SGD(model.parameters(), momentum=options.momentum, nesterov=options.nesterov, **common)
    if options.optimizer == "rmsprop":
        return optim.RMSprop(model.parameters(), momentum=options.momentum, **common)
    return {"adam": optim.Adam, "adamw": optim.AdamW}[options.optimizer](model.parameters(), **common)


def learning_rate(options: Options, step: int, per_epoch: int) -> float:
    """The factor of the learning rate at a step, counted from 0."""
    if step < options.warmup:
        return (step + 1) / options.warmup
    if options.lr_schedule == "step":
        return options.gamma ** (step // per_epoch // options.step_size)
    if options.lr_schedule == "cosine":
        total = max(1, options.epochs * per_epoch - options.warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - options.warmup) / total)))
    return 1.0


def machine() -> dict[str, Any]:
    """What the last bits depend on beside the options."""
    blas = [f"{b['internal_api']} {b['version']} {b.get('architecture', '')}".strip() for b in threadpoolctl.threadpool_info() if b["user_api"] == "blas"]
    return {"threads": num_threads(), "NumPy": np.__version__, "BLAS": ", ".join(sorted(set(blas))), "processor": platform.machine()}


class Trainer:
    """One run; see the module's text.

    Args:
        options: of a new run.
        resume: or a checkpoint of an old one, whose options `options` then are (see `options.merged`).

    Raises:
        ValueError: options that do not go together.
        OSError, ValueError: data files or a checkpoint that are missing, damaged, or do not fit.
    """

    def __init__(self, options: Options, resume: str | os.PathLike[str] | None = None) -> None:
        problem = problems(options)
        if problem:
            raise ValueError(problem)
        self.options, self.folder = options, Path(options.out)
        self.resumed = None if resume is None else Path(resume)
        version = None if self.resumed is None else self._version(self.resumed)
        state = None if self.resumed is None else read_run(self.resumed, options.backend)
        self.remarks = self._choose_threads({} if state is None else state["machine"])
        mg.use(options.backend)
        mg.seed(options.seed)
        self.data = load_data(options)
        images = self.data["train"][0]
        fresh = options if state is None else dataclasses.replace(options, init_from=None)  # its file may be gone by now
        self.model = build_model(fresh, images.shape[1], images.shape[-1])
        self.optimizer = build_optimizer(options, self.model)
        self.per_epoch = len(images) // options.batch_size
        if self.per_epoch == 0:
            raise ValueError(f"--batch-size {options.batch_size}: there are only {len(images)} training images")
        self.schedule = optim.LambdaLR(self.optimizer, lambda t: learning_rate(options, t, self.per_epoch))
        self.steps = min(options.epochs * self.per_epoch, options.max_steps or options.epochs * self.per_epoch)
        self.step, self.best = 0, -1.0
        self.result: dict[str, float] = {}  # of the last test
        self.tested = 0  # the step of the last test
        self.sums: Any = None  # loss and right answers since the last look, on the device
        self.counted = 0
        self.stopping = False
        flip = 0.0 if options.dataset in ("digits", "mnist") else 0.5
        self.augment = data.Augment(flip, shift=max(1, images.shape[-1] // 8)) if options.augment else None
        self._since = time.perf_counter()
        self._last_batch: tuple[Any, Any] | None = None
        self._read = version
        if state is not None:
            self.restore(state)

    @staticmethod
    def _version(path: Path) -> tuple[int, int, int]:
        now = os.stat(path)
        return now.st_mtime_ns, now.st_size, now.st_ino

    def _choose_threads(self, before: dict[str, Any]) -> list[str]:
        """Take the number of threads from the options, or else from the run that is resumed; returns remarks on differences."""
        mg.tune_process()
        usual, wanted = num_threads(), self.options.threads or before.get("threads")
        if wanted is not None:
            mg.set_num_threads(wanted)
        now, remarks = machine(), []
        if before and wanted != before["threads"]:
            remarks.append(f"the run had --threads {before['threads']}, now it has {wanted}: from here on it agrees to rounding with one that goes on "
                           "as before, not bit for bit")
        elif before and wanted != usual and self.options.threads is None:
            remarks.append(f"goes on with --threads {wanted}, as the run was (usual here is {usual}), so that it ends with the same bits")
        others = [f"{k} {before[k]}, now {now[k]}" for k in now if k != "threads" and k in before and before[k] != now[k]]
        if others:
            remarks.append(f"the run had {'; '.join(others)}: from here on it agrees to rounding, not bit for bit")
        return remarks

    # -- one step ---------------------------------------------------------------------------------------------------

    def batches(self, epoch: int, skip: int = 0) -> Iterator[tuple[Any, Any]]:
        """The batches of an epoch, all of one size."""
        images, labels = self.data["train"]
        return iter(data.batches(images, labels, self.options.batch_size, shuffle=True, seed=self.options.seed, epoch=epoch, drop_last=True,
                                 augment=self.augment, skip=skip, backend=self.options.backend))

    def loss(self, x: Any, t: Any) -> tuple[Any, Any]:
        """The loss that is minimized, and the scores."""
        scores = self.model(x)
        loss = mg.cross_entropy(scores, t, label_smoothing=self.options.label_smoothing)
        if self.options.penalty:
            penalty = layers.REGISTRY["orthonormality_penalty"].form("derived")
            for p in self.model.parameters():
                if p.ndim > 1:
                    loss = loss + self.options.penalty * penalty(mg.reshape(p, (p.shape[0], -1)))
        return loss, scores

    def train_step(self, x: Any, t: Any) -> None:
        """Forward, backward, update. Nothing here waits for the device."""
        loss, scores = self.loss(x, t)
        self.optimizer.zero_grad()
        loss.backward()
        if self.options.clip is not None:
            optim.clip_grad_norm_(self.model.parameters(), self.options.clip)
        self.optimizer.step()
        self.schedule.step()
        with mg.no_grad():
            right = mg.sum(mg.argmax(scores.detach(), 1) == t)
            now = mg.stack([loss.detach(), mg.astype(right, self.options.dtype)])
            self.sums = now if self.sums is None else self.sums + now
        self.counted += 1
        self.step += 1
        self._last_batch = (x, t)

    # -- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> dict[str, float]:
        """Train to the end, or until `stopping` is set; saves on the way. Returns the last test loss and accuracy.

        A run that is resumed at its end returns what its last test found.

        Raises:
            TrainingError: the loss is not finite, a step fails, the memory or the disk is full, or another process writes to the folder.
        """
        with self.own_folder():
            try:
                self._loop()
            except FAILURES as e:
                raise TrainingError(f"failed after step {self.step}: {explained(e)}\n{self.kept()}") from e
        return self.result

    def _loop(self) -> None:
        interval = self.options.checkpoint_interval or self.per_epoch
        if self.step and self.tested != self.step and (self.step % self.per_epoch == 0 or self.step == self.steps):
            self.test()  # a run that ended in this test
            self.save()
        with tqdm(total=self.steps, initial=self.step, unit="step", disable=self.options.quiet, smoothing=0.05) as bar:
            self._since = time.perf_counter()
            while self.step < self.steps and not self.stopping:
                epoch, done = divmod(self.step, self.per_epoch)
                for x, t in self.batches(epoch, done):
                    self.train_step(x, t)
                    bar.update()
                    if self.step % self.options.log_interval == 0 or self.step == self.steps:
                        bar.set_postfix(self.look())
                    if self.step % interval == 0 and self.step % self.per_epoch and self.step < self.steps:
                        self.save()
                    if self.step >= self.steps or self.stopping:
                        break
                if self.step % self.per_epoch == 0 or self.step == self.steps:
                    try:
                        self.test()
                    except FAILURES:  # the steps are done; who resumes here, with a smaller --eval-batch-size perhaps, begins with the test
                        self.save()
                        raise
                    if self.step % interval == 0 or self.step == self.steps:  # after the test: who resumes here has its row
                        self.save()
        if self.stopping and self.step < self.steps:
            self.save()

    def totals(self) -> tuple[float, float]:
        """Loss and right answers since the last look: one transfer. A loss that is not finite ends the run."""
        if self.counted == 0:
            return 0.0, 0.0
        loss, right = (float(v) for v in self.sums.numpy())
        if not math.isfinite(loss):
            raise TrainingError(self.explain())
        return loss, right

    def look(self) -> dict[str, str]:
        """Log the mean loss and accuracy since the last look, and what the progress bar shows of them."""
        if self.counted == 0:
            return {}
        loss, right = self.totals()
        images = self.counted * self.options.batch_size
        speed = images / (time.perf_counter() - self._since)
        self.log("train", loss / self.counted, right / images, speed)
        shown = {"loss": f"{loss / self.counted:.3f}", "acc": f"{right / images:.1%}", "img/s": f"{speed:.0f}"}
        self.sums, self.counted, self._since = None, 0, time.perf_counter()
        return shown

    def explain(self) -> str:
        """Where a loss that is not finite comes from: the first parameter or op, found by running the last batch again."""
        broken = [name for name, p in self.model.named_parameters() if not np.isfinite(p.numpy()).all()]
        where = f"parameter {broken[0]!r} is not finite" if broken else "all parameters are finite"
        try:
            assert self._last_batch is not None
            with mg.debug():
                self.loss(*self._last_batch)
        except FAILURES as e:
            where += f"; the last batch: {str(e).splitlines()[0]}"
        lr = self.schedule.get_last_lr()[0]
        return (f"the loss is not finite at or before step {self.step} (learning rate {lr:.3g}): {where}.\n{self.kept()} "
                "Usual fixes: a smaller --lr, --warmup, --clip 1.")

    def kept(self) -> str:
        """Which checkpoint is there."""
        last = self.folder / "last.safetensors"
        return f"The last good checkpoint is {last}." if last.exists() else "There is no checkpoint yet."

    def test(self) -> dict[str, float]:
        """Loss and accuracy on the test images, in eval mode; a row of the log; keeps the best weights."""
        self.look()
        images, labels = self.data["test"]
        self.model.eval()
        totals = np.zeros(2)
        try:
            with mg.no_grad():
                for x, t in data.batches(images, labels, self.options.eval_batch_size, backend=self.options.backend):
                    scores = self.model(x)
                    both = mg.stack([mg.cross_entropy(scores, t) * len(t), mg.astype(mg.sum(mg.argmax(scores, 1) == t), self.options.dtype)])
                    totals += both.numpy()
        finally:
            self.model.train()
        loss, accuracy = totals / len(labels)
        self.log("test", loss, accuracy, float("nan"))
        if accuracy > self.best:
            self.best = float(accuracy)
            self.write("best.safetensors", self.model.state_dict())
        self._since = time.perf_counter()
        self.result, self.tested = {"loss": float(loss), "accuracy": float(accuracy)}, self.step
        return self.result

    # -- files ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def own_folder(self) -> Iterator[None]:
        """Make the folder, keep other processes out of it, and leave of an old log only the rows that this run has done.

        Raises:
            TrainingError: it cannot be made or written, another process is at it, or this run would overwrite another one.
        """
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(self.folder))
                self.prepare_folder()
            except BlockingIOError as e:
                raise TrainingError(f"another process is training into {self.folder}. Nothing was changed; wait for it, or --out another folder") from e
            except OSError as e:
                raise TrainingError(f"cannot write to {self.folder}: {e.strerror or e}. Nothing was trained; choose another --out") from e
            yield

    def prepare_folder(self) -> None:
        """See `own_folder`."""
        log, last = self.folder / "log.csv", self.folder / "last.safetensors"
        for name in ("last.safetensors", "best.safetensors", "log.csv", "curves.png"):
            remove_leftovers(self.folder / name)
        if last.exists() and (self.resumed is None or not os.path.samefile(last, self.resumed)):
            raise TrainingError(f"{self.folder} holds a run already: --resume {last} to go on with it, or --out another folder")
        if self.resumed is not None and last.exists() and self._version(last) != self._read:
            raise TrainingError(f"{last} has changed since it was read: another process has gone on with this run. Nothing was changed; --resume it again")
        if log.exists() and not is_log(log):
            raise TrainingError(f"{log} is not the log of a training, and would be overwritten: --out another folder")
        rows = [row for row in read_log(log) if int(row["step"]) <= self.step] if log.exists() else []
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(log, text.getvalue())

    def log(self, split: str, loss: float, accuracy: float, speed: float) -> None:
        """One more row of the log, on the disk when this returns."""
        epoch = (self.step - 1) // self.per_epoch
        row = (self.step, epoch, split, repr(float(loss)), repr(float(accuracy)), repr(float(self.schedule.get_last_lr()[0])), f"{speed:.1f}")
        try:
            with open(self.folder / "log.csv", "a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(row)
        except OSError as e:
            raise TrainingError(self._cannot_write("log.csv", e)) from e

    def _cannot_write(self, name: str, e: OSError) -> str:
        last = self.folder / "last.safetensors"
        kept = f"{last} is whole; make room and --resume it" if last.exists() else "no checkpoint was written yet"
        return f"cannot write {self.folder / name} at step {self.step}: {e.strerror or e}. {kept[0].upper()}{kept[1:]}"

    def write(self, name: str, state: Any) -> None:
        """A checkpoint file, whole or not at all."""
        try:
            checkpoint.save(self.folder / name, state, {"options": json.dumps(dataclasses.asdict(self.options)), "step": self.step})
        except OSError as e:
            raise TrainingError(self._cannot_write(name, e)) from e

    def save(self) -> None:
        """The whole state as last.safetensors, if the loss is finite."""
        self.totals()
        self.write("last.safetensors", self.state())

    def state(self) -> dict[str, Any]:
        """All that the run depends on."""
        return {"options": dataclasses.asdict(self.options), "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(), "random": backend.generator().bit_generator.state, "step": self.step, "best": self.best,
                "sums": self.sums, "counted": self.counted, "result": self.result, "tested": self.tested, "machine": machine()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where a checkpoint was written.

        Raises:
            ValueError, RuntimeError: the state of another network or optimizer.
        """
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        backend.set_generator(state["random"])
        self.step, self.best, self.sums, self.counted, self.result, self.tested = (
            state[k] for k in ("step", "best", "sums", "counted", "result", "tested"))


@contextlib.contextmanager
def stopping(trainer: Trainer) -> Iterator[list[int]]:
    """SIGINT (Ctrl-C) and SIGTERM end the run after its present step; a second one ends it at once. Gives the list of those that came."""
    caught: list[int] = []

    def stop(number: int, frame: Any) -> None:
        if caught:  # the last checkpoint is whole
            raise KeyboardInterrupt
        caught.append(number)
        trainer.stopping = True
        print("\nstopping after this step; again to stop at once", file=sys.stderr)
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()  # Python has signals there only
    before = {n: signal.signal(n, stop) for n in numbers if signal.getsignal(n) is not signal.SIG_IGN}
    try:
        yield caught
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)


def run_file(path: str | os.PathLike[str]) -> Path:
    """The file with the state of a run; a run's folder stands for the one in it."""
    return Path(path) / "last.safetensors" if Path(path).is_dir() else Path(path)


def read_run(path: str | os.PathLike[str], backend: str = "numpy") -> dict[str, Any]:
    """The state of a run (see `Trainer.state`), with its arrays on this backend.

    Raises:
        FileNotFoundError, ValueError: no such file, damaged, or weights only.
    """
    state = checkpoint.load(path, backend=backend)
    missing = [k for k in ("options", "model", "optimizer", "schedule", "random", "step", "machine") if k not in state]
    if missing:
        raise ValueError(f"{path} holds no run that can be resumed (there is no {', '.join(missing)}): use --init-from {path} to begin with its weights")
    return state


def saved_options(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The options of the run that wrote a checkpoint. Errors: see `read_run`."""
    found: dict[str, Any] = read_run(path)["options"]
    return found


def is_log(path: Path) -> bool:
    """Is this file a log of ours, or an empty one?"""
    with open(path, "rb") as file:
        return file.readline().strip() in (",".join(COLUMNS).encode(), b"")


def read_log(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """The complete rows of a log; a row that a killed process did not finish is left out."""
    with open(path, newline="", encoding="utf-8") as file:
        text = file.read()
    rows = csv.DictReader(text[:text.rfind("\n") + 1].splitlines())
    return [row for row in rows if all(row.get(c) is not None for c in COLUMNS) and row["step"].isdecimal()]
