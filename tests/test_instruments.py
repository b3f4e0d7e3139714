"""Instrument masters: real ZIPs, made here; what is read of them, what is refused, and what a chart's symbol means."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bridge.instruments as instruments
from bridge.brokers.pocketful import AccountOptions, Pocketful
from bridge.call import Placeholder
from bridge.errors import MasterAwaited
from bridge.futures import Roll
from bridge.instruments import (
    NO_MASTERS,
    Index,
    Instrument,
    MasterError,
    Masters,
    NoInstrument,
    read_listed,
    read_master,
)
from bridge.order import Order, faults_of
from bridge.sizing import AccountUse, scaled
from bridge.work import Account

TODAY = date(2026, 11, 20)
COLUMNS = ("exchange_token,trading_symbol,company_name,exchange,instrument_name,segment,lot_size,tick_size,expiry,strike,"
           "option_type")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
LETTERS = "FGHJKMNQUVXZ"
ROWS: dict[str, list[str]] = {
    "NSE": ["3045,SBIN-EQ,STATE BANK OF INDIA,NSE,EQ,Capital,1,0.05,,,",
            "2031,M&M-EQ,MAHINDRA & MAHINDRA LTD,NSE,EQ,Capital,1,0.1,01-Jan-0001,-0.01,",
            "16669,BAJAJ-AUTO-EQ,BAJAJ AUTO LIMITED,NSE,EQ,Capital,1,1.00,,,",
            "14366,IDEA-EQ,VODAFONE IDEA LIMITED,NSE,EQ,Capital,1,0.01,,,",
            '11536,TCS-EQ,"TATA CONSULTANCY SERV, LT",NSE,EQ,Capital,1,0.1,,,',
            "700,SBIN-N5,SBI BOND,NSE,N5,Capital,1,0.01,,,",
            "15083,GREENPOWER-BE,ORIENT GREEN POWER,NSE,BE,Capital,1,0.01,,,",
            "801,TWICE-N1,A BOND,NSE,N1,Capital,1,0.01,,,", "802,TWICE-N2,A BOND,NSE,N2,Capital,1,0.01,,,",
            "26000,Nifty 50,Nifty 50,NSE,INDEX,INDICES,0,0,,,"],
    "BSE": ["500112,SBIN-A,STATE BANK OF INDIA,BSE,A,A,1,0.05,,,", "532461,PNB-A,PUNJAB NATIONAL BANK,BSE,A,A,1,0.05,,,",
            "3045,ZEE-A,ANOTHER WITH SBIN'S NUMBER,BSE,A,A,1,0.05,,,", "1,SENSEX,SENSEX,BSE,IDX,IDX,0,0,,,"],
    "NFO": ["35011,NIFTY26NOVFUT,NIFTY,NFO,FUTIDX,FO,75,0.1,24-Nov-2026,-0.01,XX",
            "35012,NIFTY26DECFUT,NIFTY,NFO,FUTIDX,FO,75,0.1,2026-12-29,,XX",
            "35013,NIFTY27JANFUT,NIFTY,NFO,FUTIDX,FO,75,0.1,26JAN2027,,XX",
            "35001,NIFTY26OCTFUT,NIFTY,NFO,FUTIDX,FO,75,0.1,27-Oct-2026,,XX",
            "41001,NIFTY26NOV25000CE,NIFTY,NFO,OPTIDX,FO,75,0.05,24-Nov-2026,25000.00,CE",
            "41002,NIFTY26NOV25000PE,NIFTY,NFO,OPTIDX,FO,75,0.05,24-Nov-2026,25000.00,PE",
            "41003,NIFTY26NOV25100CE,NIFTY,NFO,OPTIDX,FO,75,0.05,24-Nov-2026,25100,CE",
            "41004,NIFTY26D0125000CE,NIFTY,NFO,OPTIDX,FO,75,0.05,01-Dec-2026,25000,CE",
            "42001,VEDL26NOV292.5CE,VEDL,NFO,OPTSTK,FO,1150,0.05,24-Nov-2026,292.5,CE",
            "43001,M&M26NOVFUT,M&M,NFO,FUTSTK,FO,200,0.1,24-Nov-2026,,XX",
            "44001,NIFTYNXT5026NOVFUT,NIFTYNXT50,NFO,FUTIDX,FO,25,0.1,24-Nov-2026,,XX",
            "45001,RELIANCE26NOVFUT,RELIANCE,NFO,FUTSTK,FO,500,0.1,24-Nov-2026,,XX"],
    "BFO": ["820001,SENSEX26NOVFUT,SENSEX,BFO,IF,FO,20,0.05,26-Nov-2026,,",
            "820002,SENSEX26N2685000CE,SENSEX,BFO,OPTIDX,FO,20,0.05,26-Nov-2026,85000,CE",
            "820003,RELIANCE26NOVFUT,RELIANCE,BFO,SF,FO,500,0.1,26-Nov-2026,,"],
    "MCX": ["222895,GOLDGUINEA26DECFUT,,MCX,FUTCOM,FO,1,1,31-Dec-2026,,", "50,GOLD,,MCX,COM,COM,1,1,,,"],
}


def packed(rows: Mapping[str, Sequence[str]], columns: str = COLUMNS) -> bytes:
    """A ZIP as the broker makes it."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as archive:
        for exchange, lines in rows.items():
            archive.writestr(f"{exchange}CompactScrip.csv", "\n".join([columns, *lines]) + "\n")
    return found.getvalue()


