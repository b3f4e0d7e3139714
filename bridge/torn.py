"""Values that YAML tears apart: an expression without quotes, a quote that is not closed, a text cut at #.

Traders write `price: {{ alert.price }}` and YAML sees two nested mappings. What is found here is told with the line as it
should be written, and mended in a copy of the file, so that the faults behind it are told in the same run. A file with
such a fault is never used.

A value is only shown where it is surely an expression or a pattern: elsewhere it may be a secret in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_LONGEST = 400
"""Longer lines are not looked at: nobody wrote them by hand."""
_HEAD = re.compile(r"""\s*(?:-\s+)*(?:(?P<key>[\w.-]+|"[^"]*"|'[^']*')\s*:(?:\s+|$))?""")
_BLOCK_TEXT = re.compile(r"(?:^|[\s:-])[|>][-+0-9]{0,2}\s*(?:\s#.*)?$")
_NO_BLANK = re.compile(r"\s*(?:-\s+)*(?P<key>[A-Za-z_][\w-]*):(?P<value>[^\s:/].*)")
_ON = re.compile(r"\s*(?:[-+*/%<>=!~|]|(?:and|or|in|not|if|is)\s)")
"""What goes on an expression that was closed too early: an operator, or one of the words."""


_SHOWN = ("when", "parse", "description", "symbol", "side", "quantity", "type", "price", "stop_price", "trail", "ref")
"""Fields whose values are never secrets."""


@dataclass(frozen=True, slots=True)
class Tear:
    """A torn value: `line` and `start` to `end` count from 0; `mended` is what should stand there."""

    line: int
    start: int
    end: int
    key: str
    mended: str
    why: str
    advice: str = "quote this"

    @property
    def message(self) -> str:
        """What is wrong and what would do."""
        value = self.mended.strip()
        if not ("alert." in value or self.key in _SHOWN):
            value = f"{value[0]}…{value[0]}" if value[:1] in ("'", '"') else "…"
        return f"{self.why}; {self.advice}: {f'{self.key}: ' if self.key else ''}{value}"


def mend(lines: Sequence[str], tears: Sequence[Tear]) -> list[str]:
    """The lines with each torn value as it should stand."""
    mended = list(lines)
    for tear in sorted(tears, key=lambda each: (each.line, -each.start)):
        line = mended[tear.line]
        mended[tear.line] = line[:tear.start] + tear.mended + line[tear.end:]
    return mended


def quoted(value: str) -> str:
    """The value between quotes that it does not hold itself."""
    if '"' not in value and "\\" not in value:
        return f'"{value}"'
    return "'" + value.replace("'", "''") + "'"


def _in_braces(key: str, value: str) -> str:
    """The value between quotes, and an expression between its braces too; a condition needs none."""
    bare = "alert." in value and "{{" not in value and key not in ("when", "parse", "description")
    return quoted(f"{{{{ {value} }}}}" if bare else value)


# -- tears that are certain from the line alone ----------------------------------------------------------------------


def bare_expressions(lines: Sequence[str]) -> Iterator[Tear]:
    """Every `{{ … }}` that stands where YAML reads a mapping."""
    skipping: int | None = None
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if skipping is not None:
            if not line.strip() or indent > skipping:
                continue
            skipping = None
        if _BLOCK_TEXT.search(line):
            skipping = indent
        elif "{{" in line and len(line) <= _LONGEST and not line.lstrip().startswith("#"):
            yield from _in_line(number, line)


def _in_line(number: int, line: str) -> Iterator[Tear]:
    key, start = _head(line)
    why = "YAML takes {{ for the start of a mapping"
    if line.startswith("{{", start):
        end = _end_of_value(line, start)
        if re.match(r"\s*:(\s|$)", line[expression_end(line, start):]):
            return
        mended, advice = _closed_late(line[start:end])
        yield Tear(number, start, end, key, mended, why, advice)
    elif line[start:start + 1] in ("{", "["):
        for key, begin, end in _flow_tokens(line, start):
            yield Tear(number, begin, end, key, quoted(line[begin:end]), why)


def _head(line: str) -> tuple[str, int]:
    """The name before a line's value ("" in a list), and where the value begins."""
    found = _HEAD.match(line)
    assert found is not None
    return (found["key"] or "").strip("\"'"), found.end()


