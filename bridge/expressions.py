"""Expressions of templates: Jinja2's syntax, and nothing of Python behind it.

Jinja2 parses; of its syntax tree only the nodes named here are turned into functions, so what is not listed does not
exist: no calls, no attributes but those of the alert, no loops, no powers, no repeating of text. Numbers are Decimals,
literals included; every result is bounded, and kinds are not mixed silently (a number is never compared with a text).
Whatever can be known when a template loads is refused then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bridge.expression_nodes import NO_CONTEXT, Missing, Scope, article, compile_node, expect, joined
from bridge.filters import Context, ExpressionError, kind_of

__all__ = ["Context", "ExpressionError", "Value", "compile_condition", "compile_value"]

MAX_SOURCE = 2000

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False)
_ENVIRONMENT.globals.clear()


@dataclass(frozen=True, slots=True)
class Value:
    """A template's value: a constant of the file, or an expression that is evaluated for each alert and account.

    `reads` names the alert's fields that it depends on.
    """

    source: Any
    is_constant: bool
    constant: Any = None
    reads: frozenset[str] = frozenset()
    _run: Callable[[Context], Any] | None = field(default=None, repr=False)

    def evaluate(self, context: Context) -> Any:
        """The value: a text, Decimal, truth, datetime or None. Raises ExpressionError in words."""
        if self._run is None:
            return self.constant
        found = self._run(context)
        if isinstance(found, Missing):
            found.refuse()
        if kind_of(found) in ("object", "list"):
            raise ExpressionError(f"is {article(kind_of(found))}; expected one plain value")
        return found


def compile_value(given: Any, fields: Mapping[str, str]) -> Value:
    """A YAML value, ready to evaluate; a text may hold `{{ … }}`. `fields` are the declared fields with their types.

    One single `{{ … }}` keeps its kind; beside text it becomes text. Raises ExpressionError for what can never work.
    """
    if isinstance(given, int) and not isinstance(given, bool):
        given = Decimal(given)
    if not isinstance(given, str) or not re.search(r"\{\{|\}\}|\{%|%\}|\{#", given):
        return Value(given, True, given)
    return _finish(given, _parse(given.strip()), fields)


def compile_condition(given: Any, fields: Mapping[str, str]) -> Value:
    """A `when:`: a bare expression, or one in braces, that is true or false. Raises ExpressionError."""
    if isinstance(given, bool):
        return Value(given, True, given)
    if not isinstance(given, str):
        raise ExpressionError("expected an expression that is true or false")
    parts = _parse(given.strip() if "{{" in given else f"{{{{ {given} }}}}")
    if len(parts) != 1 or isinstance(parts[0], nodes.TemplateData):
        raise ExpressionError("expected one expression that is true or false")
    compiled = _finish(given, parts, fields, kind="truth")

    def run(context: Context) -> bool:
        found = compiled.evaluate(context)
        if not isinstance(found, bool):
            raise ExpressionError(f"is {article(kind_of(found))}; expected true or false")
        return found

    if compiled.is_constant:
        return compiled
    return Value(given, False, None, compiled.reads, run)


def _finish(given: Any, parts: list[nodes.Expr], fields: Mapping[str, str], kind: str = "") -> Value:
    try:
        compiled = [compile_node(part, Scope(fields)) for part in parts]
    except RecursionError:
        raise ExpressionError("the expression is nested too deep") from None
    whole = compiled[0] if len(compiled) == 1 else joined(compiled)
    if whole.kind in ("object", "list"):
        raise ExpressionError(f"is {article(whole.kind)}; expected one plain value")
    if kind:
        expect(whole, kind, "the condition")
    if whole.constant:
        return Value(given, True, whole.run(NO_CONTEXT))
    return Value(given, False, None, whole.reads, whole.run)


# -- parsing ---------------------------------------------------------------------------------------------------------


def _parse(source: str) -> list[nodes.Expr]:
    if len(source) > MAX_SOURCE:
        raise ExpressionError(f"the expression has {len(source)} characters; at most {MAX_SOURCE}")
    try:
        _check_tokens(source)
        tree = _ENVIRONMENT.parse(source)
    except jinja2.TemplateSyntaxError as error:
        message = "the closing }} is missing" if "end of template" in str(error.message) else error.message
        raise ExpressionError(f"is no expression: {message}") from None
    except RecursionError:
        raise ExpressionError("the expression is nested too deep") from None
    outputs = [node for node in tree.body if isinstance(node, nodes.Output)]
    if len(outputs) != len(tree.body):
        raise ExpressionError("statements are not allowed; write one expression in {{ }}")
    parts = [part for output in outputs for part in output.nodes]
    if not any(not isinstance(part, nodes.TemplateData) for part in parts):
        raise ExpressionError("holds braces but no expression; write {{ … }}")
    return parts


_NUMBER = re.compile(r"\d+|\d+\.\d+(?:[eE][+-]?\d{1,2})?|\d+[eE][+-]?\d{1,2}", re.ASCII)


def _check_tokens(source: str) -> None:
    """What the syntax tree no longer shows: statements that leave nothing behind, and how numbers were written."""
    for _, token, text in _ENVIRONMENT.lexer.tokeniter(source, None):
        if token in ("block_begin", "raw_begin", "linestatement_begin"):
            raise ExpressionError("statements ({% %}) are not allowed; write one expression in {{ }}")
        if token in ("integer", "float"):
            if not _NUMBER.fullmatch(text):
                raise ExpressionError(f"{text[:40]!r} is no plain number like 0.25")
            if sum(character.isdigit() for character in re.split("[eE]", text)[0]) > 15:
                raise ExpressionError(f"{text[:40]!r} has more than 15 digits")
        if token == "data" and "}}" in text:
            raise ExpressionError("has a closing }} without its {{")
