"""The contrastive task of wav2vec: tell the frame i steps ahead from negatives.

The formulas, the random draws and their order are fairseq's (`Wav2VecPredictionsModel`); the
computation is not. fairseq loops over the steps, and writes a tensor of steps x copies x
batch x dim x time. Here all steps of a target frame meet all its candidates in one small matrix
product: the candidates (the frame and its negatives) are the same for every step.
Shapes: B utterances, F frames, D features, P steps, N candidates, U target frames (F - offset).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.precision import autocast


class Predictions(nn.Module):
    """Logits of the true frame and of negatives, for every frame and step.

    Args:
        offset: frames from the present to the first that is predicted.
        sample_distance: negatives come from this many frames; None: the whole crop.
        balanced_classes: BCE weights that make negatives weigh as much as positives.
        infonce: logits (positions, N) with the true frame first; else flat, for BCE.
        precision: of the projection to steps; the logits are computed in fp32.
    """

    def __init__(
        self,
        context_dim: int,
        dim: int,
        *,
        steps: int,
        negatives: int,
        cross_sample_negatives: int,
        sample_distance: int | None,
        dropout: float,
        offset: int,
        balanced_classes: bool,
        infonce: bool,
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        self.negatives, self.cross_sample_negatives = negatives, cross_sample_negatives
        self.sample_distance = sample_distance
        # used for its parameters only: their names, shapes and initial values are fairseq's
        self.project_to_steps = nn.ConvTranspose2d(context_dim, dim, (1, steps))
        self.dropout = nn.Dropout(dropout)
        self.offset = offset
        self.balanced_classes, self.infonce = balanced_classes, infonce
        self.precision = precision

    def forward(self, context_BDF: Tensor, targets_BDF: Tensor) -> tuple[Tensor, Any]:
        """Logits and labels as fairseq's `wav2vec` criterion wants them.

        With InfoNCE the positions come in fairseq's order: by step, frame, utterance.
        """
        batch, dim, frames = targets_BDF.shape
        with autocast(self.precision, context_BDF.device.type):
            ahead = self._project(context_BDF).float()
        ahead_BUPD = Diagonals.apply(self._dropped(ahead), frames - self.offset)
        rows_BNF = self.candidate_rows(batch, frames).to(targets_BDF.device)
        rows_BUN = rows_BNF[..., self.offset :].transpose(1, 2)
        targets = targets_BDF.transpose(1, 2).reshape(-1, dim)
        candidates_BUND = F.embedding(rows_BUN, targets)
        logits_BUPN = ahead_BUPD @ candidates_BUND.transpose(-1, -2)
        # the step at place p from the end reaches target u only if a frame lies that far before
        steps, reached = logits_BUPN.size(2), frames - self.offset
        logits_PUBN = logits_BUPN.permute(2, 1, 0, 3).flip(0)
        step_P1 = torch.arange(steps, device=logits_PUBN.device)[:, None]
        known_PU = torch.arange(reached, device=logits_PUBN.device) >= step_P1
        return self._with_labels(logits_PUBN[known_PU].flatten(0, 1))

    def _with_labels(self, logits_XN: Tensor) -> tuple[Tensor, Any]:
        if self.infonce:
            return logits_XN, logits_XN.new_zeros(len(logits_XN), dtype=torch.long)
        labels_XN = torch.zeros_like(logits_XN)
        labels_XN[:, 0] = 1.0
        if not self.balanced_classes:
            return logits_XN.flatten(), labels_XN.flatten()
        weights_XN = torch.full_like(labels_XN, 1 / self.negatives)
        weights_XN[:, 0] = 1.0
        return logits_XN.flatten(), (labels_XN.flatten(), weights_XN.flatten())

    def _project(self, context_BDF: Tensor) -> Tensor:
        """The predictions made at each frame, the farthest step first, (B, F, P, D)."""
        weight_DdP = self.project_to_steps.weight.squeeze(2)
        context_dim, dim, steps = weight_DdP.shape
        weight = weight_DdP.flip(2).transpose(1, 2).reshape(context_dim, steps * dim)
        ahead: Tensor = (context_BDF.transpose(1, 2) @ weight).unflatten(2, (steps, dim))
        bias = self.project_to_steps.bias
        return ahead if bias is None else ahead + bias

    def _dropped(self, ahead_BFPD: Tensor) -> Tensor:
        """With dropout; the mask is drawn in fairseq's layout, (B, D, F, P), nearest step first."""
        if not (self.training and self.dropout.p):
            return ahead_BFPD
        batch, frames, steps, dim = ahead_BFPD.shape
        mask_BDFP: Tensor = self.dropout(ahead_BFPD.new_ones(batch, dim, frames, steps))
        return ahead_BFPD * mask_BDFP.flip(3).permute(0, 2, 3, 1)

    def candidate_rows(self, batch: int, frames: int) -> Tensor:
        """Where each frame's candidates lie among the batch's B x F frames, (B, N, F).

        The first is the frame itself. fairseq numbers the drawn ones by frame when it steps
        over the frame itself, and by candidate when it uses them, so that a negative can
        be the frame itself; its first draw is thrown away. Both are kept: the loss is to be equal.
        """
        reach = min(frames, self.sample_distance or frames)
        drawn = torch.randint(0, reach, (batch, self.negatives * frames))
        if self.negatives:
            drawn = self._draw(batch, frames, self.negatives, reach)
            drawn = drawn + torch.arange(batch)[:, None] * reach
        if self.cross_sample_negatives:
            cross = self._draw(batch, frames, self.cross_sample_negatives, frames * batch)
            drawn = torch.cat([drawn, cross], 1) if self.negatives else cross
        own = torch.arange(batch * frames).view(batch, 1, frames)
        return torch.cat([own, drawn.view(batch, -1, frames)], 1)

    @staticmethod
    def _draw(batch: int, frames: int, count: int, high: int) -> Tensor:
        own = torch.arange(frames).repeat_interleave(count)
        drawn = torch.randint(0, high - 1, (batch, count * frames))
        return drawn + (drawn >= own).long()


class Diagonals(torch.autograd.Function):
    """Gather, for each target frame, the predictions that were made of it.

    (B, F, P, D) with the farthest step first becomes (B, U, P, D), where [u, p] is what the frame
    P - 1 - p before u foretold of u; zeros where there is no such frame. A strided view: one copy
    forward and one back, where autograd's own gradient of a view like this adds one by one.
    """

    @staticmethod
    def forward(ctx: Any, ahead_BFPD: Tensor, targets: int) -> Tensor:
        ctx.shape = ahead_BFPD.shape
        padded = F.pad(ahead_BFPD, (0, 0, 0, 0, ahead_BFPD.size(2) - 1, 0))
        return _diagonal_view(padded, targets).contiguous()

    @staticmethod
    def backward(ctx: Any, grad_BUPD: Tensor) -> tuple[Tensor, None]:
        batch, frames, steps, dim = ctx.shape
        padded = grad_BUPD.new_zeros(batch, frames + steps - 1, steps, dim)
        _diagonal_view(padded, grad_BUPD.size(1)).copy_(grad_BUPD)
        return padded[:, steps - 1 :], None


def _diagonal_view(padded: Tensor, targets: int) -> Tensor:
    batch, frames, steps, dim = padded.shape
    size = (batch, targets, steps, dim)
    return padded.as_strided(size, (frames * steps * dim, steps * dim, (steps + 1) * dim, 1))
