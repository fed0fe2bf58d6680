"""How wide a text can be in a usual sans-serif font, without a look at any font.

The widths are those of DejaVu Sans, which is wider than most, rounded up; a test compares each with the font.
"""

from __future__ import annotations

import unicodedata

# In thousandths of the font's size.
NORMAL = {300: "ijl'", 350: "IJ,./:;\\| ·ι", 400: "f-ᵀ", 450: "rt()[]²³!", 500: '"', 550: "sz*?`", 600: "ckFLεζνξυχΓ", 660: "aeovxyPTYγδθκλοπςτ_",
          700: "0123456789bdghnpquEKS${}√ΣσαβημρφψΞ", 750: "ABCRVXZΔΛ", 800: "DGHNUΠΩ", 870: "wOQ&ΘΦΨM#+<=>^~−×÷ω", 1100: "%mW@…"}
BOLD = {350: "'", 420: "ijlIJ,./\\| ·", 460: "f-:;ιᵀ", 550: "rt()[]²³!", 600: '"*', 660: "zsc?εζξς`", 720: "aekvxyL√λτυχΓΞ_",
        770: "0123456789bdghnopquEFSTYZ${}Σαβγδηθκνορ", 830: "πABCKPRVXμΔΛGUσφψ", 920: "DHNOQ&#+<=>^~−×÷ωΘΠΦΨΩ", 1200: "wmMW%@…"}
TABLES = {bold: {c: width for width, characters in table.items() for c in characters} for bold, table in ((False, NORMAL), (True, BOLD))}
WIDE, CAPITAL, PICTURE, OTHER, NONE = 1100, 1350, 1500, 1100, ("Mn", "Me", "Cf")


def text_width(text: str, size: float, bold: bool = False) -> float:
    """An upper estimate of a text's width, in the unit of `size`.

    >>> round(text_width("xhat", 10), 1)
    24.7
    """
    table = TABLES[bold]
    return sum(table[c] if c in table else _other(c) for c in text) * size / 1000


def _other(c: str) -> int:
    """The width of a character that the tables lack."""
    if unicodedata.category(c) in NONE:
        return 0
    if c > "\U0000ffff" or unicodedata.category(c) == "So":
        return PICTURE
    if unicodedata.east_asian_width(c) in "WF":
        return WIDE
    plain = unicodedata.normalize("NFD", c)[0]  # é is as wide as e
    return max(table[plain] for table in TABLES.values()) if plain in TABLES[True] else CAPITAL if unicodedata.category(c) == "Lu" else OTHER


def shortened(text: str, most: int) -> str:
    """At most so many characters, the last one an ellipsis where some are left out; what does not print is a �."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= most else text[:most - 1] + "…"
