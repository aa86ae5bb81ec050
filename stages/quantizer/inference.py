"""Speech to codes, quantized vectors and contexts: what comes after stage 1 uses.

Shapes: B utterances, S samples, F frames, D features, G groups, V codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipeline import cuts
from pipeline.precision import chosen_precision
from pipeline.readers import in_groups
from stages.quantizer.fast_encoder import FastEncoder
from stages.quantizer.gumbel import GumbelCodebook
from stages.quantizer.kmeans import KmeansCodebook

if TYPE_CHECKING:
    from stages.quantizer.model import QuantizerModel

NEAR_TIE = 1e-5  # of the largest score of a frame: rounding decides between codes as close as this
BATCH_SECONDS = 300.0


@dataclass(frozen=True)
class Codes:
    """The codes of one utterance.

    Attributes:
        units_FG: index of each group's code, int64.
        near_ties: frames in which rounding decided in some group, see NEAR_TIE.
    """

    units_FG: Tensor
    near_ties: int


@contextmanager
def full_fp32() -> Iterator[None]:
    """While it lasts fp32 products keep all their digits, in this whole process.

    By default cuDNN's convolutions round to TF32 on GPUs; a process that allows it also has its
    matrix products rounded, `medium` to bf16, on CPUs too. A training in bf16 that asks for an
    utterance's features in the midst of an update rounds them no more than decoding does.
    """
    cudnn, before = torch.backends.cudnn, torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with ExitStack() as stack:
            for kind in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
                stack.enter_context(torch.autocast(kind, enabled=False))
            flags = cudnn.flags(  # its defaults would turn cuDNN off
                enabled=cudnn.enabled,
                benchmark=cudnn.benchmark,
                deterministic=cudnn.deterministic,
                allow_tf32=False,
            )
            stack.enter_context(flags)
            yield
    finally:
        torch.set_float32_matmul_precision(before)


class Inference:
    """A quantizer made ready to use: weights in the form that is fastest.

    Later changes of the model's weights do not show. With fp32 the codes are those of
    `model.codes(model.features(...))`. With bf16 the encoder's products are in bf16; norms, the
    codebook's projection and the decision stay in fp32.

    On a CPU each product runs on one core, and torch's threads work on utterances, or on pieces
    of the only one: on one product they would wait for each other after each of many small
    steps. So neither the batch nor the number of threads changes a single bit. On a GPU
    utterances are packed: frames counted in `near_ties` may come out differently than alone.

    What it needs beside the audio that it is given: on a CPU the encoder's memory for a piece of
    `cuts.LONGEST_SECONDS` (60 s) per core, as a recording of hours gives each core one such piece
    at once; on a GPU that for `batch_seconds`.

    Args:
        precision: fp32, bf16, or auto (bf16 where the processor multiplies in it).
        batch_seconds: audio that a GPU computes at once; but for near ties, changes no result.
    """

    def __init__(
        self, model: QuantizerModel, precision: str = "fp32", batch_seconds: float = BATCH_SECONDS
    ) -> None:
        self._model = model
        self._device = model.device
        self.precision = chosen_precision(precision, self._device.type)
        rate_hz = model.config.sample_rate_hz
        self._cut_above = round(cuts.LONGEST_SECONDS * rate_hz)
        self._batch_samples = round(batch_seconds * rate_hz)
        self._fast: FastEncoder | None = None
        if not model.config.skip_connections_encoder:
            dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
            relu = model.config.activation == "relu"
            self._fast = FastEncoder(model.feature_extractor, model.config.layers, relu, dtype)

    @full_fp32()
    @torch.inference_mode()
    def codes(self, utterances: Sequence[Tensor]) -> list[Codes]:
        """The codes of utterances (S,) of any lengths.

        Audio longer than `cuts.LONGEST_SECONDS` is cut by the rule of `pipeline.cuts` and each
        piece is taken by itself; so frames that would see a cut are not there.

        Raises:
            ValueError: the model has no quantizer.
        """
        self._book()
        pieces = [(n, piece) for n, u in enumerate(utterances) for piece in self._pieces(u)]
        found: list[list[Codes]] = [[] for _ in utterances]
        of_pieces = self._on_cores if self._device.type == "cpu" else self._packed
        for (number, _), codes in zip(pieces, of_pieces([p for _, p in pieces]), strict=True):
            found[number].append(codes)
        return [self._joined(parts) for parts in found]

    @full_fp32()
    def features(self, samples_S: Tensor) -> Tensor:
        """Features (F, D) in fp32 of an utterance of at least one frame, not cut."""
        with one_core_each() as pool:
            return self._features([samples_S], pool)[0]

    @full_fp32()
    @torch.inference_mode()
    def quantized(self, samples_S: Tensor) -> Tensor:
        """The codebook's vectors (F, D) of an utterance of at least one frame, not cut.

        Raises:
            ValueError: the model has no quantizer.
        """
        self._book()
        with one_core_each() as pool:
            z_FD = self._features([samples_S], pool)[0]
            return self._model.vectors(self._decide(z_FD).units_FG)

    @full_fp32()
    @torch.inference_mode()
    def context(self, samples_S: Tensor) -> Tensor:
        """The aggregator's output (F, D) in fp32 for an utterance of at least one frame, not cut.

        It reads quantized features, or features where there is no quantizer, all frames at once.
        """
        inputs = self.features if self._model.vector_quantizer is None else self.quantized
        z_FD = inputs(samples_S)
        with one_core_each():
            context_DF: Tensor = self._model.feature_aggregator(z_FD.T[None])[0]
        return context_DF.T

    def _on_cores(self, pieces: Sequence[Tensor]) -> list[Codes]:
        with one_core_each() as pool:
            if pool is None or len(pieces) < 2:
                return [self._alone(piece, pool) for piece in pieces]
            longest_first = sorted(range(len(pieces)), key=lambda n: -len(pieces[n]))
            done = pool.map(self._alone, [pieces[n] for n in longest_first])
            by_number = dict(zip(longest_first, done, strict=True))
        return [by_number[n] for n in range(len(pieces))]

    @torch.inference_mode()
    def _alone(self, samples_S: Tensor, pool: Executor | None = None) -> Codes:
        return self._decide(self._features([samples_S], pool)[0])

    def _packed(self, pieces: Sequence[Tensor]) -> list[Codes]:
        batches = in_groups(pieces, size=len, limit=self._batch_samples, most=len(pieces))
        return [self._decide(z_FD) for batch in batches for z_FD in self._features(batch, None)]

    @torch.inference_mode()
    def _features(self, utterances: Sequence[Tensor], pool: Executor | None) -> list[Tensor]:
        on_device = [samples_S.to(self._device) for samples_S in utterances]
        if self._fast is not None:
            return self._fast(on_device, pool)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            found = [self._model.features(samples_S[None])[0] for samples_S in on_device]
        return [z_DF.float().T for z_DF in found]

    def _pieces(self, samples_S: Tensor) -> Iterator[Tensor]:
        if len(samples_S) <= self._cut_above:
            spans = [(0, len(samples_S))]
        else:
            rate_hz = self._model.config.sample_rate_hz
            spans = cuts.pieces(samples_S.float().cpu().numpy(), self._cut_above, rate_hz)
        for start, end in spans:
            if self._model.frames(end - start):
                yield samples_S[start:end]

    def _decide(self, z_FD: Tensor) -> Codes:
        scores_FGV = _scores(self._book(), z_FD)
        best_FG, units_FG = scores_FGV.max(-1)
        allowed_FG = NEAR_TIE * scores_FGV.abs().amax(-1)
        scores_FGV.scatter_(-1, units_FG[..., None], -torch.inf)
        near_F = (best_FG - scores_FGV.amax(-1) <= allowed_FG).any(-1)
        return Codes(units_FG, int(near_F.sum()))

    def _book(self) -> GumbelCodebook | KmeansCodebook:
        if self._model.vector_quantizer is None:
            raise ValueError("this model has no quantizer, and so no codes (type: none)")
        return self._model.vector_quantizer

    def _joined(self, parts: Sequence[Codes]) -> Codes:
        if not parts:
            groups = self._model.config.groups
            return Codes(torch.zeros(0, groups, dtype=torch.long, device=self._device), 0)
        units_FG = torch.cat([part.units_FG for part in parts])
        return Codes(units_FG, sum(part.near_ties for part in parts))


@contextmanager
def one_core_each() -> Iterator[Executor | None]:
    """While it lasts torch uses one core per thread, and there are as many threads as it had.

    None where it had but one.
    """
    before = torch.get_num_threads()
    if before == 1:
        yield None
        return
    pool = ThreadPoolExecutor(before, "core", initializer=torch.set_num_threads, initargs=(1,))
    torch.set_num_threads(1)
    try:
        with pool:
            yield pool
    finally:
        torch.set_num_threads(before)


def _scores(book: GumbelCodebook | KmeansCodebook, z_FD: Tensor) -> Tensor:
    """What the codebook chooses by, the larger the better, (F, G, V); one utterance at a time."""
    return book.scores(z_FD.T[None])[0]
