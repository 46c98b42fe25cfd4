"""A YAML file -> a typed configuration, or one error that names the file, the line and the key.

YAML is read more strictly than PyYAML does: a duplicate key is an error (PyYAML lets the last one win), only ``true``
and ``false`` are booleans (PyYAML reads ``no`` as False), ``1e18`` is a number (PyYAML reads a string) and
``12:30:00`` is a string (PyYAML reads an integer). Anchors and aliases are refused: the files are short, and a few
lines of aliases can expand to gigabytes. The document is built from parser events in one loop, so nesting cannot
exhaust the stack, and the line of every key is remembered.

Types are checked by pydantic models that derive from `Block`. `Number`, `Whole` and `Duration` read the forms of
`scaling.quantity`; `OneOrMore[X]` takes a value or a list of values. A validator refuses with `refuse(...)`, which
carries what an error needs.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from scaling.errors import SpecError
from scaling.files import refuse_pipe
from scaling.quantity import DURATION_FORMS, NUMBER_FORMS, parse_duration, parse_number

MAX_BYTES = 1_000_000  # a hand-written sweep is a page; a larger file is refused
MAX_DEPTH = 50
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NODE: Any = yaml.NodeEvent
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,40}")
_FLOAT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,4})?")

Place = tuple[str | int, ...]
Model = TypeVar("Model", bound="Block")
T = TypeVar("T")


@dataclass(frozen=True)
class YamlDocument:
    """One parsed file: plain values, and the line (from 1) of every key and list item."""

    path: Path
    value: Any
    lines: Mapping[Place, int]

    def where(self, place: Sequence[str | int] = ()) -> str:
        """``file:line: dotted.key`` of the deepest part of `place` that the file has."""
        found = self.known(place)
        line = self.lines.get(found, 1)
        asked = dotted(found)
        return f"{self.path}:{line}: {asked}" if asked else f"{self.path}:{line}"

    def known(self, place: Sequence[str | int]) -> Place:
        """`place` without the parts that only pydantic knows (union tags and validator names)."""
        known: Place = ()
        for part in place:
            if (*known, part) in self.lines:
                known = (*known, part)
        return known


def dotted(place: Sequence[str | int]) -> str:
    """``grid.budgets[2]`` for ("grid", "budgets", 2)."""
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place).lstrip(".")


def read_yaml(path: Path) -> YamlDocument:
    """The mapping in a YAML file.

    Raises:
        SpecError: no such file, too large, not UTF-8, not YAML, not a mapping, a duplicate key, an alias, or nested
            too deeply.
    """
    return parse_yaml(_read_text(path), path)


def parse_yaml(text: str, path: Path) -> YamlDocument:
    """The mapping in a text, with the errors of `read_yaml`; `path` is where it came from."""
    try:
        value, lines = _build(path, yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SpecError(f"not YAML: {error.problem}", where=f"{path}:{line}") from error
    except yaml.YAMLError as error:  # a reader error: a control character
        raise SpecError("not YAML: a character that a text file does not have", where=f"{path}:1") from error
    if not isinstance(value, dict):
        kinds = {type(None): "an empty file", list: "a list", str: "text without keys"}
        kind = kinds.get(type(value), repr(value))
        raise SpecError("not a file of `key: value` lines", where=f"{path}:1", got=kind)
    return YamlDocument(path, value, lines)


def read_spec(path: Path, model: type[Model]) -> Model:
    """The file at `path` as a `model`, or a SpecError with file, line and key."""
    return check(read_yaml(path), model)


def check(document: YamlDocument, model: type[Model]) -> Model:
    """The document as a `model`, or a SpecError that shows the first mistake in the order of the file."""
    try:
        return model.model_validate(document.value)
    except ValidationError as error:
        mistakes = [_explain(document, mistake) for mistake in error.errors(include_url=False)]
    raise min(mistakes, key=lambda mistake: mistake[0])[1]


class Block(BaseModel):
    """A mapping of a file: its keys are the fields, any other key is an error with a suggestion."""

    # A nested block is built into its parent: building each on its own as well would double the start of every command.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        allowed = sorted(cls.model_fields)
        for key in value:
            if key not in allowed:
                refuse(f"unknown key '{key}'", at=key, allowed=", ".join(allowed), hint=did_you_mean(key, allowed))
        return value


def refuse(what: str, *, at: str | int | None = None, allowed: str | None = None, hint: str | None = None) -> NoReturn:
    """Stop a validator with an error about the block, or about its key `at`."""
    words = {"what": what, "at": at, "allowed": allowed, "hint": hint}
    raise PydanticCustomError("refused", "{what}", {k: v for k, v in words.items() if v is not None})


def did_you_mean(word: object, allowed: Sequence[str]) -> str | None:
    """``did you mean 'budgets'?`` where one of `allowed` is close to `word`."""
    close = difflib.get_close_matches(str(word), allowed, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else None


def _number(value: Any) -> float:
    try:
        return float(parse_number(value))
    except (ValueError, OverflowError):
        return refuse("not a number", allowed=NUMBER_FORMS)


def _whole(value: Any) -> int:
    number = _number(value)
    if number != int(number):
        refuse("not a whole number", allowed="a whole number such as 3, 128k or 1e6")
    return parse_number(value) if isinstance(value, int) else int(number)  # type: ignore[return-value]


def _seconds(value: Any) -> float:
    try:
        return parse_duration(value)
    except ValueError:
        return refuse("not a duration", allowed=DURATION_FORMS)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _list_to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def either(known: Callable[[Any], Any], other: Any) -> Any:
    """The type of a key whose value `known` reads; what it answers None to is read as `other`. One error, not two."""

    def read(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        value_read = known(value)
        return handler(value) if value_read is None else value_read

    return Annotated[other, WrapValidator(read)]


def any_name(value: Any) -> str | None:
    """Reads any text."""
    return value if isinstance(value, str) else None


def word_of(*words: str) -> Callable[[Any], str | None]:
    """Reads one of `words`."""
    return lambda value: value if isinstance(value, str) and value in words else None


Number = Annotated[float, BeforeValidator(_number)]
Positive = Annotated[Number, Field(gt=0)]
Whole = Annotated[int, BeforeValidator(_whole)]
Count = Annotated[Whole, Field(ge=1)]
Duration = Annotated[float, BeforeValidator(_seconds)]  # seconds
OneOrMore = Annotated[tuple[T, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
ListOf = Annotated[tuple[T, ...], BeforeValidator(_list_to_tuple), Field(min_length=1)]


def _read_text(path: Path) -> str:
    try:
        refuse_pipe(path)
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if len(raw) > MAX_BYTES:
        raise SpecError("too large for a sweep or runner file", where=str(path), allowed=f"at most {MAX_BYTES:,} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SpecError("not a text file in UTF-8", where=f"{path}:{line}") from error


class _Open:
    """A mapping or list whose end has not been seen yet."""

    def __init__(self, place: Place, value: dict[str, Any] | list[Any]) -> None:
        self.place, self.value = place, value
        self.key: str | None = None

    def child(self) -> Place:
        """Where the next value goes."""
        return (*self.place, self.key if isinstance(self.value, dict) else len(self.value))  # type: ignore[arg-type]

    def add(self, value: Any) -> None:
        """Put a finished value in its place."""
        if isinstance(self.value, list):
            self.value.append(value)
        else:
            assert self.key is not None
            self.value[self.key] = value
            self.key = None


def _build(path: Path, events: Any) -> tuple[Any, dict[Place, int]]:
    """Plain values and lines from parser events, without recursion."""
    lines: dict[Place, int] = {}
    stack: list[_Open] = []
    root: Any = None
    documents = 0

    def wrong(what: str, event: Any, hint: str | None = None) -> SpecError:
        return SpecError(what, where=f"{path}:{event.start_mark.line + 1}", hint=hint)

    event: Any
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise wrong("a second document in one file", event, "keep one sweep or runner per file")
        elif isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise wrong("anchors and aliases (& and *) are not read here", event, "write the value out")
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            stack.pop()
        elif isinstance(event, _NODE):
            top = stack[-1] if stack else None
            if getattr(event, "tag", None) not in (None, "!"):
                raise wrong(f"tags are not read here: {event.tag}", event)
            if top is not None and isinstance(top.value, dict) and top.key is None:
                top.key = _key(event, top, lines, wrong)
                lines[top.child()] = event.start_mark.line + 1
                continue
            place = top.child() if top else ()
            lines.setdefault(place, event.start_mark.line + 1)
            value: Any = _scalar(event) if isinstance(event, yaml.ScalarEvent) else {}
            if isinstance(event, yaml.SequenceStartEvent):
                value = []
            if top is None:
                root = value
            else:
                top.add(value)
            if not isinstance(event, yaml.ScalarEvent):
                stack.append(_Open(place, value))
                if len(stack) > MAX_DEPTH:
                    raise wrong(f"nested more than {MAX_DEPTH} deep", event)
    return root, lines


def _key(event: Any, top: _Open, lines: Mapping[Place, int], wrong: Any) -> str:
    if not isinstance(event, yaml.ScalarEvent):
        raise wrong("a key that is not a word", event)
    if event.value in top.value:
        line = lines[(*top.place, event.value)]
        raise wrong(
            f"the key '{event.value}' is written twice (the block starts on line {line})", event, "keep one of the two"
        )
    return str(event.value)


def _scalar(event: Any) -> Any:
    """null, a boolean, a finite number or a string, by the forms of YAML 1.2 plus ``1e18``."""
    text: str = event.value
    if not event.implicit[0]:  # quoted
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and len(text) <= 64 and abs(float(text)) != float("inf"):
        return float(text)
    return text


_FOUND = {"dict_type": "a block of `key: value`", "model_type": "a block of `key: value`", "tuple_type": "a list"}


def _explain(document: YamlDocument, mistake: Any) -> tuple[int, SpecError]:
    """The line and the error for one entry of pydantic's list."""
    context = mistake.get("ctx", {})
    place: Place = mistake["loc"]
    kind, got = mistake["type"], mistake["input"]
    what, allowed, hint = mistake["msg"], context.get("allowed"), context.get("hint")
    if kind == "refused" and "at" in context:
        place = (*place, context["at"])
        got = got.get(context["at"]) if isinstance(got, dict) else got
    elif kind == "missing":
        what, got = f"the key '{place[-1]}' is missing", None
    elif kind == "too_short":
        least = context["min_length"]
        what = "too few entries" if context["actual_length"] else "an empty list or block"
        allowed = "at least one entry" if least == 1 else f"at least {least} entries"
    elif kind == "greater_than":
        what, allowed = "too small", f"more than {context['gt']:g}"
    elif kind in ("greater_than_equal", "less_than_equal", "less_than"):
        word, bound = {"ge": ("at least", "ge"), "le": ("at most", "le"), "lt": ("less than", "lt")}[
            next(k for k in ("ge", "le", "lt") if k in context)
        ]
        what, allowed = "out of range", f"{word} {context[bound]:g}"
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        key, tag = context["discriminator"].strip("'"), context.get("tag")
        place, got, allowed = (*place, key), tag, context.get("expected_tags")
        what = f"the key '{key}' is missing" if tag is None else "not one of the allowed words"
        hint = did_you_mean(tag, re.findall(r"'([^']+)'", allowed)) if allowed else None
    elif kind == "literal_error":
        what, allowed = "not one of the allowed words", context["expected"]
        hint = did_you_mean(got, re.findall(r"'([^']+)'", allowed))
    elif kind in _FOUND:
        what, allowed = "a value of the wrong kind", _FOUND[kind]
    path = document.known(place)
    return document.lines.get(path, 1), SpecError(
        what, where=document.where(place), got=got, allowed=allowed, hint=hint
    )
