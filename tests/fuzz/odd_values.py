"""Values that a file may hold where another one is expected."""

from __future__ import annotations

import datetime
from typing import Any

from hypothesis import strategies as st

NUMBERS = [
    0,
    -1,
    1,
    2,
    3,
    7,
    128,
    10**6,
    2**63,
    10**30,
    0.0,
    -0.5,
    0.25,
    1.0,
    1e-300,
    1e18,
    1e300,
    float("nan"),
    float("inf"),
]
TEXTS = [
    *("", " ", "x", "dense", "low_rank", "muon", "adamw", "spectron", "1e18", "128k", "-5", "1.3B", "4h", "90m", "nan"),
    *(
        "inf",
        "0x10",
        "1_000",
        "12:30:00",
        "no",
        "null",
        "~",
        "../../x",
        "/etc/passwd",
        "/nowhere/x",
        "a/b",
        "corpus.txt",
    ),
    *(
        "results/quickstart",
        "hf:a/b",
        "bytes",
        "bpe:300",
        "bpe:x",
        "bpe:-1",
        "tiktoken:x",
        "all",
        "exact",
        "6ND",
        "tiny",
    ),
    *(
        "chinchilla",
        "hoffmann-2022",
        "=1+1",
        "@x",
        "\x1b[2J",
        "\u202e",
        "\U0001f600",
        "\xe9" * 40,
        "y" * 5000,
        "{{name}}",
    ),
    *("%s", "$HOME", "module:Class", "os:system", "a\nb"),
]
SCALARS = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from(TEXTS),
    st.sampled_from([None, True, False, datetime.date(2026, 1, 1)]),
    st.integers(-(10**6), 10**6),
    st.floats(allow_nan=False),
    st.text(max_size=8),
)
VALUES: st.SearchStrategy[Any] = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=4),
    st.dictionaries(
        st.sampled_from(["kind", "recipe", "name", "x", "dense", "params", "sizes", "layers", "width"]),
        SCALARS,
        max_size=3,
    ),
)


def places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The path of every value inside a document, the document itself first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in places(one, (*path, key)))]


def changed(data: st.DataObject, document: Any, values: st.SearchStrategy[Any] = VALUES) -> Any:
    """The document with one value replaced, removed, doubled or renamed."""
    place = data.draw(st.sampled_from(places(document)))
    kind = data.draw(st.sampled_from(["replace", "replace", "replace", "remove", "list", "rename", "add"]))
    if not place:
        return data.draw(values) if kind == "replace" and data.draw(st.integers(0, 9)) == 0 else document
    holder = document
    for key in place[:-1]:
        holder = holder[key]
    last = place[-1]
    if kind == "replace":
        holder[last] = data.draw(values)
    elif kind == "remove":
        del holder[last]
    elif kind == "list":
        holder[last] = [holder[last]] * data.draw(st.integers(0, 3))
    elif kind == "rename" and isinstance(holder, dict):
        holder[data.draw(st.sampled_from(["x", "", "lrr", 3, "dense", "a/b", "\x1b"]))] = holder.pop(last)
    elif isinstance(holder, dict):
        holder[data.draw(st.sampled_from(["x", "seed", "lr", "shape", "kind"]))] = data.draw(values)
    return document
