"""A few Indian instruments, so that look-ups by symbol have something to find; orders take any numeric token."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from decimal import Decimal

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
    Scrip("NFO", 35001, "NIFTY26DECFUT", "NIFTY", "NIFTY", 75, kind="FUTIDX", expiry="2026-12-29", option="XX"),
    Scrip("NFO", 35002, "BANKNIFTY26DECFUT", "BANKNIFTY", "NIFTY BANK", 35, kind="FUTIDX", expiry="2026-12-29",
          option="XX"),
    Scrip("MCX", 222895, "GOLDGUINEA26DECFUT", "GOLDGUINEA", "GOLDGUINEA", 1, Decimal(1), "FUTCOM", "2026-12-31",
          option="XX"),
)  # fmt: skip
_BY_KEY = {(scrip.exchange, scrip.token): scrip for scrip in SCRIPS}
_COLUMNS = (
    "exchange_token,trading_symbol,company_name,exchange,instrument_name,segment,lot_size,tick_size,expiry,strike,"
    "option_type"
)


def scrip(exchange: str, token: int) -> Scrip:
    """The instrument; one that is not in the small list gets a plain stand-in (tokens repeat across exchanges)."""
    return _BY_KEY.get((exchange, token)) or Scrip(
        exchange, token, f"SCRIP{token}-EQ", f"SCRIP{token}", "SANDBOX SCRIP"
    )


def find(text: str) -> list[Scrip]:
    text = text.upper()
    return [one for one in SCRIPS if text in one.trading_symbol or text in one.company]


def master(exchanges: list[str]) -> bytes:
    """The instrument master: a ZIP with one CSV per exchange, though the broker's page calls it a CSV file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for exchange in exchanges:
            rows = [_COLUMNS]
            for one in SCRIPS:
                if one.exchange == exchange:
                    rows.append(
                        f"{one.token},{one.trading_symbol},{one.company},{one.exchange},{one.kind},{one.segment},"
                        f"{one.lot},{one.tick},{one.expiry},{one.strike},{one.option}"
                    )
            archive.writestr(f"{exchange}CompactScrip.csv", "\n".join(rows) + "\n")
    return packed.getvalue()