@pytest.fixture(scope="module")
def index() -> Index:
    return read_master(packed(ROWS))


# -- reading the master ----------------------------------------------------------------------------------------------


def test_every_row_of_something_that_trades_is_an_instrument_by_exchange_and_number(index: Index) -> None:
    assert index.left_out == () and dict(index.counts) == {"NSE": 10, "BSE": 4, "NFO": 12, "BFO": 3, "MCX": 1}
    one = index.numbered("NSE", "3045")
    assert one is not None and (one.name, one.tick, one.lot) == ("SBIN-EQ", Decimal("0.05"), 1)
    other = index.numbered("BSE", "3045")
    assert other is not None and other.name == "ZEE-A"
    future = index.numbered("NFO", "35013")
    assert future is not None and (future.kind, future.expiry, future.lot) == ("future", date(2027, 1, 26), 75)
    assert index.numbered("MCX", "50") is None and index.numbered("NYSE", "1") is None


def test_rows_that_cannot_be_read_are_left_out_counted_and_named_by_line_and_reason() -> None:
    bad = ["x,A-EQ,,NSE,EQ,C,1,0.05,,,", "1,B-EQ,,MARS,EQ,C,1,0.05,,,", "2,C-EQ,,NSE,EQ,C,1,five,,,", "3,D-EQ",
           "4,NIFTY26DECFUT,NIFTY,NFO,FUTIDX,FO,75,0.1,,,XX", "5,E\x07,,NSE,EQ,C,1,0.05,,,", "6,F-EQ,,NSE,EQ,C,1.5,0.05,,,",
           "7,NIFTY26DEC1CE,NIFTY,NFO,OPTIDX,FO,75,0.1,31-Feb-2026,1,CE", "8,G-EQ,,NSE,EQ,C,1,1e-99,,,"]
    found = read_master(packed({"NSE": [*bad, ROWS["NSE"][0]]}))

    assert len(found) == 1
    (words,) = found.left_out
    assert "9 rows are left out" in words and words.startswith("NSECompactScrip.csv")
    assert "line 2: exchange_token 'x' is no number" in words and "line 3: exchange 'MARS'" in words
    assert "line 4: tick_size" in words and "line 5: has 2 fields of 11" in words and "without a day of expiry" in words


