"""Keeping instrument masters: fetched over real HTTP, kept in a folder, renewed daily, and what happens when that fails."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bridge.accounts import Accounts, load_accounts
from bridge.checking import check_paths
from bridge.errors import MasterAwaited, ServiceError
from bridge.instruments import Index, MasterError, NoInstrument
from bridge.ledger import Ledger
from bridge.masters import Cache, Keeper, cache_in, kept_masters, urls_of
from bridge.transport import download
from tests.serving import SECRET, Hook, environment, free_port, moment, part
from tests.test_instruments import BROKER, ROWS, packed
from tests.wait import until

URL = "https://trade.example/api/v1/contract/Compact"
FAR = "35099,NIFTY40DECFUT,NIFTY,NFO,FUTIDX,FO,75,0.1,25-Dec-2040,,XX"
GOOD = packed(ROWS)
NOON = datetime(2026, 11, 20, 6, 30, tzinfo=UTC).timestamp()
"""Noon in India."""
DAY_S = 86_400.0


class Web:
    """Where masters are fetched: what is there, and how often it was asked."""

    def __init__(self, content: bytes | str = GOOD) -> None:
        self.content, self.asked = content, 0

    def __call__(self, url: str) -> bytes:
        self.asked += 1
        if isinstance(self.content, str):
            raise ServiceError(self.content)
        return self.content


class Logged:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda words, **more: self.lines.append(f"{level}: {words} {more}")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    logged = Logged()
    monkeypatch.setattr("bridge.masters._log", logged)
    return logged.lines


def keeper(folder: Path, web: Web, now: float = NOON, url: str = URL) -> Keeper:
    return Keeper(Cache(folder), (url,), web, lambda: now)


def look(one: Keeper) -> None:
    """One round of its thread, pauses left out."""
    for each in one._ones:
        each.again_s = 0.0
        one.look(each)
    one._publish()


def index_of(one: Keeper) -> Index | None:
    return one.masters.market(URL, datetime.now(UTC)).index


def kept_at(folder: Path, at: float, content: bytes = GOOD) -> None:
    cache = Cache(folder)
    cache.keep(URL, content)
    os.utime(cache.path_of(URL), (at, at))


# -- fetching and keeping --------------------------------------------------------------------------------------------


def test_what_is_fetched_is_kept_whole_and_serves_the_next_start_without_a_network(tmp_path: Path, log: list[str]) -> None:
    web = Web()
    look(keeper(tmp_path, web))
    os.utime(Cache(tmp_path).path_of(URL), (NOON, NOON))

    again = keeper(tmp_path, offline := Web("the network is down"), NOON + 60)
    look(again)

    assert web.asked == 1 and offline.asked == 0 and len(index_of(again) or ()) == 30
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([Cache(tmp_path).path_of(URL).name, "lock"])
    assert Cache(tmp_path).path_of(URL).read_bytes() == GOOD


@pytest.mark.parametrize(("kept", "now", "asked"), [
    ("2026-11-20 03:01", "2026-11-20 20:00", 0), ("2026-11-20 02:59", "2026-11-20 03:00", 1),
    ("2026-11-19 03:01", "2026-11-20 02:59", 0), ("2026-11-19 03:01", "2026-11-20 03:00", 1),
    ("2026-11-01 12:00", "2026-11-20 02:00", 1)])
def test_it_is_renewed_once_a_day_before_the_first_session_in_india(tmp_path: Path, kept: str, now: str, asked: int,
                                                                    log: list[str]) -> None:
    kept_at(tmp_path, datetime.fromisoformat(f"{kept}+00:00").timestamp())
    web = Web()

    look(keeper(tmp_path, web, datetime.fromisoformat(f"{now}+00:00").timestamp()))

    assert web.asked == asked


@pytest.mark.parametrize(("content", "words"), [
    ("the broker's host name cannot be resolved", "cannot be resolved"), (b"<html>sorry</html>", "no ZIP"),
    (packed({"NSE": ROWS["NSE"]}), "looks cut short: 0 instruments of BSE, where there were 4"),
    (packed({**ROWS, "NFO": ROWS["NFO"][:3]}), "3 instruments of NFO, where there were 12")])
def test_an_old_one_goes_on_serving_with_a_warning_while_no_better_one_can_be_had(tmp_path: Path, content: bytes | str,
                                                                                  words: str, log: list[str]) -> None:
    kept_at(tmp_path, NOON - 3 * DAY_S)
    one = keeper(tmp_path, web := Web(content))
    look(one)
    look(one)

    assert web.asked == 2 and len(index_of(one) or ()) == 30 and Cache(tmp_path).path_of(URL).read_bytes() == GOOD
    warnings = [line for line in log if "goes on serving" in line]
    assert len(warnings) == 1 and words in warnings[0] and "2026-11-17 06:30 UTC" in warnings[0]

    web.content = GOOD
    look(one)
    assert Cache(tmp_path).fetched_at(URL) != NOON - 3 * DAY_S


def test_a_kept_one_that_is_damaged_is_told_of_once_and_fetched_anew(tmp_path: Path, log: list[str]) -> None:
    kept_at(tmp_path, NOON, GOOD[:-100])
    one = keeper(tmp_path, web := Web("down"))
    look(one)
    look(one)
    assert index_of(one) is None and len([line for line in log if "can't be read" in line]) == 1

    web.content = GOOD
    look(one)
    assert len(index_of(one) or ()) == 30


def test_where_nothing_can_be_kept_it_still_serves(tmp_path: Path, log: list[str]) -> None:
    (tmp_path / "file").write_text("no folder")
    one = keeper(tmp_path / "file" / "below", web := Web())
    look(one)
    look(one)

    assert web.asked == 1 and len(index_of(one) or ()) == 30 and any("can't be kept" in line for line in log)


def test_of_several_processes_one_fetches_and_the_others_read_what_it_kept(tmp_path: Path, log: list[str]) -> None:
    web = Web()
    first, second = keeper(tmp_path, web), keeper(tmp_path, web)
    with Cache(tmp_path).held() as is_mine:
        assert is_mine
        look(second)
        assert web.asked == 0 and index_of(second) is None
    look(first)
    os.utime(Cache(tmp_path).path_of(URL), (NOON, NOON))
    look(second)

    assert web.asked == 1 and len(index_of(second) or ()) == 30
    newer = packed({**ROWS, "MCX": [*ROWS["MCX"], "9,SILVER26DECFUT,,MCX,FUTCOM,FO,1,1,31-Dec-2026,,"]})
    kept_at(tmp_path, NOON + 60, newer)
    look(second)
    assert len(index_of(second) or ()) == 31 and web.asked == 1


def test_rows_that_cannot_be_read_are_told_of(tmp_path: Path, log: list[str]) -> None:
    look(keeper(tmp_path, Web(packed({**ROWS, "NSE": [*ROWS["NSE"], "x,BAD-EQ,,NSE,EQ,C,1,1,,,"]}))))

    assert any("NSECompactScrip.csv: 1 row is left out (line 12: exchange_token 'x'" in line for line in log)


# -- what alerts are told meanwhile ----------------------------------------------------------------------------------


def test_until_something_was_loaded_alerts_are_asked_to_come_again_and_later_refused_with_the_reason(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]) -> None:
    one = keeper(tmp_path, Web("the connection was refused"))
    at = datetime.now(UTC)

    def identify() -> Any:
        account = load(tmp_path).accounts["pf"]
        return BROKER.identify("NSE:SBIN", {}, account, one.masters.market(URL, at))

    with pytest.raises(MasterAwaited):
        identify()
    look(one)
    with pytest.raises(MasterAwaited):
        identify()
    assert log == []
    monkeypatch.setattr("bridge.masters._AWAITED_S", 0.0)
    look(one)
    with pytest.raises(NoInstrument, match="the connection was refused"):
        identify()
    assert len([line for line in log if line.startswith("error: told to a person")]) == 1


def test_the_thread_fetches_and_tries_again_by_itself(tmp_path: Path, log: list[str]) -> None:
    one = keeper(tmp_path, web := Web("not yet"), time.time())
    one.begin()
    try:
        until(lambda: web.asked >= 2)
        web.content = GOOD
        until(lambda: index_of(one) is not None)
    finally:
        one.end()


def test_a_fault_of_ours_does_not_end_the_thread(tmp_path: Path, log: list[str]) -> None:
    calls: list[int] = []

    def fetch(url: str) -> bytes:
        calls.append(1)
        if len(calls) == 1:
            raise KeyError("a fault")
        return GOOD

    one = Keeper(Cache(tmp_path), (URL,), fetch)
    one.begin()
    try:
        until(lambda: index_of(one) is not None)
    finally:
        one.end()
    assert any("a fault of Bridge" in line for line in log)


# -- commands --------------------------------------------------------------------------------------------------------


def load(folder: Path, more: str = "") -> Accounts:
    (folder / "accounts.yaml").write_text(
        "accounts:\n  pf: {broker: pocketful, client_id: YG1234, base_url: 'https://trade.example', "
        f"credentials: {{token: '${{T}}'}}{more}}}\n  tv: {{broker: tradovate, environment: sandbox, account: A, account_id: 1}}\n")
    found = load_accounts(folder / "accounts.yaml", {"T": "x"})
    assert found.faults == ()
    return found


def test_commands_read_what_is_kept_and_say_what_they_lack(tmp_path: Path) -> None:
    accounts = load(tmp_path)
    (url,) = urls_of(accounts)
    assert url.startswith("https://trade.example/api/v1/contract/Compact?")

    masters, words = kept_masters(tmp_path, accounts, ["pf"])
    assert masters.market(url, datetime.now(UTC)).index is None
    assert "no instrument master of trade.example is kept" in words[0] and "a running receiver fetches it" in words[0]
    assert kept_masters(tmp_path, accounts, ["tv"])[1] == []

    cache_in(tmp_path).keep(url, GOOD)
    masters, words = kept_masters(tmp_path, accounts, ["pf"])
    assert len(masters.market(url, datetime.now(UTC)).index or ()) == 30 and words == []

    os.utime(cache_in(tmp_path).path_of(url), (NOON - 9 * DAY_S,) * 2)
    masters, words = kept_masters(tmp_path, accounts, ["pf"])
    assert masters.market(url, datetime.now(UTC)).index is not None and "is of 2026-11-11" in words[0]

    cache_in(tmp_path).keep(url, b"garbage")
    assert "can't be read" in kept_masters(tmp_path, accounts, ["pf"])[1][0]


def test_an_account_rolls_on_the_last_day_unless_it_says_otherwise(tmp_path: Path) -> None:
    assert load(tmp_path).accounts["pf"].roll.days == 0
    assert load(tmp_path, ", roll: broker").accounts["pf"].roll.days == 0
    assert load(tmp_path, ", roll: {days_before_expiry: 3}").accounts["pf"].roll.days == 3
    text = (tmp_path / "accounts.yaml").read_text().replace("{days_before_expiry: 3}", "{month: Z6}")
    (tmp_path / "accounts.yaml").write_text(text)
    assert "NSE:NIFTYZ2026" in str(load_accounts(tmp_path / "accounts.yaml", {"T": "x"}).faults[0])


SYMBOLS = """
account: pf
orders:
  - {kind: plain, symbol: "NSE:SBNI", side: buy, quantity: 1, type: limit, price: 10, options: {product: MIS}}
  - {kind: close, symbol: "SBIN"}
  - {kind: close, symbol: "SBIN", options: {exchange: NSE}}
  - {kind: close, symbol: "OWN NAME", options: {exchange: NSE, instrument_token: 3045}}
  - {kind: cancel, symbol: "ANYTHING"}
