"""gunicorn as the receiver needs it: nothing echoed, nothing logged of a request, and a deadline for every request.

Seen in stock gunicorn (gthread), and cured here:

* a head or body that drips in holds a thread for ever: every read now has one deadline for the whole request;
* error pages and log lines repeat the request line, and so the webhook's secret: they now say only what kind it was;
* a connection that says nothing holds a thread for 5 s: now it is put aside at once, until it does;
* a connection is closed, lingering up to 2 s, in the loop that accepts all others: now in the thread that served it.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.http import get_parser
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, NoMoreData, ParseException
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import _DEFER, TConn, ThreadWorker

from bridge.log import get_logger
from bridge.metrics import forget_process
from bridge.process import METRICS_FOLDER, PARENT, die_with_parent, say_ready
from bridge.receiver import HEADERS, Receiver
from bridge.settings import Settings

_log = get_logger("receiver")

_KEEPALIVE_S = 30
_FIRST_BYTE_S = 0.05
_SAYS_503_FOR_S = 0.5
_LATE_ANSWER_S = 2.0
"""How long an answer may take to be written once the request's deadline is past."""


class TooSlow(NoMoreData, TimeoutError):
    """The sender took longer than BRIDGE_BODY_TIMEOUT for a request's head and body."""

    def __str__(self) -> str:
        return "the sender was too slow"


class _DeadlineUnreader(SocketUnreader):
    """Reads a request from its socket until a deadline that no dripping moves. It begins with the first read."""

    patience_s = 0.0
    deadline: float | None = None

    def chunk(self, size_hint: int | None = None) -> bytes:
        now = time.monotonic()
        if self.deadline is None:
            self.deadline = now + self.patience_s
        if (left := self.deadline - now) <= 0:
            raise TooSlow
        self.sock.settimeout(left)
        try:
            data: bytes = super().chunk(size_hint)
        except TimeoutError:
            raise TooSlow from None
        finally:
            self.sock.settimeout(max(left, _LATE_ANSWER_S))
        return data


class Worker(ThreadWorker):
    """gunicorn's threaded worker with the cures that the module names."""

    def handle(self, conn: TConn) -> Any:
        """Serve one request of a connection."""
        if not conn.initialized and not conn.data_ready and not conn.wait_for_data(_FIRST_BYTE_S):
            return _DEFER
        if conn.parser is None:
            conn.parser = get_parser(self.cfg, conn.sock, conn.client)
            conn.parser.unreader = _DeadlineUnreader(conn.sock)
            conn.parser.unreader.patience_s = self.app.settings.body_timeout
        conn.parser.unreader.deadline = None
        result = super().handle(conn)
        if result is False:
            conn.close(graceful=True)
        return result

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to stop: what is under way is answered, what comes new is told 503 for a moment, then nobody listens.

        Whoever is on his way to us hears "send it again" so, and not only that his connection was closed.
        """
        if self.app.receiver.draining.is_set():
            return
        self.app.receiver.draining.set()
        seconds = min(_SAYS_503_FOR_S, self.app.settings.shutdown_timeout / 2)
        leave = threading.Timer(seconds, self._leave, (sig, frame))
        leave.daemon = True
        leave.start()

    def _leave(self, sig: int, frame: Any) -> None:
        self.method_queue.defer(self._close_pending)
        super().handle_exit(sig, frame)

    def _close_pending(self) -> None:
        for conn in self.pending_conns:
            conn.timeout = 0.0

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer a request that is no HTTP, without a word of what it said."""
        status, phrase = 503, "Service Unavailable"
        if isinstance(exc, LimitRequestLine):
            status, phrase = 414, "URI Too Long"
        elif isinstance(exc, LimitRequestHeaders):
            status, phrase = 431, "Request Header Fields Too Large"
        elif isinstance(exc, (ParseException, NoMoreData)):
            status, phrase = 400, "Bad Request"
        if status == 503:
            _log.error("a request failed before it reached the receiver", fault=type(exc).__name__)
        else:
            _log.info("refused what is no HTTP", fault=type(exc).__name__)
        head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS)
        retry = "Retry-After: 5\r\n" if status == 503 else ""
        try:
            client.sendall(f"HTTP/1.1 {status} {phrase}\r\nConnection: close\r\n{head}{retry}"
                           "Content-Length: 0\r\n\r\n".encode("ascii"))
        except OSError as error:
            _log.debug("the sender did not wait for its answer", fault=type(error).__name__)


