"""The trained quantizer as a `transformers` model of its own: after stage 1 nobody needs fairseq.

Its parameters are named as in fairseq's wav2vec, so that either's weights fit the other.
Shapes: B utterances, S samples, F frames, D features, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from pipeline.model_folder import read_model
from stages.quantizer import encoder, geometry
from stages.quantizer.codebook import code_vectors
from stages.quantizer.geometry import Layer
from stages.quantizer.gumbel import GumbelCodebook
from stages.quantizer.inference import Inference
from stages.quantizer.kmeans import KmeansCodebook

PAPER_ENCODER: list[Layer] = [(512, 10, 5), (512, 8, 4), *[(512, 4, 2)] * 3, *[(512, 1, 1)] * 3]
PAPER_AGGREGATOR: list[Layer] = [(512, kernel, 1) for kernel in range(2, 14)]


class QuantizerConfig(PretrainedConfig):
    """Everything that decides what the model computes; see QuantizerSettings for the meanings."""

    model_type = "vqasr_quantizer"

    def __init__(
        self,
        encoder_layers: Sequence[Sequence[int]] = PAPER_ENCODER,
        aggregator_layers: Sequence[Sequence[int]] = PAPER_AGGREGATOR,
        activation: str = "gelu",
        quantizer_type: str = "gumbel",
        groups: int = 2,
        codes: int = 320,
        combine_groups: bool = False,
        projection_depth: int = 1,
        temperatures: Sequence[float] = (2.0, 0.5, 0.999995),
        kmeans_gamma: float = 0.25,
        input_norm: bool = False,
        projection_init: str = "fairseq",
        codebook_init: str = "fairseq",
        quantize_after: int = 0,
        restart_every: int = 0,
        restart_until: int = 0,
        dropout: float = 0.0,
        aggregator: str = "cnn",
        gru_dim: int = 512,
        gru_over_time: bool = False,
        conv_bias: bool = True,
        zero_pad: bool = False,
        skip_connections_encoder: bool = False,
        skip_connections_aggregator: bool = True,
        residual_scale: float = 0.5,
        log_compression: bool = True,
        affine_norm: bool = True,
        sample_rate_hz: int = 16_000,
        **kwargs: Any,
    ) -> None:
        self.encoder_layers = [list(layer) for layer in encoder_layers]
        self.aggregator_layers = [list(layer) for layer in aggregator_layers]
        self.activation = activation
        self.quantizer_type = quantizer_type
        self.groups, self.codes, self.combine_groups = groups, codes, combine_groups
        self.projection_depth = projection_depth
        self.temperatures = list(temperatures)
        self.kmeans_gamma = kmeans_gamma
        self.input_norm = input_norm
        self.projection_init, self.codebook_init = projection_init, codebook_init
        self.quantize_after = quantize_after
        self.restart_every, self.restart_until = restart_every, restart_until
        self.dropout = dropout
        self.aggregator, self.gru_dim = aggregator, gru_dim
        self.gru_over_time = gru_over_time
        self.conv_bias, self.zero_pad = conv_bias, zero_pad
        self.skip_connections_encoder = skip_connections_encoder
        self.skip_connections_aggregator = skip_connections_aggregator
        self.residual_scale = residual_scale
        self.log_compression = log_compression
        self.affine_norm = affine_norm
        self.sample_rate_hz = sample_rate_hz
        super().__init__(**kwargs)

    @property
    def layers(self) -> list[Layer]:
        """The encoder's layers as (channels, kernel, stride)."""
        return [(int(c), int(k), int(s)) for c, k, s in self.encoder_layers]

    @property
    def dim(self) -> int:
        """Features per frame, before and after quantization."""
        return self.layers[-1][0]

    @property
    def context_dim(self) -> int:
        return self.gru_dim if self.aggregator == "gru" else int(self.aggregator_layers[-1][0])

    @property
    def hop(self) -> int:
        """Samples from frame to frame."""
        return geometry.hop(self.layers)

    @property
    def receptive_field(self) -> int:
        """Samples that one frame sees."""
        return geometry.receptive_field(self.layers)

    @property
    def prediction_offset(self) -> int:
        """Frames until one shares no sample with the present one (fairseq's `offset auto`)."""
        return geometry.prediction_offset(self.layers)

    def frames(self, samples: int) -> int:
        """Frames of an utterance of `samples` samples; may be 0."""
        return geometry.frames(self.layers, samples)


def build_encoder(config: QuantizerConfig) -> encoder.Encoder:
    """Samples to features."""
    return encoder.Encoder(
        config.layers,
        _activation(config),
        log_compression=config.log_compression,
        skip_connections=config.skip_connections_encoder,
        residual_scale=config.residual_scale,
        affine=config.affine_norm,
    )


