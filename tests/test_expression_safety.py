"""What a template or an alert can make Bridge do: work out values, and nothing else.

Attacks run in a process of their own with hard limits of memory and CPU time, and are held to a tenth of a second of CPU
each: what a busy machine does meanwhile does not count.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import jinja2.defaults
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import FileFaults
from bridge.expressions import Context, ExpressionError, compile_condition, compile_value
from bridge.filters import FILTERS
from bridge.pattern import compile_pattern
from bridge.yamlfile import MAX_BYTES, read_yaml

FIELDS = {"text": "text", "word": "word", "number": "number", "side": "side", "time": "time", "live": "bool"}
CONTEXT = Context(contract=lambda symbol: symbol, alert={
    "text": "x" * 1000, "word": "buy", "number": Decimal("9" * 30), "side": "buy", "live": True,
    "time": datetime(2026, 11, 20, tzinfo=UTC),
    "raw": {"long": "y" * 60_000, "list": ["z" * 900] * 60, "deep": {"a": {"a": {"a": "1"}}}, "number": "5300.25",
            "huge": "9" * 1000, "nan": "NaN", "expression": "{{ 9**9**9 }}"}})

# -- the process that takes the blows ---------------------------------------------------------------------------------

_CHILD = """
import json, resource, sys, time
from tests.test_expression_safety import RUN
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for line in sys.stdin:
    kind, attack = json.loads(line)
    spent, before = [], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        began = time.process_time()
        came = RUN[kind](attack)
        spent.append(time.process_time() - began)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps([came, min(spent), grown / 1024]), flush=True)
