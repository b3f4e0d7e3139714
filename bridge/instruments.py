"""Instruments as a broker lists them, and the one that a chart's symbol means.

Indian brokers trade by number: an instrument is its exchange and a token there (tokens repeat across exchanges). Which
number is whose, and its tick, lot and expiry, stands in the broker's instrument master: a ZIP with one CSV for each
exchange, made anew every day. Its rows name a share with its series (`SBIN-EQ`, `M&M-EQ`, at BSE `SBIN-A`), a future or
an option with year and month (`NIFTY26DECFUT`, `COFORGE24MAR5700PE`), a weekly option with year, month and day
(`SENSEX2681369500CE`; October to December are O, N, D).

Charts write shares without the series and with `_` for `&` and `-` (`NSE:M_M`, `NSE:BAJAJ_AUTO`), the front futures
`NIFTY1!`, a dated one `NIFTYZ2026`, an option `NIFTY261126C25000`, and all of them behind the name of the exchange where
the share trades (`NSE:`, though futures and options have codes of their own). Each of these names, the broker's own, and
that with the whole date (`NIFTY26NOV2625000CE`) is understood; what could mean two instruments is refused with both.

Pure: bytes in, an index out. Nothing here is guessed: a row that cannot be read is left out, counted and named.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from bridge.call import Placeholder
from bridge.errors import MasterAwaited
from bridge.numbers import read_number, shortest
from bridge.order import Product

MOST_PACKED = 32 * 1024 * 1024
"""Bytes of a ZIP that is looked into; a whole master has two or three million."""
MOST_UNPACKED = 128 * 1024 * 1024
MOST_FILES = 16
MOST_ROWS = 1_000_000
_LONGEST_FIELD = 200
_NAMED_ROWS = 5

EXCHANGES = ("NSE", "BSE", "NFO", "BFO", "MCX", "CDS")
_BEHIND: Final[Mapping[str, frozenset[str]]] = MappingProxyType({
    "NSE": frozenset({"NSE", "NFO", "CDS"}), "BSE": frozenset({"BSE", "BFO"}),
    **{name: frozenset({name}) for name in ("NFO", "BFO", "MCX", "CDS")}})
"""What a chart's exchange may stand for: futures and options have codes of their own."""
_CHART_ROOTS: Final = MappingProxyType({"BSX": "SENSEX", "BKX": "BANKEX"})
"""How charts call the futures and options of these two."""

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_LETTERS = "FGHJKMNQUVXZ"
_INDIA = timedelta(hours=5, minutes=30)
_NEEDED = ("exchange_token", "trading_symbol", "exchange", "lot_size", "tick_size")
_ALL = (*_NEEDED, "company_name", "instrument_name", "segment", "expiry", "strike", "option_type")


class MasterError(ValueError):
    """An instrument master that cannot be used, in words."""


class NoInstrument(ValueError):
    """A symbol that names no instrument, or several, in words that say what would do."""


class Instrument(NamedTuple):
    """One row of the master. `root` is a share's name without its series, or what a future or option is on; `kind` is
    share, future, option or index (which is not traded). `tick` and `lot` are None where the row has none."""

    exchange: str
    token: str
    name: str
    root: str
    kind: str
    tick: Decimal | None
    lot: int | None
    expiry: date | None = None
    strike: Decimal | None = None
    right: str = ""

    @property
    def product(self) -> Product:
        """What the rules of orders need to know. A point of a share is a rupee; what a commodity's is worth is not told."""
        return Product(tick=self.tick, lot=self.lot, told=True,
                       point_value=Decimal(1) if self.exchange in ("NSE", "BSE", "NFO", "BFO") else None)

    def __str__(self) -> str:
        return f"{self.exchange}:{self.name}"


# -- reading the master ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _LeftOut:
    """Rows that were left out of one file, the first of them by line and reason."""

    file: str
    count: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, line: int, why: str) -> None:
        self.count += 1
        if len(self.named) < _NAMED_ROWS:
            self.named.append(f"line {line}: {why}")

    def __str__(self) -> str:
        more = "" if self.count <= len(self.named) else ", …"
        rows = "1 row is" if self.count == 1 else f"{self.count} rows are"
        return f"{self.file}: {rows} left out ({'; '.join(self.named)}{more})"


