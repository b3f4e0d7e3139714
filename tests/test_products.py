"""`products:` and `roll:` in accounts.yaml: what an account knows of what it trades, and when it goes to the next month."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.accounts import Accounts, load_accounts
from bridge.alert import read_body
from bridge.contracts import contract, contract_key, full_year, parse_symbol, product_of, same_contract
from bridge.errors import AlertError
from bridge.futures import EXPIRY_RULES, FUTURES, MONTHS, Roll
from bridge.products import read_products
from bridge.template import load_template

TODAY = date(2026, 11, 20)
HEAD = """
accounts:
  one: {broker: tradovate, environment: sandbox, account: A, account_id: 1%s}
  two: {broker: crosstrade, environment: sandbox, account: Sim101%s}
  india: {broker: pocketful, environment: sandbox, client_id: X, options: {stop_loss_value: price}%s}
"""


def load(tmp_path: Path, top: str = "", one: str = "", two: str = "", india: str = "") -> Accounts:
    path = tmp_path / "accounts.yaml"
    path.write_text(top + HEAD % (one, two, india))
    return load_accounts(path, {})


def words(found: Accounts) -> str:
    return "\n".join(map(str, found.faults))


# -- products --------------------------------------------------------------------------------------------------------


def test_what_the_file_says_of_a_product_counts_before_the_table_and_the_accounts_own_word_before_the_files(
        tmp_path: Path) -> None:
    found = load(tmp_path, "products: {ES: {tick: 0.5, point_value: 49}}", ", products: {ES: {point_value: 48}}")

    assert words(found) == ""
    one, two = (found.accounts[name].futures for name in ("one", "two"))
    assert (one["ES"].product.tick, one["ES"].product.point_value) == (Decimal("0.5"), 48)
    assert (two["ES"].product.tick, two["ES"].product.point_value) == (Decimal("0.5"), 49)
    assert (two["NQ"], two["ES"].expiry) == (FUTURES["NQ"], FUTURES["ES"].expiry)
    assert FUTURES["ES"].product.tick == Decimal("0.25")


def test_a_product_of_the_traders_own_with_months_and_a_rule_has_continuous_symbols(tmp_path: Path) -> None:
    table = load(tmp_path, "products: {FDAX: {tick: 1, point_value: 25, months: ZHMU, last_trade: third_friday}, "
                           "XCL: {tick: 0.01, months: FGHJKMNQUVXZ, last_trade: CL, negative_prices: true}}").accounts["one"].futures

    assert contract("FDAX1!", today=TODAY, futures=table) == "FDAXZ6"
    assert contract("EUREX:FDAX2!", today=TODAY, futures=table, form="ninjatrader") == "FDAX 03-27"
    assert contract("FDAXZ2026", today=TODAY, futures=table) == "FDAXZ6"
    assert contract("XCL1!", today=TODAY, futures=table)[-2:] == contract("CL1!", today=TODAY)[-2:]
    assert table["XCL"].product.may_be_negative
    with pytest.raises(ValueError, match="FDAX has no contract of month F; it has H, M, U, Z"):
        contract("FDAXF7", today=TODAY, futures=table)
    with pytest.raises(ValueError, match="exchange EUREX"):
        contract("EUREX:ES1!", today=TODAY, futures=table)
    with pytest.raises(ValueError, match="'FDAX' is not in the table of futures; `products:` in accounts.yaml adds one"):
        contract("FDAX1!", today=TODAY)


def test_a_product_without_months_has_dated_symbols_only(tmp_path: Path) -> None:
    table = load(tmp_path, "products: {FGBL: {tick: 0.01, point_value: 1000}}").accounts["one"].futures

    assert contract("FGBLH7", today=TODAY, futures=table) == "FGBLH7"
    with pytest.raises(ValueError, match="does not know which months FGBL has: give `months` and `last_trade`"):
        contract("FGBL1!", today=TODAY, futures=table)
    assert contract("FGBL1!", today=TODAY, futures=table, roll=Roll(months=(("FGBL", "H7"),))) == "FGBLH7"


@pytest.mark.parametrize(("said", "field", "message"), [
    ("[1]", "", "expected products by their root"), ("", "", "expected products by their root"),
    ("{ES: 5}", "ES", "expected what is known of it"), ("{ES: {tick: 0}}", "ES.tick", "above zero"),
    ("{ES: {tick: '0,25'}}", "ES.tick", "expected a number"), ("{ES: {tikc: 1}}", "ES.tikc", "did you mean 'tick'?"),
    ("{es: {tick: 1}}", "es", "is no root"), ("{ES1!: {tick: 1}}", "ES1!", "is no root"),
    ("{ESZ6: {tick: 1}}", "ESZ6", "reads as a contract"), ("{ABCDEF: {tick: 1}}", "ABCDEF", "is no root"),
    ("{QQ: {point_value: 5}}", "QQ", "the table does not know QQ, so its `tick` is needed"),
    ("{QQ: {tick: 1, months: HMUZ}}", "QQ.months", "needs `last_trade` beside it"),
    ("{QQ: {tick: 1, last_trade: third_friday}}", "QQ.last_trade", "needs `months` beside it"),
    ("{ES: {last_trade: third_fryday}}", "ES.last_trade", "did you mean 'third_friday'?"),
    ("{ES: {months: HMUA}}", "ES.months", "expected month letters"), ("{ES: {months: HH}}", "ES.months", "each once"),
    ("{ES: {negative_prices: maybe}}", "ES.negative_prices", "true or false")])
def test_a_faulty_product_is_named_with_its_place_and_no_futures_account_trades_on_a_guess(
        tmp_path: Path, said: str, field: str, message: str) -> None:
    top = load(tmp_path, f"\n\nproducts: {said}")
    own = load(tmp_path, one=f", products: {said}" if said else ", products: {ES: {}, ES: 5}")

    fault = top.faults[0]
    assert (fault.field, fault.line) == (".".join(filter(None, ("products", field))), 3)
    assert message in fault.message
    assert (set(top.accounts), set(top.broken)) == ({"india"}, {"one", "two"})
    assert set(own.accounts) == ({"two", "india"} if said else set())
    if said:
        assert own.faults[0].field == ".".join(filter(None, ("accounts.one.products", field)))


def test_an_account_without_futures_takes_no_products(tmp_path: Path) -> None:
    assert "accounts.india.products: are futures" in words(load(tmp_path, india=", products: {ES: {tick: 1}}"))


def test_rendering_goes_by_the_accounts_own_products(tmp_path: Path) -> None:
    accounts = load(tmp_path, "products: {FDAX: {tick: 1, point_value: 25, months: HMUZ, last_trade: third_friday}}",
                    ", products: {FDAX: {tick: 0.5}, ES: {tick: 0.5}}")
    (tmp_path / "t.yaml").write_text("""
