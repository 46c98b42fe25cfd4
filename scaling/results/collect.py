"""Collect: the store's results as rows of `results/<sweep>/runs.csv`, one for every planned run.

A run without a usable result keeps its row with its status and an empty loss: nothing is lost, and nothing that is not
a completed run of today's corpus becomes a data point. Tokens, steps and FLOPs are those of the plan, also
of a run that diverged on the way.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from scaling.errors import StoreError
from scaling.results.status import RunStatus
from scaling.results.store import Store
from scaling.rows import RunRow, SetLoss
from scaling.run import Result


def collect(runs: Sequence[RunStatus], store: Store, *, say: Callable[[str], None] | None = None) -> list[RunRow]:
    """One row per run; None where nothing is known. Losses of `scaling evaluate` are read from the store; `say` is told
    of those that cannot be read.
    """
    return [_row(run, store, say) for run in runs]


def _row(status: RunStatus, store: Store, say: Callable[[str], None] | None) -> RunRow:
    plan, run, result = status.row, status.row.run, status.result
    ranks, usable = run.ranks or {}, status.status == "completed"
    diagnostics = result.diagnostics if result else {}
    return RunRow(
        id=plan.id,
        family=plan.family,
        line=plan.line,
        parameterization=plan.parameterization,
        optimizer=plan.optimizer,
        rank_ratio=plan.rank_ratio,
        rank_of=plan.rank_of,
        self_guided=run.self_guided,
        layers=plan.shape.layers,
        width=plan.shape.width,
        heads=plan.shape.heads,
        kv_heads=plan.shape.kv_heads or plan.shape.heads,
        tied=bool(plan.shape.tied),
        ff_width=plan.shape.ff_width,
        vocab_size=plan.shape.vocab_size,
        rank_q=ranks.get("q"),
        rank_k=ranks.get("k"),
        rank_v=ranks.get("v"),
        rank_o=ranks.get("o"),
        rank_gate=ranks.get("gate"),
        rank_up=ranks.get("up"),
        rank_down=ranks.get("down"),
        params_total=plan.params_total,
        params_non_embedding=plan.params_non_embedding,
        params_matmul=plan.params_matmul,
        tokens=plan.tokens,
        steps=plan.steps,
        batch_tokens=plan.batch_tokens,
        sequence_length=plan.sequence_length,
        budget=plan.budget,
        flops=plan.flops,
        flops_6nd=plan.flops_6nd,
        optimizer_flops=plan.optimizer_flops,
        lr=plan.lr,
        seed=plan.seed,
        cell=str(plan.cell),
        trunk=plan.trunk,
        other_lr=run.optimizer.other_lr,
        weight_decay=run.optimizer.weight_decay,
        momentum=run.optimizer.momentum,
        spectral_weight_decay=run.optimizer.spectral_weight_decay,
        status=status.status,
        loss=result.loss_nats if result and usable else None,
        loss_se=result.loss_se_nats if result and usable else None,
        loss_per_byte=result.loss_per_byte_nats if result and usable else None,
        last_finite_loss=result.last_finite_loss_nats if result else None,
        device_seconds=result.device_seconds if result else None,
        inherited_seconds=result.inherited_seconds if result else None,
        warmup_seconds=result.warmup_seconds if result else None,
        compiled=result.compiled if result else None,
        micro_batch=result.micro_batch if result else None,
        runs_per_gpu=result.runs_per_gpu if result else None,
        epochs=result.epochs if result else None,
        device=result.device if result else None,
        torch_version=result.torch_version if result else None,
        corpus_hash=result.corpus_hash if result else None,
        loss_spikes=result.loss_spikes if result else None,
        matrix_norm=diagnostics.get("matrix_norm"),
        largest_matrix_norm=diagnostics.get("largest_matrix_norm"),
        factor_norm=diagnostics.get("factor_norm"),
        update_norm_over_lr=diagnostics.get("update_norm_over_lr"),
        largest_grad_norm=diagnostics.get("largest_grad_norm"),
        sets=(*_validated(result), *store.evaluations(plan.id, say=say)) if result and usable else (),
    )


def _validated(result: Result) -> list[SetLoss]:
    """The further validation sets of the training itself."""
    return [
        SetLoss(name, losses["loss_nats"], losses.get("loss_se_nats"), losses["loss_per_byte_nats"])
        for name, losses in result.validation.items()
    ]


def refuse_vanishing(path: Path, runs: Sequence[RunStatus], *, corpus_hash: str) -> None:
    """Refuse to overwrite a table that lists runs as finished which this store does not have.

    A run that is no longer planned, was trained on an earlier corpus, or has a damaged record that `status` names, may
    go.

    Raises:
        StoreError: runs would vanish.
    """
    listed = _finished(path, corpus_hash)
    here = {"completed", "diverged", "stale"}
    gone = [run.row.id for run in runs if run.row.id in listed and run.status not in here and not run.damaged]
    if gone:
        raise StoreError(
            "finished runs of this table are not in the store", where=str(path),
            got=f"{len(gone)} of {len(listed)}: {', '.join(gone[:3])}{' ...' * (len(gone) > 3)}",
            hint=f"mount or move back the store that has them; or let `scaling launch` train them, or move {path} away",
        )  # fmt: skip


def _finished(path: Path, corpus_hash: str) -> set[str]:
    """The ids that a table lists as finished with this corpus; none where there is no table.

    Raises:
        StoreError: the table cannot be read.
    """
    hint = f"look what it holds, and move {path} away: then it is written anew"
    if path.exists() and not path.is_file():
        raise StoreError("this is no table: a folder or a pipe", where=str(path), hint=hint)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except (UnicodeDecodeError, csv.Error) as error:
        raise StoreError(
            "the table that would be replaced is damaged", where=str(path), got=str(error), hint=hint
        ) from error
    done = [row for row in rows if row.get("status") in ("completed", "diverged")]
    return {row.get("id") or "" for row in done if row.get("corpus_hash") == corpus_hash}