def test_a_number_that_stands_for_two_instruments_stands_for_none() -> None:
    found = read_master(packed({"NSE": [ROWS["NSE"][0], "3045,INFY-EQ,INFOSYS,NSE,EQ,C,1,0.05,,,", ROWS["NSE"][3],
                                        ROWS["NSE"][3]]}))

    assert len(found) == 1 and found.numbered("NSE", "14366") is not None
    assert "NSE:3045" in found.left_out[-1]
    with pytest.raises(NoInstrument):
        found.find("NSE:SBIN", day=TODAY)


@pytest.mark.parametrize(("columns", "row"), [
    (" Exchange_Token , TRADING_SYMBOL,exchange ,Lot_Size,tick_size", "3045,SBIN-EQ,NSE,1,0.05"),
    ("\ufeffexchange_token,trading_symbol,exchange,lot_size,tick_size,isin", "3045, SBIN-EQ ,NSE,1.0,0.05,INE062A01020"),
    ("tick_size,lot_size,exchange,trading_symbol,exchange_token", "0.0500,1,NSE,SBIN-EQ,03045")])
def test_columns_are_found_by_their_names_whatever_their_order_blanks_and_capitals(columns: str, row: str) -> None:
    found = read_master(packed({"NSE": [row]}, columns)).find("SBIN", day=TODAY)

    assert (found.token, found.tick, found.lot) == ("3045", Decimal("0.05"), 1)


@pytest.mark.parametrize(("content", "words"), [
    (b"", "no ZIP"), (b"exchange_token,trading_symbol\n1,A\n", "no ZIP"), (b"<html>busy</html>", "no ZIP"),
    (packed({}), "holds no instrument"), (packed({"NSE": []}), "holds no instrument"),
    (packed({"NSE": ["1,2"]}, "a,b"), "NSECompactScrip.csv has no column exchange_token, trading_symbol, exchange"),
    (packed(ROWS)[:-200], "no ZIP"), (packed({"NSE": ['1,"' + "x" * 200_000]}), "is no CSV"),
    (packed({f"N{number}": [] for number in range(20)}), "holds 20 files"),
    (b"x" * (instruments.MOST_PACKED + 1), "bytes; at most")])
def test_what_cannot_be_trusted_as_a_whole_is_refused_in_words(content: bytes, words: str) -> None:
    with pytest.raises(MasterError, match=words):
        read_master(content)


def test_a_damaged_byte_in_the_packed_rows_is_seen() -> None:
    content = bytearray(packed(ROWS))
    content[120] ^= 0xFF

    with pytest.raises(MasterError):
        read_master(bytes(content))


def test_a_zip_bomb_is_refused_while_it_unpacks_whatever_size_it_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruments, "MOST_UNPACKED", 1_000_000)
    line = b"1,A-EQ,,NSE,EQ,C,1,0.05,,,\n"
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("NSECompactScrip.csv", COLUMNS.encode() + b"\n" + line * 400_000)
    honest = found.getvalue()
    assert len(honest) < 100_000
    with pytest.raises(MasterError, match="unpacks to more than"):
        read_master(honest)

    place = honest.index(b"PK\x01\x02") + 24  # the size that the directory claims
    lying = honest[:place] + struct.pack("<I", 1000) + honest[place + 4:]
    try:
        assert len(read_master(lying)) <= 1
    except MasterError as error:
        assert str(error)


def test_too_many_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruments, "MOST_ROWS", 5)

    with pytest.raises(MasterError, match="more than 5 rows"):
        read_master(packed(ROWS))


@given(st.binary(max_size=400))
def test_no_bytes_raise_anything_but_a_master_error(content: bytes) -> None:
    with pytest.raises(MasterError):
        read_master(content)


@given(st.lists(st.lists(st.text(max_size=12), max_size=12), max_size=5))
def test_no_rows_raise_anything_but_a_master_error(rows: list[list[str]]) -> None:
    lines = [",".join(row) for row in rows]
    try:
        found = read_master(packed({"NSE": [*lines, ROWS["NSE"][0]]}))
    except MasterError:
        return
    assert found.numbered("NSE", "3045") is not None or found.left_out


