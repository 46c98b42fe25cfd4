"""Anything in place of any file of a project: what is damaged is named, and every verb goes on with the rest."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzz_command import CASES, cases, run
from hypothesis import given
from hypothesis import strategies as st
from odd_values import SCALARS, changed

from scaling.records import sealed

OLD = Path(__file__).parents[1] / "data" / "written-by-0.1"
SWEEP = "sweeps/micro.yaml"
KINDS = (
    *(".scaling/store/*/run.json", ".scaling/store/*/result.json", ".scaling/store/*/attempts/*.json"),
    *(".scaling/store/*/attempts/*.jsonl", ".scaling/launches/micro/*.json", ".scaling/store/data/*/description.json"),
    *(
        ".scaling/store/data/*/*",
        ".scaling/store/data/sources/*",
        ".scaling/store/store.json",
        ".scaling/store/*/evaluations/*",
    ),
    *("results/micro/runs.csv", "results/micro/records.jsonl", "results/micro/curves.csv"),
    *(
        ".scaling/store/*",
        ".scaling/store/*/attempts",
        ".scaling/launches/micro",
        ".scaling/store/data",
        "results/micro",
    ),
)
VERBS = (
    ("status", SWEEP), ("show", SWEEP, "{run}"), ("logs", SWEEP, "{run}"), ("collect", SWEEP),
    ("collect", SWEEP, "--records"), ("list",), ("launch", SWEEP, "--dry-run"), ("plan", SWEEP, "--json"),
    ("import", "results/micro", "--store", "other"), ("cancel", SWEEP),
    ("work", "--store", ".scaling/store", "--launch", "micro"),
    ("list", "--json"), ("show", SWEEP, "{run}", "--json"),
)  # fmt: skip
if CASES:  # seconds each
    VERBS += (("fit", SWEEP, "--bootstrap", "0"), ("fit", "results/micro", "--bootstrap", "0"))
    VERBS += (("export", SWEEP, "{run}", "--out", "out"),)

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of 0.1 with records of both formats, an evaluation, and its tables."""
    root = tmp_path_factory.mktemp("records").resolve() / "project"
    shutil.copytree(OLD / "dot-scaling", root / ".scaling")
    shutil.copytree(OLD / "sweeps", root / "sweeps")
    (root / "results" / "micro").mkdir(parents=True)
    for path in root.glob(".scaling/launches/*/*.json"):
        path.write_text(path.read_text().replace("@ROOT@", str(root)))
    finished = sorted(root.glob(".scaling/store/*/result.json"))
    for path in finished[::2]:  # as this version writes them
        for one, run_id in ((path, path.parent.name), (path.parent / "attempts" / "0001.json", path.parent.name)):
            one.write_text(sealed(json.loads(one.read_text()) | _more(one), run_id=run_id))
    evaluation = {"data": "x.txt", "data_hash": "c0", "name": "x", "loss": 2.0, "loss_se": None, "loss_per_byte": 1.0}
    (finished[0].parent / "evaluations").mkdir()
    (finished[0].parent / "evaluations" / "x-c0.json").write_text(sealed(evaluation, run_id=finished[0].parent.name))
    (root / ".scaling" / "store" / "store.json").write_text(sealed({"store_id": "c0ffee"}))
    assert run("collect", SWEEP, "--records", root=root).status == 0
    return root


def _more(path: Path) -> dict[str, Any]:
    if path.name != "result.json":
        return {"attempt": 1}
    return {"loss_unit": "nats", "planned_steps": json.loads(path.read_text())["result"]["steps"]}


def damage(data: st.DataObject, path: Path) -> None:
    """Put something else in the place of a file or a folder."""
    folder = path.is_dir() and not path.is_symlink()
    content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    kinds = ["link", "loop", "dangling", "folder", "pipe", "empty", "noise"]
    kind = data.draw(
        st.sampled_from(kinds if folder else [*kinds, *["flip", "cut", "insert", "zeros"] * 2, *["values"] * 8])
    )
    shutil.rmtree(path) if folder else path.unlink()
    at = data.draw(st.integers(0, max(0, len(content) - 1)))
    simple: dict[str, Callable[[], object]] = {
        "link": lambda: path.symlink_to("/etc/passwd"),
        "loop": lambda: path.symlink_to(path.name),
        "dangling": lambda: path.symlink_to("nowhere"),
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "empty": path.touch,
        "noise": lambda: path.write_bytes(data.draw(st.binary(max_size=60))),
        "flip": lambda: path.write_bytes(
            content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :] if content else b"x"
        ),
        "cut": lambda: path.write_bytes(content[:at]),
        "insert": lambda: path.write_bytes(content[:at] + data.draw(st.binary(min_size=1, max_size=9)) + content[at:]),
        "zeros": lambda: path.write_bytes(content[:at] + bytes(40) + content[at + 40 :]),
        "values": lambda: path.write_bytes(edited(data, content, path)),
    }
    simple[kind]()


def edited(data: st.DataObject, content: bytes, path: Path) -> bytes:
    """A record with other values, with the checksum of its new content or without one."""
    lines = content.split(b"\n") if path.suffix == ".jsonl" else [content]
    at = data.draw(st.integers(0, len(lines) - 1))
    try:
        document = json.loads(lines[at])
    except ValueError:
        return content[::-1]
    for _ in range(data.draw(st.integers(1, 2))):
        document = changed(data, document, SCALARS)
    if isinstance(document, dict) and data.draw(st.booleans()):
        for name in ("checksum", "schema_version", "run_id"):
            document.pop(name, None)
        owner = path.parents[1].name if path.parent.name in ("attempts", "evaluations") else path.parent.name
        try:
            lines[at] = sealed(document, run_id=owner if len(owner) == 16 else None).encode("utf-8", "surrogatepass")
        except (TypeError, ValueError):  # what no JSON of ours holds
            lines[at] = json.dumps(document, default=str, skipkeys=True).encode()
    else:
        lines[at] = json.dumps(document, default=str, skipkeys=True).encode()
    return b"\n".join(lines)


@cases(0.05, least=15)
@given(data=st.data())
def test_any_damage_is_named_and_the_rest_goes_on(whole: Path, data: st.DataObject) -> None:
    root = whole.with_name("case")
    shutil.copytree(whole, root, symlinks=True)
    try:
        for path in root.glob(".scaling/launches/*/*.json"):
            path.write_text(path.read_text().replace(str(whole), str(root)))
        victims = set()
        for _ in range(data.draw(st.sampled_from([1, 1, 1, 2]))):
            paths = sorted(root.glob(data.draw(st.sampled_from(KINDS))))
            if paths:
                path = data.draw(st.sampled_from(paths))
                damage(data, path)
                victims |= {part for part in path.parts if len(part) == 16}
        run_id = data.draw(
            st.sampled_from(sorted(p.name for p in (whole / ".scaling/store").iterdir() if len(p.name) == 16))
        )
        before = losses(whole)
        after = losses(root)
        assert (
            after is None
            or before is None
            or all(after[one] in (before[one], None) for one in before if one not in victims)
        )
        for verb in data.draw(st.lists(st.sampled_from(VERBS), min_size=2, max_size=4, unique=True)):
            run(*(word.replace("{run}", run_id) for word in verb), root=root)
    finally:
        shutil.rmtree(root)


def losses(root: Path) -> dict[str, float | None] | None:
    """Run id -> loss, None where status refuses."""
    answer = run("status", SWEEP, "--json", root=root)
    return {one["id"]: one["loss"] for one in json.loads(answer.out)["runs"]} if answer.status == 0 else None
