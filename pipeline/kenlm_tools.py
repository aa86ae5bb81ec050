"""Where KenLM's programs are."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from pipeline.errors import RunError


def kenlm_tool(name: str) -> Path:
    """The path of `lmplz` or `build_binary`: beside our Python, or else on the PATH.

    Raises:
        RunError: it is in neither.
    """
    beside = Path(sys.executable).parent
    found = shutil.which(name, path=str(beside)) or shutil.which(name)
    if found is None:
        raise RunError(
            f"KenLM's program {name} is not there.",
            constraint=f"in {beside} or on PATH",
            remedy="run `make setup`",
        )
    return Path(found)