def _end_of_value(line: str, start: int) -> int:
    """Where the value ends that begins with an expression: before a comment, or what closes a list around it."""
    last = start
    while (begin := line.find("{{", last)) >= 0:
        last = expression_end(line, begin)
    comment = re.compile(r"\s#").search(line, last)
    end = comment.start() if comment else len(line)
    rest = line[last:end]
    return last if re.fullmatch(r"\s*[,}\]]+\s*", rest) else start + len(line[start:end].rstrip())


def expression_end(text: str, begin: int) -> int:
    """Where the expression that begins at `begin` with {{ is closed, or the end of the text."""
    depth, quote = 0, ""
    for at in range(begin + 2, len(text)):
        character = text[at]
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "({[":
            depth += 1
        elif character == "}" and depth == 0 and text.startswith("}}", at):
            return at + 2
        elif character in ")}]":
            depth -= 1
    return len(text)


def _closed_late(value: str) -> tuple[str, str]:
    """`{{ a }} > 5` with all of it between the braces; any other value between quotes."""
    end = expression_end(value, 0)
    rest = value[end:]
    if rest and "{{" not in rest and _ON.match(rest) and value.endswith("}}", 0, end):
        return quoted(f"{value[:end - 2].rstrip()} {rest.strip()} }}}}"), "put all of it between the braces and quote it"
    return quoted(value), "quote this"


def _flow_tokens(line: str, start: int) -> Iterator[tuple[str, int, int]]:
    """(name, begin, end) of each value with a bare expression inside `{…}` or `[…]`."""
    at, token, key = start, start, ""
    while at < len(line):
        character = line[at]
        if character in "\"'" and not line[token:at].strip():
            at = _end_of_quote(line, at)
            continue
        if character == "#" and line[at - 1:at].isspace():
            return
        if line.startswith("{{", at) and at > start:
            begin = token + len(line[token:at]) - len(line[token:at].lstrip())
            end = expression_end(line, at)
            while end < len(line) and line[end] not in ",}]":
                end += 1
            end -= len(line[begin:end]) - len(line[begin:end].rstrip())
            yield key, begin, end
            at = token = end
            continue
        if character in "{[,":
            token, key = at + 1, ""
        elif character == ":" and line[at + 1:at + 2] in (" ", ""):
            key, token = line[token:at].strip(" \"'"), at + 1
        at += 1


def _end_of_quote(line: str, at: int) -> int:
    """Just after the quote that closes the one at `at`; the line's end where none does."""
    pattern = r'"(?:[^"\\]|\\.)*"' if line[at] == '"' else r"'(?:[^']|'')*'"
    found = re.compile(pattern).match(line, at)
    return found.end() if found else len(line)


def cut_at_comment(line: str, key: str, start: int, end: int) -> Tear | None:
    """Whether an unquoted value that the parser ended at `end` was cut by a # in the midst of a text of its own."""
    value, rest = line[start:end], line[end:]
    if not re.match(r"\s+#", rest) or not ("alert." in value or "{{" in value):
        return None
    outside = re.sub(r"\"[^\"]*\"|'[^']*'", "", value)
    if re.search("[\"']", outside) or any(outside.count(one) != outside.count(other) for one, other in ("()", "[]", "{}")):
        whole = line[start:].rstrip()
        return Tear(-1, start, start + len(whole), key, _in_braces(key, whole), "YAML takes what follows # for a comment")
    return None


# -- tears that explain why the parser gave up -----------------------------------------------------------------------


def suspect(lines: Sequence[str], problem: str, line: int, opened: int | None) -> Tear | None:
    """The tear behind a fault of syntax that the parser met at `line`; `opened` is the line of a quote that it was
    reading then. None where nothing is found."""
    if opened is not None and opened >= len(lines):
        return None
    if opened is not None and "escape" in problem:
        return _wrong_escape(lines, opened)
    if opened is not None:
        return _unclosed(lines, opened)
    for each in (line, line - 1):
        if 0 <= each < len(lines) and len(lines[each]) <= _LONGEST and (found := _torn_line(lines, each, problem)):
            return found
    for each in range(min(line, len(lines) - 1), -1, -1):
        if not _closed_below(lines, each) and (found := _unclosed(lines, each)):
            return found
    return _flow_by_mistake(lines, line) if "did not find expected key" in problem and line < len(lines) else None


