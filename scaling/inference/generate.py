"""Greedy decoding with a cache, in the form a model was trained in or merged.

A prompt is run once and fills the cache with its keys and values; each new token is then one pass over one position. A
factorized model can be merged first, W = A·B: the same function in other arithmetic, so its tokens agree up to
rounding.

Shape suffixes: B batch, T position, D width, H heads, K key-value heads, C channels of one head, V vocabulary, S room
in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from scaling.errors import TrainingError
from scaling.run import Run
from scaling.training.model import Decoder, DecoderBlock, rotate


class Cache:
    """Keys and values of the positions seen so far, for every layer, with room for `room` positions."""

    def __init__(self, model: Decoder, batch: int, room: int) -> None:
        if room > len(model.cos):
            raise TrainingError(
                "the text is longer than the model's positions", got=f"{room} tokens", allowed=f"up to {len(model.cos)}"
            )
        shape, weight = model.shape, model.embedding.weight
        size = (shape.layers, batch, shape.kv_heads or shape.heads, room, shape.head_dim)
        self.keys_LBKSC, self.values_LBKSC = (torch.empty(size, device=weight.device, dtype=weight.dtype) for _ in "kv")
        self.length = 0

    def add(self, layer: int, k_BTKC: Tensor, v_BTKC: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new positions of a layer; all keys and values so far, (B, K, length + T, C)."""
        end = self.length + k_BTKC.shape[1]
        for room, new in ((self.keys_LBKSC, k_BTKC), (self.values_LBKSC, v_BTKC)):
            room[layer, :, :, self.length : end] = new.transpose(1, 2)
        return self.keys_LBKSC[layer, :, :, :end], self.values_LBKSC[layer, :, :, :end]


@torch.no_grad()
def generate(model: Decoder, prompt_BT: Tensor, new_tokens: int) -> Tensor:
    """The prompt and the `new_tokens` most likely tokens after it, one by one: (B, T + new_tokens).

    Raises:
        TrainingError: the text would be longer than the model's sequence length.
    """
    batch, length = prompt_BT.shape
    cache = Cache(model, batch, length + new_tokens)
    tokens = [prompt_BT]
    for _ in range(new_tokens):
        tokens.append(step(model, tokens[-1], cache).argmax(dim=-1, keepdim=True))
    return torch.cat(tokens, dim=1)


def continued(run: Run, weights: Path, prompt: Sequence[int], new_tokens: int) -> list[int]:
    """The most likely ids after those of a prompt, by a finished run, on the CPU.

    Raises:
        TrainingError: the weights cannot be read, or the text would be longer than the sequences of training.
    """
    from scaling.training.export import load_model

    model = load_model(run, weights, device=torch.device("cpu"))
    ids: list[int] = generate(model, torch.tensor([list(prompt)]), new_tokens)[0, len(prompt) :].tolist()
    return ids


def step(model: Decoder, tokens_BT: Tensor, cache: Cache) -> Tensor:
    """Run the next positions, grow the cache, and give the logits after the last of them, (B, V)."""
    length = tokens_BT.shape[1]
    assert cache.length == 0 or length == 1, "a prompt first, then one token at a time"
    places = slice(cache.length, cache.length + length)
    x_BTD: Tensor = model.embedding(tokens_BT)
    for layer, block in enumerate(model.layers):
        assert isinstance(block, DecoderBlock)
        x_BTD = x_BTD + _attention(
            block, block.attention_norm(x_BTD), model.cos[places], model.sin[places], cache, layer
        )
        y_BTD = block.feed_forward_norm(x_BTD)
        x_BTD = x_BTD + block.down(F.silu(block.gate(y_BTD)) * block.up(y_BTD))
    cache.length += length
    last_BD = model.norm(x_BTD[:, -1])
    return F.linear(last_BD, model.output_weight)


@torch.no_grad()
def merged(model: Decoder) -> Decoder:
    """The dense model that computes the same function: every structure merged into one matrix."""
    weight = model.embedding.weight
    dense = Decoder(model.shape, None, sequence_length=len(model.cos)).to(weight.device, weight.dtype)
    hidden = model.hidden()
    state = {name: value for name, value in model.state_dict().items() if name.rpartition(".")[0] not in hidden}
    dense.load_state_dict(state | {f"{name}.weight": layer.merged() for name, layer in hidden.items()})
    return dense


def _attention(
    block: DecoderBlock, x_BTD: Tensor, cos_T1C: Tensor, sin_T1C: Tensor, cache: Cache, layer: int
) -> Tensor:
    batch, length, _ = x_BTD.shape
    q_BTHC = rotate(block.q(x_BTD).view(batch, length, block.heads, block.head_dim), cos_T1C, sin_T1C)
    k_BTKC = rotate(block.k(x_BTD).view(batch, length, block.kv_heads, block.head_dim), cos_T1C, sin_T1C)
    v_BTKC = block.v(x_BTD).view(batch, length, block.kv_heads, block.head_dim)
    k_BKSC, v_BKSC = cache.add(layer, k_BTKC, v_BTKC)
    y_BHTC = F.scaled_dot_product_attention(
        q_BTHC.transpose(1, 2), k_BKSC, v_BKSC, is_causal=length > 1, enable_gqa=block.kv_heads != block.heads
    )
    y_BTD: Tensor = block.o(y_BHTC.transpose(1, 2).reshape(batch, length, -1))
    return y_BTD
