"""The part of Globus' Transfer API that Balsam uses, as its documents have it; copies for real.

Answers: docs.globus.org/api/transfer, task_submit and task (API 0.10).
"""

from __future__ import annotations

import json
import re
import shutil
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

#: The two endpoints.
OURS, THEIRS = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
TOKEN = "a-token"


class GlobusService:
    """Listens on 127.0.0.1; `roots` has the directory that each endpoint shows."""

    def __init__(self, ours: Path, theirs: Path) -> None:
        self.roots = {OURS: ours, THEIRS: theirs}
        self.submitted: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.tasks: dict[str, dict[str, Any]] = {}
        self.skipped: dict[str, list[dict[str, Any]]] = {}
        self.lose_answers = 0  #: to submissions, which are taken
        self.patch: dict[str, Any] = {}  #: of what is told of tasks, which do not end with it
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service._answer(self)

            def do_POST(self) -> None:
                service._answer(self)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05])
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(f"{request.command} {request.path}")
        length = int(request.headers.get("Content-Length") or 0)
        given = json.loads(request.rfile.read(length)) if length else {}
        code, told = 401, {"code": "AuthenticationFailed", "message": "No such token"}
        if request.headers.get("Authorization") == f"Bearer {TOKEN}":
            code, told = self._tell(request.path, given)
        if code == 0:
            request.connection.close()  # the answer is lost
            return
        body = json.dumps(told).encode()
        request.send_response(code)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _tell(self, path: str, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if path == "/v0.10/submission_id":
            return 200, {"DATA_TYPE": "submission_id", "value": str(uuid.uuid4())}
        if path == "/v0.10/transfer":
            return self._submit(given)
        found = re.fullmatch(r"/v0\.10/task/([^/?]+)(/[a-z_]+)?(\?.*)?", path)
        if not found or found[1] not in self.tasks:
            return 404, {"code": "TaskNotFound", "message": f"No such task {path}"}
        task = self.tasks[found[1]]
        match found[2]:
            case "/cancel":
                task["status"] = "FAILED"
                task["fatal_error"] = {"code": "CANCELED", "description": "canceled"}
                return 200, {"DATA_TYPE": "result", "code": "Canceled", "message": "canceled"}
            case "/skipped_errors":
                return 200, {"DATA_TYPE": "skipped_errors", "DATA": self.skipped[found[1]]}
        if task["status"] == "ACTIVE":
            if self.patch:
                return 200, task | self.patch
            self._copy(task)
        return 200, task

    def _submit(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        known = {task["submission_id"]: name for name, task in self.tasks.items()}
        if (name := known.get(given["submission_id"])) is None:
            name = str(uuid.uuid4())
            self.submitted.append(given)
            self.tasks[name] = {
                "DATA_TYPE": "task",
                "task_id": name,
                "submission_id": given["submission_id"],
                "status": "ACTIVE",
                "nice_status": "Queued",
                "faults": 0,
                "files_transferred": 0,
                "bytes_transferred": 0,
                "given": given,
            }
        if self.lose_answers:
            self.lose_answers -= 1
            return 0, {}
        return 202, {"DATA_TYPE": "transfer_result", "code": "Accepted", "task_id": name}

    def _copy(self, task: dict[str, Any]) -> None:
        given, task["status"] = task["given"], "SUCCEEDED"
        skipped = self.skipped[task["task_id"]] = []
        for item in given["DATA"]:
            source = self.roots[given["source_endpoint"]] / item["source_path"].lstrip("/")
            target = self.roots[given["destination_endpoint"]] / item["destination_path"].lstrip(
                "/"
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                assert item.get("recursive", True)
                shutil.copytree(source, target)
            elif source.is_file():
                shutil.copy2(source, target)
            else:
                paths = {key: item[key] for key in ("source_path", "destination_path")}
                skipped.append({"error_code": "FILE_NOT_FOUND", **paths})
