"""The loss of a model on fixed windows, with its standard error.

Tokens of one document are not independent, documents are: with S_d the summed loss and n_d the tokens of document d,
the mean is Σ S_d / Σ n_d, and its variance that of a ratio over G clusters (Cochran, Sampling Techniques, 1977, ch. 6),

    G / (G − 1) · Σ (S_d − mean · n_d)² / (Σ n_d)².

The sums per document are kept, so that two runs can be compared document by document.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scaling.data.batches import Windows
from scaling.files import replacing
from scaling.training.model import token_losses

# On CPUs activations leave the cache above 4,096 tokens (measured). On GPUs an assumption: with 32,000 entries the
# logits of 16,384 tokens take 3 GB in bfloat16 and float32.
TOKENS_AT_ONCE = {"cpu": 2048, "cuda": 16384}


@dataclass(frozen=True)
class Validation:
    """Loss of one model on one set.

    Attributes:
        losses: summed loss of every document, nats.
        tokens: predicted tokens of every document.
        bytes: UTF-8 bytes of all targets.
    """

    losses: NDArray[np.float64]
    tokens: NDArray[np.float64]
    bytes: float

    @property
    def loss_nats(self) -> float:
        """Mean loss per token."""
        return float(self.losses.sum() / self.tokens.sum())

    @property
    def loss_se_nats(self) -> float | None:
        """Standard error of `loss_nats` over documents; None with fewer than two."""
        seen = self.tokens > 0
        clusters = int(seen.sum())
        if clusters < 2:
            return None
        residuals = self.losses[seen] - self.loss_nats * self.tokens[seen]
        return float(np.sqrt(clusters / (clusters - 1) * np.square(residuals).sum()) / self.tokens.sum())

    @property
    def loss_per_byte_nats(self) -> float:
        """Mean loss per UTF-8 byte of text."""
        return float(self.losses.sum() / self.bytes)

    def summary(self) -> dict[str, float]:
        """The three numbers of a set; an unknown standard error is left out."""
        losses = {"loss_nats": self.loss_nats, "loss_per_byte_nats": self.loss_per_byte_nats}
        return losses if self.loss_se_nats is None else losses | {"loss_se_nats": self.loss_se_nats}


def validate(
    model: nn.Module,
    windows: Windows,
    *,
    device: torch.device,
    rank: int = 0,
    world: int = 1,
    total: Callable[[Tensor], Tensor] = lambda sums: sums,
    sequences: int | None = None,
) -> Validation:
    """The loss of `model` on `windows`; ranks take every `world`-th part and add up with `total`.

    Args:
        sequences: how many go through the model at once; None: as `TOKENS_AT_ONCE` says. CPUs never take more.
    """
    documents = len(windows.document_bytes)
    sums = torch.zeros(2, documents, dtype=torch.float64, device=device)
    usual = max(1, TOKENS_AT_ONCE.get(device.type, 2048) // windows.inputs.shape[1])
    at_once = usual if sequences is None else min(sequences, usual) if device.type == "cpu" else sequences
    count = len(windows.inputs)
    with torch.no_grad():
        for first in range(rank * at_once, _up_to_whole(count, world * at_once), world * at_once):
            rows = _part(first, at_once, count, device)
            counted = np.broadcast_to((rows < count)[:, None], (len(rows), windows.inputs.shape[1]))
            rows = np.where(rows < count, rows, 0)
            inputs, targets, owners, weights = (
                torch.from_numpy(np.ascontiguousarray(a)).to(device)
                for a in (windows.inputs[rows], windows.targets[rows], windows.documents[rows], counted.astype(float))
            )
            nats = token_losses(model, inputs, targets).flatten().double()
            sums[0].index_add_(0, owners.flatten(), nats * weights.flatten())
            sums[1].index_add_(0, owners.flatten(), weights.flatten())
    losses_and_tokens = total(sums).cpu().numpy()
    return Validation(losses_and_tokens[0], losses_and_tokens[1], windows.bytes)


def _part(first: int, at_once: int, count: int, device: torch.device) -> NDArray[np.int64]:
    """The windows of one part. Some may lie beyond the last one and are run as the first, but not counted: on GPUs
    every part has one size, for which the model is compiled, and ranks gather a sharded model together.
    """
    size = at_once if device.type != "cpu" else max(1, min(at_once, count - first))
    return np.arange(first, first + size)


def _up_to_whole(count: int, of: int) -> int:
    return -(-count // of) * of


def write_documents(path: Path, sets: dict[str, Validation]) -> None:
    """Keep the sums per document of every set, as `<set>.losses` and `<set>.tokens` of an npz file."""
    arrays = {f"{name}.losses": v.losses for name, v in sets.items()}
    arrays |= {f"{name}.tokens": v.tokens for name, v in sets.items()}
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)
