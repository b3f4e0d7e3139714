"""`bridge explain`: an alert in a trader's words, for each kind, side and broker, and for what is not ordered."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bridge.accounts import load_accounts
from bridge.alert import read_body
from bridge.cli import main
from bridge.errors import InputError
from bridge.explain import explain, lines_of, parts_of
from bridge.intake import decide
from bridge.template import load_template
from bridge.values import read_time
from bridge.wording import hidden, in_money, span
from tests.serving import ROOT

NOW = read_time("2026-11-20T15:30:01Z")
ACCOUNTS = """
accounts:
  tv: {broker: tradovate, environment: sandbox, account: DEMO123456, account_id: 123456}
  nt: {broker: crosstrade, environment: sandbox, account: Sim101}
  pf: {broker: pocketful, environment: sandbox, client_id: YG1234, options: {stop_loss_value: price, product: MIS}}
  live: {broker: tradovate, environment: live, account: "7", account_id: 7, credentials: {name: "${T}", password: "${T}", cid: "${T}", sec: "${T}", device_id: "${T}"}}
  watched: {broker: tradovate, environment: live, account: "8", account_id: 8, dry_run: true, credentials: {name: "${T}", password: "${T}", cid: "${T}", sec: "${T}", device_id: "${T}"}}
"""
ENTRY = """
account: {account}
alert: {{side: side, price: number, stop: {{type: number, optional: true}}, target: {{type: number, optional: true}}, time: time}}
sent_at: "{{{{ alert.time }}}}"
order:
  symbol: {symbol}
  side: "{{{{ alert.side }}}}"
  quantity: 2
"""
AT = {"tv": "ESZ6", "nt": "ES 12-26", "pf": "IDEA-EQ"}
LEGS = '  stop_loss: {price: "{{ alert.stop }}"}\n  take_profit: {price: "{{ alert.target }}"}\n'
LIMIT = '  type: limit\n  price: "{{ alert.price }}"\n'
NSE = '  options: {exchange: NSE, instrument_token: "14366"}\n'


def said_of(folder: Path, text: str, body: str | dict[str, Any], *, now: Any = NOW) -> dict[str, Any]:
    """What is said of an alert to a template of this text, as data."""
    (folder / "accounts.yaml").write_text(ACCOUNTS)
    (folder / "mine.yaml").write_text(text)
    template = load_template(folder / "mine.yaml", load_accounts(folder / "accounts.yaml", {}, lenient=True), lenient=True)
    raw = (body if isinstance(body, str) else json.dumps(body)).encode()
    read = None
    try:
        read = read_body(raw)
        found: Any = decide(template, read, raw, home=template.accounts[0], nonce="n", now=now)
    except InputError as error:
        found = error
    return explain(template, read, found, received_at=now)


def entry(folder: Path, kind: str, rest: str, account: str = "tv", **alert: Any) -> dict[str, Any]:
    """What is said of the one order of an entry's template."""
    text = ENTRY.format(account=account, symbol=AT.get(account, "ESZ6")) + f"  kind: {kind}\n{rest}"
    said = said_of(folder, text, {"time": "2026-11-20T15:30:00Z", "price": 5300, **alert})
    assert said["state"] == "accepted", said
    (order,) = said["orders"]
    return dict(order)


