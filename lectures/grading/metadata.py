"""`submission_metadata.yml` of a Gradescope export: when each submission came, and whose it is.

The part of YAML that Gradescope writes, and no more: blocks by indentation, plain and quoted texts. What follows in a submission (results,
history) may hold anything, also texts of students, and is passed over by its indentation.

    submission_123456:
      :submitters:
      - :name: Ada Lovelace
        :sid: '1815'
        :email: ada@example.org
      :created_at: 2026-03-01 12:00:00.000000000 Z
"""

from __future__ import annotations

import json
import re

Submitter = tuple[str, str, str]  # name, sid, email
TOP = re.compile(r"(?P<quote>['\"]?)(?P<folder>submission_[\w-]+)(?P=quote):\s*")
ENTRY = re.compile(r"(?P<dash>- )?:?(?P<key>\w+):(?:\s+(?P<value>.*))?")


def gradescope_metadata(text: str) -> dict[str, tuple[str, list[Submitter]]]:
    """From the folder of a submission to when it was made (a text that sorts by time) and who made it."""
    found: dict[str, tuple[str, list[Submitter]]] = {}
    folder, listing = "", False
    people: list[dict[str, str]] = []
    created = ""

    def close() -> None:
        if folder:
            found[folder] = created, [(p.get("name", ""), p.get("sid", ""), p.get("email", "")) for p in people if any(p.values())]

    for line in text.splitlines():
        bare = line.strip()
        level = len(line) - len(line.lstrip(" "))
        if not bare or bare.startswith("#") or bare == "---":
            continue
        if level == 0:
            close()
            top = TOP.fullmatch(line)
            folder, listing, people, created = top["folder"] if top else "", False, [], ""
            continue
        entry = ENTRY.fullmatch(bare)
        if not folder or entry is None:
            continue
        if level == 2 and not entry["dash"]:
            listing = entry["key"] == "submitters"
            if entry["key"] == "created_at":
                created = scalar(entry["value"] or "")
        elif listing and (level in (2, 4) if entry["dash"] else level in (4, 6) and bool(people)):
            if entry["dash"]:
                people.append({})
            people[-1][entry["key"]] = scalar(entry["value"] or "")
        elif level == 2:
            listing = False
    close()
    return found


def scalar(text: str) -> str:
    """A plain or quoted text of YAML.

    >>> scalar("'it''s'"), scalar('"Zo\\\\u00eb"'), scalar(" 1815 "), scalar("~")
    ("it's", 'Zoë', '1815', '')
    """
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(re.sub(r"\\x([0-9a-fA-F]{2})", r"\\u00\1", text)))
        except ValueError:
            return text[1:-1]
    return "" if text in ("~", "null") else text
