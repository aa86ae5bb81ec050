"""Speech to text by the models of an exported folder, without vqasr: greedily, all in fp32.

This file lies in vqasr's repository as stages/use/modeling_vqasr.py and is copied into the folder
as it is. It needs torch, transformers and soundfile, and runs only if it is asked to:

    from transformers import AutoModel
    model = AutoModel.from_pretrained("DIR", trust_remote_code=True)
    print(model.transcribe("recording.wav"))

or, with DIR on Python's path, `from modeling_vqasr import VqasrModel` and
`VqasrModel.from_pretrained("DIR")`. Recordings are of 16 kHz and read whole; long ones are cut and
read as vqasr does it. Words are those of vqasr's greedy search on the same samples; where that
computes units in bf16 (unit_precision in preprocessor_config.json), a frame's unit may be another
here.

Shapes: S samples, F frames of units, T frames after subsampling, D features, G groups, V codes.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import soundfile
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel, PretrainedConfig, PreTrainedModel
from transformers.utils.hub import cached_file

HUB = ("cache_dir", "force_download", "local_files_only", "revision", "token")
FIRST_UNIT = 3  # tokens before it: [PAD], [UNK], [MASK]
BLANK, BOUNDARY, PIECE_START = 0, "|", "▁"


class VqasrConfig(PretrainedConfig):
    """Of the acoustic model: its encoder, and what lies between that and the targets."""

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
        self.frontend, self.encoder = frontend or {}, encoder or {}
        self.targets, self.subsample, self.head_frames = targets, subsample, head_frames
        super().__init__(**kwargs)


class VqasrModel(PreTrainedModel):
    """Unit tokens to log-probabilities of targets; with `from_pretrained`, speech to text."""

    config_class = VqasrConfig
    main_input_name = "tokens_F"

    def __init__(self, config: VqasrConfig) -> None:
        super().__init__(config)
        self.encoder = encoder(config.encoder)
        dim = self.encoder.dim
        self.head = Head(dim, config.head_frames) if config.head_frames > 1 else None
        self.ctc = nn.Linear(dim * config.subsample, config.targets)
        self.parts: tuple[Parts, ...] = ()  # in a tuple: no weights of this model
        self.post_init()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, folder: str | Path, *args: Any, **kwargs: Any
    ) -> VqasrModel:
        """The model of a folder, or of a repository of the hub, ready to transcribe."""
        model: VqasrModel = super().from_pretrained(folder, *args, **kwargs)
        hub = {name: kwargs[name] for name in HUB if name in kwargs}

        def place(name: str) -> Path:
            return Path(str(cached_file(folder, name, **hub)))

        model.parts = (Parts(place),)
        model.eval()
        return model

    def forward(self, tokens_F: Tensor) -> Tensor:
        """Log-probabilities (T, targets) of one utterance, every stride * subsample frames."""
        hidden_BFD = self.encoder(tokens_F[None])
        if self.head is not None:
            hidden_BFD = self.head(hidden_BFD)
        joined = self.config.subsample
        hidden_BFD = F.pad(hidden_BFD, (0, 0, 0, -hidden_BFD.shape[1] % joined))
        stacked_TD = hidden_BFD.reshape(-1, hidden_BFD.shape[2] * joined)
        return F.log_softmax(self.ctc(stacked_TD).float(), dim=-1)

    def log_probs(self, tokens_F: Tensor) -> Tensor:
        """As `forward`, of any length: beyond the BERT's positions in windows that overlap.

        They are vqasr's, stages/acoustic/windows.py; of two, each gives the half far from its edge.
        """
        frames, step = len(tokens_F), self.encoder.stride * self.config.subsample
        positions = self.encoder.longest_frames
        if frames <= positions:
            whole_TV: Tensor = self(tokens_F)
            return whole_TV
        length = positions // step * step
        hop = length - length // 4 // step * step
        starts = [*range(0, frames - length, hop), -(-(frames - length) // step) * step]
        cuts = [(a + b + length) // 2 // step * step for a, b in pairwise(starts)]
        kept = []
        for start, first, last in zip(starts, [0, *cuts], [*cuts, frames], strict=True):
            rows_TV = self(tokens_F[start : start + length])
            kept.append(rows_TV[(first - start) // step : -(-(last - start) // step)])
        return torch.cat(kept)

    def transcribe(self, recording: str | Path | Tensor) -> str:
        """What is said in a recording: a file, or its samples (S,) at 16 kHz, one channel.

        Raises:
            ValueError: another sample rate.
            RuntimeError: the model was not opened by `from_pretrained`.
        """
        if not self.parts:
            raise RuntimeError("open the model with from_pretrained: it has no quantizer yet")
        (parts,) = self.parts
        samples_S = recording if isinstance(recording, Tensor) else read(recording, parts.rate_hz)
        samples_S = parts.band_limited(samples_S.float())
        return " ".join(text for text in map(self._text, parts.pieces(samples_S)) if text)

    @torch.inference_mode()
    def _text(self, samples_S: Tensor) -> str:
        (parts,) = self.parts
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            tokens_F = parts.tokens(samples_S.to(self.device))
        if not len(tokens_F):
            return ""
        path_T = self.log_probs(tokens_F).argmax(-1)
        return parts.text([i for i in torch.unique_consecutive(path_T).tolist() if i != BLANK])


def encoder(config: Mapping[str, Any]) -> UnitBert | UnderLstms:
    """The encoder of unit tokens that was trained.

    Raises:
        ValueError: it reads something else, or has a Transformer on the BERT.
    """
    if "over" in config and "bert" not in config["over"]:
        return UnderLstms(config)
    if "bert" in config and "channels" not in config:
        return UnitBert(config)
    raise ValueError("only units under a BERT, LSTMs, or both, are known to this file")


class UnderLstms(nn.Module):
    """LSTMs on a BERT, or on a vector for each token."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.over, self.longest_frames = Lstms(config["over"]), sys.maxsize
        self.dim, self.stride = int(config["over"]["dim"]), int(config["over"]["stride"])
        if "under" in config:
            self.under = UnitBert(config["under"])
            self.longest_frames = self.under.longest_frames
        else:
            self.vectors = nn.Embedding(config["tokens"], config["over"]["channels"])

    def forward(self, tokens_BF: Tensor) -> Tensor:
        under = self.under if hasattr(self, "under") else self.vectors
        states: Tensor = self.over(under(tokens_BF))
        return states