# -- kinds -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "rest", "alert", "words"), [
    ("plain", "  type: market\n", {"side": "buy"}, ["buys 2 ESZ6 at market: at whatever price it gets"]),
    ("plain", "  type: market\n", {"side": "sell"}, ["sells 2 ESZ6 at market: at whatever price it gets"]),
    ("plain", LIMIT, {"side": "buy"}, ["buys 2 ESZ6 with a limit at 5300 (that or lower)"]),
    ("plain", LIMIT, {"side": "sell"}, ["sells 2 ESZ6 with a limit at 5300 (that or higher)"]),
    ("plain", '  type: stop\n  stop_price: "{{ alert.price }}"\n', {"side": "buy"},
     ["buys 2 ESZ6 with a stop at 5300: once it trades there or higher, at market"]),
    ("plain", '  type: stop\n  stop_price: "{{ alert.price }}"\n', {"side": "sell"},
     ["sells 2 ESZ6 with a stop at 5300: once it trades there or lower, at market"]),
    ("plain", '  type: stop_limit\n  stop_price: "{{ alert.price }}"\n  price: 5301\n', {"side": "buy"},
     ["buys 2 ESZ6 with a stop at 5300 and a limit at 5301: once it trades at 5300 or higher, at 5301 or lower"]),
    ("plain", '  type: mit\n  price: "{{ alert.price }}"\n', {"side": "buy"},
     ["buys 2 ESZ6 if touched at 5300: once it trades there or lower, at market"]),
    ("plain", '  type: trailing_stop\n  stop_price: "{{ alert.price }}"\n  trail: 4\n', {"side": "sell"},
     ["sells 2 ESZ6 with a trailing stop that begins at 5300 and follows the market 4 behind it; once touched, at market"]),
])
def test_a_plain_order_says_how_it_is_filled_and_that_no_stop_goes_with_it(
        tmp_path: Path, kind: str, rest: str, alert: dict[str, Any], words: list[str]) -> None:
    assert entry(tmp_path, kind, rest, **alert)["does"] == [
        *words, "no stop goes with it: this order by itself does not limit what can be lost"]


@pytest.mark.parametrize(("alert", "words"), [
    ({"side": "buy", "stop": 5295, "target": 5310},
     "when it fills, a stop at 5295 (20 ticks below, 500 USD lost if it fills there) and a target at 5310 (40 ticks above, "
     "+1,000 USD) rest; one cancels the other"),
    ({"side": "sell", "stop": 5305, "target": 5290},
     "when it fills, a stop at 5305 (20 ticks above, 500 USD lost if it fills there) and a target at 5290 (40 ticks below, "
     "+1,000 USD) rest; one cancels the other"),
    ({"side": "buy", "stop": 5299.75}, "when it fills, a stop at 5299.75 (1 tick below, 25 USD lost if it fills there) rests"),
])
def test_an_oso_says_what_rests_when_it_fills_and_what_that_is_in_money(
        tmp_path: Path, alert: dict[str, Any], words: str) -> None:
    assert entry(tmp_path, "oso", LIMIT + LEGS, **alert)["does"][1:] == [words]


def test_a_target_alone_does_not_hide_that_nothing_limits_the_loss(tmp_path: Path) -> None:
    does = entry(tmp_path, "oso", LIMIT + LEGS, side="buy", target=5310)["does"]

    assert does[1] == "when it fills, a target at 5310 (40 ticks above, +1,000 USD) rests"
    assert does[2].startswith("no stop goes with it")


def test_a_cover_has_its_stop_and_one_that_trails_says_so(tmp_path: Path) -> None:
    fixed = entry(tmp_path, "cover", LIMIT + '  stop_loss: {price: "{{ alert.stop }}"}\n', side="buy", stop=5298)
    trailing = entry(tmp_path, "cover", LIMIT + '  trail: 3\n  stop_loss: {price: "{{ alert.stop }}"}\n', side="sell", stop=5303)

    assert fixed["does"][1] == "when it fills, a stop at 5298 (8 ticks below, 200 USD lost if it fills there) rests"
    assert trailing["does"][1] == ("when it fills, a trailing stop at 5303 following the market 3 behind it (12 ticks above, "
                                   "300 USD lost if it fills there) rests")


def test_distances_of_a_market_entry_count_from_the_fill_and_that_is_said(tmp_path: Path) -> None:
    order = entry(tmp_path, "oso", "  type: market\n  stop_loss: {ticks: 20}\n  take_profit: {points: 10}\n", side="buy")

    assert order["does"] == [
        "buys 2 ESZ6 at market: at whatever price it gets",
        "when it fills, a stop 20 ticks below the fill (5 points, 500 USD lost if it fills there) and a target 40 ticks "
        "above the fill (10 points, +1,000 USD) rest; one cancels the other"]
    assert "distances of stop and target count from the fill, wherever that is" in order["assumed"]
    assert order["money"] == []