"""


def _expression(source: str) -> str:
    try:
        compiled = compile_value(f"{{{{ {source} }}}}", FIELDS)
    except ExpressionError as error:
        return f"refused at load: {error}"
    try:
        return f"value: {compiled.evaluate(CONTEXT)}"
    except ExpressionError as error:
        return f"refused: {error}"


def _condition(source: str) -> str:
    try:
        return f"value: {compile_condition(source, FIELDS).evaluate(CONTEXT)}"
    except ExpressionError as error:
        return f"refused: {error}"


def _yaml(content: str) -> str:
    try:
        return f"value: {type(read_yaml(content.encode(), 'attack.yaml').value).__name__}"
    except FileFaults as error:
        return f"refused: {error.faults[0].message}"


def _pattern(attack: str) -> str:
    source, _, text = attack.partition("\0")
    try:
        found = compile_pattern(source)
    except ValueError as error:
        return f"refused at load: {error}"
    try:
        return f"value: {'no match' if found.search(text) is None else 'a match'}"
    except ValueError as error:
        return f"refused: {error}"


RUN: dict[str, Callable[[str], str]] = {"expression": _expression, "condition": _condition, "yaml": _yaml,
                                        "pattern": _pattern}


def struck(kind: str, attacks: list[str]) -> list[tuple[str, str, float, float]]:
    """Each attack with what came of it, seconds of CPU, and megabytes that the process grew by. What is struck at is
    `expression`, `condition`, `yaml` or `pattern`."""
    lines = "".join(json.dumps([kind, attack]) + "\n" for attack in attacks)
    done = subprocess.run([sys.executable, "-c", _CHILD], input=lines, capture_output=True, text=True, timeout=300,
                          cwd=Path(__file__).resolve().parents[1], check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(attacks), (
        f"{attacks[len(answers)][:80]!r} ended the process: {done.returncode} {done.stderr[-500:]}")
    return [(attack, *answer) for attack, answer in zip(attacks, answers, strict=True)]


def assert_cheap(found: list[tuple[str, str, float, float]], seconds: float = 0.1) -> None:
    for attack, came, spent, grown in found:
        assert spent < seconds, f"{attack[:80]!r} took {spent:.3f} s: {came[:80]}"
        assert grown < 32, f"{attack[:80]!r} took {grown:.0f} MB: {came[:80]}"


# -- expressions --------------------------------------------------------------------------------------------------------

_REPEATED = [
    "'x' * 500000000", "500000000 * 'x'", "alert.text * 500000000", "[1] * 100000000", "(1,) * 9999999999",
    "'x' | center(400000000)", "alert.text | center(400000000)", "'x' | indent(400000000)", "'%0400000000d' % 1",
    "'%0400000000d' | format(1)", "'x'.ljust(400000000)", "'x'.zfill(400000000)", "'{:>400000000}'.format(1)",
    "lipsum(n=100000)", "lipsum", "range(1000000000)", "range(1000000000) | list", "'x' | wordwrap(1)",
    "alert.text | batch(1) | list", "[1, 2] | join('x')", "alert.text | replace('x', '" + "y" * 101 + "')"]
_REACHING = [
    "alert.text.__class__", "alert.text['__class__']", "alert.text.__class__.__mro__[1].__subclasses__()",
    "''.__class__", "().__class__.__bases__[0].__subclasses__()", "alert.__class__", "alert.raw.__class__",
    "alert.raw['__class__']", "alert.raw.deep.__init__.__globals__", "'' | attr('__class__')", "alert | attr('raw')",
    "self", "self.__init__.__globals__", "cycler.__init__.__globals__.os.environ", "joiner", "namespace()", "dict",
    "config", "request", "g", "environ", "env.BRIDGE_SECRET", "secret", "open('/etc/passwd')", "import('os')",
    "caller()", "super()", "loop", "_", "gettext('x')", "'{0.__class__}'.format(1)", "'{0.__class__}' | format(1)",
    "alert.text.upper()", "alert.text.format(1)", "alert.number.as_tuple()", "alert.number.__round__",
    "alert.time.tzinfo", "alert.time.now()", "alert.text | map(attribute='x')", "alert.text | tojson",
    "alert.text is callable", "alert.text is sameas none", "alert.text is filter('upper')", "alert[alert.text]",
    "alert.raw[alert.text]", "alert.raw[0:9]", "alert.text[0]", "alert.text[::-1]", "{{ 1 }}", "x = 1", "1; 2",
    "alert.text if (1).real else 2"]
_NUMBERS = [
    "2 ** 3", "9 ** 9 ** 9", "alert.number ** 99999999", "2 ** alert.number", "1e20000000", "1.5e20000000", "1.5e999", "1e999", "1e-20000000",
    "9" * 1900, "0." + "1" * 1900, "1_000", "0x" + "f" * 1000, "0b1", "0o7", "٣", "1.", "NaN", "nan", "inf",
    "Infinity", "'NaN' | number", "'Infinity' | number", "'1e20000000' | number", f"'{'9' * 1500}' | number",
    "alert.raw.huge | number", "alert.raw.nan | number", "1e99 * 1e99", "1e29 * 10", "1 / 0", "1 // 0", "1 % 0",
    "alert.number * alert.number", "alert.number / 1e-29 / 1e-29", "alert.number | tick(0)", "1 | tick(-1)",
    "alert.number | round(999999999)", "alert.number | round(-5)", "alert.number | round_down(0)", "true + 1",
    "'5' * 5", "alert.text + 1", "-alert.text"]
_SHAPES = [
    "(" * 900 + "1" + ")" * 900, "[" * 900 + "]" * 900, "-" * 1900 + "1", "not " * 480 + "true",
    "alert.number" + " | abs" * 250, "alert.number" + " + 1" * 450, "alert.text" + " ~ alert.text" * 130,
    "1 if " * 250 + "true" + " else 2" * 120, "alert.text in " + "(" * 500 + ")" * 500, "{" * 900 + "}" * 900,
    "alert.raw" + ".a" * 900, "alert.raw" + "['a']" * 350, "x" * 3000, "alert.text | " + "(" * 900,
    "alert.text | map({" + ", ".join(f"'{n}': {n}" for n in range(150)) + "})",
    "alert.text" + " | replace('x', 'xxxxxxxxxx')" * 60, "alert.number | default(" * 200 + ")" * 200,
    "alert.raw.long", "alert.raw.long ~ alert.raw.long", "alert.raw.list", "alert.raw.list ~ 'x'", "alert.raw",
    "alert.raw.expression", "alert.raw.list[99999999999999999999]", "alert.raw.list[-1]"]


@pytest.mark.parametrize("kind", ["expression", "condition"])
def test_every_attack_is_refused_within_its_budget(kind: str) -> None:
    found = struck(kind, [*_REPEATED, *_REACHING, *_NUMBERS, *_SHAPES])

    assert_cheap(found)
    assert [attack[:80] for attack, came, _, _ in found if not came.startswith("refused")] == []


def test_what_is_long_and_sound_is_worked_out_within_its_budget() -> None:
    found = struck("expression", ["'a'" + " ~ 'a'" * 300, "1 < 2" + " < 3" * 300, "alert.number / 3", "1 / 3 / 3 / 3",
                                  "alert.text" + " | upper | lower" * 15, "alert.number | tick(1e-12)",
                                  "alert.word in (" + ", ".join(f"'{n}'" for n in range(200)) + ")"])

    assert_cheap(found)
    assert [came[:40] for _, came, _, _ in found if not came.startswith("value")] == []


def test_statements_and_comments_of_the_template_language_are_refused() -> None:
    for source in ("{% for x in range(9) %}{{ x }}{% endfor %}", "{% include '/etc/passwd' %}", "{% import 'os' as os %}",
                   "{% set x = 1 %}{{ x }}", "{% raw %}{{ 1 }}{% endraw %}", "{%- if true %}1{% endif %}", "{# 1 #}"):
        with pytest.raises(ExpressionError):
            compile_value(source, FIELDS)


def test_of_the_template_languages_own_names_filters_and_tests_only_the_documented_ones_exist() -> None:
    for name in [*jinja2.defaults.DEFAULT_NAMESPACE, "self", "environment", "context", "__builtins__", "true_", "os"]:
        with pytest.raises(ExpressionError, match="not known|not allowed"):
            compile_value(f"{{{{ {name} }}}}", FIELDS)
    for name in set(jinja2.defaults.DEFAULT_FILTERS) - set(FILTERS):
        with pytest.raises(ExpressionError, match="is not known"):
            compile_value(f"{{{{ alert.text | {name} }}}}", FIELDS)
    for name in set(jinja2.defaults.DEFAULT_TESTS) - {"defined", "undefined", "none", "number", "true", "false"}:
        if name.isalpha() and name != "in":
            with pytest.raises(ExpressionError, match="not known|no expression"):
                compile_value(f"{{{{ alert.text is {name} }}}}", FIELDS)


class _Trap:
    """A value whose every attribute is a way out."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"an expression reached for .{name}")


