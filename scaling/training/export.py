"""A finished run as files that others can read, and its loss on further text.

`export` writes the folder layout of Hugging Face: `config.json` and `model.safetensors` for `LlamaForCausalLM`, every
structure merged into the dense matrix it applies, with the tokenizer for `AutoTokenizer` and a model card. The tensors
of a structured run lie beside it in `factors.safetensors`, with our names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from scaling.data.batches import validation_windows
from scaling.data.shards import TokenData
from scaling.data.tokenizer import Tokenizer, definition_of
from scaling.errors import TrainingError
from scaling.files import JsonObject, replacing, to_json, write_atomic
from scaling.parameterizations import parameterization_of
from scaling.run import Run
from scaling.training.loop import open_device
from scaling.training.model import NORM_EPS, ROPE_THETA, Decoder
from scaling.training.validation import Validation, validate

LLAMA = {
    "attention_norm": "input_layernorm",
    "feed_forward_norm": "post_attention_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


def load_model(run: Run, weights: Path, *, device: torch.device) -> Decoder:
    """The trained model of a finished run, for inference.

    Args:
        run: its settings.
        weights: its `weights.safetensors`.
        device: where to put it.

    Raises:
        TrainingError: the weights are missing, unreadable, or of another run.
    """
    model = Decoder(run.shape, run.ranks, sequence_length=run.sequence_length)
    try:
        with safe_open(weights, framework="pt") as file:
            owner = file.metadata().get("run")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            "The final weights cannot be read.",
            where=str(weights),
            got=str(error),
            hint="a sweep with `keep: weights` keeps them; launch it again",
        ) from None
    if owner != run.id:
        raise TrainingError("The weights belong to another run.", where=str(weights), got=owner, allowed=run.id)
    model.load_state_dict(tensors)
    return model.to(device).eval()


def evaluate(
    run: Run, *, weights: Path, data: TokenData, names: Sequence[str], device: str = "cpu"
) -> dict[str, Validation]:
    """The loss of a finished run on validation sets of `data`, which has the run's tokenizer.

    Raises:
        TrainingError: the weights cannot be read, or the data has token ids beyond the vocabulary.
    """
    if data.vocab_size > run.shape.vocab_size:
        raise TrainingError(
            "The data has token ids beyond the model's vocabulary.",
            where=str(data.folder),
            got=data.vocab_size,
            allowed=f"at most {run.shape.vocab_size}",
        )
    place = open_device(device)
    model = load_model(run, weights, device=place)
    windows = {name: validation_windows(data.validation[name], run.sequence_length) for name in names}
    return {name: validate(model, some, device=place) for name, some in windows.items()}


def export(run: Run, *, weights: Path, out: Path, tokenizer: Tokenizer | None = None, card: str | None = None) -> None:
    """Write the model of a finished run to the folder `out`.

    Args:
        run: its settings.
        weights: its `weights.safetensors`.
        out: the folder.
        tokenizer: written for `AutoTokenizer`, where it has a definition.
        card: the text of README.md.

    Raises:
        TrainingError: the weights cannot be read, or no dense matrices apply the same maps.
    """
    model = load_model(run, weights, device=torch.device("cpu"))
    write_atomic(out / "config.json", to_json(llama_config(run)))
    with replacing(out / "model.safetensors") as file:
        file.write(save(llama_tensors(model), metadata={"format": "pt", "run": run.id}))
    if parameterization_of(run.ranks).structured:
        write_atomic(out / "factors.safetensors", weights.read_bytes())
    write_atomic(out / "run.json", to_json(run.settings()))
    if tokenizer is not None and (definition := definition_of(tokenizer)) is not None:
        write_atomic(out / "tokenizer.json", definition)
        write_atomic(out / "tokenizer_config.json", to_json(tokenizer_config(run)))
    if card is not None:
        write_atomic(out / "README.md", card)


def tokenizer_config(run: Run) -> JsonObject:
    """What `AutoTokenizer` needs beside tokenizer.json."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": run.sequence_length,
        "clean_up_tokenization_spaces": False,
    }


def llama_config(run: Run) -> JsonObject:
    """What `LlamaConfig` needs to build the same model, dense."""
    shape = run.shape
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.width,
        "intermediate_size": shape.ff_width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads or shape.heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": run.sequence_length,
        "rms_norm_eps": NORM_EPS,
        "rope_theta": ROPE_THETA,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": bool(shape.tied),
        "torch_dtype": "float32",
        "bos_token_id": None,
        "eos_token_id": None,
    }


def llama_tensors(model: Decoder) -> dict[str, Tensor]:
    """The weights of a decoder under the names of `LlamaForCausalLM`, products merged."""
    tensors = {"model.embed_tokens.weight": model.embedding.weight, "model.norm.weight": model.norm.weight}
    if model.head is not None:
        tensors["lm_head.weight"] = model.output_weight
    for i, block in enumerate(model.layers):
        for ours, theirs in LLAMA.items():
            layer = getattr(block, ours)
            matrix = layer.weight if ours.endswith("norm") else layer.merged()
            tensors[f"model.layers.{i}.{theirs}.weight"] = matrix
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