def test_a_stop_with_a_limit_is_reckoned_at_its_limit(tmp_path: Path) -> None:
    order = entry(tmp_path, "oso", LIMIT + '  stop_loss: {type: stop_limit, stop_price: "{{ alert.stop }}", price: 5294}\n',
                  side="buy", stop=5295)

    assert order["figures"]["exits"] == [{"role": "stop_loss", "points": 6, "money": 600, "currency": "USD", "ticks": 24}]
    assert "a stop at 5295 with a limit at 5294 (24 ticks below, 600 USD lost" in order["does"][1]


def test_an_oco_tells_both_halves_and_what_happens_without_a_position(tmp_path: Path) -> None:
    both = entry(tmp_path, "oco", LIMIT + '  other: {type: stop, stop_price: "{{ alert.stop }}"}\n', side="sell", stop=5290)
    straddle = entry(tmp_path, "oco", '  type: stop\n  stop_price: "{{ alert.price }}"\n'
                     '  other: {side: sell, type: stop, stop_price: "{{ alert.stop }}"}\n', side="buy", stop=5290)

    assert both["does"] == [
        "rests two orders, of which one cancels the other:", "either it sells 2 ESZ6 with a limit at 5300 (that or higher)",
        "or it sells 2 ESZ6 with a stop at 5290: once it trades there or lower, at market",
        "both are meant to end a position that stands; where none stands, the one that fills opens one"]
    assert straddle["does"][2:] == ["or it sells 2 ESZ6 with a stop at 5290: once it trades there or lower, at market",
                                    "whichever fills is a new position, and no stop goes with it"]


@pytest.mark.parametrize(("rest", "words"), [
    ("kind: close\n  symbol: ESZ6\n",
     ["closes the whole position in ESZ6, if one stands, at market: at whatever price it gets", "nothing open counts as done"]),
    ("kind: cancel\n  ref: mine\n", ["withdraws the newest order named 'mine' (its `ref`) that has not ended",
                                     "the legs of an entry that has filled stay, and so does its position"]),
    ("kind: cancel\n  symbol: ESZ6\n  legs: true\n",
     ["withdraws every order of ours on ESZ6 that has not ended",
      "the legs of a filled entry are withdrawn too: its position then stands without a stop"]),
    ("kind: cancel\n  options: {orderId: 77}\n", ["withdraws the broker's order orderId 77",
                                                  "the legs of an entry that has filled stay, and so does its position"]),
])
def test_a_cancel_and_a_close_say_what_they_touch(tmp_path: Path, rest: str, words: list[str]) -> None:
    said = said_of(tmp_path, f"account: tv\nalert: {{a: text}}\norder:\n  {rest}", {"a": "x"})

    (order,) = said["orders"]
    assert order["does"] == words
    assert order["good_for"] == ["sent within 15 min of its receipt or never"]
    assert any("not looked at here" in each for each in order["assumed"])


def test_a_close_warns_of_what_its_broker_does_to_other_orders(tmp_path: Path) -> None:
    text = "account: {}\nalert: {{a: text}}\norder: {{kind: close, symbol: {}}}\n"

    tradovate = said_of(tmp_path, text.format("tv", "ESZ6"), {"a": "x"})["orders"][0]
    crosstrade = said_of(tmp_path, text.format("nt", "ES 12-26"), {"a": "x"})["orders"][0]

    assert tradovate["broker"] == ["it cancels every order on that contract in the account, those that you placed by hand too"]
    assert crosstrade["broker"] == ["our own orders on it are cancelled first; orders that you placed by hand stay"]


# -- brokers -----------------------------------------------------------------------------------------------------------


