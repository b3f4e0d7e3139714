"""How many: by risk, times an account's multiplier, in an account's own products; rounded down, and never to nothing for a
way out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.accounts import Accounts, load_accounts
from bridge.alert import read_body
from bridge.errors import AlertError, FileFaults
from bridge.futures import FUTURES
from bridge.numbers import dump_json
from bridge.order import Leg, Order, Product
from bridge.rendering import Rendered
from bridge.sizing import AccountUse, by_risk, mapped, scaled, stop_distance
from bridge.template import Template, load_template

NOW = datetime(2026, 11, 20, 15, 30, 1, tzinfo=UTC)
ACCOUNTS = """
accounts:
  full: {broker: tradovate, environment: sandbox, account: A, account_id: 1}
  half: {broker: tradovate, environment: sandbox, account: B, account_id: 2}
  nt8: {broker: crosstrade, environment: sandbox, account: Sim101}
  odd: {broker: tradovate, environment: sandbox, account: C, account_id: 3, products: {XX: {tick: 1}}}
  india: {broker: pocketful, environment: sandbox, client_id: AB1, options: {stop_loss_value: price}}
"""
FIELDS = """
alert: {ticker: text, action: side, contracts: number, price: number, stop: {type: number, optional: true},
        money: {type: number, optional: true}}
"""
HEAD = f"account: full\n{FIELDS}"
WHAT = 'symbol: "{{ alert.ticker | contract }}", side: "{{ alert.action }}"'
LIMIT = f'{WHAT}, type: limit, price: "{{{{ alert.price }}}}"'
ALERT = {"ticker": "ES1!", "action": "buy", "contracts": 3, "price": "5300.25"}
Load = Callable[..., Template]


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Accounts:
    path = tmp_path_factory.mktemp("accounts") / "accounts.yaml"
    path.write_text(ACCOUNTS)
    found = load_accounts(path, {})
    assert not found.faults
    return found


@pytest.fixture
def load(tmp_path: Path, accounts: Accounts) -> Load:
    def load(order: str, head: str = HEAD) -> Template:
        (tmp_path / "t.yaml").write_text(f"{head}order: {{{order}}}\n" if order else head)
        return load_template(tmp_path / "t.yaml", accounts)
    return load


def render(template: Template, **alert: Any) -> Rendered:
    body = read_body(dump_json({**ALERT, **alert}).encode())
    return template.render(template.read(body), body, received_at=NOW)


def sizes(template: Template, **alert: Any) -> dict[str, tuple[str | None, Decimal | None, str]]:
    """Symbol, quantity and refusal of each account's order."""
    return {each.account: (each.order.symbol, each.order.quantity, each.refused)
            for each in render(template, **alert).orders}


def faults(load: Load, order: str, head: str = HEAD) -> str:
    with pytest.raises(FileFaults) as refused:
        load(order, head)
    return str(refused.value)


def alert_fault(template: Template, **alert: Any) -> str:
    with pytest.raises(AlertError) as refused:
        render(template, **alert)
    return str(refused.value)


# -- times an account's multiplier -----------------------------------------------------------------------------------


def test_each_account_gets_its_share_rounded_down(load: Load) -> None:
    head = f"account: [full, {{name: half, multiplier: 0.5}}, {{name: nt8, multiplier: 2}}]\n{FIELDS}"

    found = sizes(load(f'kind: plain, {LIMIT}, quantity: "{{{{ alert.contracts }}}}"', head))

    assert found == {"full": ("ESZ6", 3, ""), "half": ("ESZ6", 1, ""), "nt8": ("ES 12-26", 6, "")}


def test_a_share_that_is_less_than_one_is_refused_while_the_other_accounts_go_on(load: Load) -> None:
    head = f"account: [full, {{name: half, multiplier: 0.5}}]\n{FIELDS}"

    found = sizes(load(f"kind: plain, {LIMIT}, quantity: 1", head))

    assert found["full"] == ("ESZ6", 1, "")
    assert found["half"] == ("ESZ6", 0, "size: 0.5 × 1 contract is less than one")


def test_a_quantity_that_is_not_whole_is_a_fault_of_the_alert_even_where_its_share_would_be_whole(load: Load) -> None:
    template = load(f'kind: plain, {LIMIT}, quantity: "{{{{ alert.contracts }}}}"',
                    f"account: {{name: half, multiplier: 2}}\n{FIELDS}")

    assert "1.5 must be a whole number" in alert_fault(template, contracts="1.5")


