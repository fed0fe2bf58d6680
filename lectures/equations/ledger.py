"""The core of the ledger: what a probe, an equation and a verdict are.

**A probe** is one random point of a document's forward pass, in float64, with one random cotangent of its output, so that
L = Σ cotangent·output. True gradients come from the tape of the composed forward pass; central differences of the same
function must agree, and the ledger prints how closely they do.

**An equation** is a function of a probe. It returns the truth, the printed right side, taken literally, and a corrected
one. Gradients on the right side are the true ones, so an equation is judged alone: it inherits no error from the ones
before it. Errors are ‖a − b‖ / ‖b‖.

**Regimes.** A document's probes come in regimes, such as "ε = 0" or "equal eigenvalues". Some are the document's own
setting; the others lie outside, and show which conditions an equation rests on. Every equation is measured everywhere.

**Verdicts** are measured, not declared:

    right          the printed form is exact (≤ 1e-12) at every probe of the setting, and of every other regime but those
                   that the entry names in `not_for`; there it must fail at every probe (seeds at which an accident
                   hides the violated condition have no power, and are not used)
    misprint       the printed form is finite, and off by 1e-3 at least, at every probe of the setting (but in the regimes
                   `right_for`); the corrected one is exact
    approximation  the same, but printed with ≈
    text           a wrong symbol in a sentence: nothing to measure
    unclear        anything else, with the reason: always an error of the ledger. So is a truth that is 0 at some probe,
                   unless the equation says what to compare it with: any formula with a factor of 0 would pass
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad.check.relative import relative_error

Array = Any
EXACT = 1e-12  # some thousand roundings: the probes are well conditioned
WRONG = 1e-3  # no formula is nearly wrong: between the two lies "unclear"
AGREE = 1e-9  # tape against central differences of order h⁶, h = 2⁻⁸: truncation ~1e-13, rounding ~1e-13 · conditioning


# -- probes -------------------------------------------------------------------------------------------------------------


class DocumentProbe:
    """One point, with numbers of order 1. Subclasses set `cotangent` and the intermediates, and define `forward`."""

    cotangent: Array

    def __init__(self) -> None:
        self.gradients: dict[str, Array] = {}
        self.disagreement = 0.0  # the largest distance of the tape's derivatives from central differences

    def forward(self, **given: Any) -> Any:
        """The output, on arrays or Tensors: intermediates in `given` are taken as they are, the later ones computed.

        What comes before a given intermediate is constant, so ∂L/∂z for an intermediate z means one thing only.
        """
        raise NotImplementedError

    def gradient(self, name: str) -> Array:
        """∂L/∂name, of the intermediate's own shape, for L = Σ cotangent·forward."""
        if name not in self.gradients:
            at = np.asarray(getattr(self, name))
            _, (g,) = mg.vjp(lambda z: self.forward(**{name: z}), [mg.tensor(at)], mg.tensor(self.cotangent))
            slopes = differences(lambda z: np.sum(self.cotangent * self.forward(**{name: z})), at)
            self.gradients[name] = self.confirmed(g.numpy(), slopes)
        return self.gradients[name]

    def slope(self, f: Callable[[Any], Any], at: Array) -> Array:
        """The Jacobian of `f` at an array, of shape output.shape + at.shape."""
        at = np.asarray(at)
        return self.confirmed(mg.jacobian(f, mg.tensor(at)).numpy(), differences(f, at))

    def confirmed(self, exact: Array, slopes: Array) -> Array:
        """`exact`, after noting how far the difference quotients are from it."""
        self.disagreement = max(self.disagreement, distance(slopes, exact, size=max(float(np.linalg.norm(exact)), 1e-3)))
        return exact


def differences(f: Callable[[Array], Array], at: Array, h: float = 2.0**-8) -> Array:
    """Jacobian by (45Δ₁ − 9Δ₂ + Δ₃) / 60h, whose error is h⁶·f⁽⁷⁾/140; Δₖ = f(z + kh) − f(z − kh)."""
    columns = []
    for k in range(at.size):
        e = np.zeros(at.size)
        e[k] = h
        e = e.reshape(at.shape)
        d1, d2, d3 = (np.asarray(f(at + j * e)) - np.asarray(f(at - j * e)) for j in (1, 2, 3))
        columns.append((45 * d1 - 9 * d2 + d3) / (60 * h))
    return np.stack(columns, axis=-1).reshape((*columns[0].shape, *at.shape))


def distance(a: Array, b: Array, size: float | None = None) -> float:
    """The relative error, infinite where it is NaN: a range of errors has a largest one."""
    error = relative_error(a, b, size)
    return error if math.isfinite(error) else math.inf


# -- documents and their equations --------------------------------------------------------------------------------------


class Values(NamedTuple):
    """What an equation returns at one probe.

    `size` is what errors are relative to where the truth is zero. Where the correction changes the left side,
    `corrected_reference` is the truth for the corrected form. `readings` are other readings of the printed form:
    words -> a function that returns (value, truth).
    """

    reference: Array
    printed: Array
    corrected: Array | None = None
    size: float | None = None
    corrected_reference: Array | None = None
    readings: dict[str, Callable[[], tuple[Array, Array]]] = {}  # noqa: RUF012  (never written to)


@dataclass(frozen=True)
class Document:
    """A source document. `regimes`: name -> a function that makes its probes; `setting`: those that it speaks about."""

    short: str
    title: str
    notation: str
    regimes: dict[str, Callable[[], list[Any]]]
    setting: tuple[str, ...]
    entries: list[Entry] = field(default_factory=list, compare=False)

    def probes(self, regime: str) -> list[Any]:
        """The probes of a regime, made once."""
        return _probes(self.regimes[regime])

    def disagreement(self) -> float:
        """The largest distance of tape and central differences, over all derivatives taken so far."""
        return max(p.disagreement for regime in self.regimes for p in self.probes(regime))


