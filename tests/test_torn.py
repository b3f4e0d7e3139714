"""What YAML tears apart is told with the line as it should be written, and never changes its meaning silently."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.accounts import load_accounts
from bridge.errors import FileFaults
from bridge.template import load_template
from bridge.torn import quoted
from bridge.yamlfile import read_partly, read_yaml

ROOT = Path(__file__).resolve().parents[1]


def told(text: str) -> list[str]:
    with pytest.raises(FileFaults) as refused:
        read_yaml(text.encode(), "t.yaml")
    return [str(fault) for fault in refused.value.faults]


TORN = [
    ('price: {{ alert.price }}', 1, 8, 'price: "{{ alert.price }}"'),
    ('price: {{alert.price}}   # the limit', 1, 8, 'price: "{{alert.price}}"'),
    ('price: {{ alert.price | map({"a": 1}) }}', 1, 8, "price: '{{ alert.price | map({\"a\": 1}) }}'"),
    ('price: {{ alert.price }} * 0.995', 1, 8, 'price: "{{ alert.price * 0.995 }}"'),
    ('when: {{ alert.price }} > 5', 1, 7, 'when: "{{ alert.price > 5 }}"'),
    ('ref: {{ alert.a }}-{{ alert.b }}', 1, 6, 'ref: "{{ alert.a }}-{{ alert.b }}"'),
    ('stop_loss: {price: {{ alert.stop }}, type: stop}', 1, 20, 'price: "{{ alert.stop }}"'),
    ('orders:\n  - {kind: close, symbol: {{ alert.ticker | contract }}}', 2, 27, 'symbol: "{{ alert.ticker | contract }}"'),
    ('brackets:\n  - {{ alert.a }}', 2, 5, '"{{ alert.a }}"'),
    ('when: alert.action == "buy": x', 1, 7, "when: 'alert.action == \"buy\": x'"),
    ('ref: a-{{ alert.t | map({"a": 1}) }}', 1, 6, "ref: 'a-{{ alert.t | map({\"a\": 1}) }}'"),
    ('when: "buy" == alert.action', 1, 7, "when: '\"buy\" == alert.action'"),
    ('side: "{{ alert.action }}', 1, 7, 'side: "{{ alert.action }}"'),
    ('side: "{{ alert.action }}\nquantity: "{{ alert.q }}"', 1, 7, 'side: "{{ alert.action }}"'),
    ("side: '{{ alert.action }}\nquantity: 1", 1, 7, "side: '{{ alert.action }}'"),
    ('symbol: "{{ alert.t | map({"ES": "NQ"}) }}"', 1, 9, "symbol: '{{ alert.t | map({\"ES\": \"NQ\"}) }}'"),
    ("symbol: '{{ alert.t | map({'ES': 'NQ'}) }}'", 1, 9, "symbol: \"{{ alert.t | map({'ES': 'NQ'}) }}\""),
    ('price: "{{ alert.p }}" + 1', 1, 8, 'price: "{{ alert.p + 1 }}"'),
    ('when: alert.note == "buy # 3"', 1, 7, "when: 'alert.note == \"buy # 3\"'"),
    ('price: {{ alert.price # the limit', 1, 8, 'price: "{{ alert.price'),
    ('symbol: alert.t | map({"a # b": 1})', 1, 9, "symbol: '{{ alert.t | map({\"a # b\": 1}) }}'"),
    ('parse: "(?P<price>\\d+)"', 1, 8, "parse: '(?P<price>\\d+)'"),
    ('parse: [A-Z]+ (?P<price>x)', 1, 8, 'parse: "[A-Z]+ (?P<price>x)"'),
    ('order:\n  kind:plain\n  symbol: x', 2, 8, "kind: …"),
    ('price:"{{ alert.price }}"\nside: buy', 1, 7, 'price: "{{ alert.price }}"'),
    ('price: %price%', 1, 8, 'price: "%price%"'),
    ('price: @alert.price', 1, 8, 'price: "@alert.price"'),
]


@pytest.mark.parametrize(("text", "line", "column", "advice"), TORN, ids=[each[0] for each in TORN])
def test_a_torn_value_is_told_with_its_place_and_as_it_should_be_written(text: str, line: int, column: int,
                                                                        advice: str) -> None:
    found = told(text + "\n")

    assert len(found) == 1, found
    assert found[0].startswith(f"t.yaml:{line}:{column}: ")
    assert advice in found[0]


@pytest.mark.parametrize("text", [each[0] for each in TORN if "%" not in each[0] and "#" not in each[0]])
def test_what_is_advised_can_be_read(text: str) -> None:
    document = read_partly(f"{text}\n".encode(), "t.yaml")

    assert document.faults and isinstance(document.value, dict)


@pytest.mark.parametrize("text", [
    'when: alert.price > 5   # "a comment', 'price: "{{ alert.price }}"  # (the limit', "description: it's fine # alert",
    'ref: pull-{{ alert.ticker }}', 'description: |\n  price: {{ alert.price }}\nx: 1',
    'description: "two\n  lines: {{ alert.x }}"\nx: 1', 'a: {b: "{{ alert.x }}", c: \'{{ alert.y }}\'}',
    "parse: '(?P<a>\\d+) # (?P<b>x)'"])
def test_what_is_whole_is_left_alone(text: str) -> None:
    read_yaml(f"{text}\n".encode(), "t.yaml")


def test_a_block_of_text_is_not_searched_for_torn_values() -> None:
    found = told("description: |\n  price: {{ alert.price }}\nmax_age: 1:30\n")

    assert len(found) == 1 and "max_age" in found[0]


def test_no_secret_is_shown_though_it_is_torn() -> None:
    for text in ("password: {{ hunter2 }}", 'password: "hunter2', "password: @hunter2", "password: a: hunter2",
                 'password: "hunter2" x', "password: [hunter2] x", 'password: "\\hunter2"', "a:\n  password:hunter2\n  b: 1"):
        assert "hunter2" not in "\n".join(told(text + "\n")), text


@pytest.mark.parametrize(("word", "meaning"), [
    ("no", "false"), ("on", "true"), ("yes", "true"), ("off", "false"), ("y", "true"), ("010", "8"), ("1:30", "90"),
    ("1_000", "1000"), ("0x10", "16"), ("0b11", "3"), ("1e3", "1000"), ("2026-11-20", "a date"), ("~", "nothing"),
    (".inf", "infinity"), ("0o17", "15"), ("2026-11-20 15:30:00", "a moment")])
def test_a_word_that_some_yaml_reads_otherwise_is_refused_and_its_text_kept_when_quoted(word: str, meaning: str) -> None:
    assert "is an unquoted word that versions of YAML read differently" in told(f"x: {word}\n")[0], meaning
    assert "is an unquoted word that versions of YAML read differently" in told(f"x: [{word}]\n")[0], meaning
    assert read_yaml(f"x: '{word}'\n".encode(), "t.yaml").value == {"x": word}


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60))
def test_a_quoted_value_reads_as_itself(value: str) -> None:
    assert read_yaml(f"x: {quoted(value)}\n".encode(), "t.yaml").value == {"x": value}


@given(st.lists(st.sampled_from(["a: ", "- ", "{{ alert.x }}", '"', "'", "{", "}", "[", "]", "#", " ", "\n", "  ", ":",
                                 "b", "|", ">", "%", "\t", "\\d", "}}", "{{"]), max_size=30).map("".join))
def test_no_file_that_is_torn_anyhow_raises_anything_but_its_faults(text: str) -> None:
    try:
        document = read_partly(text.encode(), "t.yaml")
    except FileFaults as error:
        assert error.faults
    else:
        try:
            read_yaml(text.encode(), "t.yaml")
        except FileFaults:
            assert document.faults
        else:
            assert not document.faults


@pytest.mark.parametrize("text", ["a: {{ x }}\n" * 20_000, 'a: "x\n' * 40_000, "a: b: c\n" * 30_000, "a: {{" * 40_000,
                                  "x: {{ " + "({" * 100_000, "a: '" + "'" * 200_000,
                                  "".join(f"key{number}: value\n" for number in range(15_000)) + "x: b: c\n" * 50])
def test_mending_costs_no_more_than_a_moment(text: str) -> None:
    began = time.process_time()
    told(text)

    assert time.process_time() - began < 3


# -- all faults of a template at once --------------------------------------------------------------------------------

BROKEN = """\
account: tradovate-demo
account: other
alert: {ticker: text, action: side, contracts: integer, price: number, note: text}
when: alert.note == "buy # 3"
max_age: 1:30
order:
  kind: oso
  symbol: {{ alert.ticker | contract }}
  side: "{{ alert.acton }}
  quantity: alert.contracts
  type: limit
  price: “{{ alert.price }}”
  time_in_force: dya
  stop_loss: {tiks: {{ alert.price }}}
