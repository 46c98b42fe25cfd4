"""Sweep and runner files of any content: planned, or refused in words."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml
from fuzz_command import cases, run
from hypothesis import given
from hypothesis import strategies as st
from odd_values import changed

ROOT = Path(__file__).parents[2]
SMALL = """\
sweep: small
question: Does it plan?
data: {corpus: corpus.txt, tokenizer: bytes, validation_tokens: 500}
grid:
  kind: isoflop
  budgets: [7e7, 1.4e8, 2.8e8]
  ladder: [{layers: 1, width: 8, heads: 1, ff_width: 24}, {layers: 2, width: 16, heads: 2, ff_width: 40}]
  sizes: all
families:
  dense: {parameterization: dense, optimizer: muon, lr: [0.01, 0.02], weight_decay: 0.1}
  low_rank: {parameterization: low_rank, optimizer: spectron, lr: 0.05, other_lr: 0.02, rank_ratio: [0.25, 0.5]}
training: {sequence_length: 32, batch_tokens: 64, seeds: [0, 1], replicates: {seeds: 2}, keep: none}
tune: {cells: 2}
analysis: {law: chinchilla, bootstrap: 50, predict: [1e10], devices: [h200], where: {min_steps: 3}}
"""
POINTS = """\
sweep: points
question: Does it plan?
data: {corpus: corpus.txt, validation_tokens: 500, validation: {more: corpus.txt}}
grid:
  kind: points
  points:
    - {shape: {layers: 1, width: 8, heads: 1, ff_width: 24}, tokens: 384}
    - {shape: {layers: 1, width: 12, heads: 1, ff_width: 32}, tokens: 640}
families: {dense: {parameterization: dense, optimizer: adamw, lr: 0.02}}
training:
  sequence_length: 32
  batch_tokens: 64
  schedule: {kind: wsd, warmup_steps: 2, decay: 0.2}
"""
SWEEPS = [yaml.safe_load(text) for text in (SMALL, POINTS)]
SWEEPS += [
    yaml.safe_load((ROOT / "sweeps" / name).read_text()) for name in ("quickstart.yaml", "wsd.yaml", "rank.yaml")
]
RUNNERS = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "runners").glob("*.yaml"))]
LOOKS = [("--json",), (), ("--cells",), ("--ranks",)]

pytestmark = pytest.mark.filterwarnings("default")  # a user's warnings are no errors


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweeps").resolve()
    (folder / "sweeps").mkdir()
    (folder / "corpus.txt").write_text("a line of text about scale and rank\n\n" * 200)
    return folder


@cases(0.45, least=40)
@given(data=st.data())
def test_any_sweep_is_planned_or_refused(root: Path, data: st.DataObject) -> None:
    document = copy.deepcopy(data.draw(st.sampled_from(SWEEPS)))
    for _ in range(data.draw(st.integers(1, 3))):
        document = changed(data, document)
    path = root / "sweeps" / "one.yaml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False), encoding="utf-8")
    run("plan", "sweeps/one.yaml", *data.draw(st.sampled_from(LOOKS)), root=root)


@cases(0.15, least=30)
@given(data=st.data())
def test_any_text_is_planned_or_refused(root: Path, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([SMALL, POINTS]))
    for _ in range(data.draw(st.integers(1, 4))):
        at, long = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 6))
        more = data.draw(
            st.one_of(
                st.text(max_size=6),
                st.sampled_from(["*a", "&a ", "<<: ", "!!python/x ", "? ", "- ", "{", "]", "\t", "|", "#"]),
            )
        )
        text = text[:at] + more + text[at + long :]
    (root / "sweeps" / "one.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    run("plan", "sweeps/one.yaml", "--json", root=root)


@cases(0.1, least=30)
@given(data=st.data())
def test_any_runner_is_used_or_refused(root: Path, data: st.DataObject) -> None:
    document = copy.deepcopy(data.draw(st.sampled_from(RUNNERS)))
    for _ in range(data.draw(st.integers(1, 3))):
        document = changed(data, document)
    (root / "sweeps" / "small.yaml").write_text(SMALL)
    (root / "runner.yaml").write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    verb = data.draw(st.sampled_from([("plan",), ("plan",), ("launch", "--dry-run")]))
    run(*verb, "sweeps/small.yaml", "--runner", "runner.yaml", "--json", root=root)
