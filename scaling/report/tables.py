"""Every table of a study, by name, in the order of the page; here that of serving.

Losses are nats per token, intervals 95 %, N in the study's convention.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scaling.analysis.serving import serving
from scaling.analysis.study import Study
from scaling.inference.serving_comparison import ServingRow
from scaling.report.comparison_tables import differences_table, kappa_table, multipliers_table, tests_table
from scaling.report.decision_tables import (
    break_even_table,
    over_training_table,
    rank_choice_table,
    serving_decision_table,
)
from scaling.report.imported_runs import marked
from scaling.report.law_tables import (
    exponents_table,
    fits_table,
    holdout_table,
    minima_table,
    predictions_table,
    together_table,
)
from scaling.report.rate_tables import RATE_TABLES
from scaling.report.run_tables import cells_table, dropped_table, selection_table
from scaling.report.table import Column, Significant, Table, compute_text, fixed

_LINE = Column("line", "line")
_N = Significant(3)


def serving_table(study: Study, *, whole: bool = True) -> Table:
    """Serving cost at equal loss, batch 1; `whole`: at every target, else at the lowest."""
    rows = tuple(
        _serving_row(comparison.target_loss, row)
        for comparison in serving(study, whole=whole).comparisons
        for row in comparison.rows
        if row.setting.batch == 1 and row.choice.kind != "lifetime"
    )
    columns = (
        Column("target_loss", "loss", fixed(3)),
        _LINE,
        Column("choice", "model"),
        Column("form", "served as"),
        Column("device", "device"),
        Column("n", "N", _N),
        Column("training_flops", "training C", compute_text),
        Column("decode_flops_per_token", "decode FLOPs", _N),
        Column("decode_flops_ratio", "× reference", fixed(2)),
        Column("weight_bytes", "weight bytes", _N),
        Column("kv_bytes_per_token", "cache bytes/token", _N),
        Column("kv_share", "cache share of bytes", fixed(2)),
        Column("decode_seconds_ratio", "time × reference", fixed(2)),
        Column("nearest_shape", "nearest shape"),
    )
    note = f"Batch 1. × reference: relative to {study.reference.name} under the same choice and device."
    return Table("serving", "Inference cost at equal loss", columns, rows, note)


def _serving_row(target: float, row: ServingRow) -> tuple[Any, ...]:
    model, multiple = row.model, row.choice.budget_multiple
    choice = "cheapest to train" if multiple is None else f"smallest at {multiple:g}× training"
    return (
        target,
        row.line,
        choice,
        row.form,
        row.setting.device.name,
        model and model.trained.params,
        model and model.trained.flops,
        model and model.prices.decode_flops_per_token,
        row.ratios.decode_flops_per_token,
        model and model.prices.weight_bytes,
        model and model.prices.kv_bytes_per_token,
        model and model.kv_share,
        row.ratios.decode_seconds,
        model and model.nearest.name,
    )


TABLES: dict[str, Callable[[Study], Table]] = {
    "multipliers": multipliers_table,
    "differences": differences_table,
    "nested_tests": tests_table,
    "kappa": kappa_table,
    **RATE_TABLES,
    "minima": minima_table,
    "fits": fits_table,
    "together": together_table,
    "exponents": exponents_table,
    "predictions": predictions_table,
    "audit": holdout_table,
    "serving_decision": serving_decision_table,
    "break_even": break_even_table,
    "rank_choice": rank_choice_table,
    "over_training": over_training_table,
    "serving": serving_table,
    "selection": selection_table,
    "cells": cells_table,
    "dropped": dropped_table,
}


def study_tables(study: Study) -> list[Table]:
    """Every table that has a row."""
    return [marked(table, study) for make in TABLES.values() if (table := make(study)).rows]