"""


def faults_of(text: str, tmp_path: Path) -> list[str]:
    file = tmp_path / "t.yaml"
    file.write_text(text)
    with pytest.raises(FileFaults) as refused:
        load_template(file, load_accounts(ROOT / "accounts.yaml", {}))
    return [f"{fault.line}:{fault.column} {fault.field}: {fault.message}" for fault in refused.value.faults]


def test_the_faults_behind_a_torn_value_are_told_in_the_same_run(tmp_path: Path) -> None:
    found = faults_of(BROKEN, tmp_path)

    wanted = ["2:1 account: stands twice", "4:7 when: YAML takes what follows #", "5:10 max_age: is an unquoted word",
              '8:11 order.symbol: YAML takes {{ for the start of a mapping; quote this: symbol: "{{ alert.ticker | contract }}"',
              "9:3 order.side: alert.acton is not declared under `alert:`; did you mean alert.action?",
              '9:9 order.side: the quote is never closed; write: side: "{{ alert.acton }}"',
              "10:3 order.quantity: is read as a plain text; an expression stands in two braces and quotes: "
              'quantity: "{{ alert.contracts }}"',
              '12:3 order.price: has curly quotes: write straight ones: price: "{{ alert.price }}"',
              "13:3 order.time_in_force: 'dya' is none of", "14:3 order.stop_loss: needs exactly one of",
              "14:15 order.stop_loss.tiks: is unknown here; did you mean 'ticks'?",
              "14:21 order.stop_loss.tiks: YAML takes {{"]
    assert len(found) == len(wanted), found
    for each, start in zip(found, wanted, strict=True):
        assert each.startswith(start)


@pytest.mark.parametrize(("value", "advice"), [
    ("alert.contracts", 'quantity: "{{ alert.contracts }}"'), ("'{alert.contracts}'", 'quantity: "{{ alert.contracts }}"'),
    ("alert.size | map({'a b': 1})", "quantity: \"{{ alert.size | map({'a b': 1}) }}\"")])
def test_an_expression_without_its_braces_is_told(value: str, advice: str, tmp_path: Path) -> None:
    text = ("account: tradovate-demo\nalert: {contracts: integer, size: text}\norder:\n  kind: plain\n  symbol: ESZ6\n"
            f"  side: buy\n  type: market\n  quantity: {value}\n")

    found = faults_of(text, tmp_path)

    assert len(found) == 1 and " order.quantity: " in found[0] and advice in found[0]


def test_a_torn_template_never_loads_though_it_was_mended_to_look_further(tmp_path: Path) -> None:
    text = (ROOT / "templates/es_breakout.yaml").read_text()
    torn = text.replace('"{{ alert.price | tick(0.25) }}"', "{{ alert.price | tick(0.25) }}")
    assert torn != text

    assert len(faults_of(torn, tmp_path)) == 1


@pytest.mark.parametrize(("line", "advice"), [
    ("type: limt", "did you mean 'limit'?"), ("time_in_force: dya", "did you mean 'day'?"),
    ("symbl: ESZ6", "did you mean 'symbol'?"), ("options: {maxSho: 1}", "did you mean 'maxShow'?"),
    ("stop_loss: {ticks: 4, type: stop_limt}", "did you mean 'stop_limit'?"),
    ('price: "{{ alert.prize }}"', "did you mean alert.price?"), ('price: "{{ alert.price | tik(1) }}"', "did you mean 'tick'?"),
    ("account: tradovate-dmo", "did you mean 'tradovate-demo'?"), ('price: "{{ alert.price "', "the closing }} is missing")])
def test_a_near_miss_of_any_name_is_told_with_what_was_meant(line: str, advice: str, tmp_path: Path) -> None:
    given = {"kind": "oso", "symbol": "ESZ6", "side": "buy", "quantity": "1", "type": "limit", "price": "5000",
             "stop_loss": "{ticks: 4}", line.split(":")[0]: line.partition(": ")[2]}
    order = "".join(f"  {name}: {value}\n" for name, value in given.items())

    found = faults_of(f"account: tradovate-demo\nalert: {{price: number}}\norder:\n{order}", tmp_path)

    assert any(advice in each for each in found), found