def read_master(packed: bytes) -> Index:
    """The index of a packed master. Raises MasterError, in words, for one that cannot be trusted as a whole.

    Sizes are those that come out, not those that the ZIP claims. Rows that cannot be read are left out and named in
    `Index.left_out`; a file without the columns that are needed refuses the whole.
    """
    if len(packed) > MOST_PACKED:
        raise MasterError(f"the instrument master has {len(packed)} bytes; at most {MOST_PACKED} are read")
    found: list[Instrument] = []
    left_out: list[_LeftOut] = []
    room = _Room(MOST_UNPACKED)
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            files = [each for each in archive.infolist() if each.filename.lower().endswith(".csv")]
            if len(archive.infolist()) > MOST_FILES:
                raise MasterError(f"the instrument master holds {len(archive.infolist())} files; at most {MOST_FILES}")
            for each in files:
                with archive.open(each) as raw:
                    lost = _LeftOut(re.sub(r"[^\w.-]", "_", each.filename)[:60])
                    text = io.TextIOWrapper(io.BufferedReader(_Bounded(raw, room)), "utf-8-sig", "replace", newline="")
                    found += _read_file(text, lost, MOST_ROWS - len(found))
                    left_out.append(lost)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise MasterError(f"the instrument master is no ZIP that can be read ({type(error).__name__})") from None
    if not found:
        raise MasterError("the instrument master holds no instrument")
    return Index(found, [str(each) for each in left_out if each.count])


@dataclass(slots=True)
class _Room:
    left: int


class _Bounded(io.RawIOBase):
    """A file of the ZIP, read no further than there is room for: what a ZIP says of its sizes may be a lie."""

    def __init__(self, raw: Any, room: _Room) -> None:
        self._raw, self._room = raw, room

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._raw.read(len(buffer))
        self._room.left -= len(piece)
        if self._room.left < 0:
            raise MasterError(f"the instrument master unpacks to more than {MOST_UNPACKED} bytes")
        buffer[:len(piece)] = piece
        return len(piece)


def _read_file(text: Iterable[str], lost: _LeftOut, most: int) -> Iterator[Instrument]:
    rows = csv.reader(text)
    try:
        names = [name.strip().strip("\ufeff").lower() for name in next(rows, [])]
        if missing := [name for name in _NEEDED if name not in names]:
            raise MasterError(f"{lost.file} has no column {', '.join(missing)}; it has "
                              f"{', '.join(names)[:200] or 'nothing'}")
        places = [names.index(name) if name in names else -1 for name in _ALL]
        for row in rows:
            if not row:
                continue
            most -= 1
            if most < 0:
                raise MasterError(f"the instrument master has more than {MOST_ROWS} rows")
            try:
                yield read_row([row[place].strip() if place >= 0 else "" for place in places])
            except _NotTraded:
                continue
            except (ValueError, IndexError) as error:
                words = str(error) if isinstance(error, ValueError) else f"has {len(row)} fields of {len(names)}"
                lost.add(rows.line_num, words)
    except csv.Error as error:
        raise MasterError(f"{lost.file} is no CSV: {error}") from None


class _NotTraded(Exception):
    """A row of what nobody orders, like a commodity's spot price."""