@cache
def _probes(make: Callable[[], list[Any]]) -> list[Any]:
    return make()


@dataclass(frozen=True)
class Entry:
    """One line of the ledger, as it is written in the file of its document; see `equation`."""

    document: Document
    number: str
    printed: str
    corrected: str
    verdict: str
    setting: tuple[str, ...]
    not_for: tuple[str, ...]
    right_for: tuple[str, ...]
    note: str
    values: Callable[[Any], Values] | None


def equation(document: Document, number: str, *, printed: str, corrected: str = "", verdict: str = "right", setting: tuple[str, ...] = (),
             not_for: tuple[str, ...] = (), right_for: tuple[str, ...] = (), note: str = "") -> Callable[[Callable[[Any], Values]], Entry]:
    """Enter the decorated function, a probe -> `Values`, into the ledger of `document`.

    Args:
        number: the equation's number, or its place.
        printed, corrected: the forms in the ledger's notation.
        verdict: the expected one.
        setting: regimes that the equation speaks about, where they are not all of the document's.
        not_for: regimes in which a right equation fails, because a condition is violated.
        right_for: regimes of the setting in which a wrong one happens to be right.
        note: one line.
    """
    def enter(values: Callable[[Any], Values] | None) -> Entry:
        entry = Entry(document, number, printed, corrected, verdict, setting or document.setting, not_for, right_for, note, values)
        document.entries.append(entry)
        return entry
    return enter


def text(document: Document, number: str, *, printed: str, corrected: str, note: str) -> Entry:
    """Enter a wrong symbol in a sentence: there is nothing to measure."""
    return equation(document, number, printed=printed, corrected=corrected, verdict="text", note=note)(None)  # type: ignore[arg-type]


# -- measuring ----------------------------------------------------------------------------------------------------------

Range = tuple[float, float]  # the smallest and the largest error of some probes


@dataclass(frozen=True)
class Result:
    """An entry, measured. `regimes`, `readings`: name -> range of errors; `reason`: why the verdict is unclear."""

    entry: Entry
    verdict: str
    regimes: dict[str, Range]
    corrected: float | None
    readings: dict[str, Range]
    reason: str = ""

    @property
    def as_expected(self) -> bool:
        """Whether the measured verdict is the expected one."""
        return self.verdict == self.entry.verdict

    @property
    def errors(self) -> Range | None:
        """Smallest and largest error of the printed form over the setting, without the regimes of `right_for`."""
        inside = [self.regimes[r] for r in self.entry.setting if r in self.regimes and r not in self.entry.right_for]
        return (min(low for low, _ in inside), max(high for _, high in inside)) if inside else None

    @property
    def error(self) -> float | None:
        """The one that counts: the largest of a right form, the smallest of a wrong one."""
        return None if self.errors is None else self.errors[1 if self.verdict == "right" else 0]


def _range(errors: Iterable[float]) -> Range:
    errors = list(errors)
    return min(errors), max(errors)


def measure(entry: Entry) -> Result:
    """Evaluate an entry at every probe of its document, and judge it."""
    if entry.values is None:
        return Result(entry, "text", {}, None, {})
    regimes: dict[str, Range] = {}
    vacuous = False
    corrected: list[float] = []
    readings: dict[str, list[float]] = {}
    with np.errstate(all="ignore"):
        for regime in entry.document.regimes:
            errors = []
            for p in entry.document.probes(regime):
                v = entry.values(p)
                errors.append(distance(v.printed, v.reference, v.size))
                if regime not in entry.setting:
                    continue
                vacuous |= v.size is None and float(np.linalg.norm(v.reference)) < WRONG
                if v.corrected is not None:
                    corrected.append(distance(v.corrected, v.reference if v.corrected_reference is None else v.corrected_reference, v.size))
                for words, reading in v.readings.items():
                    readings.setdefault(words, []).append(distance(*reading(), v.size))
            regimes[regime] = _range(errors)
    verdict, reason = ("unclear", "no power: the truth is 0 at some probe") if vacuous else _judge(entry, regimes, corrected)
    return Result(entry, verdict, regimes, max(corrected) if corrected else None, {k: _range(e) for k, e in readings.items()}, reason)


def _judge(entry: Entry, regimes: dict[str, Range], corrected: list[float]) -> tuple[str, str]:
    holds = {r for r, (_, high) in regimes.items() if high <= EXACT}
    fails = {r for r, (low, _) in regimes.items() if low >= WRONG}
    setting = set(entry.setting)
    if entry.document.disagreement() > AGREE:
        return "unclear", f"tape and central differences are {entry.document.disagreement():.0e} apart"
    if any(math.isinf(regimes[r][1]) for r in setting):
        return "unclear", "the printed form is not finite in its own setting: is it implemented as printed?"
    if setting <= holds:
        if fails != set(entry.not_for) or holds | fails != set(regimes):
            return "unclear", f"fails for {sorted(fails)}, holds for {sorted(holds)}, but not_for={sorted(entry.not_for)}"
        return "right", ""
    if not setting <= holds | fails or setting & holds != set(entry.right_for):
        return "unclear", f"fails for {sorted(setting & fails)}, holds for {sorted(setting & holds)}, but right_for={sorted(entry.right_for)}"
    if not corrected or max(corrected) > EXACT:
        return "unclear", "the printed form is wrong, and no corrected form is exact"
    return ("approximation" if "≈" in entry.printed else "misprint"), ""
