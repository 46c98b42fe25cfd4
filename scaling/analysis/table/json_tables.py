"""JSON: an array of objects, one object a line (a first line of metadata is left out), or an object of columns."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from scaling.analysis.table.names import role_of
from scaling.analysis.table.raw import Cell, Growing, RawTable
from scaling.errors import DataError

_OBJECT = '{"params": 1e8, "tokens": 2e9, "loss": 3.1}'


def read_json(text: str, where: str) -> RawTable:
    """The table of a JSON document, or of JSON lines under the name of one.

    Raises:
        DataError: the text is no JSON, or no table.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("{") and "\n" in text.strip() and "Extra data" in str(error):
            return read_json_lines(text, where)
        raise _not_json(error, where) from error
    if isinstance(document, dict) and len(document) and not any(isinstance(v, (dict, list)) for v in document.values()):
        document = [document]
    table = Growing()
    for number, row in enumerate(_rows_of(document, where), 1):
        if not isinstance(row, dict):
            raise DataError("a row is not an object", where=f"{where}, entry {number}", got=repr(row), allowed=_OBJECT)
        for one in _with_history(row):
            table.add(number, flat(one))
    return table.table(where)


def read_json_lines(text: str, where: str) -> RawTable:
    """One object a line. A first one that shares no key with the second is metadata.

    Raises:
        DataError: a line is no JSON object.
    """
    table = Growing()
    first: tuple[int, dict[str, Cell]] | None = None
    note: str | None = None
    for number, row in _objects(text, where):
        if first is None:
            first = number, row
            continue
        if not table.lines:
            if set(row) & set(first[1]):
                table.add(*first)
            else:
                note = f"line {first[0]} shares no key with the next one and is taken as metadata"
        table.add(number, row)
    if first is not None and not table.lines:
        table.add(*first)
    table_of_lines = table.table(where)
    table_of_lines.notes += [note] if note else []
    return table_of_lines


def flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Cell]:
    """Nested objects as ``config.params``."""
    cells: dict[str, Cell] = {}
    for name, value in row.items():
        if isinstance(value, dict) and "value" in value and set(value) <= {"value", "desc"}:  # W&B's config files
            cells[f"{prefix}{name}"] = value["value"]
        elif isinstance(value, dict):
            cells |= flat(value, f"{prefix}{name}.")
        else:
            cells[f"{prefix}{name}"] = value
    return cells


def _with_history(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each entry of the list of objects that an object holds, its history; the object itself without one."""
    lists = [name for name, value in row.items() if value and isinstance(value, list) and isinstance(value[0], dict)]
    if len(lists) != 1:
        return [row]
    rest = {name: value for name, value in row.items() if name != lists[0]}
    return [rest | {lists[0]: entry} for entry in row[lists[0]]]


def _objects(text: str, where: str) -> Iterator[tuple[int, dict[str, Cell]]]:
    for number, line in enumerate(io.StringIO(text), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _not_json(error, f"{where}:{number}", line.strip()) from error
        if not isinstance(row, dict):
            raise DataError("a row is not an object", where=f"{where}:{number}", got=repr(row), allowed=_OBJECT)
        yield number, flat(row)


def _rows_of(document: object, where: str) -> list[Any]:
    """The rows of a document: as they are, or turned from columns."""
    if isinstance(document, list):
        if len(document) > 1 and all(isinstance(row, list) for row in document):  # the first is the header
            if all(isinstance(name, (int, float)) for name in document[0]):
                raise DataError(
                    "the first row has numbers where the names of the columns belong",
                    where=f"{where}, entry 1",
                    got=repr(document[0])[:80],
                    allowed='a first row such as ["params", "tokens", "loss"]',
                )
            return [dict(zip(map(str, document[0]), row, strict=False)) for row in document[1:]]
        return document
    if isinstance(document, dict):
        if isinstance(document.get("columns"), list) and isinstance(document.get("data"), list):
            return _rows_of([document["columns"], *document["data"]], where)
        tables = [
            value for value in document.values() if isinstance(value, list) and value and isinstance(value[0], dict)
        ]
        if len(tables) == 1:
            return tables[0]
        if len(tables) == len(document):
            return [{"group": name} | row for name, rows in document.items() for row in rows if isinstance(row, dict)]
        columns = {name: value for name, value in document.items() if isinstance(value, list)}
        if columns and len({len(cells) for cells in columns.values()}) == 1 and not tables:
            return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        if document and all(isinstance(value, dict) for value in document.values()):
            if any(role_of(name) for name in document):
                keys = dict.fromkeys(key for cells in document.values() for key in cells)
                return [{name: cells.get(key) for name, cells in document.items()} for key in keys]
            first, *others = document.values()
            if others and not any(set(first) & set(other) for other in others):  # parts of one run
                return [document]
            return [{"run": name} | values for name, values in document.items()]
    raise DataError(
        "the document is no table",
        where=where,
        got=", ".join(map(str, document))[:200] if isinstance(document, dict) else repr(document)[:80],
        allowed=f"an array of objects such as {_OBJECT}, one object a line, or an object of columns of equal length",
    )


def _not_json(error: Exception, where: str, got: str | None = None) -> DataError:
    what = error.msg if isinstance(error, json.JSONDecodeError) else str(error) or type(error).__name__
    return DataError(f"not JSON: {what}", where=where, got=got)