def read_row(values: Sequence[str]) -> Instrument:
    """The instrument of a row, its fields in the order of the columns named above. Raises ValueError in words."""
    if any(len(value) > _LONGEST_FIELD for value in values):
        raise ValueError("has a field that is too long")
    token, name, exchange, lot, tick, company, sort, segment, expiry, strike, right = values
    if not re.fullmatch(r"\d{1,20}", token, re.ASCII):
        raise ValueError(f"exchange_token {token[:30]!r} is no number")
    if exchange not in _BEHIND:
        raise ValueError(f"exchange {exchange[:30]!r} is none of {', '.join(EXCHANGES)}")
    if not re.fullmatch(r"[A-Za-z0-9&._+*/ -]{1,60}", name, re.ASCII):
        raise ValueError(f"trading_symbol {name[:60]!r} is no name")
    known = exchange, str(int(token)), name
    size, lots = _positive("tick_size", tick), _positive("lot_size", lot)
    if lots is not None and lots != lots.to_integral_value():
        raise ValueError(f"lot_size {lot[:30]} is no whole number")
    figures = size, None if lots is None else int(lots)
    if segment.upper() in ("INDICES", "IDX"):
        return Instrument(*known, root=name.upper(), kind="index", tick=figures[0], lot=figures[1])
    right, sort = right.upper(), sort.upper()
    if right in ("CE", "PE"):
        at = _positive("strike", strike)
        day = _read_day(expiry)
        if at is None or day is None:
            raise ValueError(f"{name}: an option without a {'strike' if at is None else 'day of expiry'}")
        root = _root_of(name, company, day, f"{shortest(at)}{right}")
        return Instrument(*known, root, "option", *figures, expiry=day, strike=at, right=right)
    if right == "XX" or sort.startswith("FUT") or sort in ("IF", "SF"):
        if (day := _read_day(expiry)) is None:
            raise ValueError(f"{name}: a future without a day of expiry")
        return Instrument(*known, _root_of(name, company, day, "FUT"), "future", *figures, expiry=day)
    if exchange not in ("NSE", "BSE"):
        raise _NotTraded
    return Instrument(*known, _without_series(name.upper()), "share", *figures)


@lru_cache(maxsize=8192)
def _positive(column: str, text: str) -> Decimal | None:
    """A number above zero; None for none (empty, 0, or the -0.01 that stands for no strike). Raises ValueError."""
    if not text:
        return None
    try:
        found = read_number(text)
    except ValueError as error:
        raise ValueError(f"{column} {error}") from None
    if found > 0 and not -9 < found.adjusted() < 9:
        raise ValueError(f"{column} {text[:30]} is out of all proportion")
    return Decimal(shortest(found)) if found > 0 else None


_DAY = re.compile(r"(?:(?P<iso>\d{4})-(?P<month>\d\d)-(?P<on>\d\d)|(?P<day>\d\d?)[- ]?(?P<name>[A-Za-z]{3})[- ]?"
                  r"(?P<year>\d{4}))(?:[T ].{0,20})?", re.ASCII)


@lru_cache(maxsize=4096)
def _read_day(text: str) -> date | None:
    """`2026-12-29`, `29-Dec-2026` or `29DEC2026`; None for none (`01-Jan-0001`). Raises ValueError."""
    if not text:
        return None
    found = _DAY.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        if found["iso"]:
            day = date(int(found["iso"]), int(found["month"]), int(found["on"]))
        else:
            day = date(int(found["year"]), _MONTHS.index(found["name"].upper()) + 1, int(found["day"]))
    except ValueError:
        raise ValueError(f"expiry {text[:30]!r} is no day like 2026-12-29 or 29-Dec-2026") from None
    return day if day.year > 1980 else None


@lru_cache(maxsize=4096)
def _dates_in_names(day: date) -> tuple[str, str]:
    """How names write a day: year and month, or for weekly ones year, month (1 to 9, O, N, D) and day."""
    month = "123456789OND"[day.month - 1]
    return f"{day:%y}{_MONTHS[day.month - 1]}", f"{day:%y}{month}{day:%d}"


_ENDING = re.compile(r"(?P<root>.+?)\d\d(?:[A-Z]{3}|[1-9OND]\d\d)(?:\d+(?:\.\d+)?)?(?:FUT|CE|PE)", re.ASCII)


def _root_of(name: str, company: str, day: date, tail: str) -> str:
    """What a future or option is on: its name without the date and what follows. Raises ValueError."""
    name = name.upper()
    for written in _dates_in_names(day):
        if name.endswith(written + tail) and len(name) > len(written + tail):
            return name[:-len(written + tail)]
    if re.fullmatch(r"[A-Z0-9&-]{1,30}", company, re.ASCII) and name.startswith(company):
        return company
    if found := _ENDING.fullmatch(name):
        return found["root"]
    raise ValueError(f"trading_symbol {name[:60]!r} does not say what it is on")


def _without_series(name: str) -> str:
    """`SBIN-EQ` → SBIN, `BAJAJ-AUTO-EQ` → BAJAJ-AUTO: a series (at BSE a group) is one or two characters."""
    base, dash, series = name.rpartition("-")
    return base if dash and base and 1 <= len(series) <= 2 else name


