"""Labelled utterances as CTC sees them: features, targets, masks and the loss."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.errors import RunError, UserError
from pipeline.finetune_settings import CtcSettings
from pipeline.stage import StepContext

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from pipeline.training import Loss
    from stages.acoustic.model import AcousticModel
    from stages.acoustic.targets import Targets

DROPPED = "dropped.tsv"


class Labelled:
    """Features and targets of the labelled utterances, and the CTC loss on them."""

    def __init__(
        self,
        features: Callable[[str], NDArray[Any]],
        transcripts: Mapping[str, str],
        targets: Targets,
        settings: CtcSettings,
        seed: int,
        device: str,
    ) -> None:
        self._features, self._settings = features, settings
        self._seed, self._device = seed, device
        self._labels = {name: targets.encode(text) for name, text in transcripts.items()}

    def needs(self, model: AcousticModel, frames: Mapping[str, int]) -> list[tuple[str, int, int]]:
        """By utterance, the frames that CTC has and those that it needs to align the transcript.

        It needs a frame for each label and one more between equal neighbours.
        """
        import torch

        told = []
        for name, labels in self._labels.items():
            have = int(model.frames(torch.tensor(frames[name])))
            need = len(labels) + sum(a == b for a, b in itertools.pairwise(labels))
            told.append((name, have, need))
        return told

    def __len__(self) -> int:
        return len(self._labels)

    def usable(self, ctx: StepContext, model: AcousticModel) -> dict[str, int]:
        """Frames by utterance, without those too short for their labels, which are listed.

        So are those longer than the model has positions, where the settings leave them out.

        Raises:
            UserError: an utterance is too long.
            RunError: none is left.
        """
        every = count_frames(self._features, self._labels)
        most = model.encoder.longest_frames
        long = {name: frames for name, frames in every.items() if frames > most}
        if self._settings.longer == "refuse" or len(long) == len(every):
            refuse_longer(model, every)
        needs = [row for row in self.needs(model, every) if row[0] not in long]
        dropped = [row for row in needs if row[1] < row[2]]
        lines = [f"{name}\t{have} frames\t{need} needed" for name, have, need in dropped]
        lines += [f"{name}\t{frames} frames\tat most {most}" for name, frames in long.items()]
        if long:
            ctx.say(
                f"{len(long)} of {len(every)} utterances are longer than the model's {most} "
                f"frames and left out of the training: see {DROPPED}"
            )
        table = "".join(f"{line}\n" for line in ["utt_id\tframes\tneeded", *lines])
        (ctx.folder / DROPPED).write_text(table, "utf-8")
        if dropped:
            ctx.say(
                f"{len(dropped)} of {len(needs)} utterances have fewer frames than labels: "
                f"see {DROPPED}"
            )
        for line in lines:
            ctx.log.info("dropped %s", line.replace("\t", ", "))
        if len(dropped) == len(needs):
            raise RunError(
                "No utterance of the budget has frames enough for its labels.",
                found=f"{len(dropped)} with fewer frames than labels"
                + (f", and {len(long)} longer than the model's {most}" if long else ""),
                remedy=self._remedy(bool(long), model.encoder.stride),
            )
        return {name: every[name] for name, have, need in needs if have >= need}

    def _remedy(self, long: bool, stride: int) -> str:
        """For a budget that has no utterance to train on."""
        remedies = ["lower finetune.subsample"] if self._settings.subsample > 1 else []
        remedies += [f"lower the front-end's stride of {stride}"] if stride > 1 else []
        remedies += ["raise bert.positions"] if long else []
        return ", or ".join([*remedies, "see that the transcripts belong to the audio"])

    def loss(self, model: AcousticModel, names: list[str], epoch: int) -> Loss:
        """CTC loss in nats per label."""
        from pipeline.training import Loss

        log_probs_BTV, frames_B = self.log_probs(model, names, epoch)
        summed, labels = self.ctc(log_probs_BTV, frames_B, names)
        return Loss(summed / labels, terms=sum(len(self._labels[name]) for name in names))

    def log_probs(
        self, model: AcousticModel, names: list[str], epoch: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, T, V) and their valid frames (B,); masked if there is an epoch."""
        from pipeline.batches import pad

        feats, lengths_B = pad([self._features(n) for n in names])
        time_BF, channel_BD = None, None
        if epoch is not None:
            time_BF, channel_BD = self._masks(model, names, lengths_B.tolist(), epoch)
        log_probs_BTV = model(
            feats.to(self._device), lengths_B.to(self._device), time_BF, channel_BD
        )
        return log_probs_BTV, model.frames(lengths_B)

    def ctc(
        self, log_probs_BTV: Tensor, frames_B: Tensor, names: list[str]
    ) -> tuple[Tensor, Tensor]:
        """The CTC losses of the utterances in nats, summed, and how many labels they have."""
        import torch

        labels = [torch.tensor(self._labels[n]) for n in names]
        label_lengths = torch.tensor([len(x) for x in labels])
        summed = torch.nn.functional.ctc_loss(
            log_probs_BTV.transpose(0, 1),
            torch.cat(labels).to(self._device),
            frames_B.to(self._device),
            label_lengths.to(self._device),
            reduction="sum",
        )
        return summed, label_lengths.sum().to(self._device)

    def _masks(
        self, model: AcousticModel, names: list[str], lengths: list[int], epoch: int
    ) -> tuple[Tensor, Tensor]:
        """Masks in time and channels, a pure function of (seed, epoch, utterance).

        Spans in time count frames after the encoder's stride, so that they hide as much speech
        for every front-end.
        """
        import numpy as np
        import torch

        from pipeline.batches import generator, pad
        from stages.units.masking import span_mask

        settings, stride, times, channels = self._settings, model.encoder.stride, [], []
        start_probability, span = settings.channel_masks(model.encoder.mask_channels)
        for name, length in zip(names, lengths, strict=True):
            rng = generator(self._seed, "masks", epoch, name)
            encoded = -(-length // stride)
            mask_F = span_mask(
                encoded, settings.time_mask_probability, settings.time_mask_span, rng
            )
            times.append(mask_F.repeat(stride)[:length])
            channels.append(span_mask(model.encoder.mask_channels, start_probability, span, rng))
        time_BF = pad(times)[0].to(self._device)
        channel_BD = torch.from_numpy(np.stack(channels)).to(self._device)
        return time_BF, channel_BD


def count_frames(features: Callable[[str], NDArray[Any]], names: Iterable[str]) -> dict[str, int]:
    """Frames by utterance; a front-end whose features cost much tells them without making any."""
    count = getattr(features, "frames", None) or (lambda name: len(features(name)))
    return {name: count(name) for name in names}


def refuse_longer(model: AcousticModel, frames: Mapping[str, int]) -> None:
    """Raise UserError if an utterance has more frames than the Transformer has positions."""
    longest, most = max(frames, key=lambda name: frames[name]), model.encoder.longest_frames
    if frames[longest] > most:
        leave_out = "set finetune.longer to leave_out, or " if min(frames.values()) <= most else ""
        raise UserError(
            f"Utterance {longest} is too long for the acoustic model.",
            constraint=f"at most {most} frames (bert.positions)",
            found=f"{frames[longest]} frames",
            remedy=f"{leave_out}cut the audio, or raise bert.positions and train again (a BERT "
            "given by bert.from has the positions that it has)",
        )