def test_exits_that_an_atm_template_owns_are_not_made_up(tmp_path: Path) -> None:
    order = entry(tmp_path, "oso", "  type: market\n  options: {strategy: ES Scalp}\n", "nt", side="buy")

    assert order["does"] == ["buys 2 ES 12-26 at market: at whatever price it gets",
                             "its stop and target are not Bridge's: they are what the broker keeps under strategy ES Scalp"]
    assert order["figures"] == {"exits": []}


@pytest.mark.parametrize(("side", "stop", "target", "words"), [
    ("buy", 12, 15, "a stop at 12 (1 point below, 2 INR lost if it fills there) and a target at 15 (2 points above, +4 INR)"),
    ("sell", 13.5, 12, "a stop at 13.5 (0.5 points above, 1 INR lost if it fills there) and a target at 12 (1 point below, +2 INR)"),
])
def test_indian_shares_are_reckoned_in_rupees(tmp_path: Path, side: str, stop: float, target: float, words: str) -> None:
    order = entry(tmp_path, "oso", LIMIT + LEGS + NSE, "pf", side=side, price=13, stop=stop, target=target)

    assert words in order["does"][1]
    assert order["money"] == ["worth 26 INR at 13"]


def test_what_cannot_be_reckoned_in_money_says_why(tmp_path: Path) -> None:
    commodity = '  options: {exchange: MCX, instrument_token: "14366"}\n'

    order = entry(tmp_path, "oso", LIMIT + LEGS + commodity, "pf", side="buy", price=13, stop=12, target=15)

    assert order["money"] == ["not known: Bridge does not know what a point of IDEA-EQ is worth"]
    assert "INR" not in order["does"][1]


# -- accounts, time ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("account", "template", "words"), [
    ("tv", "", "tv (tradovate, sandbox, DEMO123456): paper, no real money moves"),
    ("live", "", "live (tradovate, live, 7): REAL MONEY CAN MOVE"),
    ("watched", "", "watched (tradovate, live, 8): dry_run, nothing is sent; the exact calls are put on record"),
    ("live", "dry_run: true\n", "live (tradovate, live, 7): dry_run, nothing is sent; the exact calls are put on record"),
])
def test_it_is_said_whether_real_money_can_move(tmp_path: Path, account: str, template: str, words: str) -> None:
    text = f"{template}account: {account}\nalert: {{a: text}}\norder: {{kind: plain, symbol: ESZ6, side: buy, quantity: 1, type: market}}\n"

    assert f"At {words}" in list(lines_of(said_of(tmp_path, text, {"a": "x"})))


@pytest.mark.parametrize(("rest", "words"), [
    ("", ["good for the day: the exchange's trading day that Friday 2026-11-20 15:30 UTC falls in",
          "the legs end with that day: a position held longer stands without them"]),
    ("  time_in_force: gtc\n", ["good until it is cancelled"]),
    ("  time_in_force: ioc\n", ["immediate or cancel: what does not fill at once is cancelled",
                                "its legs: good until it is cancelled"]),
    ('  time_in_force: gtd\n  expire_time: "2026-11-21T00:00:00Z"\n', ["good until 2026-11-21 00:00:00 UTC",
                                                                     "its legs: good until it is cancelled"]),
])
def test_it_is_said_how_long_an_order_and_its_legs_are_good(tmp_path: Path, rest: str, words: list[str]) -> None:
    order = entry(tmp_path, "oso", LIMIT + LEGS + rest, side="buy", stop=5295, target=5310)

    assert order["good_for"] == ["sent within 60 s of the time in the alert or never: 59 s are left", *words]


def test_an_alert_that_is_too_old_shows_what_it_would_have_been(tmp_path: Path) -> None:
    text = ENTRY.format(account="tv", symbol="ESZ6") + f"  kind: plain\n{LIMIT}"

    said = said_of(tmp_path, text, {"side": "buy", "price": 5300, "time": "2026-11-20T15:30:00Z"}, now=NOW + timedelta(minutes=2))

    lines = list(lines_of(said))
    assert said["state"] == "refused" and "Nothing would be sent: refused." in lines
    assert any(line.startswith("  NOT SENT (expired): too old: sent 2 min before") for line in lines)
    assert any("(2 min before it is received)" in line for line in lines) or any("121 s before" in line for line in lines)


