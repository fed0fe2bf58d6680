"""Every work that is cited can be looked up in docs/references.md, every work there is cited, and invariants have the numbers of their list.

Each rule is a function from {path: text} to a list of what is wrong; it is tested on this repository, and on small wrong texts.
"""

import re
from pathlib import Path

import pytest
from test_house import carried_files

ROOT = Path(__file__).parents[1]
REFERENCES, INVARIANTS = "docs/references.md", "docs/invariants.md"
DOCUMENTS = {"bn-lecture", "bn-jacobian", "inplace-abn", "cwn", "dbn"}
KEY = re.compile(r"\[([a-z]+(?:19|20)\d\d[a-z]*)\]")
AUTHORS_AND_YEAR = re.compile(r"\b[A-Z]\w+(?: et al\.?|,? (?:and|&) [A-Z]\w+)(?:'s)?,? \(?(?:19|20)\d\d\b")
ET_AL = re.compile(r"\bet al(?!\.?(?:'s)? ?\[[a-z]+\d{4})")
SOURCE_AND_YEAR = re.compile(r"(?:\bSources?:|\bsource=).*?(?<![\w-])(?:19|20)\d\d(?!\w)")


def prose():
    """{path: text} of all that cites: code, lectures and docs, except generated files and this one."""
    skipped = ("tests/snapshots/", "tests/test_references.py", "CHANGELOG.md", "datasets/LICENSE")
    paths = [p for p in carried_files(ROOT) if p.endswith((".py", ".md", ".cu")) and not p.startswith(skipped) and (ROOT / p).is_file()]
    return {p: (ROOT / p).read_text(encoding="utf-8") for p in paths}


