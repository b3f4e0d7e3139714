"""Futures contracts: how each broker spells them, and the tick sizes of the common CME products.

Tradovate writes root, month letter and ONE year digit (ESZ6); NinjaTrader 8 writes ES 12-26 and also understands
ESZ6, ESZ26, ES DEC26, ES and ES1!. Roots hold digits (6E, M2K), so a name is read from the right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation

_WIDE = Context(prec=200)
MONTHS = "FGHJKMNQUVXZ"
_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_QUARTERS = "HMUZ"


@dataclass(frozen=True, slots=True)
class Product:
    id: int
    root: str
    description: str
    tick: Decimal
    point_value: Decimal
    months: str


@dataclass(frozen=True, slots=True)
class Contract:
    product: Product
    year: int
    month: int

    @property
    def tradovate(self) -> str:
        return f"{self.product.root}{MONTHS[self.month - 1]}{self.year % 10}"

    @property
    def ninja(self) -> str:
        return f"{self.product.root} {self.month:02d}-{self.year % 100:02d}"

    @property
    def id(self) -> int:
        return 2_000_000 + self.product.id * 2000 + self.year % 100 * 12 + self.month

    @property
    def maturity_id(self) -> int:
        return self.id + 10_000_000

    @property
    def expiry(self) -> date:
        """The third Friday: right for equity indices, an approximation for the others."""
        first = date(self.year, self.month, 1)
        return first + timedelta(days=(4 - first.weekday()) % 7 + 14)


# root, tick, value of one point, months, description. ES is product 799 and NQ 814 at Tradovate; other ids are ours.
_TABLE = """
ES 0.25 50 HMUZ E-Mini S&P 500|NQ 0.25 20 HMUZ E-Mini NASDAQ 100|YM 1 5 HMUZ E-Mini Dow
RTY 0.1 50 HMUZ E-Mini Russell 2000|MES 0.25 5 HMUZ Micro E-Mini S&P 500|MNQ 0.25 2 HMUZ Micro E-Mini NASDAQ 100
MYM 1 0.5 HMUZ Micro E-Mini Dow|M2K 0.1 5 HMUZ Micro E-Mini Russell 2000|EMD 0.1 100 HMUZ E-Mini S&P MidCap 400
NKD 5 5 HMUZ Nikkei 225|CL 0.01 1000 FGHJKMNQUVXZ Crude Oil|MCL 0.01 100 FGHJKMNQUVXZ Micro Crude Oil
QM 0.025 500 FGHJKMNQUVXZ E-Mini Crude Oil|NG 0.001 10000 FGHJKMNQUVXZ Natural Gas
QG 0.005 2500 FGHJKMNQUVXZ E-Mini Natural Gas|MNG 0.001 1000 FGHJKMNQUVXZ Micro Natural Gas
RB 0.0001 42000 FGHJKMNQUVXZ RBOB Gasoline|HO 0.0001 42000 FGHJKMNQUVXZ NY Harbor ULSD
GC 0.1 100 FGHJKMNQUVXZ Gold|MGC 0.1 10 FGHJKMNQUVXZ Micro Gold|SI 0.005 5000 FGHJKMNQUVXZ Silver
SIL 0.005 1000 FGHJKMNQUVXZ Micro Silver|HG 0.0005 25000 FGHJKMNQUVXZ Copper
MHG 0.0005 2500 FGHJKMNQUVXZ Micro Copper|PL 0.1 50 FGHJKMNQUVXZ Platinum|PA 0.5 100 FGHJKMNQUVXZ Palladium
ZB 0.03125 1000 HMUZ 30 Year Bond|UB 0.03125 1000 HMUZ Ultra Bond|ZN 0.015625 1000 HMUZ 10 Year Note
TN 0.015625 1000 HMUZ Ultra 10 Year Note|ZF 0.0078125 1000 HMUZ 5 Year Note|ZT 0.00390625 2000 HMUZ 2 Year Note
6E 0.00005 125000 FGHJKMNQUVXZ Euro FX|6B 0.0001 62500 FGHJKMNQUVXZ British Pound
6J 0.0000005 12500000 FGHJKMNQUVXZ Japanese Yen|6A 0.00005 100000 FGHJKMNQUVXZ Australian Dollar
6C 0.00005 100000 FGHJKMNQUVXZ Canadian Dollar|6S 0.00005 125000 FGHJKMNQUVXZ Swiss Franc
6N 0.00005 100000 FGHJKMNQUVXZ New Zealand Dollar|6M 0.00001 500000 FGHJKMNQUVXZ Mexican Peso
E7 0.0001 62500 HMUZ E-Mini Euro FX|M6E 0.0001 12500 HMUZ Micro Euro FX|M6A 0.0001 10000 HMUZ Micro Australian Dollar
M6B 0.0001 6250 HMUZ Micro British Pound|ZC 0.25 50 FHKNUXZ Corn|ZS 0.25 50 FHKNQUXZ Soybeans|ZW 0.25 50 HKNUZ Wheat
KE 0.25 50 HKNUZ KC Wheat|ZM 0.1 100 FHKNQUVZ Soybean Meal|ZL 0.01 600 FHKNQUVZ Soybean Oil
HE 0.025 400 GJKMNQVZ Lean Hogs|LE 0.025 400 GJMQVZ Live Cattle|GF 0.025 500 FHJKQUVX Feeder Cattle
BTC 5 5 FGHJKMNQUVXZ Bitcoin|MBT 5 0.1 FGHJKMNQUVXZ Micro Bitcoin|ETH 0.5 50 FGHJKMNQUVXZ Ether
MET 0.5 0.1 FGHJKMNQUVXZ Micro Ether
"""


def _products() -> dict[str, Product]:
    known = {"ES": 799, "NQ": 814}
    found: dict[str, Product] = {}
    for number, row in enumerate(_TABLE.strip().replace("\n", "|").split("|"), start=901):
        root, tick, value, months, description = row.split(" ", 4)
        found[root] = Product(known.get(root, number), root, description, Decimal(tick), Decimal(value), months)
    return found


PRODUCTS = _products()
BY_ID = {product.id: product for product in PRODUCTS.values()}

_LETTER = re.compile(rf"(?P<root>[A-Z0-9]{{1,4}}?)(?P<month>[{MONTHS}])(?P<year>\d|\d\d|\d{{4}})")
_DATED = re.compile(r"(?P<root>[A-Z0-9]{1,4}) (?P<month>\d{2})-(?P<year>\d{2})")
_NAMED = re.compile(r"(?P<root>[A-Z0-9]{1,4}) (?P<month>[A-Z]{3})(?P<year>\d{2})")


def tradovate_contract(name: str) -> Contract | None:
    """The contract of a Tradovate name; None for anything but a known root, a listed month and one year digit."""
    match = _LETTER.fullmatch(name.upper())
    if match is None or len(match["year"]) != 1:
        return None
    return _contract(match["root"], MONTHS.index(match["month"]) + 1, _year(match["year"]))


def any_contract(name: str) -> Contract | None:
    """The contract of any spelling that NinjaTrader or a chart uses; a bare root or `1!` is the front month."""
    name = name.strip().upper()
    if match := _LETTER.fullmatch(name):
        found = _contract(match["root"], MONTHS.index(match["month"]) + 1, _year(match["year"]))
        if found is not None:
            return found
    if match := _DATED.fullmatch(name):
        return _contract(match["root"], int(match["month"]), _year(match["year"]))
    if (match := _NAMED.fullmatch(name)) and match["month"] in _NAMES:
        return _contract(match["root"], _NAMES.index(match["month"]) + 1, _year(match["year"]))
    product = PRODUCTS.get(name.removesuffix("1!"))
    return front(product) if product else None


def upcoming(product: Product, count: int) -> list[Contract]:
    """The next contracts of a product that have not expired, nearest first."""
    today = datetime.now(UTC).date()
    found = []
    for year in range(today.year, today.year + 3):
        for letter in product.months:
            contract = Contract(product, year, MONTHS.index(letter) + 1)
            if contract.expiry >= today:
                found.append(contract)
    return found[:count]


def front(product: Product) -> Contract:
    return upcoming(product, 1)[0]


def by_contract_id(number: int) -> Contract | None:
    """The inverse of `Contract.id`."""
    product_id, rest = divmod(number - 2_000_000, 2000)
    product = BY_ID.get(product_id)
    if product is None or rest < 1:
        return None
    year, month = divmod(rest - 1, 12)
    return _contract(product.root, month + 1, 2000 + year)


def market_key(symbol: str) -> str:
    """One name for one market: every spelling of a future gives its NinjaTrader form, all else its upper case."""
    contract = any_contract(symbol)
    return contract.ninja if contract else symbol.strip().upper()


def on_tick(price: Decimal, tick: Decimal) -> bool:
    try:
        return _WIDE.remainder(price, tick) == 0
    except InvalidOperation:
        return False


def _contract(root: str, month: int, year: int) -> Contract | None:
    product = PRODUCTS.get(root)
    if product is None or not 1 <= month <= 12 or MONTHS[month - 1] not in product.months:
        return None
    return Contract(product, year, month)


def _year(digits: str) -> int:
    if len(digits) == 4:
        return int(digits)
    if len(digits) == 2:
        return 2000 + int(digits)
    earliest = datetime.now(UTC).year - 2  # the digit repeats each decade; contracts far ahead are not listed
    return earliest + (int(digits) - earliest) % 10
