"""YAML files that people write: plain values with the place of each, strict where YAML surprises.

Templates and accounts decide over money, so a file means the same to every reader and every version of YAML, or it is
refused: no aliases, anchors, tags or second documents, no repeated keys, and no unquoted word that YAML versions read
differently (`no`, `on`, `010`, `1:30`, `1_000`, `2026-11-20`). The parser's events are walked one by one and bounded in
depth, so that no file can exhaust memory or the C parser's stack.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bridge.errors import Fault, FileFaults
from bridge.numbers import read_number
from bridge.torn import Tear, bare_expressions, cut_at_comment, in_words, mend, suspect

MAX_BYTES = 256_000
MAX_DEPTH = 20
_MAX_FAULTS = 100
_MAX_MENDED = 20
"""How often a file is read again with what is torn in it mended; the largest files once."""

Step = str | int
Where = tuple[Step, ...]

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def dotted(path: Sequence[Step]) -> str:
    """A path as people write it: order.stop_loss.ticks."""
    return ".".join(str(step) for step in path)


@dataclass(frozen=True, slots=True)
class Document:
    """A file's value (mappings, lists, texts, ints, Decimals, booleans, None) with the line and column of each part.

    `faults` are there only where it was asked for as far as it could be read: such a file must not be used. `told` are
    the places of those that leave nothing to say of what stands there.
    """

    file: str
    value: Any
    places: dict[Where, tuple[int, int]] = field(repr=False)
    faults: tuple[Fault, ...] = ()
    told: tuple[Where, ...] = ()

    def fault(self, path: Sequence[Step], message: str) -> Fault:
        """A fault at `path`, or at its nearest parent that stands in the file."""
        known = tuple(path)
        while known and known not in self.places:
            known = known[:-1]
        line, column = self.places.get(known, (1, 1))
        return Fault(message=message, field=dotted(path), file=self.file, line=line, column=column)


def read_yaml_file(path: Path) -> Document:
    """A file's document. Raises FileFaults for one that cannot be read or is not sound."""
    return _sound(read_file_partly(path))


def read_yaml(content: bytes, file: str) -> Document:
    """The document in `content`. Raises FileFaults with every fault."""
    return _sound(read_partly(content, file))


def read_file_partly(path: Path) -> Document:
    """A file's document with its faults, for finding the faults behind them. Raises FileFaults where there is none."""
    try:
        with path.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise FileFaults(Fault(message=f"cannot be read: {error.strerror or error}", file=str(path), line=1,
                               column=1)) from None
    return read_partly(content, str(path))


