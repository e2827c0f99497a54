"""A small HTTP server with ranges, and the faults that tests ask of it."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote_to_bytes


class Web:
    """Serves `files` (by path), takes PUT, and notes each request in `asked`.

    `faults` are taken one a request: a status to answer with; ``cut`` after so many bytes; a
    header to send instead of the right one.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str]] = []  #: method, path, Range
        self.faults: list[dict[str, Any]] = []
        self.pause: threading.Event | None = None  #: half of a file comes, the rest when it is set
        self.with_tags = True
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        if self.pause:
            self.pause.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(web: Web) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with web._lock:
                    web._now += 1
                    web.most_at_once = max(web.most_at_once, web._now)
                try:
                    self._get()
                finally:
                    with web._lock:
                        web._now -= 1

            def _get(self) -> None:
                fault = self._begin()
                if fault is None:
                    return
                name = unquote_to_bytes(self.path.partition("?")[0]).decode()
                content = web.files.get(name)
                if content is None:
                    self._answer(404)
                    return
                start = int((re.match(r"bytes=(\d+)-", self.headers["Range"] or "") or [0, 0])[1])
                if start >= len(content) and start:
                    self._answer(416)
                    return
                body = content[start:]
                headers = {"Content-Length": str(len(body))}
                if web.with_tags:
                    headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
                digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
                headers["Repr-Digest"] = f"sha-256=:{digest}:"
                if start:
                    headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                headers |= fault.get("headers", {})
                self.send_response(206 if start else 200)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.end_headers()
                if web.pause:
                    self.wfile.write(body[: len(body) // 2])
                    web.pause.wait(60)
                    body = body[len(body) // 2 :]
                cut = fault.get("cut")
                self.wfile.write(body if cut is None else body[:cut])
                self.close_connection = cut is not None

            def do_PUT(self) -> None:
                fault = self._begin()
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if fault is not None:
                    web.files[unquote_to_bytes(self.path).decode()] = body
                    self._answer(201)

            def _begin(self) -> dict[str, Any] | None:
                web.asked.append((self.command, self.path, self.headers["Range"] or ""))
                fault = web.faults.pop(0) if web.faults else {}
                if "status" in fault:
                    self._answer(fault["status"])
                    return None
                return fault

            def _answer(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        return Handler
