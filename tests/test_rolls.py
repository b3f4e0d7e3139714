"""Rolls: told before they come, and an exit that names another month than the one that is held."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bridge.accounts import load_accounts
from bridge.brokers import BROKERS
from bridge.call import Absent, Accepted, LookUp, Plan, Seen
from bridge.checking import check_paths
from bridge.cli import main
from bridge.contracts import contract, contract_key
from bridge.errors import EXIT_DONE
from bridge.futures import FUTURES, Roll
from bridge.ledger import Ledger
from bridge.order import Order
from bridge.rolls import other_months, roll_ahead, rolls_of
from bridge.sandbox import Sandbox
from bridge.settings import read_settings
from bridge.work import Account, Work
from bridge.worker import Worker
from tests.rig import ToyBroker, ToyServer, delivery, plain, toy_account, wait_for
from tests.test_lane import FAST, running, send, until

ACCOUNT = Account(name="demo", broker="tradovate")
TODAY = date(2026, 12, 7)
ENVIRON = {"BRIDGE_ACCOUNTS": str(Path(__file__).resolve().parents[1] / "accounts.yaml")}


def rolling(roll: Roll) -> Account:
    return Account(name="demo", broker="tradovate", roll=roll)


def test_a_roll_is_told_five_days_before_and_not_on_its_day() -> None:
    said = "ES rolls from ESZ6 to ESH7 on 2026-12-10 (in 3 days) for account demo"

    assert roll_ahead("ES1!", ACCOUNT, "tradovate", TODAY) == said
    assert roll_ahead("ESZ6", ACCOUNT, "tradovate", TODAY) == said
    assert roll_ahead("ES 12-26", ACCOUNT, "ninjatrader", TODAY) == said.replace("ESZ6", "ES 12-26").replace("ESH7", "ES 03-27")
    assert roll_ahead("ES1!", ACCOUNT, "tradovate", date(2026, 12, 4)) == ""
    assert "(in 5 days)" in roll_ahead("ES1!", ACCOUNT, "tradovate", date(2026, 12, 5))
    assert "(tomorrow)" in roll_ahead("ES1!", ACCOUNT, "tradovate", date(2026, 12, 9))
    assert roll_ahead("ES1!", ACCOUNT, "tradovate", date(2026, 12, 10)) == ""


@pytest.mark.parametrize("symbol", ["ESH7", "ES2!", "AAPL", "ESZ5", "CME_MINI_DL:ES1!", "", "XYZZ6"])
def test_what_is_not_at_the_front_rolls_for_nobody(symbol: str) -> None:
    assert roll_ahead(symbol, ACCOUNT, "tradovate", TODAY) == ""
    assert roll_ahead("ES1!", ACCOUNT, "none", TODAY) == ""


def test_a_month_that_is_written_out_is_told_before_it_ends() -> None:
    account = rolling(Roll(months=(("ES", "Z6"),)))

    assert roll_ahead("ES1!", account, "tradovate", date(2026, 12, 4)) == ""
    assert roll_ahead("ES1!", account, "tradovate", date(2026, 12, 15)) == (
        "ES stays at ESZ6 for account demo, as its `roll` says; that contract is to be left by 2026-12-18 (in 3 days): write "
        "the next month there")


@given(st.sampled_from(sorted(FUTURES)), st.dates(date(2024, 1, 1), date(2033, 12, 31)), st.integers(0, 20))
def test_the_roll_that_is_told_is_the_roll_that_comes(root: str, today: date, days: int) -> None:
    account = rolling(Roll(days))
    said = roll_ahead(f"{root}1!", account, "tradovate", today)
    later = date.fromordinal(today.toordinal() + 5)
    here, there = (contract(f"{root}1!", today=each, roll=account.roll) for each in (today, later))

    assert bool(said) is (here != there)
    if said:
        _, _, _, leaves, _, enters, _, on, *_ = said.split()
        assert (leaves, enters) == (here, contract(f"{root}1!", today=date.fromisoformat(on), roll=account.roll))
        before = date.fromordinal(date.fromisoformat(on).toordinal() - 1)
        assert contract(f"{root}1!", today=before, roll=account.roll) == here


def test_only_contracts_that_were_entered_are_told_of() -> None:
    entered = [contract_key(each) for each in ("ESZ6", "NQH7", "CLF7", "AAPL")]

    assert rolls_of(entered, ACCOUNT, "tradovate", TODAY) == [roll_ahead("ES1!", ACCOUNT, "tradovate", TODAY)]


def test_the_other_months_are_those_entered_after_the_exits_own() -> None:
    entered = {contract_key(each): rank for rank, each in enumerate(("ESU6", "ESH7", "ESZ6", "NQZ6"), 1)}

    assert list(other_months("ESH7", entered, "tradovate", TODAY)) == ["ESZ6"]
    assert list(other_months("ES 03-27", entered, "ninjatrader", TODAY)) == ["ES 12-26"]
    assert list(other_months("ESZ6", entered, "tradovate", TODAY)) == []
    assert list(other_months("ESM7", entered, "tradovate", TODAY)) == ["ESZ6", "ESH7"]
    assert list(other_months("ESM7", entered, "none", TODAY)) == list(other_months("SBIN", entered, "tradovate", TODAY)) == []


# -- at the worker ---------------------------------------------------------------------------------------------------


class Desk(ToyBroker):
    """Closes what is open in `held`, and says whether there was anything."""

    def __init__(self, *held: str) -> None:
        self.held = set(held)
        self.blind = False

    def symbol_form(self) -> str:
        return "tradovate"

    def submit(self, work: Work) -> Plan:
        if not work.order.is_exit:
            return self._place(work)
        return self._leave(work)

    def _leave(self, work: Work) -> Plan:
        yield self._call(work, work.order.kind, work.ids.order_id)
        found = work.targets or (work.order.kind == "close" and work.order.symbol in self.held)
        return Accepted(reason="" if found else "nothing there", found_nothing=not found)

    def look_up(self, work: Work) -> LookUp:
        if not work.order.is_exit:
            return (yield from super().look_up(work))
        yield from ()
        if self.blind:
            return None
        return Absent(reason=f"a position of 2 on {work.order.symbol} still") if work.order.symbol in self.held else Seen(
            broker_status="filled")


@contextmanager
def at_desk(ledger: Ledger, server: ToyServer, desk: Desk) -> Iterator[None]:
    worker = Worker(read_settings(FAST), {"toy": toy_account(server.url)}, {"toy": desk}, ledger)
    with running(worker):
        yield


@pytest.fixture(autouse=True)
def _a_day_in_november(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("lane", "worker"):
        monkeypatch.setattr(f"bridge.{module}.now", lambda: datetime(2026, 11, 20, tzinfo=UTC))


def exit_of(symbol: str, kind: Any = "close") -> Order:
    return Order(kind=kind, symbol=symbol)


def entered_and_filled(ledger: Ledger, server: ToyServer, symbol: str = "ESZ6", key: str = "entry") -> None:
    server.find_status = "filled"
    entry = send(ledger, plain(symbol=symbol), key)
    until(ledger, entry, "accepted")
    wait_for(lambda: not ledger.open_orders("toy"))


def test_a_close_that_names_another_month_than_the_position_is_told_to_a_person(ledger: Ledger, server: ToyServer) -> None:
    with at_desk(ledger, server, Desk("ESZ6")):
        entered_and_filled(ledger, server)
        exit_id = send(ledger, exit_of("ESH7"), "exit")
        wait_for(lambda: ledger.orders(waiting=True))

    (waiting,) = ledger.orders(waiting=True)
    assert (waiting["id"], waiting["state"]) == (exit_id, "accepted")
    assert "nothing was to close on ESH7, but a position of 2 on ESZ6 still: name ESZ6 in a close" in waiting["reason"]


def test_a_close_after_the_position_has_ended_is_told_to_nobody(ledger: Ledger, server: ToyServer) -> None:
    with at_desk(ledger, server, Desk()):
        entered_and_filled(ledger, server)
        until(ledger, send(ledger, exit_of("ESH7"), "exit"), "accepted")
        until(ledger, send(ledger, plain(), "next"), "accepted")

    assert not ledger.orders(waiting=True)


def test_what_cannot_be_seen_in_the_other_month_is_told(ledger: Ledger, server: ToyServer) -> None:
    desk = Desk("ESZ6")
    desk.blind = True
    with at_desk(ledger, server, desk):
        entered_and_filled(ledger, server)
        send(ledger, exit_of("ESH7"), "exit")
        wait_for(lambda: ledger.orders(waiting=True))

    assert "ESZ6 was entered last, and whether it is open could not be seen" in ledger.orders(waiting=True)[0]["reason"]


@pytest.mark.parametrize("kind", ["cancel", "close"])
def test_an_exit_that_finds_nothing_while_another_month_rests_is_told(ledger: Ledger, server: ToyServer, kind: str) -> None:
    with at_desk(ledger, server, Desk()):
        entry = send(ledger, plain(), "entry")
        until(ledger, entry, "accepted")
        send(ledger, exit_of("ES 03-27", kind), "exit")
        wait_for(lambda: ledger.orders(waiting=True))

    assert f"{entry} of ESZ6 may still stand" in ledger.orders(waiting=True)[0]["reason"]


@pytest.mark.parametrize("held", [("ESH7", "ESZ6"), ("ESH7",)])
def test_an_exit_that_found_something_in_its_own_month_is_told_to_nobody(ledger: Ledger, server: ToyServer,
                                                                       held: tuple[str, ...]) -> None:
    with at_desk(ledger, server, Desk(*held)):
        entered_and_filled(ledger, server, "ESH7", "first")
        entered_and_filled(ledger, server, "ESZ6", "second")
        until(ledger, send(ledger, exit_of("ESH7"), "exit"), "accepted")
        until(ledger, send(ledger, plain(), "next"), "accepted")

    assert not ledger.orders(waiting=True)


def test_a_worker_warns_of_the_rolls_of_what_was_entered_once_a_day(
        ledger: Ledger, server: ToyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    days = iter([7, 7, 8])
    told: list[str] = []
    worker = Worker(read_settings(FAST), {"toy": toy_account(server.url)}, {"toy": Desk()}, ledger)
    monkeypatch.setattr("bridge.worker.now", lambda: datetime(2026, 12, next(days), tzinfo=UTC))
    monkeypatch.setattr("bridge.worker.log.warning", lambda event, **values: told.append(values["roll"]))
    send(ledger, plain())

    for _ in range(3):
        worker._tell_rolls(worker.accounts["toy"])

    assert told == [f"ES rolls from ESZ6 to ESH7 on 2026-12-10 ({when}) for account toy" for when in ("in 3 days", "in 2 days")]


# -- before anything is sent -----------------------------------------------------------------------------------------

TEMPLATE = """description: ES1! and NQ2!
account: tradovate-demo
alert: {ticker: text}
order: {kind: close, symbol: "{{ alert.ticker | contract }}"}
tests:
  - name: flat
    alert: {ticker: "CME_MINI:ES1!"}
    now: "2026-11-20T15:30:00Z"
    expect: {symbol: ESZ6}
