"""`submission_metadata.yml` of a Gradescope export: when each submission came, and whose it is.

    submission_123456:
      :submitters:
      - :name: Ada Lovelace
        :sid: '1815'
        :email: ada@example.org
      :created_at: 2026-03-01 12:00:00.000000000 Z

Everything is read as text: no date becomes an object, and no tag makes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Submitter = tuple[str, str, str]  # name, sid, email


class UnreadableMetadata(ValueError):
    """The file is no YAML, or nothing here can read YAML."""


def gradescope_metadata(text: str) -> dict[str, tuple[str, list[Submitter]]]:
    """From the folder of a submission to when it was made (a text that sorts by time) and who made it.

    Raises:
        UnreadableMetadata: see there; the text says what to do.
    """
    try:
        import yaml
    except ImportError as e:
        raise UnreadableMetadata("submission_metadata.yml is YAML, and PyYAML is not installed: pip install pyyaml") from e
    try:
        loaded = yaml.load(text, getattr(yaml, "CBaseLoader", yaml.BaseLoader))  # of texts, lists and mappings only
    except (yaml.YAMLError, RecursionError, ValueError) as e:
        raise UnreadableMetadata(f"submission_metadata.yml cannot be read ({' '.join(str(e).split())[:200]}): export the submissions again, or "
                                 "say --layout folders, which takes each folder's name for the student's") from e
    found = {}
    for folder, about in _items(loaded):
        if folder.startswith("submission_"):
            of = dict(_items(about))
            people = [dict(_items(person)) for person in of.get("submitters") or () if isinstance(person, Mapping)]
            submitters = [(_text(p.get("name")), _text(p.get("sid")), _text(p.get("email"))) for p in people]
            found[folder] = _text(of.get("created_at")), [s for s in submitters if any(s)]
    return found


def _items(value: Any) -> list[tuple[str, Any]]:
    """The entries of a mapping; Ruby writes a colon before its names."""
    return [(key.removeprefix(":"), v) for key, v in value.items() if isinstance(key, str)] if isinstance(value, Mapping) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value not in ("~", "null") else ""
