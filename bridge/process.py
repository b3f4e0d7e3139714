"""What every part that `bridge up` starts has in common: it ends with its parent, and it says when it is ready."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Mapping

from bridge.errors import SettingsError

PARENT = "BRIDGE_PARENT_PID"
"""Names the process without which this one has no reason to be."""
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"

_PR_SET_PDEATHSIG = 1
_LOOK_EVERY_S = 0.5


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Have the kernel send this process `number` when the thread that started it ends. Linux; elsewhere nothing.

    It outlives exec, so it serves the embedded server too. Called between fork and exec: it does one system call.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def follow_parent(environ: Mapping[str, str]) -> None:
    """End with SIGTERM when the process named by BRIDGE_PARENT_PID is no longer the parent, however it ended."""
    given = environ.get(PARENT, "")
    if not given.isdigit():
        return
    parent = int(given)
    die_with_parent()
    if os.getppid() != parent:
        sys.exit(0)
    if _LIBC is None:
        threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def say_ready(ready_fd: int | None) -> None:
    """Tell the supervisor, once, through the pipe that it gave."""
    if ready_fd is None:
        return
    try:
        os.write(ready_fd, b"ready\n")
        os.close(ready_fd)
    except OSError as error:  # the supervisor is gone: then so will this process be, in a moment
        print(f"the supervisor does not listen: {error}", file=sys.stderr)


def share_metrics(workers: int) -> None:
    """With several processes, let their metrics meet in a folder of this run. Before `bridge.metrics` is imported."""
    if workers > 1:
        os.environ[METRICS_FOLDER] = tempfile.mkdtemp(prefix="bridge-metrics-")
    else:
        os.environ.pop(METRICS_FOLDER, None)


def split_bind(bind: str) -> tuple[str, int]:
    """(host, port) of HOST:PORT; `[::1]:8080` gives `::1`."""
    host, _, port = bind.rpartition(":")
    return host.strip("[]"), int(port)


def free_bind(setting: str, bind: str) -> str:
    """`bind` when nothing listens there (port 0: a free one). Raises SettingsError that names the setting."""
    host, port = split_bind(bind)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"{setting}: {bind} cannot be used: {error.strerror or error}. Stop the program that listens there, or "
                f"choose another address, like {setting}={bind.rpartition(':')[0]}:{(port or 8080) + 100}") from None
        return f"{bind.rpartition(':')[0]}:{probe.getsockname()[1]}"


def local_url(bind: str) -> str:
    """The http:// address by which this machine reaches what listens at `bind`."""
    host, port = split_bind(bind)
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