def test_an_alert_without_a_time_of_its_own_says_so(tmp_path: Path) -> None:
    said = said_of(tmp_path, "account: tv\nalert: {a: text}\norder: {kind: close, symbol: ESZ6}\n", {"a": "x"})

    assert said["assumed"][0].startswith("the template reads no time from the alert")
    assert said["assumed"][1] == "an alert with the same body within 30 s is a duplicate and makes nothing"


# -- guards and sizes ----------------------------------------------------------------------------------------------------


def test_a_guard_that_refuses_is_named_beside_what_it_refused(tmp_path: Path) -> None:
    text = ENTRY.format(account="tv", symbol="ESZ6") + f"  kind: plain\n{LIMIT}guards: {{max_quantity: 1}}\n"

    said = said_of(tmp_path, text, {"side": "buy", "price": 5300, "time": "2026-11-20T15:30:00Z"})

    (order,) = said["orders"]
    lines = list(lines_of(said))
    assert said["state"] == "refused" and order["state"] == "refused" and "max_quantity" in order["reason"]
    assert f"  NOT SENT (refused): {order['reason']}" in lines
    assert lines[lines.index("  it would be this:") + 1] == "  buys 2 ESZ6 with a limit at 5300 (that or lower)"


def test_guards_that_count_are_told_to_be_counted_later(tmp_path: Path) -> None:
    text = ENTRY.format(account="tv", symbol="ESZ6") + f"  kind: plain\n{LIMIT}guards: {{max_orders_per_minute: 2}}\n"

    said = said_of(tmp_path, text, {"side": "buy", "price": 5300, "time": "2026-11-20T15:30:00Z"})

    assert said["orders"][0]["guards"] == [
        "max_orders_per_minute of the template lets 2 through a minute: counted when it is queued, not here"]


def test_a_size_by_risk_and_an_accounts_own_size_are_said_to_be_so(tmp_path: Path) -> None:
    entry_of = ENTRY.replace("  quantity: 2\n", "") + "  kind: oso\n" + LIMIT.replace("{", "{{").replace("}", "}}")
    alert = {"side": "buy", "price": 5300, "time": "2026-11-20T15:30:00Z"}
    risk = entry_of.format(account="tv", symbol="ESZ6") + "  risk: {money: 600}\n  stop_loss: {points: 5}\n"
    times = entry_of.format(account="[{name: tv, multiplier: 2}]", symbol="ESZ6") + "  quantity: 3\n  stop_loss: {points: 5}\n"

    by_risk, doubled = said_of(tmp_path, risk, alert)["orders"][0], said_of(tmp_path, times, alert)["orders"][0]

    assert by_risk["does"][0].startswith("buys 2 ESZ6") and "500 USD lost" in by_risk["does"][1]
    assert "2 is as many as the `risk` of the template allows at the stop, rounded down" in by_risk["assumed"]
    assert doubled["does"][0].startswith("buys 6 ESZ6")
    assert "its size is 2 times the alert's at this account, rounded down to 6" in doubled["assumed"]


def test_a_size_that_comes_to_nothing_is_no_order_of_none(tmp_path: Path) -> None:
    text = ENTRY.format(account="[{name: tv, multiplier: 0.1}]", symbol="ESZ6") + f"  kind: plain\n{LIMIT}"

    said = said_of(tmp_path, text, {"side": "buy", "price": 5300, "time": "2026-11-20T15:30:00Z"})

    assert said["state"] == "refused" and said["orders"][0]["does"] == []
    assert not any("buys 0" in line or "would be this" in line for line in lines_of(said))


# -- what is not ordered -------------------------------------------------------------------------------------------------

