"""The acoustic model: an encoder, frames joined, a linear CTC layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from pipeline import plugins
from pipeline.model_folder import read_model
from pipeline.recipe import FRONT_ENDS
from stages.acoustic.encoders import attended


class AcousticConfig(PretrainedConfig):
    """What it takes to build the model without its weights.

    Args:
        frontend: the settings of the front-end, its name among them.
        encoder: the encoder's own config.
        targets: number of CTC targets, the blank (0) included.
        subsample: frames joined before the CTC layer.
        head_frames: frames that a convolution between encoder and CTC layer sees; 1 for none.
    """

    model_type = "vqasr_acoustic"

    def __init__(
        self,
        frontend: dict[str, Any] | None = None,
        encoder: dict[str, Any] | None = None,
        targets: int = 1,
        subsample: int = 1,
        head_frames: int = 1,
        **kwargs: Any,
    ) -> None:
        self.frontend = frontend or {}
        self.encoder = encoder or {}
        self.targets, self.subsample, self.head_frames = targets, subsample, head_frames
        super().__init__(**kwargs)


class AcousticModel(PreTrainedModel):
    """Features or tokens of B utterances to log-probabilities of CTC targets."""

    config_class = AcousticConfig

    def __init__(self, config: AcousticConfig, encoder: nn.Module | None = None) -> None:
        super().__init__(config)
        frontend = plugins.find(FRONT_ENDS, config.frontend["name"], "front-end")
        under: Any = encoder or frontend.empty_encoder(config.encoder)
        self.encoder = under
        self.head = Head(under.dim, config.head_frames) if config.head_frames > 1 else None
        self.ctc = nn.Linear(under.dim * config.subsample, config.targets)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """The CTC layer keeps torch's own start; encoders come initialised."""

    @property
    def step(self) -> int:
        """Input frames that become one CTC frame."""
        return int(self.encoder.stride * self.config.subsample)

    def frames(self, lengths_B: Tensor) -> Tensor:
        """CTC frames of inputs of so many frames."""
        encoded_B = _ceil_div(lengths_B, self.encoder.stride)
        return _ceil_div(encoded_B, self.config.subsample)

    def forward(
        self,
        feats: Tensor,
        lengths_B: Tensor,
        time_mask_BF: Tensor | None = None,
        channel_mask_BD: Tensor | None = None,
    ) -> Tensor:
        """Log-probabilities (B, ceil(ceil(F / stride) / subsample), targets)."""
        attended_BF = attended(lengths_B, feats.shape[1])
        hidden_BFD = self.encoder(feats, attended_BF, time_mask_BF, channel_mask_BD)
        there_BF = attended_BF[:, :: self.encoder.stride, None]
        hidden_BFD = hidden_BFD.masked_fill(~there_BF, 0.0)
        if self.head is not None:
            hidden_BFD = self.head(hidden_BFD).masked_fill(~there_BF, 0.0)
        joined = self.config.subsample
        short = -hidden_BFD.shape[1] % joined
        hidden_BFD = nn.functional.pad(hidden_BFD, (0, 0, 0, short))
        batch, frames, dim = hidden_BFD.shape
        stacked = hidden_BFD.reshape(batch, frames // joined, dim * joined)
        return nn.functional.log_softmax(self.ctc(stacked).float(), dim=-1)


class Head(nn.Module):
    """What a frame's neighbours say, added to it: a convolution, GELU, a sum, LayerNorm."""

    def __init__(self, dim: int, frames: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, frames, padding="same")
        self.norm = nn.LayerNorm(dim)

    def forward(self, hidden_BFD: Tensor) -> Tensor:
        heard_BFD = nn.functional.gelu(self.conv(hidden_BFD.mT).mT)
        summed: Tensor = self.norm(hidden_BFD + heard_BFD)
        return summed


def _ceil_div(lengths_B: Tensor, by: int) -> Tensor:
    return torch.div(lengths_B + by - 1, by, rounding_mode="floor")


def read(folder: Path) -> AcousticModel:
    """The acoustic model in `folder`, read as data: nothing that lies there is run.

    Raises:
        pipeline.errors.UserError: it holds no such model.
    """
    return read_model(folder, AcousticConfig, AcousticModel)