def build_codebook(config: QuantizerConfig) -> GumbelCodebook | KmeansCodebook | None:
    """The quantizer that the config names; None where there is none (wav2vec 1.0)."""
    if config.quantizer_type == "none":
        return None
    common: dict[str, Any] = {
        "combine_groups": config.combine_groups,
        "input_norm": config.input_norm,
        "codebook_init": config.codebook_init,
    }
    sizes = (config.dim, config.groups, config.codes)
    if config.quantizer_type == "kmeans":
        return KmeansCodebook(
            *sizes,
            gamma=config.kmeans_gamma,
            quantize_after=config.quantize_after,
            restart_every=config.restart_every,
            restart_until=config.restart_until,
            **common,
        )
    first, last, decay = config.temperatures
    return GumbelCodebook(
        *sizes,
        depth=config.projection_depth,
        activation=_activation(config),
        temperature=(first, last, decay),
        projection_init="normal" if config.projection_init == "normal" else "fairseq",
        **common,
    )


def build_aggregator(config: QuantizerConfig) -> nn.Module:
    """Features to context."""
    if config.aggregator == "gru":
        return encoder.gru_aggregator(config.dim, config.gru_dim, over_time=config.gru_over_time)
    return encoder.Aggregator(
        config.dim,
        [(int(c), int(k), int(s)) for c, k, s in config.aggregator_layers],
        _activation(config),
        dropout=config.dropout,
        conv_bias=config.conv_bias,
        zero_pad=config.zero_pad,
        skip_connections=config.skip_connections_aggregator,
        residual_scale=config.residual_scale,
        affine=config.affine_norm,
    )


def _activation(config: QuantizerConfig) -> nn.Module:
    return nn.ReLU() if config.activation == "relu" else nn.GELU()


class QuantizerModel(PreTrainedModel):
    """Encoder, codebook and aggregator. Built in eval mode: no Gumbel noise, no dropout."""

    config_class = QuantizerConfig
    config: QuantizerConfig
    base_model_prefix = "quantizer"
    main_input_name = "samples_BS"
    _made: Inference
    _made_for: tuple[Any, ...] = ()

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__(config)
        self.feature_extractor = build_encoder(config)
        self.vector_quantizer = build_codebook(config)
        self.feature_aggregator = build_aggregator(config)
        self.post_init()
        self.eval()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: the modules' own initial values are the method's."""

    @property
    def hop(self) -> int:
        """Samples from frame to frame."""
        return self.config.hop

    @property
    def receptive_field(self) -> int:
        """Samples that one frame sees."""
        return self.config.receptive_field

    def frames(self, samples: int) -> int:
        """Frames of an utterance of `samples` samples; may be 0."""
        return self.config.frames(samples)

    def features(self, samples_BS: Tensor) -> Tensor:
        """Continuous features z_BDF. All utterances count in full: pad none."""
        features: Tensor = self.feature_extractor(samples_BS)
        return features

    def codes(self, z_BDF: Tensor) -> Tensor:
        """The likeliest (Gumbel) or nearest (k-means) codes, (B, F, G), int64.

        Raises:
            ValueError: the model has no quantizer.
        """
        return self._codebook().code_indices(z_BDF)

    def units(self, samples_S: Tensor) -> Tensor:
        """The code indices of one utterance, (F, G), int64; F may be 0.

        Raises:
            ValueError: the model has no quantizer.
        """
        return self.units_batch([samples_S])[0]

    def units_batch(
        self, samples: Sequence[Tensor] | Tensor, lengths: Sequence[int] | None = None
    ) -> list[Tensor]:
        """The code indices of each utterance, (F, G): those that it has alone.

        Args:
            samples: utterances (S,) of any lengths, or a padded batch (B, S).
            lengths: samples of each utterance that count; None: all.

        Raises:
            ValueError: the model has no quantizer.
        """
        utterances = list(samples)
        if lengths is not None:
            utterances = [u[:n] for u, n in zip(utterances, lengths, strict=True)]
        return [found.units_FG for found in self._inference().codes(utterances)]

    def _inference(self) -> Inference:
        """Made anew when a weight has changed."""
        state = tuple((p.data_ptr(), p._version, p.device) for p in self.parameters())
        if self._made_for != state:
            self._made_for, self._made = state, Inference(self)
        return self._made

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes over: all but what is made from the weights anyway."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_made", "_made_for")}

    def vectors(self, codes_xG: Tensor) -> Tensor:
        """The codebook's vectors of code indices (..., G), groups side by side: (..., D)."""
        return code_vectors(self._codebook().codebook(), codes_xG)

    def quantized(self, samples_BS: Tensor) -> Tensor:
        """Quantized features, (B, D, F)."""
        return self.vectors(self.codes(self.features(samples_BS))).transpose(1, 2)

    def context(self, samples_BS: Tensor) -> Tensor:
        """The aggregator's output over the quantized features, (B, D, F)."""
        inputs = self.features if self.vector_quantizer is None else self.quantized
        context: Tensor = self.feature_aggregator(inputs(samples_BS))
        return context

    def forward(self, samples_BS: Tensor) -> Tensor:
        return self.context(samples_BS)

    def _codebook(self) -> GumbelCodebook | KmeansCodebook:
        if self.vector_quantizer is None:
            raise ValueError("this model has no quantizer, and so no codes (type: none)")
        return self.vector_quantizer


def read(folder: Path) -> QuantizerModel:
    """The quantizer in `folder`, read as data: nothing that lies there is run.

    Raises:
        pipeline.errors.UserError: it holds no such model.
    """
    return read_model(folder, QuantizerConfig, QuantizerModel)
