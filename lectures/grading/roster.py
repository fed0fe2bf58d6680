"""The list of a course: everybody on it gets a row, under the name that the list has for them.

A CSV file. Columns are known by their heading, in capital or small letters; without a known heading the first line is a student as well. The
first of these columns gives the name in the table; all of them, and the full name made from its parts, are compared with what the platform
calls a submission, without regard to capitals, accents, spaces and punctuation. The very name comes first; a name that two students share
matches nobody, and of two submissions that could be one student's by other spellings neither takes the row.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .layouts import Person

NAMES = ("student", "username", "user name", "login", "login id", "sis login id", "github_username", "github username", "student_id", "student id",
         "sid", "id", "id number", "sis user id", "identifier", "matriculation", "email", "email address", "e-mail", "name", "full name", "fullname")
FIRST, LAST = ("first name", "firstname", "first_name", "given name"), ("last name", "lastname", "last_name", "surname", "family name")


class Listed(NamedTuple):
    """One line of the roster."""

    student: str
    keys: frozenset[str]


def plain(text: str) -> str:
    """A name as it is compared.

    >>> plain("Lovelace, Ada"), plain("Zoë O'Neil")
    ('lovelaceada', 'zoeoneil')
    """
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if c.isalnum())


def read(path: Path) -> list[Listed]:
    """The roster's lines.

    Raises:
        ValueError: it is no CSV file in UTF-8, holds nobody, or one student twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        try:
            dialect: type[csv.Dialect] = csv.Sniffer().sniff(text[:4096], delimiters=",;\t")
        except csv.Error:
            dialect = csv.excel
        rows = [[value.strip() for value in row] for row in csv.reader(io.StringIO(text, newline=""), dialect) if any(value.strip() for value in row)]
    except (UnicodeDecodeError, csv.Error) as e:
        raise ValueError(f"the roster {path} cannot be read ({e}): save it as CSV in UTF-8") from e
    head = [value.casefold() for value in rows[0]] if rows else []
    known = [i for i, name in enumerate(head) if name in NAMES]
    first, last = ([i for i, name in enumerate(head) if name in which] for which in (FIRST, LAST))
    if known or (first and last):
        rows = rows[1:]
    else:
        known = list(range(max(map(len, rows), default=0)))
    found = []
    for row in rows:
        row += [""] * (len(head) - len(row))
        values = [row[i] for i in known if i < len(row) and row[i]]
        if first and last:
            values += [f"{row[first[0]]} {row[last[0]]}", f"{row[last[0]]} {row[first[0]]}"]
        if not values:
            continue
        keys = {plain(value) for value in values} | {plain(value.partition("@")[0]) for value in values if "@" in value}
        for value in values:  # "Ada Lovelace" is "Lovelace, Ada", and Canvas's lovelaceada
            parts = value.replace(",", " ").split()
            keys |= {plain("".join(parts[i:] + parts[:i])) for i in range(len(parts))} if "@" not in value else set()
        found.append(Listed(values[0], frozenset(keys - {""})))
    twice = [name for name, n in Counter(listed.student for listed in found).items() if n > 1]
    if not found or twice:
        raise ValueError(f"{path} lists {', '.join(twice[:5])} more than once" if twice else f"{path} lists nobody")
    return found


def matched(people: Sequence[Person], roster: Sequence[Listed]) -> tuple[list[Person], list[str]]:
    """Everybody on the roster, under the roster's names, and the others as they are; and the names of the others."""
    count = Counter(k for listed in roster for k in listed.keys)
    owner = {k: listed.student for listed in roster for k in listed.keys if count[k] == 1}
    names = {listed.student for listed in roster}
    exact = {person.student for person in people if person.student in names}
    claims: dict[str, list[Person]] = {}
    unknown: list[Person] = []
    for person in people:
        whose = {person.student} if person.student in exact else {owner[k] for k in map(plain, (person.student, *person.ids)) if k in owner} - exact
        if len(whose) == 1:
            claims.setdefault(whose.pop(), []).append(person)
        else:
            unknown.append(person)
    found = {name: claim[0]._replace(student=name) for name, claim in claims.items() if len(claim) == 1}
    unknown += [person for claim in claims.values() if len(claim) > 1 for person in claim]  # nobody takes a row that another may have meant
    taken = {listed.student for listed in roster}
    unknown = [p._replace(student=f"{p.student} (not on the roster)") if p.student in taken else p for p in unknown]
    everybody = [found.get(listed.student, Person(listed.student)) for listed in roster]
    return sorted([*everybody, *unknown], key=lambda p: p.student), [p.student for p in unknown]
