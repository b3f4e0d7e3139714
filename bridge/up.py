"""`bridge up`: every part as a process of its own on this machine, watched, and started again when it dies.

    bridge up ─┬─ valkey-server   the ledger, unless BRIDGE_REDIS_URL names another
               ├─ bridge sandbox  with --sandbox
               ├─ bridge worker
               └─ bridge receiver (gunicorn)

They stop in the opposite order of what they need: receiver and worker first, the ledger last. However this process
ends, the others end too (see bridge.process).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from bridge.announce import announcement, print_announcement
from bridge.clock import monotonic
from bridge.embedded import EmbeddedServer, keep_a_secret
from bridge.errors import FileFaults, ServiceError
from bridge.ledger import Ledger
from bridge.load import load, settings_of
from bridge.log import get_logger, set_up
from bridge.process import PARENT, free_bind, local_url
from bridge.settings import Settings, mask_url

_log = get_logger("up")

_LOOK_EVERY_S = 0.1
_READY_S = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_HEALTHY_AFTER_S = 30.0
_LEDGER_STOP_S = 0.6


@dataclass
class Part:
    """One process: what it is called, and how often it failed in a row."""

    name: str
    command: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    failures: int = 0
    start_again_s: float = 0.0
    ready_fd: int | None = None

    def runs(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None


@dataclass
class Supervisor:
    """Starts, watches and stops the parts. Used from the main thread only: the kernel ties children to it."""

    settings: Settings
    environ: Mapping[str, str]
    sandbox: bool
    stop: threading.Event
    server: EmbeddedServer | None = None
    parts: list[Part] = field(default_factory=list)
    _server_failures: int = 0
    _server_again_s: float = 0.0

    def start(self) -> None:
        """Start everything and return when all of it is ready (or `stop` is set).

        Raises ServiceError when a part does not come up; then nothing is left running.
        """
        try:
            url = self._start_ledger()
            self.parts = [Part("worker", ("worker",)), Part("receiver", ("receiver", "--credentials"))]
            if self.sandbox:
                self.parts.insert(0, Part("sandbox", ("sandbox",)))
            for part in self.parts:
                self._spawn_first(part, url)
            for part in self.parts:
                self._wait_for(part)
        except BaseException:
            self.end()
            raise

    def watch(self) -> None:
        """Start again what dies, until `stop` is set."""
        while not self.stop.wait(_LOOK_EVERY_S):
            self._watch_ledger()
            for part in self.parts:
                self._watch_part(part)

    def end(self) -> None:
        """Stop everything within 5 seconds; what does not stop by itself is killed."""
        first = [part for part in self.parts if part.name != "sandbox"]
        last = [part for part in self.parts if part.name == "sandbox"]
        for part in first:
            _signal(part, signal.SIGTERM)
        _await_end(first, self.settings.shutdown_timeout)
        for part in last:
            _signal(part, signal.SIGTERM)
        _await_end(last, 0.2)
        if self.server is not None:
            self.server.stop(_LEDGER_STOP_S)

    def processes(self) -> dict[str, int]:
        """The process id of every part that runs."""
        found = {part.name: part.process.pid for part in self.parts if part.process is not None and part.runs()}
        if self.server is not None and self.server.pid is not None and not self.server.ended():
            found["valkey"] = self.server.pid
        return found

    # -- the ledger's server -----------------------------------------------------------------------------------------

    def _start_ledger(self) -> str:
        if self.settings.redis_url:
            ledger = Ledger(self.settings.redis_url)
            try:
                ledger.ping()
            except ServiceError as error:
                raise ServiceError(f"BRIDGE_REDIS_URL {mask_url(self.settings.redis_url)}: {error}") from None
            finally:
                ledger.close()
            return self.settings.redis_url
        self.server = EmbeddedServer(self.settings.data)
        self.server.start(self.stop.is_set)
        return self.server.url

    def _watch_ledger(self) -> None:
        if self.server is None or not self.server.ended():
            return
        now = monotonic()
        if self._server_again_s == 0.0:
            pause = _pause(self._server_failures)
            _log.error("the embedded server died; it is started again, nothing accepted is lost",
                       in_seconds=pause, last_words=self.server.last_words(2))
            self._server_failures += 1
            self._server_again_s = now + pause
        elif now >= self._server_again_s:
            self._server_again_s = 0.0
            try:
                self.server.start(self.stop.is_set)
                self._server_failures = 0
                _log.info("the embedded server is back")
            except ServiceError as error:
                _log.error("the embedded server did not start", reason=str(error))

    # -- the other parts ---------------------------------------------------------------------------------------------

    def _spawn_first(self, part: Part, url: str) -> None:
        """Start a part that will say when it is ready."""
        part.ready_fd, writing = os.pipe()
        try:
            self._spawn(part, url, "--ready-fd", str(writing), keep=(writing,))
        finally:
            os.close(writing)

    def _spawn(self, part: Part, url: str, *more: str, keep: tuple[int, ...] = ()) -> None:
        part.process = subprocess.Popen(
            [sys.executable, "-m", "bridge", *part.command, *more], stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(),
            pass_fds=keep, start_new_session=True,
            env={**self.environ, "BRIDGE_REDIS_URL": url, PARENT: str(os.getpid())})
        part.started_s = monotonic()

    def _wait_for(self, part: Part) -> None:
        deadline = monotonic() + _READY_S
        fd = part.ready_fd
        assert fd is not None
        try:
            while not self.stop.is_set():
                if select.select([fd], [], [], _LOOK_EVERY_S)[0]:
                    if os.read(fd, 100):
                        return
                    raise ServiceError(f"the {part.name} did not start; what it said stands above")
                if monotonic() > deadline:
                    raise ServiceError(f"the {part.name} was not ready within {_READY_S:.0f} s")
        finally:
            os.close(fd)
            part.ready_fd = None

    def _watch_part(self, part: Part) -> None:
        if part.runs():
            return
        now = monotonic()
        if part.start_again_s == 0.0:
            _signal_rest(part, signal.SIGTERM)
            if now - part.started_s > _HEALTHY_AFTER_S:
                part.failures = 0
            pause = _pause(part.failures)
            part.failures += 1
            part.start_again_s = now + pause
            _log.error(f"the {part.name} died; it is started again", in_seconds=pause,
                       status=part.process.returncode if part.process else None)
        elif now >= part.start_again_s:
            part.start_again_s = 0.0
            _signal_rest(part, signal.SIGKILL)
            self._spawn(part, self.server.url if self.server else self.settings.redis_url)


def child_environ(settings: Settings, environ: Mapping[str, str], *, bind: str, sandbox_bind: str) -> dict[str, str]:
    """The environment of the parts: ours, with the secret and the addresses as they really are."""
    child = {**environ, "BRIDGE_SECRET": settings.secret, "BRIDGE_DATA": str(settings.data.absolute()),
             "BRIDGE_BIND": bind}
    if sandbox_bind:
        child |= {"BRIDGE_SANDBOX_BIND": sandbox_bind, "BRIDGE_SANDBOX": local_url(sandbox_bind)}
    return child


def _pause(failures: int) -> float:
    return min(_FIRST_PAUSE_S * 2.0 ** min(failures, 10), _LONGEST_PAUSE_S)


def _signal(part: Part, number: int) -> None:
    if part.process is not None and part.runs():
        part.process.send_signal(number)


def _await_end(parts: Iterable[Part], seconds: float) -> None:
    deadline = monotonic() + seconds
    for part in parts:
        if part.process is None:
            continue
        try:
            part.process.wait(max(0.0, deadline - monotonic()))
        except subprocess.TimeoutExpired:
            _log.warning(f"the {part.name} did not stop in time and is killed; what it was doing is on record")
        _signal_rest(part, signal.SIGKILL)
        part.process.wait()


def _signal_rest(part: Part, number: int) -> None:
    """Send a signal to what is left of a part's own session, its children included."""
    if part.process is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(part.process.pid, number)


