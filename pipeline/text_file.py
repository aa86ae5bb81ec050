"""Text files that a user gives: lists, sentences. What is wrong with one is told with its line."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import UserError


def read_utf8(path: Path, what: str, remedy: str) -> str:
    """The text of a file, without a byte order mark; ends of line stay as they are.

    Args:
        what: the file in words, such as `corpus list`.
        remedy: where it is named.

    Raises:
        UserError: no such file, no plain file, no permission, or not UTF-8.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UserError(f"The {what} {path} is no plain file.", remedy=remedy)
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"No such {what}: {path}", remedy=remedy) from error
    except (OSError, ValueError) as error:  # a folder, no permission, a NUL in its name
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"The {what} {str(path)!r} cannot be read: {reason}.", remedy=remedy
        ) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        raise UserError(
            f"{path}, line {before.count(10) + 1}: not UTF-8.",
            found=f"the byte 0x{content[error.start]:02x} (byte {error.start} of the file)",
            remedy=f"convert it, such as: iconv -f latin1 -t utf-8 {path.name}",
        ) from error