class Lstms(nn.Module):
    """A convolution, LSTMs both ways whose sums are normalised, a linear layer."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        channels, hidden = int(config["channels"]), int(config["hidden"])
        self.project = nn.Conv1d(channels, hidden, 7, int(config["stride"]), padding=3)
        self.norm = nn.LayerNorm(hidden)
        self.layers = nn.ModuleList(BothWays(hidden) for _ in range(int(config["layers"])))
        self.out = nn.Linear(hidden, int(config["dim"]))

    def forward(self, feats_BFD: Tensor) -> Tensor:
        hidden_BFD = F.gelu(self.norm(self.project(feats_BFD.mT).mT))
        for layer in self.layers:
            hidden_BFD = layer(hidden_BFD)
        return F.gelu(self.out(hidden_BFD))


class BothWays(nn.Module):
    """An LSTM from the first frame on and one from the last one back."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.onward = nn.LSTM(dim, dim, batch_first=True)
        self.back = nn.LSTM(dim, dim, batch_first=True)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_BFD: Tensor) -> Tensor:
        onward_BFD, _ = self.onward(x_BFD)
        back_BFD, _ = self.back(x_BFD.flip(1))
        summed: Tensor = self.norm(onward_BFD + back_BFD.flip(1))
        return summed


class UnitBert(nn.Module):
    """A BERT on unit tokens; where it was trained so, a learnt mean of its layers."""

    stride = 1

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.longest_frames = int(config["bert"]["max_position_embeddings"])
        self.bert = BertModel(BertConfig(**config["bert"]), add_pooling_layer=False)
        self.dim = int(config["bert"]["hidden_size"])
        self.attention_frames = int(config.get("attention_frames", 0))
        self.layer_logits: nn.Parameter | None = None
        if config.get("layer_weights"):
            self.layer_logits = nn.Parameter(torch.zeros(1 + config["bert"]["num_hidden_layers"]))

    def forward(self, tokens_BF: Tensor) -> Tensor:
        near = None
        if self.attention_frames:
            place_F = torch.arange(tokens_BF.shape[1], device=tokens_BF.device)
            near = ((place_F[:, None] - place_F).abs() <= self.attention_frames)[None, None]
            if self.bert.config._attn_implementation == "eager":  # which adds what it is given
                lowest = torch.finfo(self.bert.dtype).min
                near = torch.zeros_like(near, dtype=self.bert.dtype).masked_fill(~near, lowest)
        output = self.bert(
            tokens_BF, attention_mask=near, output_hidden_states=self.layer_logits is not None
        )
        if self.layer_logits is None:
            last: Tensor = output.last_hidden_state
            return last
        pairs = zip(self.layer_logits.softmax(0), output.hidden_states, strict=True)
        return torch.stack([weight * state for weight, state in pairs]).sum(0)