"""


@pytest.mark.parametrize(("day", "told"), [(7, True), (3, False)])
def test_check_and_explain_tell_of_a_roll_that_is_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                       capsys: pytest.CaptureFixture[str], day: int, told: bool) -> None:
    path = tmp_path / "flat.yaml"
    path.write_text(TEMPLATE)
    monkeypatch.setattr("bridge.checking.now", lambda: datetime(2026, 12, day, tzinfo=UTC))
    words = "ES rolls from ESZ6 to ESH7 on 2026-12-10 (in 3 days) for account tradovate-demo"

    assert check_paths(ENVIRON, [path], sandbox=True) == EXIT_DONE
    assert (f"{path}:7:13: warning: {words} [roll-ahead]" in capsys.readouterr().out) is told
    result = CliRunner().invoke(main, ["explain", str(path), "--alert", "-", "--now", f"2026-12-0{day}T12:00:00Z"],
                                input='{"ticker": "ES1!"}', env=ENVIRON)
    assert (words in " ".join(result.output.split())) is told


# -- at the paper brokers --------------------------------------------------------------------------------------------

MINE = """accounts:
  tradovate: {broker: tradovate, environment: sandbox, account: DEMO123456, account_id: 123456}
  crosstrade: {broker: crosstrade, environment: sandbox, account: Sim101}
