"""fairseq imports here, and leaves no trace in what it would change."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import dataclasses, logging
from stages.quantizer.fairseq.bridge import import_fairseq
get_field = dataclasses._get_field
main = import_fairseq("fairseq_cli.train").main
assert callable(main)
assert dataclasses._get_field is get_field
assert not logging.getLogger().handlers
assert logging.getLogger().level == logging.WARNING
assert import_fairseq().__version__ == "0.12.2"
"""


def test_import_changes_nothing_else_and_prints_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
