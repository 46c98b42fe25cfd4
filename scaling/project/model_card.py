"""The model card of an exported run: what it is, the law it belongs to, its data and what it cost."""

from __future__ import annotations

from dataclasses import replace

from scaling.analysis.lines import Line
from scaling.errors import ScalingError
from scaling.project.opened import OpenSweep
from scaling.project.reporting import rows_of, settings_of_sweep
from scaling.quantity import format_duration, format_number
from scaling.results.launches import Launch
from scaling.rows import RunRow


def model_card(opened: OpenSweep, launch: Launch, run_id: str) -> str:
    """README.md of an exported run."""
    rows = rows_of(opened, launch, opened.statuses(launch))
    row = next(one for one in rows if one.id == run_id)
    sections = [
        ("Model", _model(row)),
        ("Law", _law(opened, rows, row)),
        ("Data", _data(opened, row)),
        ("Cost", _cost(row)),
    ]
    title = f"# {opened.sweep.name}: {row.cell}, seed {row.seed}"
    tags = "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [scaling-law, research]\n---"
    blocks = [f"## {name}\n\n{text}" for name, text in sections]
    uses = (
        "A model of a scaling-law study, trained to be measured and not to be used. "
        f"Exported with `scaling export` from run {run_id}."
    )
    return "\n\n".join([tags, title, uses, *blocks]) + "\n"


def _model(row: RunRow) -> str:
    ranks = "dense" if row.rank_ratio is None else f"low-rank, ratio {row.rank_ratio:g}; `model.safetensors` is merged"
    counts = ", ".join(
        f"{format_number(value)} {name}"
        for name in ("params_total", "params_non_embedding", "params_matmul")
        if (value := row.number(name)) is not None
    )
    return (
        f"Llama-style decoder, {ranks}; {row.layers} layers of width {row.width}, {row.heads} heads, feed-forward "
        f"{row.ff_width}. Parameters: {counts}. Trained with {row.optimizer}, learning rate {row.lr:g}."
    )


def _law(opened: OpenSweep, rows: list[RunRow], row: RunRow) -> str:
    from scaling.analysis.study import study_rows

    try:
        study = study_rows(rows, settings=replace(settings_of_sweep(opened), bootstrap=0))
    except ScalingError as error:
        return f"No law: {error.what}."
    line = next((one for one in study.lines if one.name == row.line), None)
    if line is None or line.law is None or line.undetermined:
        return "The runs of its line determine no law."
    return (
        f"{_equation(line)}, fitted to {len(line.points)} runs of {line.name}, N being {study.settings.params_column}."
    )


def _equation(line: Line) -> str:
    assert line.law is not None
    values = ", ".join(f"{name} = {value:.4g}" for name, value in line.law.fit.parameters.items())
    return f"`{line.law.fit.law}` law with {values}"


def _data(opened: OpenSweep, row: RunRow) -> str:
    data = opened.sweep.data
    epochs = "" if row.epochs is None else f", {row.epochs:.2g} passes over the corpus"
    loss = "unknown" if row.loss is None else f"{row.loss:.4f} nats per token"
    return (
        f"{format_number(row.tokens)} training tokens of {data.corpus} (hash {row.corpus_hash}){epochs}; tokenizer "
        f"{data.tokenizer}; sequences of {row.sequence_length}. Validation loss: {loss}."
    )


def _cost(row: RunRow) -> str:
    seconds = "unknown" if row.device_seconds is None else format_duration(row.device_seconds)
    return f"{row.flops:.3g} training FLOPs, {seconds} of {row.device or 'an unknown device'}."
