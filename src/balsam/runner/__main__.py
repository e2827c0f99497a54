"""Call functions, one after the other, as the worker on the other end of standard input says.

::

    python …/balsam/runner [--cloudpickle FILE] [--path DIR]… [--once FILE]

Messages are JSON, each after its length in four bytes. A call is ``{"function": file, "payload":
text, "results": {job: text}, "cwd": dir, "environ": {…}, "output": file or "", "result_file":
where too large results go}``; its answer ``{"code": 0 or 1, "result": text, "memory": KiB,
"cpu": seconds}``. While a call waits for another job, it says ``{"blocked": true}``, then
``{"blocked": false}``, and goes on when the worker has said ``{"go": true}``.

With ``--once`` the call is in a file, and this process one of its ranks, which MPI started: the
first one leaves its result in ``FILE.result``, one that fails what it raised in ``FILE.error``.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import io
import json
import os
import pickle
import resource
import socket
import struct
import sys
import threading
import traceback
import types
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
#: Results of more bytes than this are kept in files.
INLINE_BYTES = 65536
LENGTH = struct.Struct("!I")


def load_module(name: str, file: str) -> types.ModuleType:
    """Return the module in *file*, known as *name*."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Link:
    """The connection to the worker."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._file = self._socket.makefile("rb")
        self._sending = threading.Lock()
        self._waiting = threading.Lock()

    def receive(self) -> dict[str, Any] | None:
        """Return the next message; None when the worker is gone."""
        head = self._file.read(LENGTH.size)
        if len(head) < LENGTH.size:
            return None
        (length,) = LENGTH.unpack(head)
        body = self._file.read(length)
        return json.loads(body) if len(body) == length else None

    def send(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        with self._sending:
            self._socket.sendall(LENGTH.pack(len(body)) + body)

    def wait_blocked(self, is_blocked: bool) -> None:
        """Tell that the call waits for another job, or that it can go on; then wait for a place."""
        self.send({"blocked": is_blocked})
        if not is_blocked and self.receive() is None:
            os._exit(1)


class Waits:
    """Counts the threads of a call that wait: it is blocked while its first one is."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._caller = threading.get_ident()

    def blocked(self) -> None:
        if threading.get_ident() == self._caller:
            self._link.wait_blocked(True)

    def unblocked(self) -> None:
        if threading.get_ident() == self._caller:
            self._link.wait_blocked(False)


class Unpickler(pickle.Unpickler):
    """Loads arguments; persistent ids stand for results of other jobs."""

    def __init__(self, data: bytes, results: dict[str, str]) -> None:
        super().__init__(io.BytesIO(data))
        self._results = results

    def persistent_load(self, pid: Any) -> Any:
        try:
            return load(self._results[str(pid)], {})
        except KeyError:
            raise LookupError(f"the result of job {pid}, an argument, is not known") from None


def load(text: str, results: dict[str, str]) -> Any:
    """Return the value of a payload (see balsam/model/payload.py)."""
    kind, body = text[:1], text[1:]
    if kind == "J":
        return json.loads(body)
    if kind in "FG":
        with open(os.path.join(os.environ.get("BALSAM_SITE", ""), body), "rb") as file:
            data = file.read()
    else:
        data = base64.b64decode(body)
    return Unpickler(data, results).load()


