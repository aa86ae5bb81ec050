"""The codebook of whatever stage 1 made: a trained quantizer, or k-means on MFCC."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import RunError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def codebook_of(folder: Path) -> NDArray[np.float32]:
    """The vectors of each group's codes, (G, V, D).

    Raises:
        RunError: a model without codes (`quantizer.type: none`).
    """
    import numpy as np

    from stages.quantizer.kmeans_mfcc import MODEL_TYPE, MfccKmeans

    if json.loads((folder / "config.json").read_text("utf-8"))["model_type"] == MODEL_TYPE:
        return MfccKmeans.load(folder).codebook_GVD
    from stages.quantizer.model import QuantizerModel

    quantizer = QuantizerModel.from_pretrained(folder).vector_quantizer
    if quantizer is None:
        raise RunError(
            "The quantizer has no codebook (quantizer.type none), so there are no units."
        )
    return np.asarray(quantizer.codebook().detach().cpu().numpy(), dtype=np.float32)
