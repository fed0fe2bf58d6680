"""The API reference: a page for each module of minigrad, layers and models, written from what its docstrings say.

Modules are found by walking the packages, and everything is called by its shortest public name: what stands in minigrad/ops/reduce.py is
`minigrad.mean`. So a module can move, and its readers need not know.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from .docstrings import code, markdown, prose

PACKAGES = ("minigrad", "layers", "models")
# Where users find things, from the shortest name on. What none of them has is called by its own module.
NAMESPACES = ("minigrad", "layers", "models", "minigrad.nn", "minigrad.optim", "minigrad.nn.init", "minigrad.optim.lr_scheduler", "minigrad.data",
              "minigrad.checkpoint", "minigrad.derivation")
ABBREVIATIONS = {"mg": "minigrad", "nn": "minigrad.nn", "optim": "minigrad.optim"}
REFERENCES = "../guides/references.md"


class DeadName(Exception):
    """A docstring names what does not exist; the text says where."""


def modules() -> list[ModuleType]:
    """All modules whose docstrings are for readers; a module that only passes on another one's names is not among them."""
    found = []
    for package in map(importlib.import_module, PACKAGES):
        found.append(package)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not any(part.startswith("_") for part in module.name.split(".")):
                found.append(importlib.import_module(module.name))
    return [m for m in dict.fromkeys(found) if m.__doc__ and (own(m) or hasattr(m, "__path__"))]


def own(module: ModuleType) -> dict[str, Any]:
    """The public functions and classes that this module defines and documents, in its order; each once, by its first name."""
    found = {name: thing for name, thing in documented(module).items() if getattr(thing, "__module__", None) == module.__name__}
    names = {id(thing): name for name, thing in reversed(found.items())}
    return {name: thing for name, thing in found.items() if names[id(thing)] == name}


def documented(module: ModuleType) -> dict[str, Any]:
    """Public functions and classes with docstrings that a module has, wherever they come from; those that it makes when asked, too."""
    things = vars(module) | {name: getattr(module, name) for name in dir(module) if name not in vars(module)}
    return {name: thing for name, thing in things.items()
            if not name.startswith("_") and (inspect.isroutine(thing) or inspect.isclass(thing)) and inspect.getdoc(thing)}


def members(thing: type) -> dict[str, Any]:
    """Public methods and properties that a class itself defines, with docstrings."""
    return {name: member for name, member in vars(thing).items()
            if not name.startswith("_") and (inspect.isroutine(member) or isinstance(member, property | classmethod | staticmethod))
            and getattr(member, "__doc__", None) and getattr(member, "__module__", thing.__module__) == thing.__module__}


class Reference:
    """All that is documented, by name: `pages` writes it down."""

    def __init__(self) -> None:
        self.modules = modules()
        self.names: dict[int, str] = {}  # id of an object -> what it is called
        self.entries: set[str] = {m.__name__ for m in self.modules}
        self.dead: list[str] = []
        self.things = {m.__name__: own(m) for m in self.modules}  # what stands on each module's page
        shortest: dict[int, str] = {}
        for space in map(importlib.import_module, NAMESPACES):
            for name, thing in documented(space).items():
                shortest.setdefault(id(thing), f"{space.__name__}.{name}")
        for module in self.modules:
            for name, thing in self.things[module.__name__].items():
                self.names[id(thing)] = shortest.get(id(thing), f"{module.__name__}.{name}")
        for space in map(importlib.import_module, NAMESPACES):  # made elsewhere and only passed on, such as a layer's function
            for name, thing in documented(space).items():
                if id(thing) not in self.names and (getattr(thing, "__module__", None) or "").split(".")[0] in PACKAGES and space in self.modules:
                    self.things[space.__name__][name] = thing
                    self.names[id(thing)] = f"{space.__name__}.{name}"
        for things in self.things.values():
            for thing in things.values():
                self.entries.add(self.names[id(thing)])
                if inspect.isclass(thing):
                    self.entries |= {f"{self.names[id(thing)]}.{member}" for member in members(thing)}

    def pages(self) -> dict[str, str]:
        """{path below the folder api: Markdown}.

        Raises:
            DeadName: a docstring names something in these packages that is not there.
        """
        made = {f"{m.__name__}.md": self.page(m) for m in self.modules}
        packages = "\n".join(f"{name}" for name in PACKAGES)
        made["index.md"] = ("# API reference\n\nFrom the docstrings, a page for each module. Everything is called by its shortest public name.\n\n"
                            f"```{{toctree}}\n:maxdepth: 1\n\n{packages}\n```\n")
        if self.dead:
            raise DeadName("\n".join(sorted(set(self.dead))))
        return made

    def page(self, module: ModuleType) -> str:
        """One module."""
        name = module.__name__
        made = [f"# {escaped(name)}"]
        if name not in self.names.values():  # minigrad.tensor is a function, too: a reader who clicks on it means that
            made += [directive("py:module", name, ""), directive("py:currentmodule", "None", "")]
        made.append(self.text(module.__doc__ or "", module, None))
        if hasattr(module, "__path__"):
            made += [*self.contents(module), *self.below(module)]
        for thing in self.things[name].values():
            made.append(self.entry(thing, module))
        return "\n\n".join(made) + "\n"

    def contents(self, package: ModuleType) -> Iterator[str]:
        """What users take from this package, each with its first sentence."""
        things = sorted(self.passed_on(package), key=lambda pair: pair[0].lower())
        rows = [f"| {self.link(name, package)} | {first_sentence(thing)} |" for name, thing in things]
        if rows:
            yield "\n".join(["| | |", "|---|---|", *rows])

    def passed_on(self, package: ModuleType) -> Iterator[tuple[str, Any]]:
        """Names that are called by this package, and stand on the page of one of its modules."""
        for name, thing in documented(package).items():
            if self.names.get(id(thing)) == f"{package.__name__}.{name}" and thing.__module__ != package.__name__:
                yield f"{package.__name__}.{name}", thing

    def below(self, package: ModuleType) -> Iterator[str]:
        """The pages of the modules in this package."""
        names = [f"{last} <{name}>" for name, _, last in ((m.__name__, *m.__name__.rpartition(".")[1:]) for m in self.modules)
                 if name.rpartition(".")[0] == package.__name__]
        if names:
            yield "\n".join(["```{toctree}", ":maxdepth: 1", ":caption: Modules", "", *names, "```"])

    def entry(self, thing: Any, module: ModuleType) -> str:
        """A function, or a class with its members."""
        name = self.names[id(thing)]
        if not inspect.isclass(thing):
            return directive("py:function", name + signature(thing), self.text(inspect.getdoc(thing) or "", module, None))
        # With a docstring of its own: a NamedTuple's or Exception's inherited one says nothing.
        body = [self.text(inspect.getdoc(thing) or "", module, thing)]
        for member, value in members(thing).items():
            text = self.text(inspect.getdoc(value) or "", module, thing)
            if isinstance(value, property):
                body.append(directive("py:property", member, text, 1))
            else:
                is_bound = isinstance(value, classmethod | staticmethod)
                body.append(directive("py:method", member + signature(getattr(thing, member), skip_self=not is_bound), text, 1))
        return directive("py:class", name + signature(thing), "\n\n".join(body))

    def text(self, docstring: str, module: ModuleType, inside: type | None) -> str:
        """A docstring in Markdown."""
        return markdown(docstring, lambda name: self.link(name, module, inside), REFERENCES)

    def link(self, name: str, module: ModuleType, inside: type | None = None) -> str:
        """`name` as code that leads to its entry, if it has one."""
        plain = re.sub(r"\(.*\)$", "", name)
        head, _, rest = plain.partition(".")
        full = f"{ABBREVIATIONS.get(head, head)}.{rest}" if rest else plain
        places = [f"{self.names.get(id(inside))}.{full}", full] if inside else [full]
        if not rest:
            here = vars(module).get(full)
            places += [self.names.get(id(here), ""), *(f"{space}.{full}" for space in NAMESPACES)]
        else:
            places += [f"{space}.{full}" for space in NAMESPACES]
        for place in places:
            target = place if place in self.entries else self.called(place)
            if target in self.entries:
                return f"{{py:obj}}`{name} <{target}>`" if "<" not in name else code(name)
        if rest and full.split(".")[0] in PACKAGES and re.fullmatch(r"[\w.]+", full) and not exists(full):
            self.dead.append(f"{module.__name__}: a docstring names `{name}`, which does not exist")
        return code(name)

    def called(self, name: str) -> str:
        """The name under which the thing with this name has its entry."""
        thing = resolved(name)
        return thing.__name__ if isinstance(thing, ModuleType) else self.names.get(id(thing), "") if thing is not None else ""


