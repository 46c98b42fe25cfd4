"""A refactor moves no number: plans, micro-runs and studies of the committed tables, compared with a recording.

    python benchmarks/same_numbers.py record     # write tests/golden/numbers.json
    python benchmarks/same_numbers.py            # compare with it; exit status 1 where something differs

Keys may be added to a document, none may vanish or change. Floats agree to 1e-9 (relative), losses of the micro-runs
to the bit on the machine that recorded them. `*.csv` of a study and the `--json` of `plan` are part of the recording.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden" / "numbers.json"
STUDIES = {  # name -> (sweep file, runs.csv, settings in place of the sweep's own)
    "quickstart": ("quickstart", "quickstart", {"bootstrap": 200}),
    "quickstart, law rank": ("quickstart", "quickstart", {"bootstrap": 100, "law": "rank", "objective": "log_mse"}),
    "ablation": ("ablation", "ablation", {"bootstrap": 100}),
}


def plans() -> dict[str, Any]:
    """The plan of every committed sweep with a tokenizer that needs no network."""
    from scaling.sweeps.grids import plan
    from scaling.sweeps.schema import load_sweep

    documents = {}
    for path in sorted((ROOT / "sweeps").glob("*.yaml")):
        sweep = load_sweep(path)
        planned = plan(sweep, vocab_size=sweep.data.vocab_size or 257, root=ROOT)
        rows = [run.row().to_json() for run in planned.runs]
        ids = hashlib.sha256("".join(row["id"] for row in rows).encode()).hexdigest()
        counted = {key: math.fsum(row[key] for row in rows) for key in ("params_total", "params_matmul", "flops")}
        documents[path.stem] = {"runs": len(rows), "ids": ids, "first": rows[0], "last": rows[-1], **counted}
        documents[path.stem]["checks"] = sorted(check.code for check in planned.checks)
    return documents


def micro_runs() -> dict[str, Any]:
    """Final losses of three runs on synthetic text: dense Muon, low-rank Spectron, self-guided low-rank AdamW."""
    sys.path.insert(0, str(ROOT / "tests" / "training"))
    import torch
    from conftest import tiny_run, token_data  # type: ignore[import-not-found]

    from scaling.training.loop import train

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    losses = {}
    for name, ratio, guided in (("muon", None, None), ("spectron", 0.5, None), ("adamw", 0.5, 0.5)):
        with tempfile.TemporaryDirectory() as folder:
            run = tiny_run(name, ratio=ratio, self_guided=guided, steps=40)
            data, run_folder = token_data(Path(folder)), Path(folder) / "run"
            result = train(
                run,
                data=data,
                folder=run_folder,
                attempt=1,
                stop=lambda: False,
                owns=lambda: True,
                log=lambda record: None,
            )
            losses[f"{name} {run.parameterization}"] = {"id": run.id, "loss_nats": result.loss_nats}
    return losses


def studies() -> dict[str, Any]:
    """The documents of fit, predict and compare, and every table, of the committed results."""
    from scaling.analysis.settings import settings_of
    from scaling.analysis.study import study_rows
    from scaling.analysis.table_reader import read_table
    from scaling.report.documents import comparisons_json, fits_json, predictions_json
    from scaling.report.tables import study_tables
    from scaling.sweeps.schema import load_sweep

    documents = {}
    for name, (sweep_name, table, changes) in STUDIES.items():
        sweep = load_sweep(ROOT / "sweeps" / f"{sweep_name}.yaml")
        rows = read_table(ROOT / "results" / table / "runs.csv")
        study = study_rows(rows, settings=replace(settings_of(sweep), **changes))
        documents[name] = {
            "fit": fits_json(study),
            "predict": predictions_json(study, [1e12, 1e13]),
            "compare": comparisons_json(study),
            "tables": {one.name: columns(one.csv()) for one in study_tables(study)},
        }
    return documents


def columns(table: str) -> dict[str, str]:
    """The hash of every column of a CSV table, by header."""
    rows = list(csv.reader(table.splitlines()))
    cells = {header: [row[n] for row in rows[1:]] for n, header in enumerate(rows[0])}
    return {header: hashlib.sha256("\n".join(values).encode()).hexdigest()[:16] for header, values in cells.items()}


def differences(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """Where a document no longer says what it said."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in old.items():
            if key == "message" or (key == "severity" and "/checks/" in place):
                continue  # wording may change, and so may a severity that one code had twice
            if key not in new:
                yield f"{place}/{key}: gone"
            else:
                yield from differences(value, new[key], f"{place}/{key}")
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"{place}: {len(old)} entries, now {len(new)}"
        for n, pair in enumerate(zip(old, new, strict=False)):
            yield from differences(*pair, f"{place}/{n}")
    elif isinstance(old, float) and isinstance(new, float | int):
        if not math.isclose(old, new, rel_tol=1e-9, abs_tol=1e-300):
            yield f"{place}: {old!r}, now {new!r}"
    elif old != new:
        yield f"{place}: {old!r}, now {new!r}"


def main() -> int:
    document = {"plans": plans(), "micro_runs": micro_runs(), "studies": studies()}
    document = json.loads(json.dumps(document))
    if sys.argv[1:] == ["record"]:
        GOLDEN.write_text(json.dumps(document, sort_keys=True, indent=0) + "\n")
        return 0
    changes = list(differences(json.loads(GOLDEN.read_text()), document))
    print("\n".join(changes[:50]) or "nothing moved")
    return 1 if changes else 0


if __name__ == "__main__":
    sys.exit(main())
