"""The syntax tree's nodes that expressions may have, each turned into a function of its context.

What is not listed in the table at the end does not exist in a template.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from types import MappingProxyType
from typing import Any, NoReturn

from jinja2 import nodes

from bridge.filters import FILTERS, Context, ExpressionError, bounded, is_kind, kind_of, plain_text
from bridge.values import as_text

MAX_RESULT = 4096
_MAX_DEPTH = 60

_NO_RAW: Mapping[str, Any] = MappingProxyType({})
_FIELD_KINDS = {"text": "text", "word": "text", "side": "text", "integer": "number", "number": "number", "time": "time",
                "bool": "truth"}

_Run = Callable[[Context], Any]


@dataclass(frozen=True, slots=True)
class Part:
    """A compiled node: how to run it, what kind it yields ("any" where only the alert knows), what it reads."""

    run: _Run
    kind: str
    reads: frozenset[str] = frozenset()
    constant: bool = False


@dataclass(slots=True)
class Missing:
    """A part of `alert.raw` that this alert does not have; only `default` and `is defined` may touch it."""

    path: str

    def refuse(self) -> NoReturn:
        """Raises ExpressionError that names it."""
        raise ExpressionError(f"{self.path} is not in this alert")


@dataclass(frozen=True, slots=True)
class Scope:
    """What may be read: the declared fields with their types; and how deep the compiler stands."""

    fields: Mapping[str, str]
    depth: int = 0


def compile_node(node: nodes.Node, scope: Scope) -> Part:
    """A node as a function; constants are worked out at once. Raises ExpressionError."""
    if scope.depth > _MAX_DEPTH:
        raise ExpressionError("the expression is nested too deep")
    compiler = _COMPILERS.get(type(node))
    if compiler is None:
        raise ExpressionError(_NOT_ALLOWED.get(type(node), f"{type(node).__name__} is not allowed in expressions"))
    part = compiler(node, Scope(scope.fields, scope.depth + 1))
    if part.constant:
        value = part.run(NO_CONTEXT)
        return Part(lambda _: value, kind_of(value), constant=True)
    return part


def _no_contract(symbol: str) -> str:
    raise ExpressionError("the contract of a symbol depends on the account")


NO_CONTEXT = Context(alert=MappingProxyType({}), contract=_no_contract)

_NOT_ALLOWED: Mapping[type[nodes.Node], str] = {
    nodes.Call: "calls are not allowed; use filters like alert.price | tick(0.25)",
    nodes.Pow: "powers (**) are not allowed",
    nodes.Slice: "slices are not allowed",
    nodes.Name: "only `alert` is known here",
}


def _merge(*parts: Part) -> dict[str, Any]:
    """What several parts read together, and whether all are constant."""
    return {"reads": frozenset().union(*(part.reads for part in parts)),
            "constant": all(part.constant for part in parts)}


def article(kind: str) -> str:
    """A kind in words, with its article."""
    plain = {"none": "none", "any": "something", "truth": "true or false"}
    return plain.get(kind, f"an {kind}" if kind[0] in "aeo" else f"a {kind}")


def expect(part: Part, kind: str, what: str) -> None:
    """Raises ExpressionError where a part can never have the kind that is wanted."""
    if part.kind not in (kind, "any"):
        raise ExpressionError(f"{what} is {article(part.kind)}; expected {article(kind)}")


def _take(run: _Run, context: Context, kind: str, what: str) -> Any:
    """A part's value where it has the kind that is wanted."""
    found = run(context)
    if isinstance(found, Missing):
        found.refuse()
    if not is_kind(found, kind):
        raise ExpressionError(f"{what} is {article(kind_of(found))}; expected {article(kind)}")
    return found


def _known(run: _Run, context: Context) -> Any:
    found = run(context)
    if isinstance(found, Missing):
        found.refuse()
    return found


# -- names and literals ----------------------------------------------------------------------------------------------


def _const(node: nodes.Const, scope: Scope) -> Part:
    value = node.value
    if isinstance(value, float):
        # At most 15 digits were written, so the shortest text of the float is exactly what was written.
        value = Decimal(repr(value))
    elif isinstance(value, int) and not isinstance(value, bool):
        value = Decimal(value)
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ExpressionError("a text holds half a surrogate pair") from None
    return Part(lambda _: value, kind_of(value), constant=True)


def _items(node: nodes.Tuple | nodes.List, scope: Scope) -> Part:
    parts = [compile_node(item, scope) for item in node.items]
    return Part(lambda context: tuple(_known(part.run, context) for part in parts), "list", **_merge(*parts))