class Functions:
    """The functions of this process, by the file they come in."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def get(self, file: str) -> Any:
        if file not in self._loaded:
            with open(file, "rb") as source:
                found = pickle.loads(base64.b64decode(source.read()))
            self._loaded[file] = method_run(found) if isinstance(found, type) else found
        return self._loaded[file]


def method_run(app: Any) -> Any:
    """Return what runs a job of a class of apps: ``run`` of a new object, with its keywords."""

    def run(*arguments: Any, **keywords: Any) -> Any:
        return app().run(*arguments, **keywords)

    return run


class Caller:
    """Carries out calls."""

    def __init__(self, payload: types.ModuleType) -> None:
        self._payload = payload
        self._functions = Functions()
        self._added: dict[str, str | None] = {}

    def answer(self, call: dict[str, Any]) -> dict[str, Any]:
        """Carry out *call* and return the answer."""
        before = resource.getrusage(resource.RUSAGE_SELF)
        self._enter(call["cwd"], call["environ"])
        outputs = redirect(call["output"]) if call["output"] else None
        try:
            code, result = self.call(call)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            if outputs:
                restore(outputs)
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"code": code, "result": result, "memory": after.ru_maxrss, "cpu": cpu}

    def _enter(self, cwd: str, environ: dict[str, str]) -> None:
        os.chdir(cwd)
        for name, value in self._added.items():  # the last call's
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._added = {name: os.environ.get(name) for name in environ}
        os.environ.update(environ)

    def call(self, call: dict[str, Any]) -> tuple[int, str]:
        """Call the function; return 0 and what it returned, or 1 and what it raised."""
        try:
            function = self._functions.get(call["function"])
            text, results = call["payload"], call["results"]
            arguments = load(text, results)
            if text[:1] in "MG":
                value = [function(*words, **keywords) for words, keywords in arguments]
            else:
                words, keywords = arguments
                value = function(*words, **keywords)
            return 0, self._written(value, call["result_file"])
        except KeyboardInterrupt:
            raise
        except SystemExit as end:
            if end.code is None or end.code == 0:
                return 0, "Jnull"
            return self._failed(end)
        except BaseException as error:  # noqa: BLE001 - whatever a function raises is its result
            return self._failed(error)

    def _written(self, value: Any, file: str) -> str:
        """Return *value* as text; too large ones are written to *file*."""
        text: str | None = self._payload.as_json(value)
        if text is not None and len(text) <= INLINE_BYTES:
            return "J" + text
        try:
            data = dumps(value)
        except Exception as error:
            kind = type(value).__qualname__
            raise TypeError(
                f"the function returned what no other process can have ({kind}): {error}; return"
                " what it is made from, such as a list for a generator"
            ) from error
        if len(data) <= INLINE_BYTES:
            return "P" + base64.b64encode(data).decode()
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file + ".new", "wb") as target:
            target.write(data)
        os.replace(file + ".new", file)
        site = os.environ.get("BALSAM_SITE", "")
        inside = site and file.startswith(site + os.sep)
        return "F" + (file[len(site) + 1 :] if inside else file)

    def _failed(self, error: BaseException) -> tuple[int, str]:
        own = error.__traceback__
        while own is not None and own.tb_frame.f_code.co_filename == __file__:
            own = own.tb_next  # what is above the function is nothing to its author
        error = error.with_traceback(own)
        told = "".join(traceback.format_exception(type(error), error, own))
        sys.stderr.write(told)
        pickled = ""
        try:
            data = dumps(error)
            pickle.loads(data)  # many exceptions can be written and not read
            if len(data) <= INLINE_BYTES:
                pickled = base64.b64encode(data).decode()
        except Exception:  # noqa: BLE001 - whatever its author's __reduce__ does
            pass
        name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        return 1, "E" + json.dumps([name, str(error), told, pickled])


def dumps(value: Any) -> bytes:
    """Return the cloudpickle of *value*."""
    import cloudpickle

    data: bytes = cloudpickle.dumps(value)
    return data


def redirect(output: str) -> tuple[int, int]:
    """Let standard output and errors go to the file *output*; return where they went."""
    kept = os.dup(1), os.dup(2)
    target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    return kept


def restore(kept: tuple[int, int]) -> None:
    for descriptor, original in zip((1, 2), kept, strict=True):
        os.dup2(original, descriptor)
        os.close(original)


def take_input() -> int:
    """Return the connection that standard input is; functions find an empty input there."""
    link = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return link


def main() -> None:
    """Carry out calls until the worker is gone."""
    parser = argparse.ArgumentParser(prog="balsam/runner")
    parser.add_argument("--cloudpickle", default="")
    parser.add_argument("--path", action="append", default=[])
    parser.add_argument("--once", default="")
    options = parser.parse_args()
    sys.path[:] = [*options.path, *(p for p in sys.path if os.path.abspath(p or ".") != HERE)]
    sys.argv = [sys.argv[0]]
    if options.cloudpickle and importlib.util.find_spec("cloudpickle") is None:
        directory = os.path.dirname(options.cloudpickle)
        load_package("cloudpickle", directory)
    own = sys.modules["__main__"]  # noqa: F841 - kept: it is what runs here
    sys.modules["__main__"] = types.ModuleType("__main__")  # functions of scripts belong to theirs
    payload = os.path.join(os.path.dirname(HERE), "model", "payload.py")
    caller = Caller(load_module("balsam_payload", payload))
    if options.once:
        sys.exit(call_once(caller, options.once))
    link = Link(take_input())
    waits = Waits(link)
    module = types.ModuleType("__balsam_runner__", "Tells the worker when a call waits.")
    module.__dict__.update(blocked=waits.blocked, unblocked=waits.unblocked)
    sys.modules[module.__name__] = module
    while (call := link.receive()) is not None:
        link.send(caller.answer(call))


#: Where MPI start commands tell a process its rank.
RANK_VARIABLES = (
    *("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "PALS_RANKID", "ALPS_APP_PE"),
    *("JSM_NAMESPACE_RANK", "FLUX_TASK_RANK", "SLURM_PROCID"),
)


def call_once(caller: Caller, file: str) -> int:
    """Carry out the call in *file* as one of its ranks; return the exit code."""
    with open(file) as source:
        call = json.load(source)
    code, result = caller.call(call)
    sys.stdout.flush()
    sys.stderr.flush()
    rank = next((os.environ[name] for name in RANK_VARIABLES if name in os.environ), "0")
    if code or rank == "0":
        target = file + (".error" if code else ".result")
        with open(f"{target}.{rank}", "w") as written:
            written.write(result)
        os.replace(f"{target}.{rank}", target)
    return code


def load_package(name: str, directory: str) -> None:
    """Make the package in *directory* known as *name*, without the others beside it."""
    spec = importlib.util.spec_from_file_location(
        name, os.path.join(directory, "__init__.py"), submodule_search_locations=[directory]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    main()