def test_an_order_that_names_an_account_keeps_what_the_template_says_of_it_unless_it_says_otherwise(load: Load) -> None:
    text = f"account: [{{name: half, multiplier: 0.5, symbols: {{ES: MES}}}}, full]\n{FIELDS}orders:\n" + "".join(
        f"  - {{kind: plain, {LIMIT}, quantity: 4{own}}}\n"
        for own in ("", ", account: half", ", account: {name: half, multiplier: 1}"))

    orders = render(load("", text)).orders

    assert [(each.account, each.order.symbol, each.order.quantity) for each in orders] == [
        ("half", "MESZ6", 2), ("full", "ESZ6", 4), ("half", "MESZ6", 2), ("half", "MESZ6", 4)]


def test_a_close_has_no_size_and_is_sent_to_every_account(load: Load) -> None:
    head = f"account: [full, {{name: half, multiplier: 0.001, symbols: {{ES: MES}}}}]\n{FIELDS}"

    assert sizes(load('kind: close, symbol: "{{ alert.ticker | contract }}"', head)) == {
        "full": ("ESZ6", None, ""), "half": ("MESZ6", None, "")}


@given(quantity=st.integers(1, 10**9), times=st.decimals("0.0001", "1000", places=4), lot=st.sampled_from([None, 1, 25, 75]))
def test_a_share_is_never_more_than_was_said_and_less_than_one_step_under_it(quantity: int, times: Decimal,
                                                                             lot: int | None) -> None:
    use, product, step = AccountUse(name="a", multiplier=times), Product(lot=lot), lot or 1

    found = scaled(Decimal(quantity), use, product, is_exit=False, unit="contract")

    if times != 1:
        assert 0 <= quantity * times - found.quantity < step and found.quantity % step == 0
    assert bool(found.refused) == (found.quantity == 0)


@given(quantity=st.integers(1, 10**6), times=st.decimals("0.0001", "1000", places=4), lot=st.sampled_from([None, 25]))
def test_a_way_out_is_never_rounded_down_to_nothing(quantity: int, times: Decimal, lot: int | None) -> None:
    found = scaled(Decimal(quantity), AccountUse(name="a", multiplier=times), Product(lot=lot), is_exit=True, unit="")

    assert found.quantity >= (lot or 1 if times != 1 else 1) and not found.refused


# -- by risk ---------------------------------------------------------------------------------------------------------


def test_the_quantity_is_what_the_risk_buys_at_the_stop(load: Load) -> None:
    order = f"kind: oso, {LIMIT}, stop_loss: {{ticks: 20}}, risk: {{money: 1100}}"

    assert sizes(load(order)) == {"full": ("ESZ6", 4, "")}  # 20 ticks are 5 points of 50
    assert sizes(load(order), ticker="MES1!") == {"full": ("MESZ6", 44, "")}
    assert load(order).rules[0].risk is not None


@pytest.mark.parametrize(("stop", "money", "expected"), [
    ("stop_loss: {price: '{{ alert.stop }}'}", "500", 1), ("stop_loss: {points: 10}", "1499.99", 2),
    ("stop_loss: {type: stop_limit, stop_price: 5295.25, price: 5290.25}", "999", 1),
    ("stop_loss: {type: trailing_stop, points: 5, trail: 10}", "999", 1)])
def test_the_distance_is_the_worst_that_the_stop_can_mean(load: Load, stop: str, money: str, expected: int) -> None:
    found = sizes(load(f"kind: oso, {LIMIT}, {stop}, risk: {{money: {money}}}"), stop="5290.25")

    assert found["full"][1] == expected


def test_of_a_stop_limit_entry_the_worse_price_counts() -> None:
    order = Order(kind="oso", symbol="ESZ6", side="buy", type="stop_limit", price=Decimal(5302), stop_price=Decimal(5300))
    stop = Leg(role="stop_loss", side="sell", type="stop", stop_price=Decimal(5290))

    assert stop_distance(order, stop, None) == 12


def test_the_risk_is_shared_by_the_multiplier_in_the_accounts_own_product(load: Load) -> None:
    head = f"account: [full, {{name: half, multiplier: 0.5, symbols: {{ES: MES}}}}]\n{FIELDS}"

    found = sizes(load(f"kind: oso, {LIMIT}, stop_loss: {{points: 10}}, risk: {{money: 1100}}", head))

    assert found == {"full": ("ESZ6", 2, ""), "half": ("MESZ6", 11, "")}  # 1100 × 0.5 / (10 × 5)


def test_a_market_entry_whose_stop_counts_from_the_fill_is_sized_by_that_distance(load: Load) -> None:
    found = sizes(load(f"kind: oso, {WHAT}, type: market, stop_loss: {{points: 8}}, risk: {{money: 1000}}"))

    assert found["full"][1] == 2


def test_a_risk_may_be_worked_out_from_the_alert(load: Load) -> None:
    template = load(f'kind: oso, {LIMIT}, stop_loss: {{points: 10}}, risk: {{money: "{{{{ alert.money * 0.01 }}}}"}}')

    assert sizes(template, money=100_000)["full"][1] == 2
    assert "came out empty" not in alert_fault(template, money="-5")
    assert "above zero" in alert_fault(template, money="-5")