def _name(node: nodes.Name, scope: Scope) -> Part:
    if node.name != "alert":
        hint = f"; did you mean alert.{node.name}?" if node.name in scope.fields else ""
        raise ExpressionError(f"{node.name!r} is not known here; expressions read `alert`{hint}")
    raise ExpressionError("`alert` alone is no value; name one of its fields, like alert.price")


def _member(node: nodes.Getattr | nodes.Getitem, scope: Scope) -> Part:
    """alert.price, alert["price"], alert.raw.a.b, alert.raw["a b"][0]."""
    key = node.attr if isinstance(node, nodes.Getattr) else _key(node.arg)
    if isinstance(key, str) and key.startswith("__"):
        raise ExpressionError(f"{key!r} is not allowed")
    if isinstance(node.node, nodes.Name) and node.node.name == "alert":
        return _alert_field(key, scope.fields)
    if not _is_raw(node.node):
        raise ExpressionError("only the alert has fields: alert.NAME, or alert.raw.NAME…")
    return _raw_member(compile_node(node.node, scope), key, _label(node))


def _key(node: nodes.Node) -> Any:
    if isinstance(node, nodes.Slice):
        raise ExpressionError("slices are not allowed")
    if not isinstance(node, nodes.Const) or isinstance(node.value, bool) or not isinstance(node.value, (str, int)):
        raise ExpressionError("a name or place in [ ] is written out, like alert.raw['order id']")
    return node.value


def _is_raw(node: nodes.Node) -> bool:
    while isinstance(node, (nodes.Getattr, nodes.Getitem)):
        inner = node.node
        if isinstance(inner, nodes.Name):
            key = node.attr if isinstance(node, nodes.Getattr) else getattr(node.arg, "value", None)
            return bool(inner.name == "alert" and key == "raw")
        node = inner
    return False


def _alert_field(key: Any, fields: Mapping[str, str]) -> Part:
    if key == "raw":
        return Part(lambda context: context.alert.get("raw", _NO_RAW), "object", frozenset({"raw"}))
    if key not in fields:
        close = difflib.get_close_matches(str(key), fields, 1)
        hint = f"did you mean alert.{close[0]}?" if close else f"declared are {', '.join(fields) or 'none'}"
        raise ExpressionError(f"alert.{key} is not declared under `alert:`; {hint}")
    return Part(lambda context: context.alert[key], _FIELD_KINDS.get(fields[key], "any"), frozenset({key}))


def _label(node: nodes.Node) -> str:
    """A member as people write it: alert.raw.order.id."""
    if isinstance(node, nodes.Getattr):
        return f"{_label(node.node)}.{node.attr}"
    return f"{_label(node.node)}[{_key(node.arg)!r}]" if isinstance(node, nodes.Getitem) else "alert"


def _raw_member(part: Part, key: Any, label: str) -> Part:
    def run(context: Context) -> Any:
        found = part.run(context)
        if isinstance(found, Mapping) and isinstance(key, str) and key in found:
            found = found[key]
        elif isinstance(found, list) and isinstance(key, int) and key < len(found):
            found = found[key]
        else:
            return Missing(label)
        if isinstance(found, str):
            try:
                as_text(found)
            except ValueError as error:
                raise ExpressionError(f"{label} {error}") from None
        return found
    return Part(run, "any", part.reads)


# -- operators -------------------------------------------------------------------------------------------------------


def _floor_divide(one: Decimal, other: Decimal) -> Decimal:
    return (one / other).to_integral_value(ROUND_FLOOR)


_ARITHMETIC: Mapping[type[nodes.Node], tuple[str, Callable[[Decimal, Decimal], Decimal]]] = {
    nodes.Add: ("+", lambda one, other: one + other),
    nodes.Sub: ("-", lambda one, other: one - other),
    nodes.Mul: ("*", lambda one, other: one * other),
    nodes.Div: ("/", lambda one, other: one / other),
    nodes.FloorDiv: ("//", _floor_divide),
    nodes.Mod: ("%", lambda one, other: one - other * _floor_divide(one, other)),
}


def _arithmetic(node: Any, scope: Scope) -> Part:
    sign, operation = _ARITHMETIC[type(node)]
    left, right = compile_node(node.left, scope), compile_node(node.right, scope)
    what = f"one side of {sign}"
    for part in (left, right):
        if part.kind == "text" and sign == "+":
            raise ExpressionError("+ adds numbers; join texts with ~")
        expect(part, "number", what)

    def run(context: Context) -> Decimal:
        one, other = _take(left.run, context, "number", what), _take(right.run, context, "number", what)
        if sign in ("/", "//", "%") and other == 0:
            raise ExpressionError("divides by zero")
        return bounded(operation, one, other)
    return Part(run, "number", **_merge(left, right))