_OPTION_END = re.compile(r"(?P<strike>\d+(?:\.\d+)?)(?P<right>CE|PE)", re.ASCII)
_LISTED = ("symbol", "token", "tick", "lot", "expiry")


def read_listed(given: Mapping[str, Any]) -> Instrument:
    """An instrument as a template's own test lists it: `{symbol: "NSE:SBIN-EQ", token: 3045, tick: 0.05, lot: 1}`, with
    `expiry` for a future or an option. Raises ValueError in words."""
    if unknown := [name for name in given if name not in _LISTED]:
        raise ValueError(f"{unknown[0]} is unknown here; an instrument has {', '.join(_LISTED)}")
    if missing := [name for name in _LISTED[:2] if given.get(name) in (None, "")]:
        raise ValueError(f"{missing[0]} is missing")
    values = {name: format(each, "f") if isinstance(each, Decimal) else str(each) for name, each in given.items()
              if each is not None}
    exchange, _, name = values["symbol"].rpartition(":")
    day = _read_day(values.get("expiry", ""))
    ends = [name.upper().partition(written)[2] for written in (_dates_in_names(day) if day else ())]
    option = next(filter(None, map(_OPTION_END.fullmatch, ends)), None)
    right = option["right"] if option else "XX" if name.upper().endswith("FUT") else ""
    return read_row([values["token"], name, exchange, values.get("lot", ""), values.get("tick", ""), "", "", "",
                     values.get("expiry", ""), option["strike"] if option else "", right])


# -- finding an instrument -------------------------------------------------------------------------------------------


