r"""`parse:` patterns: Python's regular expressions, matched in time linear in the text.

Python's own engine backtracks: `(a+)+$` needs exponential time on a hostile text, and `.*x.*y.*z` a power of its
length, so an alert could stop a receiver. This one follows all ways at once (Pike's construction): the syntax is parsed
by Python's own parser, each character class and anchor is tested by Python's own matcher, and only the choice between
ways is ours, with the same preferences (leftmost, then greedy or lazy as written). What cannot be done so
(look-around, back-references, possessive and atomic groups) is refused when the template loads.

A match begins and ends at a blank or at an end of the text, never inside a word: `@ (?P<price>\d+)` must not read 5 out
of `@ 5,300.25`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from re import _compiler, _parser  # type: ignore[attr-defined]
from typing import Any

MAX_TEXT = 4096
_MAX_PROGRAM = 1000
_MAX_WORK = 200_000
"""Steps that one match may need at most, text times program: a tenth of a second."""

_CHAR, _ANCHOR, _SPLIT, _JUMP, _SAVE, _MATCH = range(6)
_CHARS = ("LITERAL", "NOT_LITERAL", "ANY", "IN")
_WORDS = {"ASSERT": "look-ahead and look-behind", "ASSERT_NOT": "look-ahead and look-behind",
          "GROUPREF": "a reference back to a group", "GROUPREF_EXISTS": "a reference back to a group",
          "ATOMIC_GROUP": "an atomic group", "POSSESSIVE_REPEAT": "a possessive repeat"}


@dataclass(frozen=True, slots=True)
class TextPattern:
    """A pattern that takes text apart into named groups."""

    source: str
    groups: Mapping[str, int]
    _program: tuple[tuple[Any, ...], ...]

    def search(self, text: str) -> dict[str, str] | None:
        """The named groups that took part in the first match, or None where nothing matches.

        Raises ValueError for a text that is longer than is searched.
        """
        longest = min(MAX_TEXT, _MAX_WORK // len(self._program))
        if len(text) > longest:
            raise ValueError(f"the text has {len(text)} characters; `parse:` reads at most {longest}")
        saved = _run(self._program, text)
        if saved is None:
            return None
        spans = ((name, saved.get(2 * number), saved.get(2 * number + 1)) for name, number in self.groups.items())
        return {name: text[start:end] for name, start, end in spans if start is not None and end is not None}


def compile_pattern(source: str) -> TextPattern:
    """The pattern, ready to search. Raises ValueError, in words, for one that is no pattern, names no group, or
    cannot be matched in linear time."""
    if len(source) > 2000:
        raise ValueError(f"has {len(source)} characters; at most 2000")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            tree = _parser.parse(source)
    except (re.error, RecursionError, OverflowError, FutureWarning) as error:
        raise ValueError(f"is no regular expression: {error}") from None
    groups: dict[str, int] = dict(tree.state.groupdict)
    if not groups:
        raise ValueError("captures no field: name its groups like (?P<ticker>\\S+)")
    builder = _Builder(tree.state)
    try:
        builder.add(tree, tree.state.flags)
    except RecursionError:
        raise ValueError("is nested too deep") from None
    builder.emit(_MATCH)
    return TextPattern(source, groups, tuple(tuple(each) for each in builder.program))


def example(source: str, groups: Mapping[str, tuple[str, str]]) -> str:
    """A text of the pattern's shape. `groups` gives each named group the text to put there and a value that it may
    turn into; where the pattern does not take such a value, one that it takes is written out."""
    tree = _parser.parse(source)
    return _sample(tree, {number: groups[name] for name, number in tree.state.groupdict.items() if name in groups},
                   tree.state)


_Groups = Mapping[int, tuple[str, str]]


def _sample(items: Any, groups: _Groups, state: Any) -> str:
    return "".join(_sample_of(str(item[0]), item[1], groups, state) for item in items)


def _takes_whole(inner: Any, text: str, state: Any) -> bool:
    builder = _Builder(state)
    builder.add(inner, state.flags)
    builder.emit(_SAVE, 1)
    builder.emit(_MATCH)
    saved = _run(tuple(tuple(each) for each in builder.program), text)
    return saved is not None and saved.get(1) == len(text)


def _sample_of(operation: str, argument: Any, groups: _Groups, state: Any) -> str:
    if operation == "LITERAL":
        return chr(argument)
    if operation == "SUBPATTERN":
        placeholder, typical = groups.get(argument[0], ("", ""))
        takes = bool(placeholder) and _takes_whole(argument[3], typical, state)
        return placeholder if takes else _sample(argument[3], groups, state)
    if operation == "BRANCH":
        return _sample(argument[1][0], groups, state)
    if operation in ("MAX_REPEAT", "MIN_REPEAT"):
        once = _sample(argument[2], groups, state)
        return once if any(text in once for text, _ in groups.values()) else once * min(argument[0], 50)
    if operation == "IN":
        return _sample_of(str(argument[0][0]), argument[0][1], groups, state)
    if operation == "RANGE":
        return chr(argument[0])
    if operation == "CATEGORY":
        return {"CATEGORY_DIGIT": "1", "CATEGORY_SPACE": " "}.get(str(argument), "x")
    return "" if operation == "AT" else "x"


class _Builder:
    """Turns the parser's tree into a program; repeats with counts are written out."""

    def __init__(self, state: Any) -> None:
        self.state = state
        self.program: list[list[Any]] = []
        self._named = frozenset(state.groupdict.values())
        self._visits = 0

    def emit(self, *instruction: Any) -> int:
        self.program.append(list(instruction))
        return len(self.program) - 1

    def add(self, items: Any, flags: int) -> None:
        self._visit()
        for item in items:
            self._visit()
            self._add_one(item, flags)

    def _visit(self) -> None:
        self._visits += 1
        if len(self.program) > _MAX_PROGRAM or self._visits > 5 * _MAX_PROGRAM:
            raise ValueError("is too large: its repeats with counts come to too many steps")

    def _add_one(self, item: Any, flags: int) -> None:
        operation, argument = str(item[0]), item[1]
        if operation in _CHARS:
            self.emit(_CHAR, self._matcher(item, flags), {})
        elif operation == "AT":
            self.emit(_ANCHOR, self._matcher(item, flags))
        elif operation == "SUBPATTERN":
            group, added, removed, inner = argument
            kept = group in self._named
            if kept:
                self.emit(_SAVE, 2 * group)
            self.add(inner, (flags | added) & ~removed)
            if kept:
                self.emit(_SAVE, 2 * group + 1)
        elif operation == "BRANCH":
            self._branch(argument[1], flags)
        elif operation in ("MAX_REPEAT", "MIN_REPEAT"):
            self._repeat(*argument, greedy=operation == "MAX_REPEAT", flags=flags)
        else:
            raise ValueError(f"uses {_WORDS.get(operation, operation)}, which cannot be matched in linear time")

    def _matcher(self, item: Any, flags: int) -> Any:
        return _compiler.compile(_parser.SubPattern(self.state, [item]), flags).match

    def _branch(self, ways: Any, flags: int) -> None:
        jumps = []
        for way in ways[:-1]:
            split = self.emit(_SPLIT, len(self.program) + 1, 0)
            self.add(way, flags)
            jumps.append(self.emit(_JUMP, 0))
            self.program[split][2] = len(self.program)
        self.add(ways[-1], flags)
        for jump in jumps:
            self.program[jump][1] = len(self.program)

    def _repeat(self, least: int, most: Any, inner: Any, *, greedy: bool, flags: int) -> None:
        for _ in range(least):
            self.add(inner, flags)
        if most is _parser.MAXREPEAT:
            split = self._split()
            self.add(inner, flags)
            self.emit(_JUMP, split)
            self._leave(split, greedy)
            return
        splits = []
        for _ in range(most - least):
            splits.append(self._split())
            self.add(inner, flags)
        for split in splits:
            self._leave(split, greedy)

    def _split(self) -> int:
        self._visit()
        return self.emit(_SPLIT, len(self.program) + 1, 0)

    def _leave(self, split: int, greedy: bool) -> None:
        """Send the split's other way here; the preferred way stands first."""
        inside, here = split + 1, len(self.program)
        self.program[split][1:] = [inside, here] if greedy else [here, inside]


