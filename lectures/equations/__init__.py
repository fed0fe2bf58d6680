"""The equation ledger: every gradient equation of the five source documents, as printed, and what it measures.

    python -m lectures.equations                     the whole ledger
    python -m lectures.equations --document dbn      one document
    python -m lectures.equations --homes             only where each equation, table, figure and claim lives
    python -m lectures.equations --json              for programs

One file per document; `ledger` holds the few lines of machinery. `printed` lists what the documents print beside gradients, too: tables, figures and
claims; `homes` finds where they live. The exit status is 0 when every verdict is the expected one, and everything has a home.
"""

from . import bn_jacobian, bn_lecture, cwn, dbn, dbn_cost, inplace_abn
from .ledger import Document, Entry, Result, measure

DOCUMENTS: dict[str, Document] = {d.short: d for d in (dbn.DBN, bn_lecture.LECTURE, bn_jacobian.JACOBIAN, inplace_abn.INPLACE, cwn.CWN)}
