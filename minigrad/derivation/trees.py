"""Changing one place of a student's syntax tree."""

from __future__ import annotations

import ast
import copy
from typing import Any


class Put(ast.NodeTransformer):
    """Puts `new` in the place of the node that was at `old`'s position of the tree."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.mark, self.new = _mark(old), new

    def visit(self, node: ast.AST) -> Any:
        if _mark(node) == self.mark:
            return ast.copy_location(copy.deepcopy(self.new), node)
        return self.generic_visit(node)


def _mark(node: ast.AST) -> tuple[Any, ...]:
    return (type(node), *(getattr(node, a, None) for a in ("lineno", "col_offset", "end_lineno", "end_col_offset")))
