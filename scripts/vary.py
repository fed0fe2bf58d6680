"""What a comparison varies: ``KEY=V1,V2,...`` of any option of a training, and what the runs are then called."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence
from typing import Any

from layers import REGISTRY

from .options import FIELDS, KEYWORDS, OF_NETWORKS, Options, keywords

FORMS = list(dict.fromkeys(("composed", "derived", *(d for layer in REGISTRY.values() for d in layer.derived))))
NOT_VARIED = ("out", "quiet", "log_interval", "checkpoint_interval", "threads")  # what is trained does not depend on them
SPEAK_FOR_THEMSELVES = ("model", "norm", "form", "parametrization", "dataset", "optimizer", "activation", "dtype", "backend")  # their values are names


@dataclasses.dataclass(frozen=True)
class Axis:
    """One thing that varies.

    Attributes:
        key: a field of `Options`, or norm_options.NAME or weight_options.NAME.
        values: as `Options` has them; those of norm_options.NAME are words.
    """

    key: str
    values: tuple[Any, ...]

    def label(self, value: Any) -> str:
        """What a run with this value is called in tables and figures."""
        name = self.key.partition(".")[2] or self.key
        words = name.replace("_", " ")
        if value is None or value is False or value == "none":
            return f"no {words}"
        if value is True:
            return words
        return str(value) if name in SPEAK_FOR_THEMSELVES else f"{words} {value}"


def _refused(what: str, why: str) -> ValueError:
    return ValueError(f"{what}: {why}")


def axis(text: str) -> Axis:
    """"norm = batch_norm, none" -> Axis("norm", ("batch_norm", "none")).

    Raises:
        ValueError: no such option, or one that no training depends on; a value that is empty, of the wrong kind, or there twice.
    """
    name, equals, rest = text.partition("=")
    key, what = name.strip().replace("-", "_"), f"--vary {text}"
    if not equals:
        raise _refused(what, "it takes KEY=VALUE,VALUE,..., such as lr=0.1,0.05")
    return listed(what, key, rest)


def listed(what: str, key: str, text: str) -> Axis:
    """The same for values alone; `what` begins the text of an error."""
    option, _, name = key.partition(".")
    if option not in FIELDS or option in NOT_VARIED or (name and option not in KEYWORDS):
        known = ", ".join([*(k for k in FIELDS if k not in (*NOT_VARIED, *KEYWORDS)), *(f"{k}.NAME" for k in KEYWORDS)])
        raise _refused(what, f"there is nothing to vary called {key}; there are {known}")
    if option in KEYWORDS and not name.isidentifier():
        raise _refused(what, f"a value would have commas of its own; vary one of them: {option}.group_size=8,16")
    values: list[Any] = []
    for word in (w.strip() for w in text.split(",")):
        value = word if name else _value(what, option, word)
        if value == "":
            raise _refused(what, "one of its values is empty")
        if any(_same(value, other) for other in values):
            raise _refused(what, f"{value} is there twice")
        values.append(value)
    return Axis(key, tuple(values))


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def _value(what: str, option: str, word: str) -> Any:
    """A word as the option's kind of value."""
    f = FIELDS[option]
    choices = FORMS if option == "form" else f.metadata.get("choices")
    if word.lower() == "none" and f.default is None and "none" not in (choices or ()):
        return None
    if "bool" in str(f.type):
        if word.lower() in ("on", "true", "off", "false"):
            return word.lower() in ("on", "true")
        raise _refused(what, f"{word}: it takes on or off")
    for kind, needs in ((float, "numbers"), (int, "whole numbers")):
        if kind.__name__ in str(f.type):
            try:
                return kind(word)
            except ValueError:
                raise _refused(what, f"it takes {needs}, separated by commas") from None
    if word and choices is not None and word not in choices:
        raise _refused(what, f"there is no {word}; it takes some of {', '.join(choices)}")
    return word


def runs(base: Options, axes: Sequence[Axis]) -> list[tuple[str, Options]]:
    """(label, options) of every run, in the order of the axes; --out of each is its own folder below that of `base`.

    A label names the values of all axes but the seed's; runs with equal labels differ in their seed alone.

    Raises:
        ValueError: two runs would be the same one.
    """
    found: list[tuple[str, Options]] = []
    for values in itertools.product(*(a.values for a in axes)):
        options = base
        for a, value in zip(axes, values, strict=True):
            option, _, name = a.key.partition(".")
            if name:
                value = ",".join(f"{k}={v}" for k, v in {**_words(getattr(options, option)), name: value}.items())
            options = dataclasses.replace(options, **{option: value})
        parts = [a.label(v) for a, v in zip(axes, values, strict=True) if a.key != "seed" and len(a.values) > 1]
        others = [f"{a.key.rpartition('.')[2]}_{v}" for a, v in zip(axes, values, strict=True) if a.key not in ("norm", "form", "seed")]
        folder = "-".join([options.norm, options.form, str(options.seed), *others])
        options = dataclasses.replace(options, out=f"{base.out.rstrip('/')}/{re.sub(r'[^A-Za-z0-9_.+-]', '_', folder)}" if base.out else "")
        alone = [Axis(name, ()).label(getattr(options, name)) for name in ("norm", "parametrization") if getattr(options, name) not in (None, "none")]
        found.append((", ".join(parts or alone) or "no norm", options))
    same: dict[tuple[Any, ...], str] = {}
    for _, options in found:
        content = _content(options)
        if same.setdefault(content, options.out) != options.out:
            raise ValueError(f"{same[content]} and {options.out} would be the same run: take one of the two values away")
    folders = [options.out for _, options in found]
    if base.out and len(set(folders)) < len(folders):
        raise ValueError(f"two runs would have the folder {next(f for f in folders if folders.count(f) > 1)}: choose values that differ in letters or digits")
    return found


def _words(text: str | None) -> dict[str, str]:
    return {} if text is None else {k.strip(): v.strip() for k, _, v in (part.partition("=") for part in text.split(","))}


def _content(options: Options) -> tuple[Any, ...]:
    """What a run is, whatever it is called."""
    found = {k: v for k, v in dataclasses.asdict(options).items() if k not in NOT_VARIED}
    for name in KEYWORDS:
        try:
            found[name] = tuple(sorted(keywords(name, found[name]).items()))
        except ValueError:  # said of this run when its turn comes
            pass
    return tuple(found.items())


def described(base: Options, axes: Sequence[Axis]) -> str:
    """The title: which network on what, and what else all runs have in common that is not the default."""
    varied = {a.key for a in axes if len(a.values) > 1}
    named = [] if "model" in varied else [base.model]
    for name in ("norm", "parametrization"):
        if name not in varied and getattr(base, name) not in (None, "none"):
            named.append(str(getattr(base, name)))
    common = [Axis(k, ()).label(getattr(base, k)) for k in ("norm_options", "placement", "width", "slope", "activation", "init", "modulation", "penalty",
              "difficulty", "train_images", "lr", "optimizer", *OF_NETWORKS) if k not in varied and getattr(base, k) != FIELDS[k].default]
    place = [] if "dataset" in varied else [f"on {base.dataset}"]
    return " ".join([", ".join([*named, *common]), *place])