# -- what a symbol means ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("symbol", "token"), [
    ("NSE:SBIN", "NSE:3045"), ("BSE:SBIN", "BSE:500112"), ("nse:sbin", "NSE:3045"), (" NSE:SBIN ", "NSE:3045"),
    ("SBIN-EQ", "NSE:3045"), ("NSE:SBIN-N5", "NSE:700"), ("SBIN-A", "BSE:500112"), ("PNB", "BSE:532461"),
    ("GREENPOWER", "NSE:15083"), ("NSE:M_M", "NSE:2031"), ("M&M", "NSE:2031"), ("M_M", "NSE:2031"), ("M&M-EQ", "NSE:2031"),
    ("NSE:BAJAJ_AUTO", "NSE:16669"), ("BAJAJ-AUTO", "NSE:16669"), ("BAJAJ-AUTO-EQ", "NSE:16669"),
    ("NIFTY1!", "NFO:35011"), ("NSE:NIFTY1!", "NFO:35011"), ("NFO:NIFTY1!", "NFO:35011"), ("NSE:NIFTY2!", "NFO:35012"),
    ("NSE:NIFTY3!", "NFO:35013"), ("NSE:NIFTYZ2026", "NFO:35012"), ("NSE:NIFTYF2027", "NFO:35013"),
    ("NIFTY26DECFUT", "NFO:35012"), ("NIFTY29DEC26FUT", "NFO:35012"), ("NSE:M_M1!", "NFO:43001"),
    ("NSE:NIFTYNXT501!", "NFO:44001"), ("NSE:RELIANCE1!", "NFO:45001"), ("BSE:RELIANCE1!", "BFO:820003"),
    ("NSE:NIFTY261124C25000", "NFO:41001"), ("NSE:NIFTY261124P25000", "NFO:41002"), ("NIFTY261124C25100", "NFO:41003"),
    ("NSE:NIFTY261201C25000", "NFO:41004"), ("NIFTY26NOV25000CE", "NFO:41001"), ("NIFTY26D0125000CE", "NFO:41004"),
    ("NIFTY24NOV2625000CE", "NFO:41001"), ("NSE:VEDL261124C292.5", "NFO:42001"), ("VEDL24NOV26292.5CE", "NFO:42001"),
    ("BSE:BSX1!", "BFO:820001"), ("BSE:SENSEX1!", "BFO:820001"), ("BSE:BSX261126C85000", "BFO:820002"),
    ("MCX:GOLDGUINEA1!", "MCX:222895"), ("GOLDGUINEAZ2026", "MCX:222895")])
def test_names_as_charts_brokers_and_other_tools_write_them_are_found(index: Index, symbol: str, token: str) -> None:
    found = index.find(symbol, day=TODAY)

    assert f"{found.exchange}:{found.token}" == token


@pytest.mark.parametrize(("symbol", "words"), [
    ("SBIN", r"may be NSE:SBIN-EQ \(3045\), BSE:SBIN-A \(500112\): write its exchange"),
    ("RELIANCE1!", "NFO:RELIANCE26NOVFUT .*BFO:RELIANCE26NOVFUT"), ("TWICE", "NSE:TWICE-N1 .*NSE:TWICE-N2"),
    ("NSE:SBNI", "did you mean NSE:SBIN"), ("BSE:SBNI", "did you mean BSE:SBIN"), ("NSE:PNB", "not in the broker's"),
    ("NSE:NIFTY", "futures and options are traded on NIFTY: NIFTY1! is NFO:NIFTY26NOVFUT"),
    ("NSE:Nifty 50", "an index is not traded"), ("NSE:NIFTY4!", "NIFTY1! is NFO:NIFTY26NOVFUT"),
    ("NSE:NIFTY261125C25000", "options on it expire on 2026-11-24, 2026-12-01"),
    ("NSE:NIFTY261124C25050", "strikes near it on 2026-11-24 are 25000, 25100"),
    ("NIFTY26OCTFUT", "is over, it expired on 2026-10-27"), ("NSE:NIFTYV2026", "is over"),
    ("NSE_DLY:SBIN", "delayed feed"), ("NASDAQ:AAPL", "NASDAQ is no exchange of this broker"), ("NSE:", "names nothing"),
    ("", "names nothing"), ("NSE:NIFTY261324C25000", "not in the broker's"), ("X" * 100, "too long"), ("ＳＢＩＮ", "not in")])
