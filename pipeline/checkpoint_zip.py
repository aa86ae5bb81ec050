"""What the zip of a torch checkpoint must hold before torch is let near it.

torch believes what the pickle in it says of the sizes of its storages, and reads beyond the end of
a shorter one; it unpacks compressed parts whatever they come to; and it looks at no checksum.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

# Bytes of an element, by torch's names of storages.
ITEM_BYTES = {
    **dict.fromkeys(("ByteStorage", "CharStorage", "BoolStorage", "UntypedStorage"), 1),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage"), 8),
}
PICKLE = "data.pkl"


def check(path: Path) -> None:
    """Look at the parts of a torch checkpoint, none of which may be larger than it says.

    Raises:
        ValueError, zipfile.BadZipFile, pickle.UnpicklingError: it is damaged, or it lies.
    """
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise ValueError("parts of it are compressed, as torch writes none")
        if sum(part.file_size for part in parts) > path.stat().st_size:
            raise ValueError("its parts are larger together than the file")
        if archive.testzip() is not None:
            raise ValueError("a checksum in it is wrong")
        sizes = {part.filename: part.file_size for part in parts}
        for name in [name for name in sizes if name.rpartition("/")[2] == PICKLE]:
            folder = name.removesuffix(PICKLE)
            for kind, key, count in _storages(archive.read(name)):
                there, promised = sizes.get(f"{folder}data/{key}", 0), count * ITEM_BYTES[kind]
                if not 0 <= promised <= there:
                    raise ValueError(f"a storage of {promised} bytes where {there} are")


def _storages(content: bytes) -> list[tuple[str, str, int]]:
    """Kind, name and number of elements of each storage that a pickle names. Nothing is run."""
    found = []

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return type(name, (_Inert,), {})  # whatever is asked for: no import, no call

        def persistent_load(self, told: Any) -> Any:
            word, kind, key, _, count = told
            if word != "storage" or kind.__name__ not in ITEM_BYTES or not isinstance(count, int):
                raise ValueError(f"a storage of another kind: {str(told)[:80]}")
            found.append((kind.__name__, str(key), count))
            return _Inert()

    Reader(io.BytesIO(content)).load()
    return found


class _Inert:
    """Stands for any object, and keeps nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass

    def __setitem__(self, *_: object) -> None:
        pass

    def append(self, _: object) -> None:
        pass

    def extend(self, _: object) -> None:
        pass