def test_no_expression_touches_an_attribute_of_a_value() -> None:
    context = Context(alert={"text": _Trap(), "raw": {"trap": {"inside": "1"}}}, contract=str)

    for source in ("alert.text.secret", "alert.text['secret']", "alert.text.secret.more"):
        with pytest.raises(ExpressionError):
            compile_value(f"{{{{ {source} }}}}", FIELDS).evaluate(context)
    for name in ("keys", "items", "get", "pop", "__len__"):
        with pytest.raises(ExpressionError):
            compile_value(f"{{{{ alert.raw.trap.{name} }}}}", FIELDS).evaluate(context)


def test_what_an_alert_says_is_never_evaluated() -> None:
    context = Context(alert={"text": "9 ** 9", "raw": {"a": "1 + 1", "b": "{{ 1 + 1 }}"}}, contract=str)

    assert compile_value("{{ alert.text }}", FIELDS).evaluate(context) == "9 ** 9"
    assert compile_value("{{ alert.raw.a }}", FIELDS).evaluate(context) == "1 + 1"
    with pytest.raises(ExpressionError, match="placeholder"):
        compile_value("{{ alert.raw.b }}", FIELDS).evaluate(context)


# -- numbers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "expected"), [
    ("2.5 | round", "3"), ("3.5 | round", "4"), ("-2.5 | round", "-3"), ("(-2.5) | round", "-3"), ("1.005 | round(2)", "1.01"),
    ("0.125 | tick(0.25)", "0.25"), ("(0 - 0.125) | tick(0.25)", "-0.25"), ("2.9 | int", "2"), ("(0 - 2.9) | int", "-2"),
    ("7 | round_down(2)", "6"), ("0.1 + 0.2", "0.3"), ("1.10 | abs", "1.10")])
def test_numeric_filters_stay_exact_and_halves_go_away_from_zero(source: str, expected: str) -> None:
    found = compile_value(f"{{{{ {source} }}}}", FIELDS).evaluate(CONTEXT)

    assert isinstance(found, Decimal)
    assert found == Decimal(expected)


@pytest.mark.parametrize("source", ["0 * -1", "-0", "-0.0", "(0 - 0.0001) | round(2)", "(0 - 0.1) | int",
                                    "(0 - 0.1) | tick(1)", "0 / -5", "(0 - 1) % 1", "-0 ~ ''"])
def test_there_is_no_minus_zero(source: str) -> None:
    found = compile_value(f"{{{{ {source} }}}}", FIELDS).evaluate(CONTEXT)

    assert not str(found).startswith("-")


_ATOMS = st.sampled_from(["alert.text", "alert.number", "alert.word", "alert.live", "alert.time", "alert.raw.number",
                          "alert.raw.zz", "1", "0", "0.5", "1e29", "1e-29", "'x'", "'5'", "true", "none"])
_FILTERS = st.sampled_from([name + usage for name in FILTERS for usage in (
    "", "(0.25)", "(2)", "('x')", "('x', 'yy')", "(alert.number)", "({'x': 1})")])


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, st.sampled_from("+ - * / // % ~ == != < <= > >= in and or".split()), inner).map(
            lambda each: f"({each[0]} {each[1]} {each[2]})"),
        st.tuples(inner, _FILTERS).map(lambda each: f"({each[0]} | {each[1]})"),
        st.tuples(inner, inner, inner).map(lambda each: f"({each[0]} if {each[1]} else {each[2]})"),
        inner.map(lambda each: f"(-{each})"), inner.map(lambda each: f"(not {each})"),
        st.lists(inner, max_size=4).map(lambda each: f"[{', '.join(each)}]"))


