"""Tables of any content with any options: fitted, predicted and compared, or refused in words."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from fuzz_command import cases, run
from hypothesis import given
from hypothesis import strategies as st

COLUMNS = ("params", "tokens", "loss", "flops", "family", "rank_ratio", "seed", "lr", "budget", "bpb", "weight", "run")
CELLS = (
    "",
    "nan",
    "inf",
    "-1",
    "0",
    "1e400",
    "x",
    "1,5",
    "3.1M",
    "1e9",
    "2.5",
    "None",
    "=1+1",
    "\x1b[2J",
    '"',
    "\x00",
    "1e-300",
    "True",
)
OPTIONS = (
    ("--law", "chinchilla"), ("--law", "kaplan"), ("--law", "skaling"), ("--law", "power"), ("--law", "rank"),
    ("--law", "data_constrained"), ("--law", "joint"), ("--law", "x"), ("--approach", "1"), ("--approach", "2"),
    ("--approach", "3"), ("--objective", "mse"), ("--delta", "auto"), ("--delta", "nan"), ("--delta", "-1"),
    ("--fix", "E=1.69"), ("--fix", "E=9e9"), ("--fix", "x"), ("--tie", "alpha=beta"), ("--tie", "a"),
    ("--curve", "akima"), ("--drop-highest", "3"), ("--drop-highest", "10000"), ("--where", "params > 1e6"),
    ("--where", "("), ("--where", "loss in"), ("--exclude", "2,3"), ("--exclude", "x == 1"),
    ("--columns", "params=tokens"), ("--columns", "loss="), ("--unit", "loss=bits"), ("--unit", "params=M"),
    ("--unit", "loss=x"), ("--last-per", "params"), ("--last-per", "x"), ("--loss", "bpb"), ("--name-pattern", "("),
    ("--name-pattern", r"(?P<params>\d+)"), ("--seed", "3"),
)  # fmt: skip
VERBS = (
    ("fit", "--bootstrap", "0"), ("fit", "--bootstrap", "0"), ("fit", "--bootstrap", "20"),
    ("predict", "--bootstrap", "20", "-c", "1e22"), ("predict", "--bootstrap", "0", "-n", "7e9", "-d", "2e12"),
    ("predict", "-c", "nan"), ("compare", "--bootstrap", "20"),
)  # fmt: skip

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables").resolve()


def table(data: st.DataObject) -> list[dict[str, object]]:
    """Rows of a simulated law with some columns, some rows and some cells that are not what they should be."""
    draw = data.draw
    rows: list[dict[str, object]] = []
    budgets = draw(st.integers(1, 4))
    exponent, noise = draw(st.sampled_from([0.3, 0.5, 1e-6])), draw(st.sampled_from([0.0, 0.01, 5.0]))
    for family in draw(st.sampled_from([("dense",), ("dense", "low_rank"), ("a/b", "=x", "é")])):
        for budget in (1e17 * 10**n for n in range(budgets)):
            for size in range(draw(st.integers(1, 5))):
                params = math.sqrt(budget / 120) * 2.0 ** (size - 2)
                tokens = budget / 6 / params
                loss = 1.7 + 400 / params**exponent + 400 / tokens**0.3 + noise * math.sin(len(rows))
                row = {"params": params, "tokens": tokens, "loss": loss, "flops": budget, "family": family, "seed": 0}
                row |= {"lr": 0.02, "rank_ratio": "" if family == "dense" else 0.25, "budget": budget}
                rows.append(row | {"bpb": loss / 3, "weight": 1, "run": f"r{len(rows)}"})
    kept = (
        draw(st.lists(st.sampled_from(COLUMNS), unique=True, max_size=12)) if draw(st.booleans()) else list(COLUMNS[:4])
    )
    rows = [{name: row[name] for name in kept} for row in rows]
    for _ in range(draw(st.integers(0, 6))):
        if rows and kept:
            row, name = draw(st.sampled_from(rows)), draw(st.sampled_from(kept))
            row[name] = draw(st.one_of(st.sampled_from(CELLS), st.text(max_size=4), st.floats(), st.integers()))
    return rows


def written(rows: list[dict[str, object]], path: Path, data: st.DataObject) -> None:
    if path.suffix == ".json":
        text = json.dumps(rows)
    elif path.suffix == ".jsonl":
        text = "\n".join(map(json.dumps, rows))
    else:
        separator = data.draw(st.sampled_from(",;\t"))
        header = list(rows[0]) if rows else []
        text = "\n".join(
            separator.join(str(row.get(name, "")) for name in header) for row in ({n: n for n in header}, *rows)
        )
    content = text.encode("utf-8", "replace")
    if data.draw(st.integers(0, 4)) == 0 and content:
        at = data.draw(st.integers(0, len(content) - 1))
        content = content[:at] + data.draw(st.binary(max_size=6)) + content[at + data.draw(st.integers(0, 40)) :]
    path.write_bytes(content)


@cases(0.1, least=30)
@given(data=st.data())
def test_any_table_is_fitted_or_refused(root: Path, data: st.DataObject) -> None:
    path = root / data.draw(st.sampled_from(["t.csv", "t.csv", "t.json", "t.jsonl", "t.tsv"]))
    written(table(data), path, data)
    options = [word for option in data.draw(st.lists(st.sampled_from(OPTIONS), max_size=2)) for word in option]
    shown = data.draw(st.sampled_from([(), ("--json",)]))
    verb, *more = data.draw(st.sampled_from(VERBS))
    run(verb, path.name, *more, *options, *shown, root=root)
    path.unlink()