"""


def test_check_looks_written_out_symbols_up_in_the_kept_master_and_says_where_there_is_none(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    accounts = load(tmp_path)
    template = tmp_path / "t.yaml"
    template.write_text(SYMBOLS)
    environ = {"BRIDGE_ACCOUNTS": str(tmp_path / "accounts.yaml"), "BRIDGE_DATA": str(tmp_path / "data"), "T": "x"}

    def check() -> tuple[list[str], str]:
        assert check_paths(environ, [template], sandbox=False) == 0
        said = capsys.readouterr()
        return [line for line in said.out.splitlines() if "symbol-unknown" in line], said.err

    lines, told = check()
    assert lines == [] and "no instrument master of trade.example is kept" in told
    cache_in(tmp_path / "data").keep(urls_of(accounts)[0], GOOD)
    lines, told = check()
    assert told == "" and len(lines) == 2
    assert lines[0].startswith(f"{template}:4:") and "did you mean NSE:SBIN" in lines[0]
    assert lines[1].startswith(f"{template}:5:") and "BSE:SBIN-A" in lines[1]
    template.write_text(f"allow: [symbol-unknown]\n{SYMBOLS}")
    assert check() == ([], "")


# -- the receiver ----------------------------------------------------------------------------------------------------

RECEIVED = """
account: pf
alert: {ticker: text, price: number, time: time}
order:
  {kind: plain, symbol: "{{ alert.ticker }}", side: buy, quantity: 75, type: limit, price: "{{ alert.price }}",
   options: {product: MIS OWN}}
