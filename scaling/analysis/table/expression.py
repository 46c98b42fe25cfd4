"""The expressions of `--where` and `--exclude`: ``width > 256 and corpus == 'c4'``.

Python's syntax for comparisons, `and`, `or`, `not`, `in`, arithmetic and names of columns, and nothing else of it: the
text is parsed, every kind of node is checked, and nothing is called. A name that is no identifier stands in backticks:
`` `eval/loss` < 3``.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable
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

    def refuse(what: str) -> DataError:
        return DataError(f"{option}: {what}", got=text, allowed=_ALLOWED)

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str)):
            return node.value
        if isinstance(node, ast.Name):
            name = quoted.get(node.id, node.id)
            found = column(name)
            if found is None:
                raise DataError(f"{option} names {name}, which the table does not have", allowed=", ".join(names))
            return found
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return operator.neg(value(node.operand))
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            return _ARITHMETIC[type(node.op)](value(node.left), value(node.right))
        raise refuse(f"{ast.unparse(node)} is no number, text or column")

    def truth(node: ast.expr) -> Mask:
        if isinstance(node, ast.BoolOp):
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return np.asarray(join.reduce([truth(part) for part in node.values]), dtype=bool)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~truth(node.operand)
        if isinstance(node, ast.Compare):
            return np.asarray(np.logical_and.reduce(list(comparisons(node))), dtype=bool)
        if isinstance(node, ast.Name):
            cells = value(node)
            return np.array([str(cell).lower() in ("true", "1", "1.0", "yes") for cell in cells], dtype=bool)
        raise refuse(f"{ast.unparse(node)} is neither true nor false")

    def comparisons(node: ast.Compare) -> Iterable[Mask]:
        left: ast.expr = node.left
        for kind, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(kind, (ast.In, ast.NotIn)):
                if not isinstance(right, (ast.Tuple, ast.List, ast.Set)):
                    raise refuse("in takes a list such as ('c4', 'pile')")
                found = [_compared(operator.eq, value(left), value(item), rows, refuse) for item in right.elts]
                hit = np.logical_or.reduce(found) if found else np.zeros(rows, dtype=bool)
                yield ~hit if isinstance(kind, ast.NotIn) else hit
            elif type(kind) in _COMPARE:
                yield _compared(_COMPARE[type(kind)], value(left), value(right), rows, refuse)
            else:
                raise refuse(f"{ast.unparse(node)} is no comparison of values")
            left = right

    try:
        with np.errstate(all="ignore"):
            return np.broadcast_to(truth(tree.body), (rows,)).copy()
    except (TypeError, ZeroDivisionError, OverflowError) as error:
        raise refuse(f"a text is compared with a number ({error})") from error
    except RecursionError as error:
        raise refuse("the expression is too deep") from error


def _compared(
    compare: Callable[[Any, Any], Any], left: Any, right: Any, rows: int, refuse: Callable[[str], DataError]
) -> Mask:
    sides = [side for side in (left, right) if isinstance(side, np.ndarray)]
    is_text = [
        isinstance(side, str) or (isinstance(side, np.ndarray) and side.dtype == object) for side in (left, right)
    ]
    if is_text[0] != is_text[1] and not any(side.dtype == object for side in sides):
        raise refuse("a column of numbers is compared with a text")
    if compare in (operator.lt, operator.le, operator.gt, operator.ge) and is_text[0] != is_text[1]:
        raise refuse("a column of texts is compared with a number")
    return np.broadcast_to(np.asarray(compare(left, right), dtype=bool), (rows,))