class Index:
    """The instruments of one master, by number and by name."""

    def __init__(self, instruments: Iterable[Instrument], left_out: Sequence[str] = ()) -> None:
        self._tokens: dict[str, dict[str, Instrument]] = {name: {} for name in EXCHANGES}
        self._roots: dict[str, list[Instrument]] = {}
        disputed: dict[tuple[str, str], None] = {}
        for one in instruments:
            other = self._tokens[one.exchange].setdefault(one.token, one)
            if other is not one and other != one:
                disputed[one.exchange, one.token] = None
        for exchange, token in disputed:
            del self._tokens[exchange][token]
        for tokens in self._tokens.values():
            for one in tokens.values():
                self._roots.setdefault(_key(one.root), []).append(one)
        told = [f"{exchange}:{token}" for exchange, token in list(disputed)[:_NAMED_ROWS]]
        self.left_out = (*left_out, *([f"{len(disputed)} numbers stand for several instruments and are left out: "
                                       f"{', '.join(told)}"] if disputed else []))
        self.counts = Counter({name: len(tokens) for name, tokens in self._tokens.items() if tokens})

    def __len__(self) -> int:
        return sum(self.counts.values())

    def numbered(self, exchange: str, token: str) -> Instrument | None:
        """The instrument with that number at that exchange, if the master has it."""
        return self._tokens.get(exchange, {}).get(token)

    def find(self, symbol: str, *, exchange: str = "", day: date, roll_days: int = 0) -> Instrument:
        """The one instrument that a symbol means on `day`. Raises NoInstrument.

        `exchange` narrows it down where the symbol has no prefix; with one, both must allow the same. Continuous futures
        (`NIFTY1!`) mean the first contract that expires no earlier than `roll_days` after `day`, and those behind it.
        """
        name, allowed = _where(symbol, exchange)
        found = [one for one in self._named(name, day, roll_days) if one.exchange in allowed]
        found = list(dict.fromkeys(found))
        living = [one for one in found if one.expiry is None or one.expiry >= day]
        if len(living) == 1:
            return living[0]
        if living:
            listed = ", ".join(f"{one} ({one.token})" for one in living[:4])
            raise NoInstrument(f"{symbol!r} may be {listed}{', …' if len(living) > 4 else ''}: write its exchange before "
                               "it, the broker's whole name, or options.instrument_token")
        if found:
            raise NoInstrument(f"{symbol!r}: {found[0]} is over, it expired on {found[0].expiry}")
        raise NoInstrument(f"{symbol!r} is not in the broker's instrument master: "
                           f"{self._instead(name, allowed, day, roll_days)}")

    def _named(self, name: str, day: date, roll_days: int) -> Iterator[Instrument]:
        """Everything that a name may mean, however it is read."""
        own = [one for root in _roots_in(name) for one in self._roots.get(_key(root), ())
               if one.name.upper() == name and one.kind != "index"]
        yield from own
        if found := _CONTINUOUS.fullmatch(name):
            for exchange in EXCHANGES:
                rows = self._futures(found["root"], exchange, day, roll_days)
                yield from rows[int(found["place"]) - 1:int(found["place"])]
        if found := _CODED.fullmatch(name):
            month = int(found["year"]), _LETTERS.index(found["letter"]) + 1
            yield from (one for one in self._on(found["root"]) if one.kind == "future" and one.expiry is not None
                        and (one.expiry.year, one.expiry.month) == month)
        for root, wanted, strike, right in _dated(name):
            yield from (one for one in self._on(root) if one.expiry == wanted and one.right == right
                        and one.strike == strike and one.kind in ("future", "option"))
        if not own:
            yield from self._shares(name)

    def _on(self, root: str) -> list[Instrument]:
        return self._roots.get(_key(_CHART_ROOTS.get(root, root)), [])

    def _futures(self, root: str, exchange: str, day: date, roll_days: int) -> list[Instrument]:
        """The futures on something that are not yet to be rolled out of, the first to expire first."""
        last = day + timedelta(days=roll_days)
        rows = [(one.expiry, one) for one in self._on(root)
                if one.kind == "future" and one.exchange == exchange and one.expiry is not None and one.expiry >= last]
        return [one for _, one in sorted(rows, key=lambda row: (row[0], row[1].name))]

    def _shares(self, name: str) -> Iterator[Instrument]:
        """The shares that a chart calls so. At NSE the series EQ is meant where there is one; other series by name."""
        rows = [one for one in self._roots.get(_key(name), ()) if one.kind == "share"]
        if exact := [one for one in rows if one.root == name]:
            rows = exact
        for exchange in ("NSE", "BSE"):
            here = [one for one in rows if one.exchange == exchange]
            yield from [one for one in here if one.name.upper() == f"{one.root}-EQ"] or here

    def _instead(self, name: str, allowed: frozenset[str], day: date, roll_days: int) -> str:
        """What may have been meant."""
        root = next((each for each in _roots_in(name) if any(
            one.kind in ("future", "option") and one.exchange in allowed for one in self._on(each))), "")
        rows = [one for one in self._on(root) if one.exchange in allowed and one.expiry is not None
                and one.expiry >= day] if root else []
        for wanted_root, wanted, strike, right in _dated(name):
            if right and wanted_root == root and (near := _near_options(rows, wanted, strike, right)):
                return near
        if rows:
            futures = [one for exchange in EXCHANGES if exchange in allowed
                       for one in self._futures(root, exchange, day, 0)]
            front = [f"{root}1! is {futures[0]}"] if futures else []
            listed = [*futures[1:3], *[one for one in rows if one.kind == "option"][:1]]
            return f"futures and options are traded on {root}: {', '.join([*front, *map(str, listed)])}"
        if any(one.kind == "index" for one in self._roots.get(_key(name), ())):
            return "it is an index, and an index is not traded itself"
        near = self._near_shares(name, allowed)
        return (f"did you mean {near}? " if near else "") + "options.instrument_token trades by number without it"

    def _near_shares(self, name: str, allowed: frozenset[str]) -> str:
        wanted = _key(_without_series(name))
        known = [key for key in self._roots if key[:1] == wanted[:1] and abs(len(key) - len(wanted)) <= 2]
        close = difflib.get_close_matches(wanted, known[:3000], 3, 0.7)
        rows = [one for key in close for one in self._shares(key) if one.exchange in allowed]
        return ", ".join(f"{one.exchange}:{one.root}" for one in rows[:3])


def _key(root: str) -> str:
    """A name as charts write it: `&` and `-` are `_` there."""
    return re.sub(r"[&\- ]", "_", root)