WHEN = """
account: tv
alert: {{side: side, size: integer, secret: {{type: text, optional: true}}}}
{when}
order: {{kind: plain, symbol: ESZ6, side: "{{{{ alert.side }}}}", quantity: "{{{{ alert.size }}}}", type: market}}
"""


def test_a_skipped_alert_names_the_part_of_its_condition_that_was_false(tmp_path: Path) -> None:
    text = WHEN.format(when="when: 'alert.side == \"buy\" and alert.size <= 5'")

    said = said_of(tmp_path, text, {"side": "buy", "size": 50})

    assert said["state"] == "skipped" and said["orders"] == []
    assert said["left_out"] == [{"what": "the whole template", "when": 'alert.side == "buy" and alert.size <= 5', "false": [
        {"part": "alert.size <= 5", "value": False, "reads": {"size": Decimal(50)}}]}]
    assert "  false: alert.size <= 5   (alert.size is 50)" in list(lines_of(said))


def test_the_orders_of_a_list_that_are_left_out_are_named(tmp_path: Path) -> None:
    text = ("account: tv\nalert: {do: text}\norders:\n"
            "  - {kind: close, symbol: ESZ6, when: 'alert.do == \"exit\"'}\n"
            "  - {kind: cancel, ref: mine, when: 'alert.do in (\"exit\", \"cancel\")'}\n")

    said = said_of(tmp_path, text, {"do": "cancel"})

    assert [order["kind"] for order in said["orders"]] == ["cancel"]
    assert [each["what"] for each in said["left_out"]] == ["order 1 (close)"]


@pytest.mark.parametrize(("source", "parts"), [
    ("alert.a", ["alert.a"]),
    ("alert.a and alert.b", ["alert.a", "alert.b"]),
    ("alert.a and (alert.b or alert.c)", ["alert.a", "(alert.b or alert.c)"]),
    ("alert.a and alert.b or alert.c", ["alert.a and alert.b", "alert.c"]),
    ("alert.a == ' and ' and alert.b", ["alert.a == ' and '", "alert.b"]),
    ("alert.a if alert.b and alert.c else alert.d", ["alert.a if alert.b and alert.c else alert.d"]),
    ("alert.android and alert.order", ["alert.android", "alert.order"]),
])
def test_a_condition_is_taken_apart_only_where_it_falls_apart(source: str, parts: list[str]) -> None:
    assert parts_of(source) == parts


def test_a_wrong_alert_is_shown_field_by_field_as_it_was_read(tmp_path: Path) -> None:
    said = said_of(tmp_path, WHEN.format(when=""), {"side": "up", "size": "2"})

    assert said["state"] == "invalid"
    assert said["fields"] == [
        {"name": "side", "type": "side", "raw": '"up"',
         "fault": "'up' is no side: expected buy or sell (or long/short, 1/-1)"},
        {"name": "size", "type": "integer", "raw": '"2"', "value": Decimal(2)}, {"name": "secret", "type": "text"}]
    assert "Nothing would be ordered: the alert is at fault." in list(lines_of(said))


@pytest.mark.parametrize("body", ["", "[1]", '{"side": "buy",', "BUY 2"])
def test_a_body_that_cannot_be_read_is_said_to_be(tmp_path: Path, body: str) -> None:
    said = said_of(tmp_path, WHEN.format(when=""), body)

    assert said["state"] == "invalid" and said["faults"] and said["fields"] == []
    assert list(lines_of(said))


def test_an_order_rule_that_is_broken_is_told_with_its_field(tmp_path: Path) -> None:
    said = said_of(tmp_path, WHEN.format(when=""), {"side": "buy", "size": 0})

    assert said["faults"] == [{"field": "order.quantity", "message": "0 must be above zero (from alert.size)"}]


# -- secrets, and the command itself ---------------------------------------------------------------------------------------


def test_a_field_that_is_called_a_secret_is_never_shown(tmp_path: Path) -> None:
    said = said_of(tmp_path, WHEN.format(when=""), {"side": "buy", "size": 1, "secret": "leak-me"})

    assert "leak-me" not in str(said) and "leak-me" not in "\n".join(lines_of(said))