def read_partly(content: bytes, file: str) -> Document:
    """The document in `content` with its faults. Raises FileFaults with every fault where no more can be read."""
    text = _text(content, file)
    reader, problem = _read_once(text, file)
    if problem is None and not reader.faults:
        return Document(file, reader.value, reader.places)
    lines = text.split("\n")
    tears = list(bare_expressions(lines))
    found = list(tears)
    lines = mend(lines, tears)
    for _ in range(max(1, min(_MAX_MENDED, MAX_BYTES // (len(content) + 1)))):
        reader, problem = _read_once("\n".join(lines), file)
        tear = _cause(lines, problem) if problem is not None else None
        if tear is None or len(found) >= _MAX_FAULTS:
            break
        found.append(tear)
        lines = mend(lines, [tear])
    faults = [_tear_fault(tear, file, reader.places) for tear in found] + reader.faults
    if problem is not None:
        faults.append(_syntax_fault(problem, file))
    faults.sort(key=lambda fault: (fault.line, fault.column))
    if problem is not None or reader.stopped or () in reader.told:
        raise FileFaults(faults)
    return Document(file, reader.value, reader.places, tuple(faults), tuple(reader.told))


def _sound(document: Document) -> Document:
    if document.faults:
        raise FileFaults(document.faults)
    return document


def _text(content: bytes, file: str) -> str:
    if len(content) > MAX_BYTES:
        raise FileFaults(Fault(message=f"has more than {MAX_BYTES // 1000} kB", file=file, line=1, column=1))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _position(content[:error.start].decode("utf-8-sig", "replace"))
        raise FileFaults(Fault(message="is not UTF-8 text", file=file, line=line, column=column)) from None
    if "\0" in text:
        line, column = _position(text[:text.index("\0")])
        raise FileFaults(Fault(message="holds a NUL byte", file=file, line=line, column=column))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _position(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _read_once(text: str, file: str) -> tuple[_Reader, yaml.YAMLError | None]:
    reader = _Reader(file, text.split("\n"))
    try:
        reader.read(yaml.parse(text, Loader=_LOADER))
    except yaml.YAMLError as error:
        return reader, error
    except _Stop:
        reader.stopped = True
    return reader, None


def _cause(lines: list[str], error: yaml.YAMLError) -> Tear | None:
    """The torn value that made the parser give up, if that is what it was."""
    mark, context = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    if mark is None:
        return None
    in_quote = context is not None and "quoted scalar" in str(getattr(error, "context", ""))
    return suspect(lines, _problem_of(error), mark.line, context.line if context is not None and in_quote else None)


def _problem_of(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).split("\n")[0])


def _tear_fault(tear: Tear, file: str, places: dict[Where, tuple[int, int]]) -> Fault:
    path = next((path for path, (line, _) in places.items() if line == tear.line + 1 and path[-1:] == (tear.key,)), None)
    return Fault(message=tear.message, field=dotted(path) if path else tear.key, file=file, line=tear.line + 1,
                 column=tear.start + 1)


def _syntax_fault(error: yaml.YAMLError, file: str) -> Fault:
    mark, context = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    problem = _problem_of(error)
    if context is not None and "end of stream" in problem:
        mark = context
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    return Fault(message=f"is no YAML: {in_words(problem)}", file=file, line=line, column=column)


class _Stop(Exception):
    """Reading was ended: the file nests too deep, or has too many faults."""


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being read; `key` waits for its value, `dead` parts are read but not kept."""

    value: Any
    path: Where
    key: str | None = None
    expects_key: bool = True
    dead: bool = False


class _Reader:
    """Builds the value from the parser's events, noting every fault and place.

    Faults never show a value: it may be a secret that was written where a reference belongs.
    """

    def __init__(self, file: str, lines: Sequence[str]) -> None:
        self.file, self._lines = file, lines
        self.value: Any = None
        self.places: dict[Where, tuple[int, int]] = {}
        self.faults: list[Fault] = []
        self.told: list[Where] = []
        self.stopped = False
        self._stack: list[_Open] = []
        self._documents = 0

    def read(self, events: Iterator[Any]) -> None:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._start_document(event)
            elif isinstance(event, yaml.AliasEvent):
                self._fault(event, "begins with * (an alias); write the value out, or quote it if it is text")
                self._take(event, None)
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                self._open(event, {} if isinstance(event, yaml.MappingStartEvent) else [])
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                self._stack.pop()
            elif isinstance(event, yaml.ScalarEvent):
                self._scalar(event)

    def _start_document(self, event: Any) -> None:
        self._documents += 1
        if self._documents == 2:
            self._fault(event, "begins a second document; one file holds one")
            raise _Stop
        if event.version or event.tags:
            self._fault(event, "YAML directives (%) are not read here")

    def _fault(self, event: Any, message: str, path: Where | None = None) -> None:
        mark = event.start_mark
        path = self._path() if path is None else path
        self.told.append(path)
        self.faults.append(Fault(message=message, field=dotted(path), file=self.file, line=mark.line + 1,
                                 column=mark.column + 1))
        if len(self.faults) >= _MAX_FAULTS:
            raise _Stop

    def _path(self) -> Where:
        """Where the next value will stand."""
        if not self._stack:
            return ()
        top = self._stack[-1]
        if isinstance(top.value, list):
            return (*top.path, len(top.value))
        return top.path if top.key is None else (*top.path, top.key)

    def _open(self, event: Any, value: Any) -> None:
        self._no_anchor_or_tag(event)
        if len(self._stack) >= MAX_DEPTH:
            self._fault(event, f"is nested more than {MAX_DEPTH} levels deep")
            raise _Stop
        path = self._path()
        dead = self._take(event, value)
        self._stack.append(_Open(value, path, dead=dead))

    def _no_anchor_or_tag(self, event: Any) -> None:
        if event.anchor is not None:
            self._fault(event, "has an anchor (&); write values out where they are used, or quote it if it is text")
        if event.tag is not None and event.tag != "!":
            self._fault(event, "has a tag (!); values are plain, or quote it if it is text")

    def _scalar(self, event: Any) -> None:
        self._no_anchor_or_tag(event)
        if not (self._stack and isinstance(self._stack[-1].value, dict) and self._stack[-1].expects_key):
            try:
                value = event.value if event.style else _plain(event.value)
            except ValueError as error:
                self._fault(event, str(error))
                value = event.value
            if not event.style:
                self._check_cut(event)
            self._take(event, value)
            return
        self._key(event)

    def _check_cut(self, event: Any) -> None:
        """An expression that YAML ended at a # in its midst would be read as another one, or as none."""
        start, end = event.start_mark, event.end_mark
        if start.line == end.line < len(self._lines):
            path = self._path()
            key = str(path[-1]) if path and isinstance(path[-1], str) else ""
            if tear := cut_at_comment(self._lines[start.line], key, start.column, end.column):
                self._fault(event, tear.message, path)

    def _key(self, event: Any) -> None:
        top = self._stack[-1]
        path = (*top.path, event.value)
        if not event.style:
            try:
                if not isinstance(_plain(event.value), str):
                    self._fault(event, f"the name {event.value!r} is no text; quote it", path)
            except ValueError as error:
                self._fault(event, str(error), path)
        if event.value in top.value:
            self._fault(event, "stands twice; only one of them could count", path)
        else:
            self.places[path] = (event.start_mark.line + 1, event.start_mark.column + 1)
        top.key, top.expects_key = event.value, False

    def _take(self, event: Any, value: Any) -> bool:
        """Put a value where it belongs; tells whether it stands as a mapping's key, which only text can."""
        if not self._stack:
            if self._documents == 1:
                self.value = value
            return False
        top = self._stack[-1]
        if isinstance(top.value, list):
            self.places[(*top.path, len(top.value))] = (event.start_mark.line + 1, event.start_mark.column + 1)
            top.value.append(value)
            return False
        if top.expects_key:
            self._fault(event, "a name must be a text, not a list or mapping (quote an expression that begins with {)")
            top.key, top.expects_key = "?", False
            return True
        top.value.setdefault(top.key, value)
        top.key, top.expects_key = None, True
        return False


# -- unquoted words --------------------------------------------------------------------------------------------------

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]*)?\.[0-9]+|[-+]?(?:0|[1-9][0-9]*)\.[0-9]*")
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NULL = ("", "null", "Null", "NULL")
_LONGEST_AMBIGUOUS = 200
"""No word that YAML versions read differently is longer; the pattern's time grows with the square of the length."""
_AMBIGUOUS = re.compile(
    r"(?:y|n|yes|no|on|off)"                                            # booleans of YAML 1.1
    r"|[-+]?0[0-9_]+|[-+]?0o[0-7]+|[-+]?0x[0-9a-f_]+|[-+]?0b[01_]+"     # octal, hexadecimal, binary
    r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"                # sexagesimal: 1:30 is 90 to some
    r"|[-+]?[0-9][0-9_]*_[0-9_]*(?:\.[0-9_]*)?|[-+]?[0-9]*\.[0-9]*_[0-9_.]*"
    r"|[-+]?0[0-9]+\.[0-9]*"
    r"|[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)e[-+]?[0-9]+"                   # exponents
    r"|[-+]?\.inf|\.nan|~|=|<<"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:t|[ \t]+)[0-9].*)?", re.IGNORECASE | re.ASCII)


def _plain(text: str) -> Any:
    """What an unquoted word means. Raises ValueError where YAML versions disagree or a number is out of bounds."""
    if text in _TRUTH:
        return _TRUTH[text]
    if text in _NULL:
        return None
    if _INTEGER.fullmatch(text):
        return int(read_number(text))
    if _DECIMAL.fullmatch(text):
        return read_number(text)
    if len(text) <= _LONGEST_AMBIGUOUS and _AMBIGUOUS.fullmatch(text):
        raise ValueError("is an unquoted word that versions of YAML read differently (to some, no is false, 010 is "
                         "eight and 1:30 is ninety); quote it")
    return text