_CONTINUOUS = re.compile(r"(?P<root>.+)(?P<place>[1-9])!", re.ASCII)
_CODED = re.compile(r"(?P<root>.+)(?P<letter>[FGHJKMNQUVXZ])(?P<year>20\d\d)", re.ASCII)
_NAMES = "|".join(_MONTHS)
_CHART_OPTION = re.compile(r"(?P<root>.+)(?P<date>\d{6})(?P<right>[CP])(?P<strike>\d+(?:\.\d+)?)", re.ASCII)
_WHOLE_DATE = re.compile(rf"(?P<day>\d\d)(?P<month>{_NAMES})(?P<year>\d\d)(?:FUT|(?P<strike>\d+(?:\.\d+)?)(?P<right>CE|PE))",
                         re.ASCII)
_DELAYED = re.compile(r"_DLY?\Z", re.ASCII)


def _where(symbol: str, exchange: str) -> tuple[str, frozenset[str]]:
    """A symbol's name and where it may trade. Raises NoInstrument."""
    if len(symbol) > 60:
        raise NoInstrument("is too long for a symbol")
    prefix, colon, name = symbol.strip().upper().rpartition(":")
    if _DELAYED.search(prefix):
        raise NoInstrument(f"{symbol!r} comes from a delayed feed ({prefix}): its prices are too old to trade on")
    if colon and prefix not in _BEHIND:
        raise NoInstrument(f"{symbol!r}: {prefix or 'nothing'} is no exchange of this broker ({', '.join(EXCHANGES)})")
    if not name.strip():
        raise NoInstrument(f"{symbol!r} names nothing")
    allowed = _BEHIND[prefix] if colon else frozenset(EXCHANGES)
    if exchange:
        allowed &= _BEHIND.get(exchange, frozenset())
        if not allowed:
            raise NoInstrument(f"{symbol!r} trades at {prefix}, but options.exchange is {exchange}")
    return name.strip(), allowed


def _roots_in(name: str) -> Iterator[str]:
    """What a name may be on: itself, without its series, and each beginning that a date follows."""
    yield name
    if (base := _without_series(name)) != name:
        yield base
    if found := _CONTINUOUS.fullmatch(name) or _CODED.fullmatch(name):
        yield found["root"]
    for root, *_ in _dated(name):
        yield root
    for end in range(1, len(name)):
        if _NAMED_DATE.fullmatch(name, end):
            yield name[:end]


_NAMED_DATE = re.compile(rf"\d\d(?:{_NAMES}|[1-9OND]\d\d)(?:FUT|\d+(?:\.\d+)?(?:CE|PE))", re.ASCII)


def _dated(name: str) -> Iterator[tuple[str, date, Decimal | None, str]]:
    """(root, day, strike, right) of names that say the whole day: a chart's options, and `NIFTY29DEC26FUT`."""
    if found := _CHART_OPTION.fullmatch(name):
        text = found["date"]
        if (day := _real_day(int(text[:2]), int(text[2:4]), int(text[4:]))) is not None:
            yield found["root"], day, Decimal(found["strike"]), {"C": "CE", "P": "PE"}[found["right"]]
    for end in range(1, len(name)):
        if found := _WHOLE_DATE.fullmatch(name, end):
            day = _real_day(int(found["year"]), _MONTHS.index(found["month"]) + 1, int(found["day"]))
            if day is not None:
                yield (name[:end], day, Decimal(found["strike"]) if found["strike"] else None, found["right"] or "")


def _real_day(year: int, month: int, day: int) -> date | None:
    try:
        return date(2000 + year, month, day)
    except ValueError:
        return None


def _near_options(rows: Sequence[Instrument], wanted: date, strike: Decimal | None, right: str) -> str:
    """The expiries, or on the wanted day the strikes, next to what was asked for."""
    same = [one for one in rows if one.right == right]
    there = sorted({one.strike for one in same if one.expiry == wanted and one.strike is not None},
                   key=lambda each: abs(each - (strike or each)))[:3]
    if there:
        return f"strikes near it on {wanted} are {', '.join(shortest(each) for each in sorted(there))}"
    days = sorted({one.expiry for one in same if one.expiry is not None}, key=lambda each: abs((each - wanted).days))[:3]
    return f"options on it expire on {', '.join(str(each) for each in sorted(days))}" if days else ""


