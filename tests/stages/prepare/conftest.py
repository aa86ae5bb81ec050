"""A web server on this machine that can do what servers do to a download."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stages.prepare import download


@dataclass
class Web:
    """A folder served over HTTP.

    Attributes:
        breaks_after: bytes of an answer's body after which its connection is closed, one for each
            answer; answers beyond the list are whole.
        statuses: a status for each answer in place of the file, None for the file.
        ranges: whether the server knows Range.
        etag: of all files; without it no validator is sent.
        asked: path and Range of every request.
    """

    folder: Path
    url: str = ""
    breaks_after: list[int] = field(default_factory=list)
    statuses: list[int | None] = field(default_factory=list)
    ranges: bool = True
    etag: str | None = '"one"'
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append((handler.path, wanted))
        status = self.statuses.pop(0) if self.statuses else None
        path = self.folder / handler.path.lstrip("/")
        if status is not None or not path.is_file():
            handler.send_error(status or 404)
            return
        body, start = path.read_bytes(), 0
        same = handler.headers.get("If-Range") in (None, self.etag)
        if wanted and self.ranges and same:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(body) and start:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(body)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if self.etag:
            handler.send_header("ETag", self.etag)
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        most = self.breaks_after.pop(0) if self.breaks_after else len(body)
        handler.wfile.write(body[start : start + most])


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A server of the folder `web`; downloads pause for no time."""
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    served = Web(tmp_path / "web")
    served.folder.mkdir()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


Serve = Callable[[str, bytes], str]


@pytest.fixture
def put(web: Web) -> Serve:
    """`put(name, content)`: a file on the server; its address."""

    def write(name: str, content: bytes) -> str:
        path = web.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return f"{web.url}/{name}"

    return write
