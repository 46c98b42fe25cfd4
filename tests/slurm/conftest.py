"""The cluster, the undisturbed losses, and a store for every test."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from box import CLUSTER, DIR, STEPS, TINY, Box
from filelock import FileLock

from scaling.data.shards import prepare
from scaling.results.store import Store
from scaling.run import DataRef, Run
from scaling.runners.job import WorkList


@pytest.fixture(scope="session", autouse=True)
def cluster() -> None:
    """The cluster that run.sh started."""
    os.environ["SLURM_CONF"] = str(DIR / "etc" / "slurm.conf")
    if subprocess.run([CLUSTER, "status"], capture_output=True, check=False).returncode != 0:
        pytest.exit("the cluster does not run: make test-slurm", returncode=1)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder for all pytest workers of this session."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def reference(shared: Path) -> tuple[Store, str, list[Run]]:
    """A store with the runs, trained here by two workers and never disturbed; its corpus hash."""
    store = Store(shared / "reference")
    corpus = shared / "corpus.jsonl"
    with FileLock(shared / "reference.lock"):
        if not corpus.exists():
            words = random.Random(0).choices(["low", "rank", "loss", "law", "=", "0", "of"], k=100_000)
            texts = [" ".join(words[start : start + 100]) for start in range(0, len(words), 100)]
            corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        store.path.mkdir(exist_ok=True)
        ref = DataRef(corpus=str(corpus), tokenizer="bytes", validation_tokens=4096)
        data = prepare(ref, root=shared, store=store.path)
        runs = [dataclasses.replace(TINY, data=ref, steps=STEPS, seed=seed) for seed in range(3)]
        if not store.has_result(runs[-1].id):
            for run in runs:
                store.add(run)
            worklist = WorkList.of([run.id for run in runs], store, corpus_hash=data.hash, keep="none")
            path = worklist.write(shared / "worklist.json")
            command = [sys.executable, "-P", "-m", "scaling.runners.job", "--store", store.path, "--runs", path]
            workers = [subprocess.Popen(command) for _ in range(2)]
            assert [worker.wait() for worker in workers] == [0, 0]
    assert all(store.has_result(run.id) for run in runs)
    return store, data.hash, runs


@pytest.fixture
def box(reference: tuple[Store, str, list[Run]], tmp_path: Path) -> Box:
    """A store of this test's own."""
    return Box(tmp_path, reference[0], reference[1])


@pytest.fixture
def runs(reference: tuple[Store, str, list[Run]]) -> list[Run]:
    """Three runs that differ in their seed, with an undisturbed loss each."""
    return reference[2]
