"""The reference pages that follow from the code: `make docs` writes them, tests/test_docs.py keeps them true.

A key's path, type and default come from the class that reads it, its meaning from the string below the field. A page is
a function in `PAGES` that returns its text.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo

from scaling import checks
from scaling.hardware import DEVICES
from scaling.laws.forms import FORMS
from scaling.optimizers import OPTIMIZERS, TUNABLE
from scaling.parameterizations import PARAMETERIZATIONS
from scaling.rows import RunRow
from scaling.runners.runner_file import Runner
from scaling.spec import Block
from scaling.sweeps.ladders import LADDERS
from scaling.sweeps.recipes import RECIPES
from scaling.sweeps.schema import Sweep

FOLDER = Path(__file__).parent
# The names of `scaling.spec` and `scaling.sweeps.schema` for what a value may be, in words.
WORDS = {
    "Number": "number",
    "Positive": "number > 0",
    "NotNegative": "number ≥ 0",
    "Fraction": "number ≥ 0, < 1",
    "Ratio": "number > 0, ≤ 1",
    "Whole": "whole number",
    "Count": "whole number ≥ 1",
    "Duration": "duration",
    "Name": "name",
    "str": "text",
    "bool": "true or false",
    "Any": "any value",
    "ParameterizationName": ", ".join(f"`{name}`" for name in PARAMETERIZATIONS),
    "LawName": ", ".join(f"`{name}`" for name in FORMS),
    "OptimizerName": ", ".join(f"`{name}`" for name in OPTIMIZERS),
    "LadderSpec": "name of a ladder, list of shapes, or block with `rule`",
    "Annotated[dict[str, either(any_name, Centre)], BeforeValidator(_centres)]": "name, block, or one for each line",
}
BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
INTRODUCTION = f"""# Keys of sweep and runner files

Generated from `scaling/sweeps/schema.py`, `scaling/sweeps/ladders.py` and `scaling/runners/runner_file.py` by
`make docs`; do not edit.

- Numbers may be written `1e18`, `1.3B`, `128k`; durations `45s`, `90m`, `12h`, `2d`. An unknown or repeated key is an
  error that names file, line and key.
- *off*: the key may be left out, and then does what its sentence says. In a path, `NAME` is a word of yours, `[]` an
  entry of a list.
- "or a list": one value or several. A list over `rank_ratio` makes lines; over
  {", ".join(f"`{name}`" for name in TUNABLE)} it is tuned over within a cell.
"""
COLUMN_KINDS = {
    "str | None": "text",
    "float": "number",
    "float | None": "number",
    "int | None": "whole number",
    "bool | None": "true or false",
    "tuple[SetLoss, ...]": "numbers",
}
COLUMNS_INTRODUCTION = """# Columns of runs.csv

