"""Brokers' instrument masters: fetched once a day, kept in BRIDGE_DATA, read again where they changed.

    .bridge/instruments/<hash of the address>.zip     as it was fetched; its time is when
    .bridge/instruments/lock                          held by the process that fetches

A receiver has a thread of its own for it: no answer waits for a file or a download. What was good yesterday goes on
serving until there is something better; where there was never anything, the alerts that need it are refused with the
reason. Commands only ever read what is kept.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bridge.accounts import Accounts
from bridge.brokers import BROKERS
from bridge.clock import epoch, monotonic
from bridge.errors import ServiceError
from bridge.instruments import MOST_PACKED, Index, MasterError, Masters, NoInstrument, read_master
from bridge.log import get_logger
from bridge.order_rules import OrderRule
from bridge.rendering import Template
from bridge.schemas import Where
from bridge.transport import download, host_of

_log = get_logger("instruments")

_DAILY_AT_S = 3 * 3600
"""Seconds of the day in UTC: 08:30 in India, before the first session there begins."""
_DAY_S = 86_400
_FETCH_S = 60.0
_LOOK_EVERY_S = 20.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 300.0
_AWAITED_S = 15.0
"""How long alerts are asked to come again while nothing has been loaded: as long as senders do so."""
_LEAST_OF_BEFORE = 2
"""A new master with less than one in so many of an exchange's instruments looks cut short."""


def urls_of(accounts: Accounts) -> tuple[str, ...]:
    """The addresses of the masters that these accounts trade by."""
    found = (BROKERS[account.broker].master_url(account) for account in accounts.accounts.values())
    return tuple(dict.fromkeys(url for url in found if url is not None))


# -- what is kept ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cache:
    """The masters that are kept in a folder."""

    folder: Path

    def path_of(self, url: str) -> Path:
        """Where the master of an address is kept."""
        return self.folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.zip"

    def fetched_at(self, url: str) -> float | None:
        """When the kept one was fetched, in seconds since the epoch; None without one."""
        try:
            return self.path_of(url).stat().st_mtime
        except OSError:
            return None

    def read(self, url: str) -> Index:
        """The kept one. Raises MasterError in words, OSError."""
        with self.path_of(url).open("rb") as file:
            return read_master(file.read(MOST_PACKED + 1))

    def keep(self, url: str, packed: bytes) -> None:
        """Put a new one in place as a whole. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=self.folder, prefix=".new-")
        try:
            with os.fdopen(number, "wb") as file:
                file.write(packed)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path_of(url))
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Whether this process is the one that may fetch now. Where there is no place for a lock, each may."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / "lock").open("w")
        except OSError:
            yield True
            return
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield True


def cache_in(data: Path) -> Cache:
    """The masters that are kept below BRIDGE_DATA."""
    return Cache(data / "instruments")


def kept_masters(data: Path, accounts: Accounts, names: Iterable[str]) -> tuple[Masters, list[str]]:
    """What is kept for these accounts, without any network, and in words what a person should know of it.

    What is not there is left open: `<from: instrument master>`.
    """
    cache, found, words = cache_in(data), dict[str, Index](), list[str]()
    wanted = Accounts({name: accounts.accounts[name] for name in names if name in accounts.accounts})
    for url in urls_of(wanted):
        at = cache.fetched_at(url)
        try:
            found[url] = cache.read(url)
        except FileNotFoundError:
            words.append(f"no instrument master of {host_of(url)} is kept in {cache.folder}, so symbols are not looked up "
                         "here; a running receiver fetches it")
        except (MasterError, OSError) as error:
            words.append(f"the instrument master of {host_of(url)} that is kept can't be read ({_why(error)}), so symbols "
                         "are not looked up here")
        if url in found and at is not None and at < _last_due(epoch()) - _DAY_S:
            words.append(f"the instrument master of {host_of(url)} is of {_day(at)}: a running receiver renews it daily")
    return Masters(found), words


def symbols_named(template: Template) -> Iterator[tuple[OrderRule, str]]:
    """The orders of a template whose symbol is written out and looked up in a master, with their accounts."""
    for rule in template.rules:
        symbol = rule.values.get("symbol")
        if symbol is None or not symbol.is_constant or rule.kind == "cancel" or "instrument_token" in rule.options:
            continue
        for name in rule.accounts:
            if template.brokers[template.known_accounts[name].broker].lists_instruments:
                yield rule, name


def unknown_symbols(template: Template, named: Iterable[tuple[OrderRule, str]], masters: Masters,
                    at: datetime) -> Iterator[tuple[Where, str]]:
    """Those that a master which is kept does not know now, as (path in the template, words)."""
    for rule, name in named:
        account = template.known_accounts[name]
        broker = template.brokers[account.broker]
        options = {each: value.constant for each, value in rule.options.items() if value.is_constant}
        try:
            broker.identify(rule.values["symbol"].constant, options, account, masters.market(broker.master_url(account), at))
        except NoInstrument as error:
            yield (*rule.path, "symbol"), str(error)


def _last_due(now: float) -> float:
    """The last moment at which a new master should have been fetched."""
    return (now - _DAILY_AT_S) // _DAY_S * _DAY_S + _DAILY_AT_S


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def _why(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)


# -- the receiver's thread -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _One:
    """What is known of one master. `changed_at` is the time of the file that was read last, `bad_at` of one that couldn't."""

    url: str
    index: Index | None = None
    changed_at: float | None = None
    bad_at: float | None = None
    failures: int = 0
    again_s: float = 0.0
    trouble: str = ""
    told: str = ""