def test_what_names_no_single_instrument_is_refused_with_what_would_do(index: Index, symbol: str, words: str) -> None:
    with pytest.raises(NoInstrument, match=words):
        index.find(symbol, day=TODAY)


def test_an_exchange_beside_the_symbol_narrows_it_down_and_must_not_disagree(index: Index) -> None:
    assert index.find("SBIN", exchange="BSE", day=TODAY).token == "500112"
    assert index.find("NIFTY1!", exchange="NSE", day=TODAY).exchange == "NFO"
    assert index.find("NSE:NIFTY1!", exchange="NFO", day=TODAY).token == "35011"
    with pytest.raises(NoInstrument, match=r"trades at NSE, but options\.exchange is BSE"):
        index.find("NSE:SBIN", exchange="BSE", day=TODAY)


def test_a_front_contract_is_so_to_its_last_day_and_no_later_unless_the_account_rolls_before() -> None:
    index = read_master(packed(ROWS))
    last = date(2026, 11, 24)

    assert index.find("NIFTY1!", day=last).token == "35011"
    assert index.find("NIFTY1!", day=last + timedelta(days=1)).token == "35012"
    assert index.find("NIFTY1!", day=last - timedelta(days=3), roll_days=3).token == "35011"
    assert index.find("NIFTY1!", day=last - timedelta(days=2), roll_days=3).token == "35012"
    assert index.find("NSE:NIFTYX2026", day=last).token == "35011"


@given(st.text(max_size=70))
def test_no_symbol_raises_anything_but_no_instrument(symbol: str) -> None:
    index = Index([read_listed({"symbol": "NSE:SBIN-EQ", "token": "3045"})])
    try:
        assert index.find(symbol, day=TODAY).token == "3045"
    except NoInstrument as error:
        assert str(error)


def test_every_root_month_and_way_of_writing_finds_its_own_contract_and_no_other() -> None:
    roots = ("NIFTY", "BANKNIFTY", "NIFTYNXT50", "M&M", "BAJAJ-AUTO", "360ONE", "20MICRONS", "DECCANCE", "J&KBANK")
    rows, wanted = [], {}
    for number, (root, month, year) in enumerate(product(roots, range(1, 13), (2027, 2030, 2031))):
        day = date(year, month, 24)
        chart = root.replace("&", "_").replace("-", "_")
        monthly, token = f"{root}{year % 100}{MONTHS[month - 1]}", str(1000 + 10 * number)
        rows.append(f"{token},{monthly}FUT,{root},NFO,FUT,FO,75,0.1,{day:%d-%b-%Y},,XX")
        for name in (f"{monthly}FUT", f"NSE:{chart}{LETTERS[month - 1]}{year}", f"{root}24{MONTHS[month - 1]}{year % 100}FUT"):
            wanted[name] = token
        weekly, day = f"{root}{year % 100}{'123456789OND'[month - 1]}07", date(year, month, 7)
        for place, (strike, right) in enumerate(product(("25000", "292.5", "7"), ("CE", "PE"))):
            token = str(1001 + 10 * number + place)
            rows.append(f"{token},{weekly}{strike}{right},{root},NFO,OPT,FO,75,0.1,{day:%d-%b-%Y},{strike},{right}")
            for name in (f"{weekly}{strike}{right}", f"NSE:{chart}{day:%y%m%d}{right[0]}{strike}",
                         f"{root}07{MONTHS[month - 1]}{year % 100}{strike}{right}"):
                wanted[name] = token
    index = read_master(packed({"NFO": rows}))
    assert index.left_out == ()

    for name, token in wanted.items():
        assert index.find(name, day=TODAY).token == token, name