# -- what rendering is given -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What is known of an account's instruments when an alert is rendered, `at` the moment of its receipt.

    Without an index, `missing` says why, which refuses what needs one; while it is `awaited` the alert is to come again.
    Where neither is said (`render`, a template's own tests) the number stands as `<from: instrument master>`.
    """

    at: datetime
    index: Index | None = None
    missing: str = ""
    awaited: bool = False

    @property
    def day(self) -> date:
        """The day in India."""
        return (self.at + _INDIA).date()


UNKNOWN_MARKET: Final = Market(at=datetime(1970, 1, 1, tzinfo=UTC))


class Masters:
    """Brokers' instrument masters by their address, as they are at one moment; never altered.

    `missing` says by address why one is not there, `awaited` are those that are just being loaded, and `otherwise` stands
    for every other. Empty words: nothing will be sent, and what the master would say is left open.
    """

    def __init__(self, found: Mapping[str, Index] = MappingProxyType({}), missing: Mapping[str, str] = MappingProxyType({}),
                 awaited: Iterable[str] = (), otherwise: str = "") -> None:
        self._found, self._missing = dict(found), dict(missing)
        self._awaited, self._otherwise = frozenset(awaited), otherwise

    def market(self, url: str | None, at: datetime) -> Market:
        """The market of an account whose broker's master is at `url`."""
        if url is None:
            return Market(at=at)
        return Market(at=at, index=self._found.get(url), missing=self._missing.get(url, self._otherwise),
                      awaited=url in self._awaited)


NO_MASTERS: Final = Masters()


# -- what an order is given ------------------------------------------------------------------------------------------

_OPEN: Final = Placeholder.of("instrument master")


def identify(symbol: str, options: Mapping[str, Any], exchange: str, roll_days: int,
             market: Market) -> tuple[Mapping[str, Any], Product]:
    """The options with `exchange`, `instrument_token` and `trading_symbol` of what a symbol means; and what is known of it.

    The options' own exchange narrows it down; `exchange` is the account's, for a symbol without a prefix. Raises
    NoInstrument, MasterAwaited.
    """
    told = options.get("exchange") or ("" if ":" in symbol else exchange)
    if market.index is None:
        _, allowed = _where(symbol, told)
        if market.awaited:
            raise MasterAwaited("the broker's instrument master is being loaded")
        if market.missing:
            raise NoInstrument(f"{symbol!r} can't be looked up: {market.missing}. Until then options.instrument_token (with "
                               "options.exchange) trades by number")
        place = next(iter(allowed)) if len(allowed) == 1 else _OPEN
        return {**options, "exchange": place, "instrument_token": _OPEN}, Product()
    found = market.index.find(symbol, exchange=told, day=market.day, roll_days=roll_days)
    return {**options, "exchange": found.exchange, "instrument_token": found.token,
            "trading_symbol": found.name}, found.product


def symbol_fault(symbol: Any, exchange: Any) -> str:
    """What is wrong with a symbol whatever the master says; "" for nothing, and for what only the alert will tell."""
    if not isinstance(symbol, str):
        return ""
    try:
        _where(symbol, exchange if isinstance(exchange, str) else "")
    except NoInstrument as error:
        return str(error)
    return ""


# -- numbers as they are written ---------------------------------------------------------------------------------------

_NUMBERED = re.compile(rf"(?:({'|'.join(EXCHANGES)}):)?(\d{{1,20}})", re.ASCII)


def numbered_symbol(symbol: Any) -> tuple[str, str] | None:
    """A symbol's own exchange (or empty) and token, where it has the form NSE:14366 or 14366."""
    found = _NUMBERED.fullmatch(symbol) if isinstance(symbol, str) else None
    return (found[1] or "", str(int(found[2]))) if found else None


def digits(value: Any) -> str:
    """A number as YAML may give it, as text without leading zeros; empty for anything else."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return str(int(text)) if re.fullmatch(r"\d{1,20}", text, re.ASCII) else ""


def same_number(exchange: Any, token: Any) -> tuple[str, str]:
    """(exchange, token) in one way of writing: "nse" and "014366" are NSE and 14366."""
    return str(exchange).upper(), digits(token) or str(token)
