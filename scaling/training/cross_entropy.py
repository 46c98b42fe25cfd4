"""Output head and cross-entropy, in chunks where the logits are large.

With V = 32,000 entries the float32 logits of 8,192 tokens take 1.05 GB, their log-softmax and their gradient as much
again. Above `CHUNK_BYTES` of logits the rows are done in chunks, and the gradients of the stream and of the head are
computed with the loss, so that no logits outlive their chunk and none is computed twice. Below it the plain functions
of torch are used, whose bits no run may lose.

Shape suffixes: N all positions of a batch, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from scaling.sweeps.memory import chunk_rows


def mean_cross_entropy(x_ND: Tensor, w_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Mean negative log likelihood of the targets under the logits x Wᵀ, nats."""
    rows = chunk_rows(w_VD.shape[0])
    if len(x_ND) <= rows:
        return F.cross_entropy(F.linear(x_ND, w_VD).float(), targets_N)
    loss: Tensor = _ChunkedMean.apply(x_ND, w_VD, targets_N, rows)  # type: ignore[no-untyped-call]
    return loss


def cross_entropies(x_ND: Tensor, w_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Negative log likelihood of every target, nats, (N); in chunks where no gradient is asked for."""
    rows = len(x_ND) if torch.is_grad_enabled() else chunk_rows(w_VD.shape[0])
    pairs = zip(torch.split(x_ND, rows), torch.split(targets_N, rows), strict=True)
    return torch.cat([F.cross_entropy(F.linear(x, w_VD).float(), y, reduction="none") for x, y in pairs])


class _ChunkedMean(torch.autograd.Function):
    """The mean loss; its backward pass scales the gradients that the forward pass left."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, w_VD: Tensor, targets_N: Tensor, rows: int) -> Tensor:
        """The loss, and both gradients."""
        wanted = any(ctx.needs_input_grad[:2])
        device = x_ND.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else w_VD.dtype
        total = x_ND.new_zeros((), dtype=torch.float32)
        d_x_ND, d_w_VD = (torch.zeros_like(tensor) for tensor in (x_ND, w_VD)) if wanted else (None, None)
        for first in range(0, len(x_ND), rows):
            x, targets = x_ND[first : first + rows], targets_N[first : first + rows]
            log_p = F.log_softmax(F.linear(x, w_VD).float(), dim=1)
            total -= log_p.gather(1, targets[:, None]).sum()
            if d_x_ND is not None and d_w_VD is not None:
                gradient = log_p.exp_()  # softmax − one at the target
                gradient.scatter_add_(1, targets[:, None], gradient.new_full((len(x), 1), -1.0))
                gradient = gradient.div_(len(x_ND)).to(kind)
                d_x_ND[first : first + rows] = gradient @ w_VD.to(kind)
                d_w_VD += gradient.mT @ x.to(kind)
                del gradient
            del log_p  # not kept beside the next chunk's
        if d_x_ND is not None and d_w_VD is not None:
            ctx.save_for_backward(d_x_ND, d_w_VD)
        return total / len(x_ND)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """The gradients of the stream and of the head."""
        d_x_ND, d_w_VD = ctx.saved_tensors
        return d_x_ND * gradients[0], d_w_VD * gradients[0], None, None