# -- what an order is given ------------------------------------------------------------------------------------------

BROKER = Pocketful()
AT = datetime(2026, 11, 20, 4, 30, tzinfo=UTC)


def account(**options: Any) -> Account:
    return Account(name="pf", broker="pocketful", client_id="YG1234", rest_url="https://trade.pocketful.in",
                   options=AccountOptions().load(options), roll=Roll(days=0))


def market(index: Index | None, at: datetime = AT, **more: Any) -> Any:
    url = BROKER.master_url(account()) or ""
    return Masters({} if index is None else {url: index}, **more).market(url, at)


def identified(symbol: str, index: Index | None, options: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return dict(BROKER.identify(symbol, options or {}, account(**more), market(index))[0])


def test_an_order_is_given_exchange_number_and_the_brokers_name(index: Index) -> None:
    assert identified("NSE:SBIN", index, {"product": "MIS"}) == {
        "exchange": "NSE", "instrument_token": "3045", "trading_symbol": "SBIN-EQ", "product": "MIS"}
    assert identified("NSE:NIFTY1!", index)["trading_symbol"] == "NIFTY26NOVFUT"
    assert identified("SBIN", index, exchange="BSE")["instrument_token"] == "500112"
    assert identified("NSE:SBIN", index, exchange="BSE")["instrument_token"] == "3045"
    assert identified("NIFTY1!", index, exchange="NSE")["exchange"] == "NFO"


def test_a_number_that_is_given_wins_over_the_symbol_and_still_has_its_tick_and_lot(index: Index) -> None:
    own = {"exchange": "NFO", "instrument_token": "35012"}
    options, known = BROKER.identify("NSE:SBIN", own, account(), market(index))

    assert options == own and (known.tick, known.lot) == (Decimal("0.1"), 75)
    options, known = BROKER.identify("NSE:14366", {}, account(), market(index))
    assert options == {} and known.tick == Decimal("0.01")
    assert BROKER.identify("SBIN", {"exchange": "NSE", "instrument_token": "99"}, account(), market(index))[1].tick is None
    assert BROKER.identify("SBIN", own, account(), market(None, otherwise="away"))[0] == own


def test_without_a_master_a_symbol_is_refused_with_the_reason_or_asked_for_again_and_left_open_where_nothing_is_sent(
        ) -> None:
    with pytest.raises(NoInstrument, match=r"can't be looked up: the network is down.*options\.instrument_token"):
        BROKER.identify("NSE:SBIN", {}, account(), market(None, otherwise="the network is down"))
    with pytest.raises(MasterAwaited):
        BROKER.identify("NSE:SBIN", {}, account(), market(None, awaited=[BROKER.master_url(account()) or ""]))
    found, known = BROKER.identify("MCX:GOLDGUINEA1!", {}, account(), NO_MASTERS.market("x", AT))
    assert found["exchange"] == "MCX" and found["instrument_token"] == "<from: instrument master>"
    assert isinstance(found["instrument_token"], Placeholder) and known.tick is None
    with pytest.raises(NoInstrument, match="delayed"):
        BROKER.identify("NSE_DLY:SBIN", {}, account(), NO_MASTERS.market("x", AT))


def test_the_day_that_counts_is_indias(index: Index) -> None:
    late = datetime(2026, 11, 24, 18, 29, 59, tzinfo=UTC)

    assert BROKER.identify("NIFTY1!", {}, account(), market(index, late))[0]["instrument_token"] == "35011"
    after = market(index, late + timedelta(seconds=1))
    assert BROKER.identify("NIFTY1!", {}, account(), after)[0]["instrument_token"] == "35012"


@pytest.mark.parametrize(("quantity", "price", "field", "words"), [
    ("75", "26000.1", "", ""), ("150", "26000", "", ""), ("74", "26000", "quantity", "no multiple of the lot of 75"),
    ("75", "26000.05", "price", "tick 0.1")])
def test_quantities_are_multiples_of_the_lot_and_prices_of_the_tick(index: Index, quantity: str, price: str, field: str,
                                                                    words: str) -> None:
    _, known = BROKER.identify("NIFTY1!", {}, account(), market(index))
    order = Order(kind="plain", symbol="NIFTY1!", side="buy", quantity=Decimal(quantity), type="limit",
                  price=Decimal(price), time_in_force="day")

    found = dict(faults_of(order, known))

    assert set(found) == ({field} if field else set()) and words in found.get(field, "")


@pytest.mark.parametrize(("times", "is_exit", "quantity"), [
    ("1", False, 150), ("0.5", False, 75), ("0.9", False, 75), ("2.5", False, 375), ("0.4", False, 0), ("0.4", True, 75)])
def test_sizes_are_rounded_down_to_lots_and_an_exit_never_to_nothing(index: Index, times: str, is_exit: bool,
                                                                     quantity: int) -> None:
    known = index.find("NIFTY1!", day=TODAY).product
    use = AccountUse(name="pf", multiplier=Decimal(times))

    size = scaled(Decimal(150), use, known, is_exit=is_exit, unit="")

    assert size.quantity == quantity and bool(size.refused) == (quantity == 0)


def test_a_point_of_a_share_is_a_rupee_and_of_a_commodity_not_told(index: Index) -> None:
    known = {exchange: one.product.point_value for exchange, one in {
        "NSE": index.find("NSE:SBIN", day=TODAY), "MCX": index.find("MCX:GOLDGUINEA1!", day=TODAY)}.items()}

    assert known == {"NSE": Decimal(1), "MCX": None}


@pytest.mark.parametrize(("rest", "url"), [
    ("https://trade.pocketful.in", "https://trade.pocketful.in"), ("https://algo.pocketful.in", "https://trade.pocketful.in"),
    ("http://127.0.0.1:8082", "http://127.0.0.1:8082")])
def test_the_master_is_where_its_page_says_or_at_the_accounts_own_address(rest: str, url: str) -> None:
    one = Account(name="pf", broker="pocketful", rest_url=rest)

    assert BROKER.master_url(one) == f"{url}/api/v1/contract/Compact?info=download&exchanges=NSE,NFO,BSE,BFO,MCX"


def test_a_test_lists_instruments_in_few_words() -> None:
    share = read_listed({"symbol": "NSE:SBIN-EQ", "token": 3045, "tick": Decimal("0.05"), "lot": 1})
    option = read_listed({"symbol": "NFO:NIFTY26D0125000.5CE", "token": "7", "expiry": "2026-12-01"})
    future = read_listed({"symbol": "NFO:NIFTY26DECFUT", "token": "8", "expiry": "2026-12-29", "lot": 75})

    assert share == Instrument("NSE", "3045", "SBIN-EQ", "SBIN", "share", Decimal("0.05"), 1)
    assert (option.strike, option.right, option.root) == (Decimal("25000.5"), "CE", "NIFTY")
    assert (future.kind, future.lot) == ("future", 75)
    for wrong, words in (({"symbol": "NSE:SBIN-EQ"}, "token is missing"), ({"symbol": "SBIN", "token": 1}, "exchange ''"),
                         ({"symbol": "NSE:A-EQ", "token": 1, "size": 1}, "size is unknown"),
                         ({"symbol": "NFO:NIFTY26DECFUT", "token": 1}, "without a day of expiry")):
        with pytest.raises(ValueError, match=words):
            read_listed(wrong)