def run_everything(environ: Mapping[str, str], *, sandbox: bool, as_json: bool) -> None:
    """`bridge up`: start, tell a person or a program that everything is ready, watch, and stop when told to.

    Raises SettingsError for a setting that does not do, ServiceError when a part does not start.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    given = settings_of(environ)
    set_up(given.log_format, given.log_level)
    bind = free_bind("BRIDGE_BIND", given.bind)
    sandbox_bind = free_bind("BRIDGE_SANDBOX_BIND", given.sandbox_bind) if sandbox else ""
    settings = given if given.secret else replace(given, secret=keep_a_secret(given.data))
    settings = replace(settings, bind=bind, sandbox=local_url(sandbox_bind) if sandbox else given.sandbox)
    loaded = load(settings, environ, lenient=False)
    if not loaded.accounts.accounts:
        raise FileFaults(loaded.accounts.faults)
    supervisor = Supervisor(settings, child_environ(settings, environ, bind=bind, sandbox_bind=sandbox_bind), sandbox,
                            stop)
    supervisor.start()
    try:
        if not stop.is_set():
            said = announcement(settings, loaded, environ, secret_was_given=bool(given.secret),
                                processes=supervisor.processes())
            print_announcement(said, as_json=as_json)
            supervisor.watch()
    finally:
        supervisor.end()
