"""Train a tiny CNN on real digits twice, with composed and with hand-derived batch norm, and compare the gradients.

Both networks start from one seed and see the same batches. At every step both forms' gradients are also taken at the *same*
parameters and batch, so that their agreement is rounding alone. Run it with ``make demo`` or ``python -m scripts.demo``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from tqdm import tqdm

import minigrad as mg
from layers.verify.training import trained_side_by_side
from minigrad import data, nn, optim
from minigrad.command import run_command
from models import tiny_cnn


def accuracy(model: nn.Module, images: Any, labels: Any) -> float:
    """Fraction of right answers in eval mode."""
    model.eval()
    with mg.no_grad():
        right = (mg.argmax(model(mg.tensor(images)), 1) == mg.tensor(labels)).numpy().mean()
    model.train()
    return float(right)


def train(epochs: int, seed: int, dtype: str) -> dict[str, Any]:
    """Train both forms; returns losses, agreements, times and the two networks."""
    images, labels = data.digits("train")
    images = images.astype(dtype)
    forms = ("composed", "derived")

    def network(form: str) -> nn.Module:
        mg.seed(seed)
        return tiny_cnn(form=form).astype(dtype)

    def batches() -> Iterator[tuple[Any, Any]]:
        for epoch in range(epochs):
            yield from data.batches(images, labels, 64, shuffle=True, seed=seed, epoch=epoch, drop_last=True)

    networks = {form: network(form) for form in forms}
    optimizers = {form: optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3) for form, model in networks.items()}
    result: dict[str, Any] = {"loss": {form: [] for form in forms}, "time": {form: [] for form in forms}, "agreement": [], "kept": {}, "models": networks,
                              "names": [name for name, _ in networks["composed"].named_parameters()]}
    per_epoch = len(data.batches(images, labels, 64, shuffle=True, seed=seed, drop_last=True))
    with tqdm(total=epochs * per_epoch, desc=f"digits, {dtype}", unit="step") as bar:
        for step in trained_side_by_side(networks, network("derived"), batches(), optimizers):
            for form in forms:
                result["time"][form].append(step.seconds[form])
                result["kept"].setdefault(form, step.kept[form])
                result["loss"][form].append(step.loss[form])
            result["agreement"].append(step.differences)
            bar.update()
            bar.set_postfix(loss=f"{step.loss['derived']:.3f}", agreement=f"{np.max(step.differences):.1e}", refresh=False)
    return result


def figure(result: dict[str, Any], exact: dict[str, Any], path: Path) -> None:
    """Loss curves on top of each other, and the agreement of the gradients at each step."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    with plt.style.context(str(Path(mg.__file__).with_name("minigrad.mplstyle"))):
        fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
        left.plot(result["loss"]["composed"], lw=4, alpha=0.35, label="composed")
        left.plot(result["loss"]["derived"], lw=1.2, color="black", label="derived by hand")
        left.set(xlabel="step", ylabel="training loss", title="One seed, two batch norms: the same training")
        left.legend()
        for values, label in ((result["agreement"], "float32"), (exact["agreement"], "float64")):
            right.semilogy([np.max(step) for step in values], ".", ms=4, label=label)
        for bound, dtype in ((1e-5, "float32"), (1e-12, "float64")):
            right.axhline(bound, color="0.5", ls=":")
            right.annotate(f"bound for {dtype}", (1, bound), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="0.4", fontsize=9)
        right.set(xlabel="step", ylabel="relative difference", title="Gradients of both forms, worst parameter")
        right.legend(loc="center right")
        path.parent.mkdir(parents=True, exist_ok=True)
        fig.savefig(path, dpi=150)
        plt.close(fig)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the demo; returns what it reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", type=Path, default=Path("demo.png"), help="where the figure goes (default: demo.png)")
    options = parser.parse_args(arguments)
    if options.epochs < 1 or options.seed < 0 or options.figure.is_dir():  # said now, not after the training
        parser.error(f"--epochs {options.epochs} --seed {options.seed} --figure {options.figure}: they need at least 1, at least 0, and a file")
    mg.tune_process(2)
    exact = train(options.epochs, options.seed, "float64")
    result = train(options.epochs, options.seed, "float32")
    worst, worst_exact = (np.max(r["agreement"], axis=0) for r in (result, exact))

    print("\nGradients of composed and derived batch norm at the same parameters and batch, worst step:")
    print(f"  {'parameter':<12} {'float32':>10} {'float64':>10}")
    for name, a, b in zip(result["names"], worst, worst_exact, strict=True):
        print(f"  {name:<12} {a:>10.1e} {b:>10.1e}")
    test_images, test_labels = data.digits("test")
    result["accuracy"] = {form: accuracy(model, test_images, test_labels) for form, model in result["models"].items()}
    print(f"\n  {'form':<10} {'test accuracy':>14} {'ms / step':>10} {'kept for backward':>18}")
    for form in result["models"]:
        print(f"  {form:<10} {result['accuracy'][form]:>14.2%} {1e3 * median(result['time'][form]):>10.2f} {result['kept'][form] / 1e6:>15.2f} MB")
    figure(result, exact, options.figure)
    print(f"\nFigure: {options.figure}")
    result["worst"] = {"float32": float(worst.max()), "float64": float(worst_exact.max())}
    assert result["worst"]["float32"] <= 1e-5 and result["worst"]["float64"] <= 1e-12, f"the two forms disagree: {result['worst']}"
    assert min(result["accuracy"].values()) >= 0.97, f"test accuracy below 97 %: {result['accuracy']}"
    return result


if __name__ == "__main__":
    run_command(main)
