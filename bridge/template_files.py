"""The folder of templates as it stands: which files there are, how to see that one has changed, and what each says."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bridge.errors import Fault
from bridge.template import is_template
from bridge.yamlfile import MAX_BYTES

Scan = Mapping[str, tuple[int, ...]]
"""What tells one version of each file from another, by the file's name."""

_TRIES = 5


@dataclass(frozen=True, slots=True)
class Source:
    """What stands in the folder under one template's name: the content, or why it cannot be read."""

    file: str
    content: bytes = field(repr=False)
    faults: tuple[Fault, ...] = ()

    @property
    def digest(self) -> str:
        """The same for the same content and faults."""
        said = "\n".join([self.file, *map(str, self.faults)])
        return hashlib.sha256(said.encode("utf-8", "surrogatepass") + b"\0" + self.content).hexdigest()


def scan_folder(folder: Path) -> Scan:
    """What tells one version of each template's file from another. Raises OSError when the folder cannot be read."""
    with os.scandir(folder) as entries:
        return {entry.name: signature(entry.path) for entry in entries if is_template(entry.name)}


def signature(path: str) -> tuple[int, ...]:
    """What tells one version of a file from another; () when there is none."""
    for look in (os.stat, os.lstat):  # a link that leads nowhere is an entry all the same
        try:
            found = look(path)
        except OSError:
            continue
        return (found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return ()


def read_folder(folder: Path) -> tuple[Scan, dict[str, Source]]:
    """Every template's file, read while nobody changed any of them (as far as that can be had), and the scan of it.

    Raises OSError when the folder cannot be read.
    """
    for _ in range(_TRIES):
        scan = scan_folder(folder)
        sources: dict[str, Source] = {}
        for name in sorted(scan):
            path = folder / name
            if path.stem in sources:
                first = sources[path.stem]
                twice = Fault(message=f"there are two templates of the name {path.stem}", file=str(path), line=1, column=1)
                sources[path.stem] = Source(first.file, first.content, (*first.faults, twice))
            else:
                sources[path.stem] = read_source(path)
        if scan_folder(folder) == scan:
            break
    return scan, sources


def read_source(path: Path) -> Source:
    """A file's content, or why there is none. Never waits for what is no file (a pipe), never reads without end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
                return _unreadable(path, f"is {kind}; a template is a file")
            with open(descriptor, "rb", closefd=False) as opened:
                return Source(str(path), opened.read(MAX_BYTES + 1))
        finally:
            os.close(descriptor)
    except OSError as error:
        return _unreadable(path, f"cannot be read: {error.strerror or error}")


def _unreadable(path: Path, words: str) -> Source:
    return Source(str(path), b"", (Fault(message=words, file=str(path), line=1, column=1),))