def keys(references):
    """{key: its entry} of docs/references.md."""
    found = re.split(r"^### +(\S+)$", references, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


# -- the rules ---------------------------------------------------------------------------------------------------------


def cited_but_not_listed(texts):
    """Keys in brackets that docs/references.md does not have."""
    known = keys(texts[REFERENCES])
    return [f"{path}: [{key}] is not in {REFERENCES}" for path, text in texts.items() for key in KEY.findall(text) if key not in known]


def listed_but_not_cited(texts):
    """Keys of docs/references.md that occur nowhere else."""
    others = "\n".join(text for path, text in texts.items() if path != REFERENCES)
    cited = set(KEY.findall(others)) | {d for d in DOCUMENTS if re.search(rf"(?<![\w-]){d}(?![\w-])", others)}
    return [f"{REFERENCES}: nothing cites {key}" for key in keys(texts[REFERENCES]) if key not in cited]


def cited_without_a_key(texts):
    """Authors with a year, or "et al.", and no key."""
    problems = []
    for path, text in texts.items():
        if path != REFERENCES:
            for pattern in (AUTHORS_AND_YEAR, ET_AL, SOURCE_AND_YEAR):
                problems += [f"{path}:{text[:m.start()].count(chr(10)) + 1}: cite by key: {m[0]}" for m in pattern.finditer(text)]
    return problems


def entries_without_use(texts):
    """Entries of docs/references.md without a title, or that do not say what minigrad takes from the work."""
    return [f"{REFERENCES}: {key} lacks its {what}" for key, entry in keys(texts[REFERENCES]).items()
            for what, pattern in (("title", r"\*[^*]+\*"), ("year", r"\b(19|20)\d\d\b"), ("use", r"(?m)^Here: ")) if not re.search(pattern, entry)]


def invariants_that_are_not_listed(texts):
    """Numbers of invariants, and names of tests in the list, that do not exist."""
    listed = {int(n) for n in re.findall(r"(?m)^### (\d+) · ", texts[INVARIANTS])}
    problems = [f"{path}: invariant {n} is not in {INVARIANTS}" for path, text in texts.items() for n in numbers(text) if n not in listed]
    for path, name in re.findall(r"`(tests/\w+\.py)::(\w+)`", texts[INVARIANTS]):
        if not re.search(rf"(?m)^def {name}\(", texts.get(path, "")):
            problems.append(f"{INVARIANTS}: there is no {path}::{name}")
    unproven = [n for n, entry in entries(texts[INVARIANTS]) if "`tests/" not in entry]
    return problems + [f"{INVARIANTS}: no test proves invariant {n}" for n in unproven]


def entries(invariants):
    """Pairs (number, entry) of the list."""
    found = re.split(r"(?m)^### (\d+) · ", invariants)
    return list(zip(map(int, found[1::2]), found[2::2], strict=True))


def numbers(text):
    """The invariants that a text names: "invariant 7", "invariants 13 and 23", "invariants 1 to 9", "invariants 5-9"."""
    for m in re.finditer(r"\b[Ii]nvariants? (\d+)(?:((?:, \d+)*(?:,? and \d+))|(?: to |-)(\d+))?", text):
        yield from range(int(m[1]), int(m[3] or m[1]) + 1)
        yield from map(int, re.findall(r"\d+", m[2] or ""))


RULES = [cited_but_not_listed, listed_but_not_cited, cited_without_a_key, entries_without_use, invariants_that_are_not_listed]


# -- this repository keeps them ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_there_are_no(rule):
    problems = rule(prose())
    assert not problems, "\n  ".join(["", *problems])


def test_the_documents_are_those_of_the_ledger():
    from lectures.equations import DOCUMENTS as measured
    assert DOCUMENTS == set(measured) and set(keys((ROOT / REFERENCES).read_text("utf-8"))) > DOCUMENTS


def test_numbers_of_invariants_count_up_from_1():
    listed = [n for n, _ in entries((ROOT / INVARIANTS).read_text("utf-8"))]
    assert listed == list(range(1, len(listed) + 1))


# -- and the rules have power ------------------------------------------------------------------------------------------

GOOD = {
    REFERENCES: "### dbn\n*Decorrelated*, 2018.\n\nHere: whitening.\n\n### he2015\n*Delving deep*, 2015.\n\nHere: weights.\n",
    INVARIANTS: "### 1 · Sums\nΣ dx = 0. `tests/test_a.py::test_sums`\n\n### 2 · Scale\n`tests/test_a.py::test_sums`\n",
    "layers/a.py": '"""Source: dbn, eq 14; He et al. [he2015].\nIn 2015 nothing else happened."""',
    "tests/test_a.py": '# invariants 1 and 2\ndef test_sums():\n    """Invariant 1."""\n',
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_good_texts_keep(rule):
    assert rule(GOOD) == []


@pytest.mark.parametrize("rule, path, text", [
    (cited_but_not_listed, "layers/b.py", "Source: Ioffe [ioffe2017]."),
    (cited_but_not_listed, "README.md", "as in [he2015b]"),
    (listed_but_not_cited, "layers/a.py", "Source: He et al. [he2015]; decorrelated-dbn-2"),
    (listed_but_not_cited, "layers/a.py", "Source: dbn."),
    (cited_without_a_key, "layers/b.py", "Wu and He 2018"),
    (cited_without_a_key, "layers/b.py", "Source: Glorot & Bengio (2010)."),
    (cited_without_a_key, "layers/b.py", "as Press et al. say"),
    (cited_without_a_key, "layers/b.py", "Source: Ioffe 2017, algorithm 1"),
    (cited_without_a_key, "layers/b.py", 'register("b", source="Ioffe 2017")'),
    (entries_without_use, REFERENCES, "### he2015\n*Delving deep*, 2015.\n"),
    (entries_without_use, REFERENCES, "### he2015\nDelving deep, 2015.\n\nHere: weights.\n"),
    (entries_without_use, REFERENCES, "### he2015\n*Delving deep*.\n\nHere: weights.\n"),
    (invariants_that_are_not_listed, "layers/b.py", "by invariant 3"),
    (invariants_that_are_not_listed, "layers/b.py", "Invariants 1 to 3"),
    (invariants_that_are_not_listed, "layers/b.py", "(invariants 1 and 24)"),
    (invariants_that_are_not_listed, "tests/test_a.py", "def test_of_something_else():"),
    (invariants_that_are_not_listed, INVARIANTS, "### 1 · Sums\nΣ dx = 0.\n\n### 2 · Scale\n`tests/test_a.py::test_sums`\n"),
])
def test_bad_texts_break(rule, path, text):
    assert len(rule({**GOOD, path: text})) >= 1
