"""What the processes of one receiver know in common of its templates: the last good versions, and what has been told.

A file that does not load leaves its last good version serving. Which one that is must not depend on which process saw
which edit, or on when a process was started: so it is kept beside them all.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bridge.log import get_logger

_log = get_logger("receiver")


@dataclass
class Common:
    """The last good content of each template, and what the log has told of it already (a digest)."""

    good: dict[str, bytes] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """As it lies on the shelf. What is good is UTF-8."""
        return json.dumps({"good": {name: content.decode() for name, content in self.good.items()}, "told": self.told})

    @staticmethod
    def from_json(text: str) -> Common:
        """Raises ValueError, KeyError, TypeError or AttributeError for what is none."""
        found = json.loads(text)
        return Common({name: content.encode() for name, content in found["good"].items()}, dict(found["told"]))


class Shelf:
    """Where the processes of one receiver keep what they have in common: a folder of this run, for its user only.

    Whoever holds it reads the templates meanwhile, so that what lies on it is the newest that anybody has read. Where it
    cannot be used, a process goes on by what it knows itself.
    """

    def __init__(self) -> None:
        self._own = Common()
        self._made: Path | None = None
        self._folder: Path | None = None
        try:
            self._made = self._folder = Path(tempfile.mkdtemp(prefix="bridge-templates-"))
        except OSError as error:
            self._give_up(error)

    @contextmanager
    def held(self) -> Iterator[Common]:
        """What lies on it, for one process at a time; what the holder alters in it is kept."""
        lock = self._lock()
        try:
            common = self._read()
            before = common.to_json()
            yield common
            self._own = common
            if self._folder is not None and (after := common.to_json()) != before:
                self._write(self._folder, after)
        finally:
            if lock is not None:
                os.close(lock)

    def remove(self) -> None:
        """Leave nothing behind."""
        if self._made is not None:
            shutil.rmtree(self._made, ignore_errors=True)

    def _lock(self) -> int | None:
        if self._folder is None:
            return None
        try:
            lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            return lock
        except OSError as error:
            self._give_up(error)
            return None

    def _read(self) -> Common:
        if self._folder is None:
            return self._own
        try:
            return Common.from_json((self._folder / "common").read_text("ascii"))
        except FileNotFoundError:
            return Common()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._give_up(error)
            return self._own

    def _write(self, folder: Path, text: str) -> None:
        try:
            (folder / "common.new").write_text(text, "ascii")
            (folder / "common.new").replace(folder / "common")
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._folder = None
        _log.warning("the receiver's processes have no place for what they know of templates in common: each goes by "
                     "itself, and one that starts later does not know the last good version of a broken template",
                     reason=str(error))