def _torn_line(lines: Sequence[str], number: int, problem: str) -> Tear | None:
    line = lines[number]
    if missing := _NO_BLANK.fullmatch(line):
        return Tear(number, missing.start("value"), len(line), missing["key"], f" {missing['value']}",
                    "a blank is missing after the colon", "write")
    key, start = _head(line)
    value = _without_comment(line, start)
    if not value:
        return None
    end = start + len(value)
    if value[0] in "\"'":
        return _after_quote(number, line, start, end, key)
    if value[0] in "%@`":
        return Tear(number, start, end, key, quoted(value), f"a text cannot begin with {value[0]}")
    if value[0] not in "[{|>&*!" and re.search(r":(\s|$)", value) and "mapping values" in problem:
        return Tear(number, start, end, key, _in_braces(key, value), "YAML takes the second colon for the end of a name")
    return None


def _flow_by_mistake(lines: Sequence[str], number: int) -> Tear | None:
    """A text that begins like a list or mapping: a pattern, mostly."""
    key, start = _head(lines[number])
    value = _without_comment(lines[number], start)
    if not value or value[0] not in "[{" or len(value) > _LONGEST:
        return None
    return Tear(number, start, start + len(value), key, quoted(value),
                f"YAML takes {value[0]} for the start of a list or mapping")


def _closed_below(lines: Sequence[str], number: int) -> bool:
    """Whether a text in quotes goes on over several lines and ends as it should."""
    _, start = _head(lines[number])
    quote = lines[number][start:start + 1]
    for line in lines[number + 1:number + 50]:
        found = re.search(rf"(?<!\\){quote}", line) if quote in ("'", '"') else None
        if found:
            return re.fullmatch(r"\s*[,}\]]*\s*(#.*)?", line[found.end():]) is not None
    return False


def _without_comment(line: str, start: int) -> str:
    found = re.compile(r"(?:^|\s)#").search(line, _end_of_quote(line, start) if line[start:start + 1] in ('"', "'")
                                            else start)
    return line[start:found.start() if found else len(line)].rstrip()


def _after_quote(number: int, line: str, start: int, end: int, key: str) -> Tear | None:
    """A value in quotes that goes on after them."""
    closed = _end_of_quote(line, start)
    value, inner = line[start:end], line[start + 1:closed - 1]
    if closed >= end or line[closed - 1] != line[start]:
        return None
    if len(value) > 2 and value.endswith(line[start]):
        whole = value[1:-1]
        other = quoted(whole) if line[start] == '"' else f'"{whole}"' if '"' not in whole else quoted(whole)
        return Tear(number, start, end, key, other, f"the text ends at its second {line[start]}",
                    "write other quotes around it")
    if inner.startswith("{{") and inner.endswith("}}"):
        mended, advice = _closed_late(inner + line[closed:end])
        return Tear(number, start, end, key, mended, "something follows the closing quote", advice)
    return Tear(number, start, end, key, quoted(value), "YAML ends the text at the second quote")


def _unclosed(lines: Sequence[str], number: int) -> Tear | None:
    line = lines[number]
    key, start = _head(line)
    if len(line) > _LONGEST or line[start:start + 1] not in ("\"", "'") or (
            _end_of_quote(line, start) < len(line) or re.search(r"(?<!\\)" + line[start], line[start + 1:])):
        return None
    close = line.rfind("}}")
    end = close + 2 if close > start else len(line.rstrip())
    return Tear(number, start, end, key, line[start:end] + line[start], "the quote is never closed", "write")


def _wrong_escape(lines: Sequence[str], number: int) -> Tear | None:
    line = lines[number]
    key, start = _head(line)
    end = _end_of_quote(line, start)
    if line[start:start + 1] != '"' or end <= start + 1:
        return None
    return Tear(number, start, end, key, "'" + line[start + 1:end - 1].replace("'", "''") + "'",
                'between "…" a backslash begins a sign that YAML wants to know', "write single quotes")


_PROBLEMS = (
    ("cannot start any token", "a line cannot begin so; is it indented with a tab? YAML wants blanks"),
    ("mapping values are not allowed", "a second colon, or an indentation that does not fit the line before"),
    ("did not find expected key", "it does not fit the lines before: look at its indentation, and at their quotes and "
                                  "braces"),
    ("could not find expected ':'", "a line needs a name, a colon and a blank"),
    ("',' or '}'", "a comma or a closing } is missing"),
    ("',' or ']'", "a comma or a closing ] is missing"),
    ("expected '-' indicator", "it is no `- ` item of the list before it: look at its indentation"),
    ("unexpected end of stream", "the quote that opens here is never closed"),
)


def in_words(problem: str) -> str:
    """What the parser says, for people."""
    return next((words for part, words in _PROBLEMS if part in problem), problem)
