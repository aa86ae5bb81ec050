"""k-means on MFCC as units: the control that a learnt quantizer has to beat.

The artifact takes the place of stage 1's:
    config.json              hop and band of the MFCC
    codebook.safetensors     the centres, (G, V, D)
    codebook.json            how evenly the codes are used
With G groups the 39 dimensions are dealt out to G parts, and each part has its own k-means: as
many codes and combinations of them as a quantizer of G groups has.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import RunError
from pipeline.store import write_atomically

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.audio import Samples
    from pipeline.stage import StepContext

VERSION = 1
MODEL_TYPE = "vqasr_kmeans_mfcc"
CONFIG, CENTRES, CODEBOOK = "config.json", "codebook.safetensors", "codebook.json"
SEEDING_FRAMES, SEEDING_FRAMES_PER_CODE = 10_000, 20  # k-means++ costs frames x codes ** 2
ROUNDS = 50  # of Lloyd's algorithm; the distortion moves by less than 0.1 % in the last ones


@dataclass(frozen=True)
class MfccKmeans:
    """Speech to units by the nearest centre.

    Attributes:
        codebook_GVD: the centres; D is that of the largest part, smaller ones end in zeros.
        hop_samples, highest_hz: of the MFCC.
    """

    codebook_GVD: NDArray[np.float32]
    hop_samples: int
    highest_hz: int

    @property
    def groups(self) -> int:
        return len(self.codebook_GVD)

    @property
    def codes(self) -> int:
        """Per group."""
        return int(self.codebook_GVD.shape[1])

    def units(self, samples_S: Samples) -> NDArray[np.int16]:
        """The nearest centre of each group, (F, G)."""
        from stages.quantizer.mfcc import mfcc

        return self.nearest(
            mfcc(samples_S, hop_samples=self.hop_samples, highest_hz=self.highest_hz)
        )

    def nearest(self, feats_FD: NDArray[np.float32]) -> NDArray[np.int16]:
        """The nearest centre of each group for features that are there already, (F, G)."""
        import numpy as np
        from scipy.cluster.vq import vq

        columns = [
            vq(part_FD, centres_VD[:, : part_FD.shape[1]])[0]
            for part_FD, centres_VD in zip(
                parts(feats_FD, self.groups), self.codebook_GVD, strict=True
            )
        ]
        return np.stack(columns, axis=1).astype(np.int16)

    def save(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        save_file({"codebook": self.codebook_GVD}, folder / CENTRES)
        told = {
            "model_type": MODEL_TYPE,
            "hop_samples": self.hop_samples,
            "highest_hz": self.highest_hz,
        }
        write_atomically(folder / CONFIG, json.dumps(told, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> MfccKmeans:
        from safetensors.numpy import load_file

        told = json.loads((folder / CONFIG).read_text("utf-8"))
        centres = load_file(folder / CENTRES)["codebook"]
        return cls(centres, int(told["hop_samples"]), int(told["highest_hz"]))


def parts(feats_FD: NDArray[np.float32], groups: int) -> list[NDArray[np.float32]]:
    """The features dealt out to the groups: dimension d goes to group d mod G.

    Of 13 cepstra, their slopes and the slopes of these, two groups hear every other cepstrum
    each, with its slopes' slope: 13 is odd, so that the slope of a cepstrum lies in the group
    that does not hear it. No group hears slopes alone.
    """
    import numpy as np

    return [np.ascontiguousarray(feats_FD[:, group::groups]) for group in range(groups)]


def fit(
    ctx: StepContext,
    *,
    roles: Sequence[str],
    seed: int,
    groups: int,
    codes: int,
    hop_samples: int,
    highest_hz: int,
    fit_seconds: float,
) -> None:
    """Make the artifact from the speech of the inputs named by `roles`.

    Args:
        fit_seconds: of speech at most, spread evenly over what there is.

    Raises:
        RunError: there are fewer frames than codes.
    """
    import numpy as np

    from pipeline.manifest import Manifest
    from stages.quantizer import health
    from stages.quantizer.mfcc import mfcc

    speech = [Manifest.load(ctx.inputs[role]) for role in roles]
    chosen = health.sample(speech, fit_seconds)
    feats = []
    with ctx.progress(len(chosen), "MFCC", "utterances") as progress:
        for manifest, utterance in chosen:
            samples_S = manifest.samples(utterance)
            feats.append(mfcc(samples_S, hop_samples=hop_samples, highest_hz=highest_hz))
            progress.update()
    feats_FD = np.concatenate(feats)
    ctx.say(f"k-means on MFCC: {groups} x {codes} codes, {len(feats_FD):,} frames")
    model = MfccKmeans(centres(feats_FD, groups, codes, seed), hop_samples, highest_hz)
    model.save(ctx.folder)
    found: dict[str, Any] = health.report(model.nearest(feats_FD).astype(np.int64), codes)
    ctx.say(health.in_words(found))
    told = {"quantizer": "kmeans_mfcc", **found}
    write_atomically(ctx.folder / CODEBOOK, json.dumps(told, indent=1) + "\n")


def centres(
    feats_FD: NDArray[np.float32], groups: int, codes: int, seed: int
) -> NDArray[np.float32]:
    """The centres of each group by Lloyd's algorithm from k-means++ on a sample, (G, V, D).

    Raises:
        RunError: there are fewer frames than codes.
    """
    import numpy as np

    if len(feats_FD) < codes:
        raise RunError(
            "There is too little speech for k-means.",
            constraint=f"at least a frame for each of {codes} codes",
            found=f"{len(feats_FD)} frames",
        )
    rng = np.random.default_rng([seed, codes])
    found = [_lloyd(part_FD, codes, rng) for part_FD in parts(feats_FD, groups)]
    widest = max(centres_VD.shape[1] for centres_VD in found)
    padded = [np.pad(c, ((0, 0), (0, widest - c.shape[1]))) for c in found]
    return np.ascontiguousarray(np.stack(padded), dtype=np.float32)


def _lloyd(
    part_FD: NDArray[np.float32], codes: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    import warnings

    import numpy as np
    from scipy.cluster.vq import kmeans2

    count = min(len(part_FD), max(SEEDING_FRAMES, SEEDING_FRAMES_PER_CODE * codes))
    sample_FD = part_FD[np.sort(rng.choice(len(part_FD), count, replace=False))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a cluster that is empty for a round stays
        start_VD, _ = kmeans2(sample_FD, codes, iter=ROUNDS // 5, minit="++", rng=rng)
        end_VD, _ = kmeans2(part_FD, start_VD.astype(np.float32), iter=ROUNDS, minit="matrix")
    return np.asarray(end_VD, dtype=np.float32)