class Head(nn.Module):
    """What a frame's neighbours say, added to it."""

    def __init__(self, dim: int, frames: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, frames, padding="same")
        self.norm = nn.LayerNorm(dim)

    def forward(self, hidden_BFD: Tensor) -> Tensor:
        summed: Tensor = self.norm(hidden_BFD + F.gelu(self.conv(hidden_BFD.mT).mT))
        return summed


class Quantizer(nn.Module):
    """vq-wav2vec: samples to the codes of each frame. `config` is that of the folder quantizer."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = config
        activation: nn.Module = nn.ReLU() if config["activation"] == "relu" else nn.GELU()
        layers, channels_in = nn.ModuleList(), 1
        for channels, kernel, stride in config["encoder_layers"]:
            convolution = nn.Conv1d(channels_in, channels, kernel, stride=stride, bias=False)
            norm = nn.GroupNorm(1, channels, affine=config["affine_norm"])
            layers.append(nn.Sequential(convolution, nn.Identity(), norm, activation))
            channels_in = channels
        self.feature_extractor = nn.ModuleDict({"conv_layers": layers})
        self._layers = tuple(layers)
        kind = Nearest if config["quantizer_type"] == "kmeans" else Likeliest
        self.vector_quantizer = kind(channels_in, config, activation)

    def frames(self, samples: int) -> int:
        for _, kernel, stride in self.config["encoder_layers"]:
            samples = max(0, (samples - kernel) // stride + 1)
        return samples

    def forward(self, samples_S: Tensor) -> Tensor:
        """The codes (F, G), int64."""
        x = samples_S[None, None]
        for layer in self._layers:
            residual, x = x, layer(x)
            if self.config["skip_connections_encoder"] and x.size(1) == residual.size(1):
                residual = residual[..., :: residual.size(2) // x.size(2)][..., : x.size(2)]
                x = (x + residual) * math.sqrt(self.config["residual_scale"])
        if self.config["log_compression"]:
            x = x.abs().log1p()
        codes_FG: Tensor = self.vector_quantizer(x)
        return codes_FG


class Likeliest(nn.Module):
    """The codebook of Gumbel softmax: the codes of the largest logits."""

    def __init__(self, dim: int, config: Mapping[str, Any], activation: nn.Module) -> None:
        super().__init__()
        self.groups, self.codes = config["groups"], config["codes"]
        depth = config["projection_depth"]
        sizes = [dim, *[2 * dim] * (depth - 1)]
        hidden = [nn.Sequential(nn.Linear(a, b), activation) for a, b in pairwise(sizes)]
        last = nn.Linear(sizes[-1], self.groups * self.codes)
        self.weight_proj = nn.Sequential(*hidden, last) if hidden else last
        self.input_norm = nn.LayerNorm(dim) if config["input_norm"] else None

    def forward(self, z_BDF: Tensor) -> Tensor:
        z_FD = z_BDF[0].T
        if self.input_norm is not None:
            z_FD = self.input_norm(z_FD)
        best_FG: Tensor = self.weight_proj(z_FD).view(-1, self.groups, self.codes).argmax(-1)
        return best_FG


class Nearest(nn.Module):
    """The codebook of k-means: the codes nearest to the projected features."""

    def __init__(self, dim: int, config: Mapping[str, Any], activation: nn.Module) -> None:
        super().__init__()
        self.groups = config["groups"]
        tables = 1 if config["combine_groups"] else self.groups
        self.embedding = nn.Parameter(torch.zeros(config["codes"], tables, dim // self.groups))
        self.projection = nn.Sequential(
            nn.Conv1d(dim, dim, 1, groups=self.groups, bias=False), nn.GroupNorm(self.groups, dim)
        )
        self.input_norm = nn.LayerNorm(dim) if config["input_norm"] else None

    def forward(self, z_BDF: Tensor) -> Tensor:
        if self.input_norm is not None:
            z_BDF = self.input_norm(z_BDF.mT).mT
        ze_GdF = self.projection(z_BDF)[0].unflatten(0, (self.groups, -1))
        table_GVd = self.embedding.transpose(0, 1).expand(self.groups, -1, -1)
        # 2 z.e - |e|^2 orders codes as -|z - e|^2 does.
        scores_GVF = 2 * torch.matmul(table_GVd, ze_GdF) - table_GVd.square().sum(-1)[..., None]
        return scores_GVF.argmax(1).T


class Parts:
    """All of the folder but the acoustic model: how it hears, its units and its targets."""

    def __init__(self, place: Callable[[str], Path]) -> None:
        hearing = _json(place("preprocessor_config.json"))
        self.rate_hz, self.longest = hearing["sampling_rate"], hearing["longest_samples"]
        self.bandwidth_hz = hearing["bandwidth_hz"]
        self.window, self.step = hearing["cut_window_samples"], hearing["cut_step_samples"]
        self.quantizer = Quantizer(_json(place("quantizer/config.json"))).eval()
        weights = load_file(place("quantizer/model.safetensors"))
        needed = self.quantizer.state_dict().keys()  # not the aggregator, nor a codebook's vectors
        self.quantizer.load_state_dict({name: weights[name] for name in needed})
        units = load_file(place("units/unit_vectors.safetensors"))
        units_TG, codebook_GVD = units["units"], units["codebook"]
        self.codebook_GVD = codebook_GVD
        self.vectors_TD = torch.cat([codebook_GVD[g][c] for g, c in enumerate(units_TG.T)], 1)
        self.token_of = {tuple(u): FIRST_UNIT + n for n, u in enumerate(units_TG.tolist())}
        targets = _json(place("lm/targets.json"))
        self.kind, self.symbols = targets["units"], targets["symbols"]

    def tokens(self, samples_S: Tensor) -> Tensor:
        """Unit tokens (F,) of one utterance; F may be 0."""
        if not self.quantizer.frames(len(samples_S)):
            return torch.zeros(0, dtype=torch.long)
        codes = self.quantizer.to(samples_S.device)(samples_S).tolist()
        tokens = [self.token_of.get(tuple(unit)) or self._nearest(unit) for unit in codes]
        return torch.tensor(tokens, device=samples_S.device)

    def _nearest(self, unit: Sequence[int]) -> int:
        """For a unit that the BERT does not know, the token nearest to it in the codebook."""
        vector_D = torch.cat([self.codebook_GVD[g][c] for g, c in enumerate(unit)])
        found = FIRST_UNIT + int((self.vectors_TD - vector_D).square().sum(1).argmin())
        self.token_of[tuple(unit)] = found
        return found

    def text(self, ids: Sequence[int]) -> str:
        """Words from targets that are collapsed and free of blanks."""
        written = (" " if self.kind == "words" else "").join(self.symbols[i] for i in ids)
        space = BOUNDARY if self.kind == "letters" else PIECE_START
        return " ".join(written.replace(space, " ").split())

    def band_limited(self, samples_S: Tensor) -> Tensor:
        """Without what the model was not to hear; vqasr does it by resampling."""
        if self.bandwidth_hz is None:
            return samples_S
        spectrum = torch.fft.rfft(samples_S)
        spectrum[math.ceil(2 * self.bandwidth_hz / self.rate_hz * len(spectrum)) :] = 0
        limited_S: Tensor = torch.fft.irfft(spectrum, len(samples_S))
        return limited_S

    def pieces(self, samples_S: Tensor) -> Iterator[Tensor]:
        """Pieces that are heard each by itself: vqasr's rule, pipeline/cuts.py."""
        while len(samples_S) > self.longest:
            last = min(self.longest, len(samples_S) - self.window) // self.step
            first = last - self.window // self.step + 1
            heard = samples_S[(first - 1) * self.step : (last + 1) * self.step].double()
            blocks = heard.square().reshape(-1, self.step).sum(1)
            around = (blocks[:-1] + blocks[1:]).flip(0)
            end = (last - int(around.argmin())) * self.step
            yield samples_S[:end]
            samples_S = samples_S[end:]
        yield samples_S


def read(path: str | Path, rate_hz: int) -> Tensor:
    """A recording's samples (S,), channels averaged.

    Raises:
        ValueError: another sample rate: resample it first, or take vqasr, which does.
    """
    samples_SC, found_hz = soundfile.read(path, dtype="float32", always_2d=True)
    if found_hz != rate_hz:
        raise ValueError(f"{path} has {found_hz} Hz, and must have {rate_hz}: resample it first")
    return torch.from_numpy(samples_SC.mean(axis=1))


def _json(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return told