@given(st.recursive(_ATOMS, _grown, max_leaves=25))
def test_whatever_is_written_comes_to_a_bounded_value_or_is_refused_in_words(source: str) -> None:
    try:
        found = compile_value(f"{{{{ {source} }}}}", FIELDS).evaluate(CONTEXT)
    except ExpressionError as error:
        assert str(error)
        return
    assert found is None or isinstance(found, (str, bool, Decimal, datetime))
    if isinstance(found, str):
        assert len(found) <= 3 * 4096
    if isinstance(found, Decimal):
        assert found.is_finite()
        assert found.adjusted() < 30
        assert found or not found.is_signed()


# -- patterns of text alerts -----------------------------------------------------------------------------------------------

_LONG = "a" * 4095 + "b"


def test_no_pattern_takes_more_than_its_budget_whatever_the_text() -> None:
    sources = [
        "(?P<x>(a+)+)$", "(?P<x>(a|aa)+)$", "(?P<x>(a*)*)*b", "(?P<x>.*.*.*.*.*.*)y", "(?P<x>(.*)(.*)(.*)(.*)(.*)(.*)(.*))y",
        "(?P<x>(x+x+)+)y", "(?P<x>(?:a?){60}a{60})z", r"(?P<x>(\s*\w*)*)!", "(?P<x>(a|b|ab)*)c", "(?P<x>(?i:a+)+)k",
        "".join(f"(?P<g{n}>.*)" for n in range(90)) + "y", "(?P<x>" + "(.*)" * 150 + ")y",
        "(?P<x>" + "(?:" * 150 + "a" + ")*" * 150 + ")y", "(?P<x>[^a]|a)+y"]
    texts = [_LONG, "a " * 2048, "ab" * 2048, "x" * 900, "a" * 400, "\u0130" * 900, "\n" * 4096]
    found = struck("pattern", [f"{source}\0{text}" for source in sources for text in texts])

    assert_cheap(found, 0.2)
    assert {came.partition(":")[0] for _, came, _, _ in found} == {"value", "refused"}


def test_a_pattern_that_is_a_bomb_is_refused_when_it_loads() -> None:
    found = struck("pattern", [
        "(?P<x>(a{1000}){1000})", "(?P<x>((((a{100}){100}){100}){100}){100})", "(?P<x>a{0,60000})", "(?P<x>a{4294967294})",
        "(?P<x>((?:){60000}){60000})", "(?P<x>" + "(" * 900 + "a" + ")" * 900 + ")", "(?P<x>a)(?=b)", "(?P<x>a)(?<=b)",
        r"(?P<x>a)\1", "(?P<x>a)(?P=x)", "(?P<x>(?>a+))", "(?P<x>a++)", "(?P<x>" + "a|" * 990 + "a)", "(?P<x>" + "a" * 2001])

    assert_cheap(found)
    assert [attack[:60] for attack, came, _, _ in found if not came.startswith("refused at load")] == []


# -- files ---------------------------------------------------------------------------------------------------------------

_N = MAX_BYTES - 1000


def test_no_file_exhausts_the_yaml_parser() -> None:
    refused = [
        "[" * 50_000, "{" * 50_000, "[" * _N, "{" * _N, "- " * (_N // 2), "? " * (_N // 2), "[{" * (_N // 2),
        "\n".join(" " * depth + "a:" for depth in range(700)), "{a: " * 50_000, "a: &x 1\nb: *x",
        "a: &x [1, 1]\nb: &y [*x, *x, *x]\nc: &z [*y, *y, *y]\nd: [*z, *z, *z]", "a: !!python/object/apply:os.system [id]",
        "a: !x 1", "%YAML 1.1\n---\na: 1", "a: 1\na: 2", "a: 1\n" * 50_000, "---\n" * 60_000, "a: no", "a: 010", "a: 1:30",
        "a: 1_000", "a: 2026-11-20", "<<: {a: 1}", "a: " + "9" * _N, "x" * (MAX_BYTES + 1), "a: \0", "!" * _N, "&" * _N,
        "*" * _N, "%" * _N, ":" * _N, 'a: "' + "x" * _N]
    found = struck("yaml", refused)

    assert_cheap(found)
    assert [attack[:60] for attack, came, _, _ in found if not came.startswith("refused")] == []


def test_long_words_cost_no_more_than_their_length() -> None:
    words = ["1" + "_" * _N + "x", "1_" * (_N // 2) + "x", "1" + ":1" * (_N // 2) + "x", "1." + "_." * (_N // 2) + "x",
             "." * _N, "0" + "_" * _N + "x", "2026-01-01 " + " " * _N + "x", "9" * (_N // 2) + "." + "9" * (_N // 2) + "x"]
    found = struck("yaml", [f"a: {word}" for word in words] + [f"{word}: 1" for word in words[:2]])

    assert_cheap(found)