def test_a_risk_that_does_not_buy_one_contract_is_refused_with_its_figures(load: Load) -> None:
    found = sizes(load(f"kind: oso, {LIMIT}, stop_loss: {{points: 10}}, risk: {{money: 200}}",
                       f"account: {{name: half, multiplier: 0.5}}\n{FIELDS}"))

    assert found["half"] == ("ESZ6", 0, "size: one contract loses 500 at its stop (10 points × 50); the risk is 100 "
                                        "(0.5 × 200)")


@pytest.mark.parametrize(("order", "path", "words"), [
    (f"kind: oso, {LIMIT}, quantity: 1, stop_loss: {{points: 5}}, risk: {{money: 1}}", "order.risk", "in place of quantity"),
    (f"kind: oso, {LIMIT}, take_profit: {{points: 5}}, risk: {{money: 1}}", "order.risk", "needs a stop_loss"),
    (f"kind: plain, {LIMIT}, risk: {{money: 1}}", "order.risk", "use kind: oso"),
    (f"kind: oso, {LIMIT}, stop_loss: {{points: 5}}, risk: {{}}", "order.risk.money", "is missing"),
    (f"kind: oso, {LIMIT}, stop_loss: {{points: 5}}, risk: {{monney: 5}}", "order.risk.monney", "did you mean 'money'"),
    (f"kind: oso, {LIMIT}, stop_loss: {{points: 5}}, risk: {{money: 0}}", "order.risk.money", "above zero"),
    (f"kind: oso, {LIMIT}, stop_loss: {{points: 5}}, risk: 200", "order.risk", "names with values"),
    (f"kind: oso, {WHAT}, type: market, legs: absolute, stop_loss: {{price: 5290}}, risk: {{money: 1}}", "order.risk",
     "nobody knows how far"),
    (f"kind: oso, {LIMIT}, quantity: 1, stop_loss: {{points: 5}}, multiplier: 2", "order.multiplier", "beside the account")])
def test_a_wrong_risk_is_a_fault_when_the_template_loads(load: Load, order: str, path: str, words: str) -> None:
    said = faults(load, order)

    assert f" {path}: " in said and words in said


def test_a_product_whose_points_have_no_known_value_is_a_fault_that_names_where_to_give_it(load: Load) -> None:
    order = "kind: oso, symbol: %s, side: buy, type: limit, price: '{{ alert.price | tick(1) }}', stop_loss: {points: 5}, " \
            "risk: {money: 100}"

    assert "`products:`" in faults(load, order % "XXZ6", f"account: odd\n{FIELDS}")
    template = load(order % '"{{ alert.ticker | contract }}"', f"account: odd\n{FIELDS}")
    assert "`products:`" in alert_fault(template, ticker="XXZ6")


@pytest.mark.parametrize(("exchange", "expected"), [("NSE", 71), ("NFO", 71), ("MCX", None)])
def test_a_share_is_worth_its_price_and_a_commodity_in_india_is_not_guessed(load: Load, exchange: str,
                                                                           expected: int | None) -> None:
    template = load('kind: oso, symbol: SBIN, side: buy, type: limit, price: "{{ alert.price }}", risk: {money: 500}, '
                    'stop_loss: {price: "{{ alert.stop }}"}, take_profit: {points: 10}, '
                    f'options: {{product: MIS, exchange: {exchange}, instrument_token: 3045}}', f"account: india\n{FIELDS}")

    if expected is None:
        assert "give a quantity in place of it" in alert_fault(template, price=800, stop=793)
    else:
        assert sizes(template, price=800, stop=793)["india"][1] == expected


def test_an_alert_without_its_stop_is_a_fault_and_no_guess(load: Load) -> None:
    template = load(f"kind: oso, {LIMIT}, stop_loss: {{price: '{{{{ alert.stop }}}}'}}, take_profit: {{points: 5}}, "
                    "risk: {money: 1000}")

    assert sizes(template, stop="5290.25")["full"][1] == 2
    assert "needs a stop_loss" in alert_fault(template)


_SIZES = st.decimals("0.01", "1000000", places=2)


@given(money=_SIZES, times=st.decimals("0.01", "100", places=2), distance=st.decimals("0.01", "10000", places=2),
       value=st.decimals("0.1", "100000", places=1), lot=st.sampled_from([None, 1, 25]))
