"""A few Indian instruments, so that look-ups by symbol have something to find; orders take any numeric token."""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

EXCHANGES = ("NSE", "BSE", "NFO", "BFO", "MCX", "CDS")


@dataclass(frozen=True, slots=True)
class Scrip:
    exchange: str
    token: int
    trading_symbol: str
    symbol: str
    company: str
    lot: int = 1
    tick: Decimal = Decimal("0.05")
    kind: str = "EQ"
    expiry: str = ""
    strike: str = ""
    option: str = ""
    group: str = ""

    @property
    def segment(self) -> str:
        return "Capital" if self.exchange in ("NSE", "BSE") else "FutOpt"

    @property
    def series(self) -> str:
        return self.trading_symbol.rpartition("-")[2] if "-" in self.trading_symbol else ""


_CENT = Decimal("0.01")
SCRIPS = (
    Scrip("NSE", 14366, "IDEA-EQ", "IDEA", "VODAFONE IDEA LIMITED", tick=_CENT),
    Scrip("NSE", 11915, "YESBANK-EQ", "YESBANK", "YES BANK LIMITED", tick=_CENT),
    Scrip("NSE", 10666, "PNB-EQ", "PNB", "PUNJAB NATIONAL BANK"),
    Scrip("NSE", 3045, "SBIN-EQ", "SBIN", "STATE BANK OF INDIA"),
    Scrip("NSE", 2885, "RELIANCE-EQ", "RELIANCE", "RELIANCE INDUSTRIES LTD", tick=Decimal("0.1")),
    Scrip("NSE", 1594, "INFY-EQ", "INFY", "INFOSYS LIMITED", tick=Decimal("0.1")),
    Scrip("NSE", 11536, "TCS-EQ", "TCS", "TATA CONSULTANCY SERV LT", tick=Decimal("0.1")),
    Scrip("NSE", 1333, "HDFCBANK-EQ", "HDFCBANK", "HDFC BANK LTD", tick=Decimal("0.1")),
    Scrip("NSE", 4963, "ICICIBANK-EQ", "ICICIBANK", "ICICI BANK LTD.", tick=Decimal("0.1")),
    Scrip("NSE", 1624, "IOC-EQ", "IOC", "INDIAN OIL CORP LTD", tick=_CENT),
    Scrip("NSE", 13342, "VAKRANGEE-EQ", "VAKRANGEE", "VAKRANGEE LIMITED", tick=_CENT),
    Scrip("BSE", 532461, "PNB-A", "PNB", "PUNJAB NATIONAL BANK"),
    Scrip("BSE", 500112, "SBIN-A", "SBIN", "STATE BANK OF INDIA"),
    Scrip("NSE", 2031, "M&M-EQ", "M&M", "MAHINDRA & MAHINDRA LTD", tick=Decimal("0.1")),
    Scrip("NSE", 16669, "BAJAJ-AUTO-EQ", "BAJAJ-AUTO", "BAJAJ AUTO LIMITED", tick=Decimal(1)),
    Scrip("NSE", 26000, "Nifty 50", "NIFTY", "Nifty 50", 0, Decimal(0), "INDEX", group="INDICES"),
)  # fmt: skip

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
# exchange, what it is on, lot, tick, kind of future, first token, strikes of its options
_DERIVED: tuple[tuple[str, str, int, str, str, int, tuple[int, ...]], ...] = (
    ("NFO", "NIFTY", 75, "0.1", "FUTIDX", 35000, tuple(range(24000, 27001, 500))),
    ("NFO", "BANKNIFTY", 35, "0.2", "FUTIDX", 36000, ()),
    ("NFO", "RELIANCE", 500, "0.1", "FUTSTK", 37000, ()),
    ("BFO", "SENSEX", 20, "0.05", "IF", 820000, ()),
    ("MCX", "GOLDGUINEA", 1, "1", "FUTCOM", 222000, ()),
)


@lru_cache(maxsize=4)
def _derived(today: date) -> tuple[Scrip, ...]:
    """The futures of this and the next two months, and a few options: they expire on the last Tuesday of a month."""
    found: list[Scrip] = []
    for exchange, root, lot, tick, kind, first, strikes in _DERIVED:
        month = today.year * 12 + today.month - 1
        if _last_tuesday(month) < today:
            month += 1
        for each in range(month, month + 3):
            day, name = _last_tuesday(each), f"{root}{each // 12 % 100:02d}{_MONTHS[each % 12]}"
            common = (root, root, lot, Decimal(tick))
            expiry = f"{day.day:02d}-{_MONTHS[day.month - 1].title()}-{day.year}"
            found.append(Scrip(exchange, first + each % 120, f"{name}FUT", *common, kind, expiry, "-0.01", "XX", group="FO"))
            for place, strike in enumerate(strikes):
                for right in (0, 1):
                    token = first + 10_000 + each % 120 * 100 + place * 2 + right
                    option = ("CE", "PE")[right]
                    found.append(Scrip(exchange, token, f"{name}{strike}{option}", *common, "OPTIDX", expiry,
                                       f"{strike}.00", option, group="FO"))
    return tuple(found)


def _last_tuesday(month: int) -> date:
    """Of a month that is counted from the year 0."""
    last = date((month + 1) // 12, (month + 1) % 12 + 1, 1) - timedelta(days=1)
    return last - timedelta(days=(last.weekday() - 1) % 7)


def scrips() -> tuple[Scrip, ...]:
    """Everything that is listed today, by India's day."""
    return SCRIPS + _derived((datetime.now(UTC) + timedelta(hours=5, minutes=30)).date())


_COLUMNS = (
    "exchange_token", "trading_symbol", "company_name", "exchange", "instrument_name", "segment", "lot_size", "tick_size",
    "expiry", "strike", "option_type",
)  # fmt: skip


def scrip(exchange: str, token: int) -> Scrip:
    """The instrument; one that is not in the small list gets a plain stand-in (tokens repeat across exchanges)."""
    for one in scrips():
        if (one.exchange, one.token) == (exchange, token):
            return one
    return Scrip(exchange, token, f"SCRIP{token}-EQ", f"SCRIP{token}", "SANDBOX SCRIP")


def find(text: str) -> list[Scrip]:
    text = text.upper()
    return [one for one in scrips() if text in one.trading_symbol or text in one.company]


def master(exchanges: list[str]) -> bytes:
    """The instrument master: a ZIP with one CSV per exchange, though the broker's page calls it a CSV file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for exchange in exchanges:
            text = io.StringIO()
            rows = csv.writer(text, lineterminator="\n")
            rows.writerow(_COLUMNS)
            for one in scrips():
                if one.exchange == exchange:
                    rows.writerow([one.token, one.trading_symbol, one.company, one.exchange, one.kind,
                                   one.group or one.segment, one.lot, one.tick, one.expiry, one.strike, one.option])
            archive.writestr(f"{exchange}CompactScrip.csv", text.getvalue())
    return packed.getvalue()