_Saved = dict[int, int]


def _run(program: tuple[tuple[Any, ...], ...], text: str) -> _Saved | None:
    """Where the groups of the leftmost, preferred match begin and end."""
    threads: list[tuple[int, _Saved]] = []
    best: _Saved | None = None
    for at in range(len(text) + 1):
        reached: set[int] = set()
        ready: list[tuple[int, _Saved]] = []
        for counter, saved in threads:
            _follow(program, counter, saved, text, at, reached, ready)
        if best is None and (at == 0 or text[at - 1].isspace()):
            _follow(program, 0, {}, text, at, reached, ready)
        threads = []
        for counter, saved in ready:
            instruction = program[counter]
            if instruction[0] == _MATCH:
                if at == len(text) or text[at].isspace():
                    best = saved
                    break
                continue
            if at < len(text) and _takes(instruction, text[at]):
                threads.append((counter + 1, saved))
        if not threads and best is not None:
            break
    return best


def _takes(instruction: tuple[Any, ...], character: str) -> bool:
    seen: dict[str, bool] = instruction[2]
    taken = seen.get(character)
    if taken is None:
        taken = instruction[1](character) is not None
        if len(seen) < 500:
            seen[character] = taken
    return taken


def _follow(program: tuple[tuple[Any, ...], ...], counter: int, saved: _Saved, text: str, at: int,
            reached: set[int], ready: list[tuple[int, _Saved]]) -> None:
    """Every instruction that reads a character and can be reached from `counter` without reading, preferred first."""
    stack = [(counter, saved)]
    while stack:
        counter, saved = stack.pop()
        if counter in reached:
            continue
        reached.add(counter)
        instruction = program[counter]
        kind = instruction[0]
        if kind == _JUMP:
            stack.append((instruction[1], saved))
        elif kind == _SPLIT:
            stack.append((instruction[2], saved))
            stack.append((instruction[1], saved))
        elif kind == _SAVE:
            stack.append((counter + 1, {**saved, instruction[1]: at}))
        elif kind == _ANCHOR:
            if instruction[1](text, at) is not None:
                stack.append((counter + 1, saved))
        else:
            ready.append((counter, saved))