def _unary(node: nodes.Neg | nodes.Pos, scope: Scope) -> Part:
    part = compile_node(node.node, scope)
    expect(part, "number", "what stands behind the sign")
    negative = isinstance(node, nodes.Neg)

    def run(context: Context) -> Decimal:
        value: Decimal = _take(part.run, context, "number", "what stands behind the sign")
        return value.copy_negate() if negative and value else value
    return Part(run, "number", **_merge(part))


def _concat(node: nodes.Concat, scope: Scope) -> Part:
    return joined([compile_node(part, scope) for part in node.nodes])


def _template_data(node: nodes.TemplateData, scope: Scope) -> Part:
    return Part(lambda _: node.data, "text", constant=True)


def joined(parts: list[Part]) -> Part:
    """Several parts as one text."""
    def run(context: Context) -> str:
        text = "".join(plain_text(_known(part.run, context)) for part in parts)
        if len(text) > MAX_RESULT:
            raise ExpressionError(f"comes to {len(text)} characters; at most {MAX_RESULT}")
        return text
    return Part(run, "text", **_merge(*parts))


def _logic(node: nodes.And | nodes.Or, scope: Scope) -> Part:
    word = "and" if isinstance(node, nodes.And) else "or"
    left, right = compile_node(node.left, scope), compile_node(node.right, scope)
    for part in (left, right):
        expect(part, "truth", f"one side of `{word}`")

    def run(context: Context) -> bool:
        first: bool = _take(left.run, context, "truth", f"one side of `{word}`")
        if first == (word == "or"):
            return first
        second: bool = _take(right.run, context, "truth", f"one side of `{word}`")
        return second
    return Part(run, "truth", **_merge(left, right))


def _not(node: nodes.Not, scope: Scope) -> Part:
    part = compile_node(node.node, scope)
    expect(part, "truth", "what stands behind `not`")
    return Part(lambda context: not _take(part.run, context, "truth", "what stands behind `not`"), "truth",
                 **_merge(part))


def _conditional(node: nodes.CondExpr, scope: Scope) -> Part:
    test, yes = compile_node(node.test, scope), compile_node(node.expr1, scope)
    no = compile_node(node.expr2, scope) if node.expr2 is not None else Part(lambda _: None, "none", constant=True)
    expect(test, "truth", "what stands behind `if`")
    return Part(
        lambda context: (yes if _take(test.run, context, "truth", "what stands behind `if`") else no).run(context),
        yes.kind if yes.kind == no.kind else "any", **_merge(test, yes, no))


# -- comparisons -----------------------------------------------------------------------------------------------------


def _same(one: Any, other: Any) -> bool:
    """Equality within a kind; none equals only none. Comparing a number with a text is a mistake, not false."""
    if one is None or other is None:
        return one is other
    if kind_of(one) != kind_of(other):
        raise ExpressionError(f"compares {article(kind_of(one))} with {article(kind_of(other))}")
    return bool(one == other)


def _contains(one: Any, many: Any) -> bool:
    if isinstance(many, str) and isinstance(one, str):
        return one in many
    if isinstance(many, (tuple, list)):
        return any(_same(one, each) for each in many)
    if isinstance(many, Mapping) and isinstance(one, str):
        return one in many
    raise ExpressionError(f"`in` looks into a list or text, not into {article(kind_of(many))}")


def _ordered(one: Any, other: Any) -> tuple[Any, Any]:
    if kind_of(one) != kind_of(other) or kind_of(one) not in ("number", "time"):
        raise ExpressionError(f"orders {article(kind_of(one))} and {article(kind_of(other))}; expected two numbers")
    return one, other


def _less(one: Any, other: Any) -> bool:
    one, other = _ordered(one, other)
    return bool(one < other)


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": _same, "ne": lambda one, other: not _same(one, other),
    "lt": _less, "gt": lambda one, other: _less(other, one),
    "lteq": lambda one, other: not _less(other, one), "gteq": lambda one, other: not _less(one, other),
    "in": _contains, "notin": lambda one, many: not _contains(one, many),
}