"""


def test_the_receiver_never_waits_for_a_master_and_takes_alerts_as_soon_as_it_is_there(redis_server: str,
                                                                                     tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "looked_up.yaml").write_text(RECEIVED.replace(" OWN", ""))
    own = ', exchange: NFO, instrument_token: "35012"'
    (tmp_path / "templates" / "numbered.yaml").write_text(RECEIVED.replace(" OWN", own))
    port = free_port()
    with serving(packed({"NFO": [FAR]}), hold := threading.Event()) as url:
        (tmp_path / "accounts.yaml").write_text(
            "accounts:\n  pf: {broker: pocketful, environment: sandbox, client_id: YG1234, base_url: '"
            f"{url.removesuffix('/master')}'}}\n")
        environ = environment(tmp_path, redis_url=redis_server, bind=f"127.0.0.1:{port}", secret=SECRET,
                              templates=str(tmp_path / "templates"), accounts=str(tmp_path / "accounts.yaml"))
        with part("receiver", environ, tmp_path / "log"):
            hook = Hook(port, tmp_path / "log")
            began = time.monotonic()
            answer = hook.send("looked_up", alert("NSE:NIFTYZ2040"))
            assert (answer.status, answer.headers["retry-after"]) == (503, "5") and "being loaded" in answer.json["detail"]
            numbered = hook.send("numbered", alert("ANY WORD"))
            assert numbered.status == 202 and time.monotonic() - began < 2
            hold.set()
            until(lambda: hook.send("looked_up", alert("NSE:NIFTYZ2040")).status == 202)
            wrong = hook.send("looked_up", alert("NSE:NIFTY"))
            assert wrong.status == 422 and "NFO:NIFTY40DECFUT" in wrong.json["detail"]
            found = hook.send("looked_up", alert("NSE:NIFTY1!", "26001"))
        ledger = Ledger(redis_server)
        stored = ledger.order(found.json["orders"][0]["id"])
        ledger.close()
    assert stored is not None and stored["order"]["options"] == {
        "product": "MIS", "exchange": "NFO", "instrument_token": "35099", "trading_symbol": "NIFTY40DECFUT"}
    assert next((tmp_path / "data" / "instruments").glob("*.zip")).stat().st_size > 100


def alert(ticker: str, price: str = "26000") -> dict[str, str]:
    return {"ticker": ticker, "price": price, "time": moment()}


# -- the download ----------------------------------------------------------------------------------------------------


@contextmanager
def serving(content: bytes, hold: threading.Event | None = None, status: int = 200) -> Iterator[str]:
    """A server of one master; with `hold`, the body comes when that is set."""
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert "Authorization" not in self.headers
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if hold is None or hold.wait(10):
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/master"
    finally:
        if hold is not None:
            hold.set()
        server.shutdown()
        server.server_close()


def test_a_download_is_bytes_as_they_came() -> None:
    with serving(GOOD) as url:
        assert download(url, within_s=5, most=10**6) == GOOD


def test_a_download_that_fails_is_told_in_words() -> None:
    with serving(b"no", status=404) as url, pytest.raises(ServiceError, match=r"127\.0\.0\.1:\d+ answered with HTTP 404"):
        download(url, within_s=5, most=10**6)
    with serving(GOOD) as url, pytest.raises(ServiceError, match="larger than 1000 bytes"):
        download(url, within_s=5, most=1000)
    with serving(GOOD, threading.Event()) as url, pytest.raises(ServiceError, match=r"no complete reply within 0\.3 s"):
        download(url, within_s=0.3, most=10**6)
    with pytest.raises(ServiceError, match="refused"):
        download(f"http://127.0.0.1:{free_port()}/", within_s=5, most=10)


def test_the_first_process_of_all_makes_the_folder_and_holds_the_lock(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "new" / "folder")

    with cache.held() as first, cache.held() as second:
        assert (first, second) == (True, False)
    with cache.held() as third:
        assert third


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_no_half_written_master_is_ever_seen(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    cache.keep(URL, GOOD)

    def broken(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"bridge.masters.os.{step}", broken)
    with pytest.raises(OSError):
        cache.keep(URL, b"new")
    assert cache.path_of(URL).read_bytes() == GOOD and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(MasterError):
        monkeypatch.undo()
        cache.keep(URL, b"new")
        cache.read(URL)