Generated from `scaling/rows.py` by `make docs`; do not edit. `scaling collect` writes one row per planned run to
`results/<sweep>/runs.csv`; an empty cell is unknown or does not apply.
"""


def keys_page() -> str:
    """Every key of a sweep and of a runner file, block by block."""
    parts = [INTRODUCTION]
    for title, root in (("Sweep file", Sweep), ("Runner file", Runner)):
        parts.append(f"## {title}\n")
        parts += [_block_section(block, paths) for block, paths in blocks(root).items()]
    parts += ["## Words\n", _recipes(), _named("Ladders", LADDERS), _named("Devices", DEVICES)]
    return "\n".join(parts)


def columns_page() -> str:
    """Every column of runs.csv."""
    annotations, texts = _annotations(RunRow), _descriptions(RunRow)
    rows = []
    for field in dataclasses.fields(RunRow):
        kind = COLUMN_KINDS[ast.unparse(annotations[field.name])]
        rows.append(f"| `{field.name}` | {kind} | {texts.get(field.name, '')} |")
    return "\n".join([COLUMNS_INTRODUCTION, "| column | value | meaning |", "|---|---|---|", *rows, ""])


PAGES: dict[str, Callable[[], str]] = {
    "keys.md": keys_page,
    "columns.md": columns_page,
    "checks.md": checks.markdown,
}


def blocks(root: type[Block]) -> dict[type[Block], list[str]]:
    """Every block below `root` with the paths at which it occurs, in the order of the file."""
    paths_of: dict[type[Block], list[str]] = {}
    waiting: list[tuple[type[Block], str]] = [(root, "")]
    while waiting:
        block, path = waiting.pop(0)
        paths = paths_of.setdefault(block, [])
        if path in paths:
            continue
        paths.append(path)
        inner: list[tuple[type[Block], str]] = []
        for name, field in block.model_fields.items():
            place = f"{path}.{name}".lstrip(".")
            inner += [(kind, place + suffix) for kind, suffix in _nested(field.annotation, field.metadata)]
        waiting = inner + waiting
    return paths_of


def undescribed_columns() -> list[str]:
    """The columns of runs.csv that have no description."""
    return [field.name for field in dataclasses.fields(RunRow) if not _descriptions(RunRow).get(field.name)]


def undescribed(root: type[Block]) -> list[str]:
    """The keys below `root` that have no description."""
    return [
        f"{block.__name__}.{name}"
        for block in blocks(root)
        for name in block.model_fields
        if not _descriptions(block).get(name)
    ]


def _nested(kind: Any, metadata: list[Any] | None = None) -> Iterator[tuple[type[Block], str]]:
    """The blocks in an annotation, each with what its path adds: `[]` in a list, `.NAME` in a mapping."""
    if isinstance(kind, type) and issubclass(kind, Block):
        yield kind, ""
        return
    origin = getattr(kind, "__origin__", None)
    suffix = "[]" if origin is tuple else ".NAME" if origin is dict else ""
    for argument in get_args(kind):
        yield from ((block, suffix + rest) for block, rest in _nested(argument))


def _class_bodies(kind: type[Any]) -> Iterator[list[ast.stmt]]:
    """The statements of a class of ours and of its base classes, the furthest base first."""
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("scaling.") and base is not Block:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
            assert isinstance(tree, ast.ClassDef)
            yield tree.body


def _descriptions(kind: type[Any]) -> dict[str, str]:
    """Field -> the string below it, on one line."""
    texts = {}
    for body in _class_bodies(kind):
        for field, below in pairwise(body):
            is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
                texts[field.target.id] = " ".join(str(below.value.value).split())  # type: ignore[attr-defined]
    return texts


def _annotations(block: type[Block]) -> dict[str, ast.expr]:
    """Key -> its annotation as it is written, with the bounds of `= Field(...)`."""
    annotations: dict[str, ast.expr] = {}
    for body in _class_bodies(block):
        for field in body:
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                parts = [field.annotation, *([field.value] if isinstance(field.value, ast.Call) else [])]
                whole = ast.Subscript(ast.Name("Annotated"), ast.Tuple(parts))
                annotations[field.target.id] = whole if len(parts) > 1 else field.annotation
    return annotations


def _block_section(block: type[Block], paths: list[str]) -> str:
    title = " and ".join(f"`{path}`" for path in paths if path) or "Top level"
    kind = next((get_args(f.annotation)[0] for n, f in block.model_fields.items() if _is_one_word(n, f)), None)
    title += f" with `kind: {kind}`" if kind else ""
    meaning = " ".join((block.__doc__ or "").split())
    annotations, texts = _annotations(block), _descriptions(block)
    rows = []
    for name, field in block.model_fields.items():
        default = _default(field, many="OneOrMore" not in ast.unparse(annotations[name]))
        rows.append(f"| `{name}` | {in_words(annotations[name])} | {default} | {texts.get(name, '')} |")
    head = [f"### {title}\n", f"{meaning}\n", "| key | value | default | meaning |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def _is_one_word(name: str, field: FieldInfo) -> bool:
    return name == "kind" and len(get_args(field.annotation)) == 1


def in_words(annotation: ast.expr) -> str:
    """What a value may be, from the annotation as it is written."""
    written = ast.unparse(annotation)
    if written in WORDS:
        return WORDS[written]
    if isinstance(annotation, ast.BinOp):
        sides = [side for side in (annotation.left, annotation.right) if ast.unparse(side) != "None"]
        return " or ".join(dict.fromkeys(in_words(side) for side in sides))
    if isinstance(annotation, ast.Call):
        return _reader_in_words(annotation)
    if isinstance(annotation, ast.Subscript):
        inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        return _generic_in_words(ast.unparse(annotation.value), inner)
    return "block"


def _generic_in_words(name: str, inner: list[ast.expr]) -> str:
    if name == "Literal":
        return ", ".join(f"`{ast.literal_eval(word)}`" for word in inner)
    if name == "Annotated":
        return _within(in_words(inner[0]), [call for call in inner[1:] if isinstance(call, ast.Call)])
    if name == "dict":
        return f"block of {in_words(inner[0])}: {in_words(inner[1])}"
    if name == "OneOrMore":
        return f"{in_words(inner[0])}, or a list"
    return "list of " + re.sub(r"^(whole number|number|text|block)\b", r"\1s", in_words(inner[0]))


def _within(text: str, calls: list[ast.Call]) -> str:
    """`text` with the bounds of the `Field(...)` among `calls`; a new least value replaces the one it has."""
    limits = [(word.arg, word.value) for call in calls if ast.unparse(call.func) == "Field" for word in call.keywords]
    bounds = [f"{BOUNDS[key]} {_constant(value):,}" for key, value in limits if key in BOUNDS]
    if any(key in ("gt", "ge") for key, _value in limits):
        text = re.sub(r" [>≥] \S+$", "", text)
    return text + (", " if re.search("[>≥<≤]", text) and bounds else " " if bounds else "") + ", ".join(bounds)


def _constant(value: ast.expr) -> int:
    """A bound as the schemas write it: ``1`` or ``2**20``."""
    if isinstance(value, ast.BinOp):
        return int(_constant(value.left) ** _constant(value.right))
    return int(ast.unparse(value))


def _reader_in_words(call: ast.Call) -> str:
    """``recipe_or("lr", X)`` and ``either(word_of("all"), X)``."""
    first, other = call.args
    if ast.unparse(call.func) == "recipe_or":
        return f"{in_words(other)}, or a recipe"
    words = [f"`{ast.literal_eval(word)}`" for word in first.args] if isinstance(first, ast.Call) else ["name"]
    return " or ".join([", ".join(words), in_words(other)])


def _default(field: FieldInfo, *, many: bool) -> str:
    """The default as a file would write it; `many`: a single value of a list stays one."""
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "off"
    if isinstance(value, Block):
        return "its defaults"
    if value in ((), {}):
        return "none"
    if isinstance(value, tuple):
        values = ", ".join(_scalar(item) for item in value)
        return f"`[{values}]`" if many else f"`{values}`"
    return f"`{_scalar(value)}`"


def _scalar(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if value < 1e4 else f"{value:,.0f}".replace(",", "_")
    return value if isinstance(value, str) else json.dumps(value)


def _recipes() -> str:
    rows = []
    for name, rule in RECIPES.items():
        constants = ", ".join(f"`{key}: {value:.6g}`" for key, value in rule.constants.items())
        rows.append(f"| `{name}` | `{rule.key}` | {constants} | {rule.source} |")
    text = "A recipe is written `{recipe: NAME, constant: value}`; the plan resolves it for every run.\n"
    return "\n".join(["### Recipes\n", text, "| recipe | for | constants | source |", "|---|---|---|---|", *rows, ""])


def _named(title: str, table: Any) -> str:
    return f"### {title}\n\n{', '.join(f'`{name}`' for name in table)}\n"


if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
