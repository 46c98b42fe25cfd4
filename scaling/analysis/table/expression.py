"""The expressions of `--where` and `--exclude`: ``width > 256 and corpus == 'c4'``.

Python's syntax for comparisons, `and`, `or`, `not`, `in`, arithmetic and names of columns, and nothing else of it: the
text is parsed, every kind of node is checked, and nothing is called. A name that is no identifier stands in backticks:
`` `eval/loss` < 3``.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from scaling.errors import DataError

Values = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
ColumnNamed = Callable[[str], Values | None]

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_ALLOWED = "comparisons of columns with numbers and 'texts', joined by and, or, not, in; other names in `backticks`"


def rows_where(text: str, column: ColumnNamed, *, rows: int, names: Iterable[str], option: str) -> Mask:
    """Which rows satisfy the expression [rows].

    Args:
        column: the values of a column by its name, numbers or objects [rows]; None where there is none.
        names: of all columns, for the message.
        option: ``--where``, for the message.

    Raises:
        DataError: the text is no such expression, names no column, or compares a text with a number.
    """
    quoted: dict[str, str] = {}

    def placeholder(match: re.Match[str]) -> str:
        quoted[f"column_{len(quoted)}_"] = match[1]
        return f"column_{len(quoted) - 1}_"

    source = re.sub(r"`([^`]+)`", placeholder, text)
    try:
        tree = ast.parse(source.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"{option} cannot be read as an expression", got=text, allowed=_ALLOWED) from error
    reader = _Expression(text, option, column, rows, tuple(names), quoted)
    try:
        with np.errstate(all="ignore"):
            return np.broadcast_to(reader.truth(tree.body), (rows,)).copy()
    except (TypeError, ZeroDivisionError, OverflowError) as error:
        raise reader.refusal(f"a text is compared with a number ({error})") from error
    except RecursionError as error:
        raise reader.refusal("the expression is too deep") from error


@dataclass(frozen=True)
class _Expression:
    """Evaluates the nodes of one expression; `quoted` has the names that stood in backticks by their placeholders."""

    text: str
    option: str
    column: ColumnNamed
    rows: int
    names: tuple[str, ...]
    quoted: Mapping[str, str]

    def refusal(self, what: str) -> DataError:
        return DataError(f"{self.option}: {what}", got=self.text, allowed=_ALLOWED)

    def truth(self, node: ast.expr) -> Mask:
        if isinstance(node, ast.BoolOp):
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return np.asarray(join.reduce([self.truth(part) for part in node.values]), dtype=bool)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.truth(node.operand)
        if isinstance(node, ast.Compare):
            sides = pairwise((node.left, *node.comparators))
            parts = [self._comparison(kind, *pair) for kind, pair in zip(node.ops, sides, strict=True)]
            return np.asarray(np.logical_and.reduce(parts), dtype=bool)
        if isinstance(node, ast.Name):
            cells = self._value(node)
            return np.array([str(cell).lower() in ("true", "1", "1.0", "yes") for cell in cells], dtype=bool)
        raise self.refusal(f"{ast.unparse(node)} is neither true nor false")

    def _comparison(self, kind: ast.cmpop, left: ast.expr, right: ast.expr) -> Mask:
        if type(kind) in _COMPARE:
            return self._compared(_COMPARE[type(kind)], self._value(left), self._value(right))
        if not isinstance(kind, (ast.In, ast.NotIn)):
            raise self.refusal(f"{ast.unparse(left)} and {ast.unparse(right)} are not compared by values")
        if not isinstance(right, (ast.Tuple, ast.List, ast.Set)):
            raise self.refusal("in takes a list such as ('c4', 'pile')")
        hit = np.zeros(self.rows, dtype=bool)
        for item in right.elts:
            hit |= self._compared(operator.eq, self._value(left), self._value(item))
        return ~hit if isinstance(kind, ast.NotIn) else hit

    def _value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str)):
            return node.value
        if isinstance(node, ast.Name):
            name = self.quoted.get(node.id, node.id)
            values = self.column(name)
            if values is None:
                allowed = ", ".join(self.names)
                raise DataError(f"{self.option} names {name}, which the table does not have", allowed=allowed)
            return values
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return operator.neg(self._value(node.operand))
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            return _ARITHMETIC[type(node.op)](self._value(node.left), self._value(node.right))
        raise self.refusal(f"{ast.unparse(node)} is no number, text or column")

    def _compared(self, compare: Callable[[Any, Any], Any], left: Any, right: Any) -> Mask:
        left, right = _truth_value(left, right), _truth_value(right, left)
        sides = [side for side in (left, right) if isinstance(side, np.ndarray)]
        is_text = [
            isinstance(side, str) or (isinstance(side, np.ndarray) and side.dtype == object) for side in (left, right)
        ]
        if is_text[0] != is_text[1] and not any(side.dtype == object for side in sides):
            raise self.refusal("a column of numbers is compared with a text")
        if compare in (operator.lt, operator.le, operator.gt, operator.ge) and is_text[0] != is_text[1]:
            raise self.refusal("a column of texts is compared with a number")
        return np.broadcast_to(np.asarray(compare(left, right), dtype=bool), (self.rows,))


def _truth_value(side: Any, other: Any) -> Any:
    """The texts 'True' and 'False' as 1 and 0, where they are held against a column of numbers."""
    if isinstance(side, str) and isinstance(other, np.ndarray) and other.dtype != object:
        return {"true": 1.0, "false": 0.0}.get(side.strip().lower(), side)
    return side
