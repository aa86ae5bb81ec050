"""The contrastive loss of a finished quantizer on speech that it was not trained on.

Stage 1 reads no dev speech, so that dev sets can change without training it again; what it takes to
compute the loss later is kept beside its model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipeline.errors import RunError
from stages.quantizer.fairseq.predictions import Predictions
from stages.quantizer.model import QuantizerModel

if TYPE_CHECKING:
    from pipeline.audio import Samples

PREDICTOR = "predictor.safetensors"
NAMES = "wav2vec_predictions."  # in fairseq's state dict


def save_predictor(weights: Mapping[str, Tensor], folder: Path) -> None:
    """Write what predicts the frames ahead, from fairseq's whole state dict."""
    from safetensors.torch import save_file

    own = {name: w.contiguous() for name, w in weights.items() if name.startswith(NAMES)}
    save_file(own, folder / PREDICTOR)


def load_predictor(folder: Path, model: QuantizerModel, negatives: int) -> Predictions:
    """The predictor of a finished stage 1, in eval mode.

    Raises:
        RunError: the quantizer came from elsewhere, without one.
    """
    from safetensors.torch import load_file

    path = folder / PREDICTOR
    if not path.is_file():
        raise RunError(f"{folder} holds no {PREDICTOR}: its quantizer was not trained here.")
    weights = {name.removeprefix(NAMES): w for name, w in load_file(path).items()}
    predictor = Predictions(
        model.config.context_dim,
        model.config.dim,
        steps=weights["project_to_steps.weight"].shape[-1],
        negatives=negatives,
        cross_sample_negatives=0,
        sample_distance=None,
        dropout=0.0,
        offset=model.config.prediction_offset,
        balanced_classes=False,
        infonce=True,
    )
    predictor.load_state_dict(weights)
    return predictor.eval()


@torch.inference_mode()
def contrastive_bits(
    model: QuantizerModel, predictor: Predictions, speech: Iterable[Samples], seed: int
) -> float:
    """InfoNCE in bits per prediction: no Gumbel noise, no dropout, negatives fixed by `seed`.

    Negatives come from the utterance itself, as in training. Utterances too short for a
    prediction are passed over. Chance is log2(negatives + 1).

    Raises:
        RunError: all of them are too short.
    """
    nats, positions = 0.0, 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for samples in speech:
            samples_BS = torch.from_numpy(samples)[None]
            if model.frames(len(samples)) <= model.config.prediction_offset:
                continue
            quantized_BDF = (
                model.features(samples_BS)
                if model.vector_quantizer is None
                else model.quantized(samples_BS)
            )
            context_BDF = model.feature_aggregator(quantized_BDF)
            logits_XN, labels_X = predictor(context_BDF, quantized_BDF)
            nats += float(
                torch.nn.functional.cross_entropy(logits_XN.float(), labels_X, reduction="sum")
            )
            positions += len(labels_X)
    if not positions:
        raise RunError("No utterance is long enough to predict anything in.")
    return nats / positions / math.log(2)