def test_a_size_never_loses_more_than_the_risk_and_one_more_would(money: Decimal, times: Decimal, distance: Decimal,
                                                                  value: Decimal, lot: int | None) -> None:
    size = by_risk(_entry(distance), money, AccountUse(name="a", multiplier=times), Product(lot=lot), value, base=None,
                   unit="contract")

    assert size.quantity * distance * value <= money * times < (size.quantity + (lot or 1)) * distance * value
    assert bool(size.refused) == (size.quantity == 0)


@given(money=st.tuples(_SIZES, _SIZES), distance=st.tuples(_SIZES, _SIZES), value=_SIZES)
def test_more_risk_never_buys_less_and_a_wider_stop_never_more(money: tuple[Decimal, Decimal],
                                                               distance: tuple[Decimal, Decimal], value: Decimal) -> None:
    def size(risk: Decimal, wide: Decimal) -> Decimal:
        return by_risk(_entry(wide), risk, AccountUse(name="a"), Product(), value, base=None, unit="").quantity

    less, more = sorted(money)
    near, far = sorted(distance)

    assert size(less, near) <= size(more, near) and size(less, far) <= size(less, near)


def _entry(distance: Decimal) -> Order:
    stop = Leg(role="stop_loss", side="sell", type="stop", stop_price=Decimal(1_000_000) - distance)
    return Order(kind="oso", symbol="ESZ6", side="buy", type="limit", price=Decimal(1_000_000), stop_loss=stop)


# -- symbols ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("symbol", "expected"), [
    ("NQ1!", "MNQ1!"), ("CME_MINI:NQ1!", "CME_MINI:MNQ1!"), ("NQZ2026", "MNQZ2026"), ("NQ 12-26", "MNQ 12-26"),
    ("NQ", "MNQ"), ("nq2!", "MNQ2!"), ("ES1!", "ES1!"), ("ESZ6", "MESH7"), ("CME_MINI:ESZ6", "CME_MINI:MESH7"), ("AAPL", "AAPL"),
    ("NQX", "NQX")])
def test_a_map_names_products_or_whole_symbols_and_leaves_the_rest(symbol: str, expected: str) -> None:
    assert mapped(symbol, {"NQ": "MNQ", "ESZ6": "MESH7"}, FUTURES) == expected


def test_a_map_is_applied_once_with_and_without_the_contract_filter(load: Load) -> None:
    head = f"account: {{name: half, symbols: {{ES: NQ, NQ: ES}}}}\n{FIELDS}"

    for symbol in ('"{{ alert.ticker | contract }}"', "ESZ6", '"{{ alert.ticker }}"'):
        template = load(f"kind: plain, symbol: {symbol}, side: buy, quantity: 1, type: market", head)
        assert sizes(template, ticker="ESZ6")["half"][0] == "NQZ6"


def test_shares_are_mapped_by_their_whole_name(load: Load) -> None:
    head = f"account: {{name: india, symbols: {{INFY: TCS}}}}\n{FIELDS}"
    order = ('kind: plain, symbol: "{{ alert.ticker | contract }}", side: buy, quantity: 1, type: market, '
             'options: {product: CNC, exchange: NSE, instrument_token: 1594}')

    assert sizes(load(order, head), ticker="NSE:INFY")["india"][0] == "NSE:TCS"


@pytest.mark.parametrize(("symbols", "words"), [
    ("{NQ: MNX}", "did you mean"), ("{NQQ: MNQ}", "did you mean 'NQ'"), ("{NQ: MNQZ6}", "no product"),
    ("{NQZ6: MNQQQ}", "no product or contract"), ("{NQ: 5}", "written out"), ("[NQ]", "written out"),
    ("{NQ: '{{ alert.ticker }}'}", "written out")])
def test_a_map_of_what_nobody_knows_is_a_fault_when_the_template_loads(load: Load, symbols: str, words: str) -> None:
    head = f"account: [full, {{name: half, symbols: {symbols}}}]\n{FIELDS}"

    said = faults(load, f"kind: plain, {LIMIT}, quantity: 1", head)

    assert words in said and " account.1.symbols" in said


@pytest.mark.parametrize(("account", "path", "words"), [
    ("{name: half, multiplier: -1}", "account.multiplier", "above zero"),
    ("{name: half, multiplier: '{{ alert.price }}'}", "account.multiplier", "written out"),
    ("{name: half, multiplier: 5000}", "account.multiplier", "more than 1000"),
    ("{multiplier: 2}", "account.name", "is missing"), ("{name: half, multiplyer: 2}", "account.multiplyer", "did you mean"),
    ("[full, {name: full, multiplier: 2}]", "account.1", "twice"), ("[5]", "account.0", "expected an account's name")])
def test_a_wrong_share_is_a_fault_when_the_template_loads(load: Load, account: str, path: str, words: str) -> None:
    said = faults(load, f"kind: plain, {LIMIT}, quantity: 1", f"account: {account}\n{FIELDS}")

    assert f" {path}: " in said and words in said