class QuietLogger:
    """What gunicorn wants for a logger, in our log and without requests: no access line, no exception's text."""

    def __init__(self, _cfg: Any) -> None:
        self._log = get_logger("gunicorn")

    def debug(self, message: str, *args: Any, **_: Any) -> None:
        """Dropped: debug lines may hold what a client sent."""

    def info(self, message: str, *args: Any, **_: Any) -> None:
        """gunicorn's own coming and going is for debugging."""
        self._log.debug(_filled(message, args))

    def warning(self, message: str, *args: Any, **_: Any) -> None:
        """A warning of gunicorn's."""
        self._log.warning(_filled(message, args))

    def error(self, message: str, *args: Any, **_: Any) -> None:
        """An error of gunicorn's."""
        self._log.error(_filled(message, args))

    critical = error

    def exception(self, message: str, *_args: Any, **_: Any) -> None:
        """An exception while a request was served: its kind only, the arguments hold the request's path."""
        self._log.error(message.split("%")[0].strip())

    def log(self, _level: Any, message: str, *args: Any, **_: Any) -> None:
        """A line of some level."""
        self._log.info(_filled(message, args))

    def access(self, *_: Any) -> None:
        """There is no access log: a request's path holds the secret."""

    def reopen_files(self) -> None:
        """There are none."""

    def close_on_exec(self) -> None:
        """There is nothing to close."""


def _filled(message: str, args: tuple[Any, ...]) -> str:
    try:
        return message % args if args else message
    except (TypeError, ValueError):
        return message


class Server(BaseApplication):
    """The receiver under gunicorn. `run` blocks until SIGTERM or SIGINT.

    `begin` is called in each process before it takes its first request, `end` once when all is over.
    """

    def __init__(self, settings: Settings, receiver: Receiver, ready_fd: int | None = None,
                 after_fork: Callable[[], None] = lambda: None, begin: Callable[[], None] = lambda: None,
                 end: Callable[[], None] = lambda: None) -> None:
        self.settings = settings
        self.receiver = receiver
        self.ready_fd = ready_fd
        self.after_fork, self.begin, self.end = after_fork, begin, end
        super().__init__()

    def load_config(self) -> None:
        """Our settings in gunicorn's words; nothing is read from gunicorn's own files or environment."""
        chosen = {
            "bind": self.settings.bind, "workers": max(1, self.settings.receiver_workers),
            "threads": max(1, self.settings.receiver_threads), "worker_class": Worker, "preload_app": True,
            "keepalive": _KEEPALIVE_S, "graceful_timeout": max(1, int(self.settings.shutdown_timeout)),
            "logger_class": QuietLogger, "accesslog": None, "control_socket_disable": True,
            "forwarded_allow_ips": "", "forwarder_headers": "", "proxy_allow_ips": "", "http_protocols": "h1",
            "raw_env": [], "pythonpath": None, "post_fork": self._after_fork,
            "post_worker_init": self._ready, "child_exit": self._child_exit, "on_exit": self._exit,
        }
        for name, value in chosen.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Any:
        """The WSGI application."""
        return self.receiver.app

    def _after_fork(self, _arbiter: Any, _worker: Any) -> None:
        die_with_parent()
        os.environ.pop(PARENT, None)
        self.after_fork()

    def _ready(self, _worker: Any) -> None:
        self.begin()
        say_ready(self.ready_fd)
        self.ready_fd = None

    def _child_exit(self, _arbiter: Any, worker: Any) -> None:
        forget_process(worker.pid)

    def _exit(self, _arbiter: Any) -> None:
        self.end()
        if folder := os.environ.get(METRICS_FOLDER):
            shutil.rmtree(folder, ignore_errors=True)