def resolved(name: str) -> Any:
    """What a dotted name of one of the packages names, or None."""
    head, *rest = name.split(".")
    if head not in PACKAGES or not rest:
        return importlib.import_module(name) if name in PACKAGES else None
    thing: Any = importlib.import_module(head)
    for i, part in enumerate(rest):
        if hasattr(thing, part):
            thing = getattr(thing, part)
        else:
            try:
                thing = importlib.import_module(".".join([head, *rest[:i + 1]]))
            except ImportError:
                return None
    return thing


def exists(name: str) -> bool:
    """Is there such a thing in the packages, documented or not? An instance's attributes count if the class annotates or sets them."""
    thing = resolved(name)
    if thing is None:
        owner, _, last = name.rpartition(".")
        parent = resolved(owner)
        return inspect.isclass(parent) and re.search(rf"\b(self\.)?{last}\b", inspect.getsource(parent)) is not None
    return True


# -- how it is written -------------------------------------------------------------------------------------------------


def directive(kind: str, head: str, body: str, depth: int = 0) -> str:
    """A Sphinx directive; the outer one has more colons than those inside."""
    fence = ":" * (5 - depth)
    return "\n".join([f"{fence}{{{kind}}} {head}", *(["", body] if body else []), fence])


class _Text(str):
    """An annotation or default as it is to be printed."""

    __repr__ = str.__str__


def signature(thing: Any, skip_self: bool = False) -> str:
    """The parameters, with the annotations that say something: "(a, axis: Axis = None)"."""
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return "()"
    parameters = [p.replace(annotation=_annotation(p.annotation, p.empty), default=_default(p.default, p.empty)) for p in found.parameters.values()]
    if skip_self and parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    return str(found.replace(parameters=parameters, return_annotation=_annotation(found.return_annotation, found.empty, nothing=("None", "Any", "Value"))))


def _annotation(given: Any, empty: Any, nothing: tuple[str, ...] = ("Any", "Value")) -> Any:
    if given is empty:
        return empty
    text = given if isinstance(given, str) else inspect.formatannotation(given)
    return empty if text in nothing else _Text(text)


def _default(given: Any, empty: Any) -> Any:
    """A default that has no notation of its own is "..."."""
    return given if given is empty or not re.search(r" at 0x|^<|\n", repr(given)) else _Text("...")


def first_sentence(thing: Any) -> str:
    """Of its docstring, for a table."""
    text = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
    sentence = re.split(r"(?<=[.:]) (?=[A-Z`])", text)[0]
    return prose(sentence, code, REFERENCES)


def escaped(name: str) -> str:
    """A name in a heading."""
    return name.replace("_", "\\_")