"""


@pytest.mark.parametrize("name", ["tradovate", "crosstrade"])
def test_each_broker_tells_of_a_position_in_the_month_that_the_close_did_not_name(
        ledger: Ledger, tmp_path: Path, name: str) -> None:
    (tmp_path / "accounts.yaml").write_text(MINE)
    entry, wrong, right = (("ESZ6", "ESH7", "ESZ6") if name == "tradovate" else ("ES 12-26", "ES 03-27", "ES 12-26"))
    with Sandbox() as sandbox:
        account = load_accounts(tmp_path / "accounts.yaml", {}, sandbox=sandbox.url).accounts[name]
        requests.post(f"{sandbox.url}/_control/price", json={"symbol": "ESZ6", "price": "5300"}, timeout=5)

        def sent(order: Order, key: str) -> str:
            made = delivery(key, (name, order), home=name, broker=account.broker, age_ms=0)
            return str(ledger.enqueue(made).orders[0]["id"])

        def accepted(order: str) -> None:
            wait_for(lambda: ledger.state_of(name, order) == "accepted", 20)

        with running(Worker(read_settings({**FAST, "BRIDGE_SECRET": "0123456789abcdef"}), {name: account}, BROKERS, ledger)):
            accepted(sent(replace(plain(symbol=entry), type="market", price=None), "in"))
            wait_for(lambda: not ledger.open_orders(name))
            accepted(first := sent(Order(kind="close", symbol=wrong), "wrong"))
            wait_for(lambda: ledger.orders(waiting=True), 20)
            accepted(sent(Order(kind="close", symbol=right), "right"))
            accepted(sent(Order(kind="close", symbol=wrong), "again"))
            accepted(sent(plain(symbol=wrong), "next"))

    (waiting,) = ledger.orders(waiting=True)
    assert waiting["id"] == first and entry in waiting["reason"] and "a position" in waiting["reason"]