@dataclass
class Keeper:
    """Keeps the masters of a receiver up to date, from `begin` on. `masters` is what there is at this moment.

    `fetch` gives what stands at an address, or raises ServiceError; `now` is seconds since the epoch.
    """

    cache: Cache
    urls: tuple[str, ...]
    fetch: Callable[[str], bytes] = lambda url: download(url, within_s=_FETCH_S, most=MOST_PACKED)
    now: Callable[[], float] = epoch
    masters: Masters = field(init=False)

    def __post_init__(self) -> None:
        self._ones = [_One(url) for url in self.urls]
        self._began_s = monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._publish()

    def begin(self) -> None:
        """Start; to be called in each process after it was forked. Nothing is done where no account needs a master."""
        if self._ones and self._thread is None:
            self._began_s = monotonic()
            self._publish()
            self._thread = threading.Thread(target=self._run, name="instruments", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Stop, and wait for a moment until it has."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            for one in self._ones:
                try:
                    self.look(one)
                except Exception as error:  # noqa: BLE001 a fault of ours must not end what keeps masters up to date
                    _log.error("an instrument master could not be renewed: a fault of Bridge", exc_info=error)
                    self._failed(one, "a fault of Bridge")
                self._publish()
            self._stop.wait(self._pause())

    def _pause(self) -> float:
        soonest = min((one.again_s - monotonic() for one in self._ones if one.failures), default=_LOOK_EVERY_S)
        if not all(one.index for one in self._ones):
            soonest = min(soonest, 1.0)
        return min(max(soonest, 0.05), _LOOK_EVERY_S)

    def look(self, one: _One) -> None:
        """Read what is kept where it changed, and fetch what is due."""
        self._read_kept(one)
        if monotonic() < one.again_s or not self._is_due(one):
            return
        with self.cache.held() as is_mine:
            if not is_mine:
                one.again_s = monotonic() + 1.0
                return
            self._read_kept(one)  # another process may have fetched it meanwhile
            if self._is_due(one):
                self._renew(one)

    def _is_due(self, one: _One) -> bool:
        return one.index is None or one.changed_at is None or one.changed_at < _last_due(self.now())

    def _read_kept(self, one: _One) -> None:
        at = self.cache.fetched_at(one.url)
        if at is None or at in (one.changed_at, one.bad_at):
            return
        try:
            index = self.cache.read(one.url)
        except (MasterError, OSError) as error:
            one.bad_at = at
            _log.warning("the kept instrument master can't be read; a new one is fetched", of=host_of(one.url),
                         reason=_why(error))
            return
        one.index, one.changed_at = index, at
        self._loaded(one, "the instrument master was read")
        self._publish()

    def _renew(self, one: _One) -> None:
        try:
            packed = self.fetch(one.url)
            index = read_master(packed)
            if short := _cut_short(index, one.index):
                raise MasterError(short)
        except (ServiceError, MasterError) as error:
            self._failed(one, str(error))
            return
        try:
            self.cache.keep(one.url, packed)
            at = self.cache.fetched_at(one.url)
        except OSError as error:
            _log.warning("the instrument master can't be kept; it will be fetched again at the next start",
                         folder=str(self.cache.folder), reason=_why(error))
            at = None
        one.index, one.changed_at = index, self.now() if at is None else at
        one.failures, one.trouble, one.told = 0, "", ""
        self._loaded(one, "the instrument master was fetched")

    def _loaded(self, one: _One, words: str) -> None:
        if one.index is None:
            return
        _log.info(words, of=host_of(one.url), instruments=len(one.index))
        for each in one.index.left_out:
            _log.warning("the instrument master has rows that can't be read; orders of these are refused",
                         of=host_of(one.url), rows=each)

    def _failed(self, one: _One, reason: str) -> None:
        one.failures += 1
        one.trouble = reason
        one.again_s = monotonic() + min(_FIRST_PAUSE_S * 2.0 ** min(one.failures - 1, 10), _LONGEST_PAUSE_S)
        if one.told == reason or (one.index is None and self._is_early()):
            return
        one.told = reason
        if one.index is None:
            _log.error("told to a person: there is no instrument master, so orders that need it are refused", reason=reason)
        else:
            _log.warning("the instrument master could not be renewed; the one of before goes on serving", reason=reason,
                         of=_day(one.changed_at or 0.0))

    def _is_early(self) -> bool:
        return monotonic() - self._began_s < _AWAITED_S

    def _publish(self) -> None:
        missing = {one.url: f"the instrument master could not be fetched ({one.trouble or 'not yet'})"
                   for one in self._ones if one.index is None}
        self.masters = Masters({one.url: one.index for one in self._ones if one.index is not None}, missing,
                               awaited=missing if self._is_early() else (),
                               otherwise="this receiver keeps no instrument master")


def _cut_short(new: Index, old: Index | None) -> str:
    """In words, the exchange of which a new master has suddenly lost most; "" where there is none."""
    for exchange, count in (old.counts if old is not None else {}).items():
        if new.counts[exchange] * _LEAST_OF_BEFORE < count:
            return (f"the new one looks cut short: {new.counts[exchange]} instruments of {exchange}, where there were {count}")
    return ""
