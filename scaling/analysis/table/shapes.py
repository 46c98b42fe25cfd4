"""What other programs call the shape of a model: Hugging Face, nanoGPT and nanochat, torchtitan, Megatron.

Only `scaling import` reads shapes: a law of a foreign table needs sizes alone. A shape is that of a Llama-style model
(`run.Shape`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scaling.analysis.table.cells import numbers
from scaling.analysis.table.names import COUNTS, role_of, taken_apart
from scaling.analysis.table.raw import RawTable
from scaling.errors import DataError
from scaling.run import Shape
from scaling.sweeps.counting import count

PARTS = ("layers", "width", "heads", "ff_width", "vocab_size")  # what a shape needs; kv_heads may be added

_NAMES = {
    "layers": ("layers", "n_layer", "n_layers", "num_layers", "num_hidden_layers", "depth"),
    "width": ("width", "d_model", "dim", "model_dim", "hidden_size", "n_embd", "embed_dim"),
    "heads": ("heads", "n_head", "n_heads", "num_heads", "num_attention_heads"),
    "kv_heads": ("kv_heads", "n_kv_head", "n_kv_heads", "num_kv_heads", "num_key_value_heads", "num_query_groups"),
    "ff_width": ("ff_width", "d_ff", "ffn_dim", "ffn_hidden_size", "intermediate_size", "mlp_dim"),
    "vocab_size": ("vocab_size", "n_vocab", "padded_vocab_size"),
    "sequence_length": (
        *("sequence_length", "seq_len", "seq_length", "context_length", "block_size", "max_seq_len", "n_ctx"),
    ),
    "tied": ("tied", "tie_word_embeddings", "tie_embeddings", "share_embeddings_and_output_weights"),
}
_PREFIXES = {"config", "cfg", "model", "args", "hparams", "summary", "training"}


def shape_columns(names: Iterable[str], where: str) -> dict[str, str]:
    """Our name -> the table's, of the columns that describe a model's shape.

    Raises:
        DataError: two columns could be one of them.
    """
    columns: dict[str, str] = {}
    for name in names:
        words = list(taken_apart(name).words)
        while len(words) > 1 and words[0] in _PREFIXES and "_".join(words) not in sum(_NAMES.values(), ()):
            del words[0]
        ours = next((ours for ours, theirs in _NAMES.items() if "_".join(words) in theirs), None)
        if ours is None:
            continue
        if ours in columns:
            raise DataError(
                f"several columns could be {ours}",
                where=where,
                got=f"{columns[ours]}, {name}",
                hint=f"--columns {ours}={columns[ours]} or --columns {ours}={name}",
            )
        columns[ours] = name
    return columns


def shape_of(sizes: Mapping[str, float | None], *, tied: bool) -> Shape | None:
    """The shape with these sizes (`PARTS`, and `kv_heads` unless they are as many as heads); None if there is none."""
    values = [sizes.get(name) for name in PARTS]
    kv_heads = sizes.get("kv_heads") or sizes.get("heads")
    whole = [value for value in (*values, kv_heads) if value is not None and value >= 1 and value == int(value)]
    if len(whole) < len(PARTS) + 1:
        return None
    layers, width, heads, ff_width, vocab, kv = map(int, whole)
    if width % heads or heads % kv:
        return None
    return Shape(layers, width, heads, ff_width, vocab, None if kv == heads else kv, True if tied else None)


def add_counts(raw: RawTable, columns: Mapping[str, str]) -> None:
    """Adds a column params_total, counted from the shapes, to a table that has shapes and no sizes.

    Args:
        columns: our name -> the table's.
    """
    sized = {"params", *COUNTS}
    if sized & columns.keys() or sized & {role_of(name) for name in raw.columns} or not set(PARTS) <= columns.keys():
        return
    parts = [name for name in (*PARTS, "kv_heads") if name in columns]
    rows = zip(*(numbers(raw.columns[columns[name]]).values.tolist() for name in parts), strict=True)
    ties = [str(cell) for cell in raw.columns[columns["tied"]]] if "tied" in columns else ["False"] * len(raw)
    shapes = [
        shape_of(dict(zip(parts, row, strict=True)), tied=tie == "True") for row, tie in zip(rows, ties, strict=True)
    ]
    raw.columns["params_total"] = [None if shape is None else count(shape).params_total for shape in shapes]
    raw.notes.append("the table has no sizes: N is counted from its shapes, as of Llama-style models")