account: one
alert: {ticker: text, price: number, target: {type: number, optional: true}}
order:
  kind: oso
  symbol: "{{ alert.ticker | contract }}"
  side: buy
  quantity: 1
  type: limit
  price: "{{ alert.price }}"
  stop_loss: {ticks: 10}
  take_profit: {price: "{{ alert.target }}"}
""")
    template = load_template(tmp_path / "t.yaml", accounts)

    def render(raw: bytes) -> Any:
        body = read_body(raw)
        return template.render(template.read(body), body, received_at=datetime(2026, 11, 20, tzinfo=UTC)).orders[0].order

    dax = render(b'{"ticker": "FDAX1!", "price": 19000.5}')
    assert (dax.symbol, dax.stop_loss.stop_price) == ("FDAXZ6", Decimal("18995.5"))
    assert render(b'{"ticker": "ES1!", "price": 5300.5}').stop_loss.stop_price == Decimal("5295.5")
    with pytest.raises(AlertError, match=r"5290.25 is not a multiple of the tick 0.5; 5290.0 and 5290.5 are the nearest: round it"):
        render(b'{"ticker": "ES1!", "price": 5300.5, "target": 5290.25}')


# -- roll ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "symbols"), [
    ("{days_before_expiry: 31}", {"ES1!": "ESH7", "CL1!": "CLG7"}), ("{month: H7}", {"ES1!": "ESH7", "CL1!": "CLH7", "ES2!": "ESM7"}),
    ("{months: {ES: H7}}", {"ES1!": "ESH7", "CL1!": "CLF7", "NQ1!": "NQZ6"}),
    ("{month: H7, months: {CL: G2027}}", {"ES1!": "ESH7", "CL1!": "CLG7", "CL3!": "CLJ7", "ESZ6": "ESZ6"}),
    ("{months: {ES: H27}, days_before_expiry: 0}", {"ES1!": "ESH7", "NQ1!": "NQZ6"}),
    ("broker", {"ES1!": "ESZ6"})])
def test_each_account_rolls_by_its_own_rule(tmp_path: Path, said: str, symbols: dict[str, str]) -> None:
    found = load(tmp_path, one=f", roll: {said}")

    assert words(found) == ""
    account = found.accounts["one"]
    assert {each: contract(each, today=date(2026, 11, 21), roll=account.roll, futures=account.futures)
            for each in symbols} == symbols


def test_the_brokers_front_month_is_that_of_a_broker_that_tells_it(tmp_path: Path) -> None:
    found = load(tmp_path, one=", roll: broker", two=", roll: broker")

    assert contract("ES1!", today=date(2026, 12, 17), roll=found.accounts["one"].roll) == "ESZ6"
    assert contract("ES1!", today=date(2026, 12, 18), roll=found.accounts["one"].roll) == "ESH7"
    assert "accounts.two.roll: crosstrade tells nobody its front month before an order is sent; use" in words(found)


@pytest.mark.parametrize(("said", "field", "message"), [
    ("front", "", "expected {days_before_expiry: 8}"), ("5", "", "expected {days_before_expiry: 8}"), ("", "", "is empty"),
    ("{}", "", "is empty"), ("{days_before_expiry: 61}", ".days_before_expiry", "0 to 60"),
    ("{days: 8}", ".days", "known are days_before_expiry, month, months"), ("{month: March}", ".month", "is no month of a contract like H7"),
    ("{month: H}", ".month", "is no month"), ("{months: {ES: F7}}", ".months.ES", "ES has no contract of month F; it has H, M"),
    ("{months: {EZ: H7}}", ".months.EZ", "is not in the table of futures; `products:` adds one"), ("{months: {ES: 7}}", ".months.ES", "expected a text"),
    ("{month: H7, days_before_expiry: 3}", ".days_before_expiry", "would never count")])
def test_a_faulty_roll_is_refused_with_its_place(tmp_path: Path, said: str, field: str, message: str) -> None:
    found = load(tmp_path, one=f", roll: {said}")

    assert [fault.field for fault in found.faults] == [f"accounts.one.roll{field}"]
    assert message in words(found)
    assert set(found.accounts) == {"two", "india"}


def test_a_month_that_is_written_out_and_over_is_refused_and_not_guessed_beyond() -> None:
    roll = Roll(months=(("", "H7"),))

    assert contract("ES1!", today=date(2027, 3, 31), roll=roll) == "ESH7"
    with pytest.raises(ValueError, match="2027-03 \\(H7\\), which the account's `roll` names, is over; name the next there"):
        contract("ES1!", today=date(2027, 4, 1), roll=roll)
    with pytest.raises(ValueError, match="GC has no contract of month H|LE has no contract of month H"):
        contract("LE1!", today=TODAY, roll=roll)


# -- one contract, many names ----------------------------------------------------------------------------------------

ROOTS = st.one_of(st.sampled_from(sorted(FUTURES)), st.sampled_from(["FDAX", "FGBL", "X1", "6ZZ", "ABCDE"]))


@given(ROOTS, st.integers(1, 12), st.integers(2000, 2090))
def test_every_way_to_write_a_contract_has_one_key_also_of_products_that_no_table_knows(root: str, month: int, year: int) -> None:
    letter, name = MONTHS[month - 1], date(2000, month, 1).strftime("%b").upper()
    written = [f"{root}{letter}{year % 10}", f"{root}{letter}{year % 100:02}", f"{root}{letter}{year}",
               f"{root} {month:02}-{year % 100:02}", f"{root} {name}{year % 100:02}", f"CME_MINI:{root}{letter}{year}"]

    assert {contract_key(each) for each in written} == {f"{root} {month} {year % 10}"}
    assert all(same_contract(one, other) for one in written for other in written)
    assert not same_contract(written[2], f"{root}{letter}{year + 1}")
    assert contract_key(f"NSE:{root}{letter}{year}") == f"NSE:{root}{letter}{year}"


@given(st.integers(1, 30), st.dates(date(2001, 1, 1), date(2098, 12, 31)))
def test_the_digits_of_a_year_mean_the_nearest_such_year(ahead: int, today: date) -> None:
    year = today.year + ahead

    assert full_year(f"{year % 100:02}", today) == full_year(str(year), today) == year
    assert full_year(str(year % 10), today) == next(each for each in range(today.year - 4, today.year + 6)
                                                    if each % 10 == year % 10)


@given(st.sampled_from(sorted(EXPIRY_RULES)), st.sampled_from(["HMUZ", "FGHJKMNQUVXZ", "Z"]),
       st.dates(date(2024, 1, 1), date(2033, 12, 31)), st.integers(0, 30))
def test_an_added_product_rolls_by_its_rule_as_one_of_the_table_does(rule: str, months: str, today: date, days: int) -> None:
    table, faults = read_products({"QQ": {"tick": 1, "months": months, "last_trade": rule}}, FUTURES)
    found = parse_symbol(contract("QQ1!", today=today, roll=Roll(days), futures=table, form="ninjatrader"), table)

    assert not faults and found.month is not None
    end = EXPIRY_RULES[rule](2000 + int(found.year), found.month)
    ends = [EXPIRY_RULES[rule](year, MONTHS.index(letter) + 1) for year in range(today.year - 1, today.year + 3)
            for letter in months]
    assert end == min(each for each in ends if (each - today).days > days)


def test_no_root_of_the_table_reads_as_a_contract() -> None:
    assert all(product_of(root) is future.product for root, future in FUTURES.items())
    assert [fault for root in FUTURES for _, fault in read_products({root: {"tick": 1}}, FUTURES)[1]] == []


# -- what the documents say ------------------------------------------------------------------------------------------

PAGE = (Path(__file__).resolve().parents[1] / "docs/brokers.md").read_text()


def test_the_documents_example_is_an_accounts_file(tmp_path: Path) -> None:
    section = PAGE.partition("## Products and rolls of futures")[2]
    path = tmp_path / "accounts.yaml"
    path.write_text(dedent("    products:" + section.partition("    products:")[2].partition("\n\n")[0]))
    found = load_accounts(path, {})

    assert words(found) == ""
    account = found.accounts["nt8"]
    assert (account.futures["FDAX"].product.tick, account.futures["FDAX"].product.point_value) == (Decimal("0.5"), 25)
    assert contract("FGBL1!", today=TODAY, futures=account.futures, roll=account.roll, form="ninjatrader") == "FGBL 03-27"


def test_every_rule_and_field_of_a_product_stands_in_the_documents() -> None:
    section = PAGE.partition("## Products and rolls of futures")[2].partition("\n## ")[0]

    assert [name for name in (*EXPIRY_RULES, "tick", "point_value", "months", "last_trade", "negative_prices", "month",
                              "days_before_expiry") if f"`{name}" not in section and f"{{{name}" not in section] == []