def _compare(node: nodes.Compare, scope: Scope) -> Part:
    parts = [compile_node(node.expr, scope)] + [compile_node(operand.expr, scope) for operand in node.ops]
    operations = [operand.op for operand in node.ops]
    for left, right, operation in zip(parts, parts[1:], operations, strict=False):
        settled = {left.kind, right.kind} - {"any", "none"}
        if operation not in ("in", "notin") and len(settled) == 2:
            raise ExpressionError(f"compares {article(left.kind)} with {article(right.kind)}")

    def run(context: Context) -> bool:
        left = _known(parts[0].run, context)
        for operation, part in zip(operations, parts[1:], strict=True):
            right = _known(part.run, context)
            if not _COMPARISONS[operation](left, right):
                return False
            left = right
        return True
    return Part(run, "truth", **_merge(*parts))


def _test(node: nodes.Test, scope: Scope) -> Part:
    if node.args or node.kwargs or node.name not in ("defined", "undefined", "none", "number"):
        raise ExpressionError(f"the test `is {node.name}` is not known; known are defined, undefined, none, number")
    part, name = compile_node(node.node, scope), node.name

    def run(context: Context) -> bool:
        found = part.run(context)
        absent = found is None or isinstance(found, Missing)
        if name == "number":
            return is_kind(found, "number")
        return absent if name in ("undefined", "none") else not absent
    return Part(run, "truth", **_merge(part))


# -- filters ---------------------------------------------------------------------------------------------------------


def _filter(node: nodes.Filter, scope: Scope) -> Part:
    if node.name not in FILTERS:
        close = difflib.get_close_matches(node.name, FILTERS, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(FILTERS)}"
        raise ExpressionError(f"the filter {node.name!r} is not known; {hint}")
    if node.node is None or node.kwargs or node.dyn_args is not None or node.dyn_kwargs is not None:
        raise ExpressionError(f"the filter {node.name!r} takes plain arguments only")
    known = FILTERS[node.name]
    part = compile_node(node.node, scope)
    if known.takes != "any" and part.kind != "none":
        expect(part, known.takes, f"what `{node.name}` is given")
    if not known.least <= len(node.args) <= known.most:
        raise ExpressionError(f"the filter {node.name!r} takes {known.usage}")
    in_map = node.name == "map"
    arguments = [_mapping(each, scope) if in_map and isinstance(each, nodes.Dict) else compile_node(each, scope)
                 for each in node.args]
    for number, argument in enumerate(arguments):
        if argument.constant:
            known.check(number, argument.run(NO_CONTEXT))

    def run(context: Context) -> Any:
        value = part.run(context)
        if isinstance(value, Missing):
            if node.name != "default":
                value.refuse()
            value = None
        if value is None and node.name != "default":
            return None
        if known.takes != "any" and not is_kind(value, known.takes):
            advice = " (put `| number` before it)" if known.takes == "number" and isinstance(value, str) else ""
            raise ExpressionError(
                f"what `{node.name}` is given is {article(kind_of(value))}; expected {article(known.takes)}{advice}")
        given = [_known(argument.run, context) for argument in arguments]
        for number, argument in enumerate(given):
            known.check(number, argument)
        return known.run(context, value, *given)
    merged = _merge(part, *arguments)
    merged["constant"] = merged["constant"] and known.pure
    return Part(run, known.gives, **merged)


def _mapping(node: nodes.Dict, scope: Scope) -> Part:
    """The table of a `map({…})`; names and numbers as keys."""
    pairs = []
    for pair in node.items:
        key = compile_node(pair.key, scope)
        if not key.constant or key.kind not in ("text", "number", "truth"):
            raise ExpressionError("the keys of `map` are written out")
        pairs.append((key.run(NO_CONTEXT), compile_node(pair.value, scope)))
    if not pairs:
        raise ExpressionError("the table of `map` is empty")
    parts = [part for _, part in pairs]
    return Part(lambda context: [(key, part.run(context)) for key, part in pairs], "table", **_merge(*parts))


_COMPILERS: Mapping[type[nodes.Node], Callable[[Any, Scope], Part]] = {
    nodes.Const: _const, nodes.TemplateData: _template_data, nodes.Name: _name, nodes.Getattr: _member,
    nodes.Getitem: _member, nodes.Compare: _compare, nodes.And: _logic, nodes.Or: _logic, nodes.Not: _not,
    nodes.CondExpr: _conditional, nodes.Neg: _unary, nodes.Pos: _unary, nodes.Concat: _concat,
    nodes.Filter: _filter, nodes.Test: _test, nodes.List: _items, nodes.Tuple: _items,
    **dict.fromkeys(_ARITHMETIC, _arithmetic),
}