@pytest.mark.parametrize(("name", "value", "shown"), [
    ("secret", "x", "***"), ("api_key", "x", "***"), ("email_token", "x-1", "***"), ("passphrase", "x", "***"),
    ("token", "14366", "14366"), ("token", '"14366"', '"14366"'), ("ticker", "ES1!", "ES1!"), ("monkey", "x", "x"),
    ("secret", None, None)])
def test_names_tell_what_is_secret(name: str, value: Any, shown: Any) -> None:
    assert hidden(name, value) == shown


def bridge(*arguments: str, stdin: str = "") -> Result:
    environ = {"BRIDGE_TEMPLATES": str(ROOT / "templates"), "BRIDGE_ACCOUNTS": str(ROOT / "accounts.yaml"),
               "BRIDGE_DATA": "/nonexistent"}
    return CliRunner().invoke(main, list(arguments), input=stdin, env=environ)


BREAKOUT = {"ticker": "ES1!", "action": "buy", "contracts": 2, "price": "5300.30", "time": "2026-11-20T15:30:00Z"}


def test_the_command_says_the_whole_in_words() -> None:
    result = bridge("explain", "es_breakout", "--alert", "-", "--now", "2026-11-20T15:30:01Z", stdin=json.dumps(BREAKOUT))

    assert result.exit_code == 0
    assert result.stdout == """\
es_breakout: ES breakout with stop and target

The alert as it is read (JSON):
  ticker     "ES1!"                  → text     ES1!
  action     "buy"                   → side     buy
  contracts  2                       → integer  2
  price      "5300.30"               → number   5300.30
  time       "2026-11-20T15:30:00Z"  → time     2026-11-20T15:30:00Z (1 s before it is received)

It makes 1 order.

At tradovate-demo (tradovate, sandbox, DEMO123456): paper, no real money moves
  buys 2 ESZ6 with a limit at 5300.25 (that or lower)
  when it fills, a stop at 5295.25 (20 ticks below, 500 USD lost if it fills there) and a target at 5310.25 (40 ticks \
above, +1,000 USD) rest; one cancels the other
  money:   worth 530,025 USD at 5300.25
  time:    sent within 60 s of the time in the alert or never: 59 s are left
  time:    good for the day: the exchange's trading day that Friday 2026-11-20 15:30 UTC falls in
  time:    the legs end with that day: a position held longer stands without them
  assumed: ESZ6 is what `contract` makes of the alert's symbol on 2026-11-20
  assumed: the entry fills at 5300.25
  assumed: a stop can fill worse than its price; fees are not counted
  assumed: a tick of ESZ6 is 0.25, a point is worth 50 USD

Note: an alert with the same body within 30 s is a duplicate and makes nothing.
"""


def test_the_command_prints_its_data_and_ends_with_1_for_a_wrong_alert() -> None:
    sound = bridge("explain", "es_breakout", "--alert", "-", "--now", "2026-11-20T15:30:01Z", "--json", stdin=json.dumps(BREAKOUT))
    wrong = bridge("explain", "es_breakout", "--alert", "-", "--json", stdin='{"action": "flat"}')

    assert sound.exit_code == 0 and json.loads(sound.stdout)["orders"][0]["figures"]["worth"] == 530025
    assert wrong.exit_code == 1 and json.loads(wrong.stdout)["state"] == "invalid"


def test_money_and_spans_are_written_as_people_write_them() -> None:
    assert [in_money(Decimal(value), "USD") for value in ("1000", "62.5", "1E+3", "0.005")] == [
        "1,000 USD", "62.50 USD", "1,000 USD", "0.01 USD"]
    assert [span(ms) for ms in (0, 1_500, 60_000, 119_900, 120_000, 900_000, 5_400_000, 86_400_000, 172_800_000)] == [
        "0 s", "1.5 s", "60 s", "119.9 s", "2 min", "15 min", "90 min", "24 h", "2 days"]
