"""Templates that change while the receiver runs: seen within two seconds, judged whole, served as one set.

The folder is looked at four times a second. Looking needs no library and works where the system's own notices do not
(network folders, folders that are mounted into a container). What has changed is read when the folder has been quiet for
a moment, so that files which are saved together count together, and an editor's way of saving (write, rename, write
again) is one change.

    folder ─ scan ─▶ Quiet: now? ─ read ─▶ sources ─ renew ─▶ how each template stands ─▶ one new set for the requests

A file that does not load leaves its last good version serving. The processes of one receiver have the last good versions
in common (`Shelf`), so that they agree, and one that starts later agrees with them too.

The accounts file is read at the start only: receiver and worker have to go by the same accounts. That it has changed is
told.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from bridge.clock import monotonic
from bridge.errors import Fault, FileFaults
from bridge.log import get_logger
from bridge.shelf import Shelf
from bridge.template import Template, Templates
from bridge.template_files import Scan, Source, read_folder, read_source, scan_folder, signature

_log = get_logger("receiver")

LOOK_EVERY_S = 0.25
_LOOK_AGAIN_S = 0.1
"""How often a folder that is changing is looked at."""
QUIET_S, QUIET_GONE_S, LONGEST_S = 0.3, 1.0, 1.5
"""Quiet for so long, a change is whole. A file that is gone may be on its way back (an editor that renames, a checkout):
its alerts would be lost, for nobody sends again after a 404, so it is given longer. A folder that is never quiet is read
after LONGEST_S all the same."""
_LATE_LOOKS, _LATE_LOOK_S = 3, 1.0
"""After a change the contents are compared a few times more: where a file system counts time in seconds, a second edit
within one leaves the file's time and size as they were."""
_MOST_TOLD = 20

Judge = Callable[[str, bytes], Template]
"""(file, content) → the template; raises FileFaults."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a template stands: its file, why that does not load (if so), and what serves, with the content it is made of."""

    source: Source
    faults: tuple[Fault, ...] = ()
    template: Template | None = None
    good: bytes | None = field(default=None, repr=False)


# -- deciding, pure --------------------------------------------------------------------------------------------------


class Quiet:
    """When a folder that changes is to be read. Pure: scans and times are given."""

    def __init__(self, scan: Scan) -> None:
        self._known = self._last = scan
        self._began_s: float | None = None
        self._since_s = 0.0

    @property
    def changing(self) -> bool:
        """Whether the last look saw something that has not been read yet."""
        return self._began_s is not None

    def is_due(self, scan: Scan, now_s: float) -> bool:
        """Whether what this scan saw is to be read now."""
        if scan == self._known:
            self._last, self._began_s = scan, None
            return False
        if self._began_s is None:
            self._began_s = now_s
        if scan != self._last:
            self._last, self._since_s = scan, now_s
        quiet_s = QUIET_GONE_S if self._known.keys() - scan.keys() else QUIET_S
        return now_s - self._since_s >= quiet_s or now_s - self._began_s >= LONGEST_S

    def was_read(self, scan: Scan) -> None:
        """What this scan saw has been read."""
        self._known = self._last = scan
        self._began_s = None


def renew(before: Mapping[str, Standing], sources: Mapping[str, Source], kept: Mapping[str, bytes],
          judge: Judge) -> dict[str, Standing]:
    """How every template stands now. `kept` holds the last good content of each, whoever found it.

    What has not changed is not judged again. A template whose file is gone is gone; one whose file does not load stands
    with its last good version.
    """
    return {name: _renewed(before.get(name), source, kept.get(name), judge) for name, source in sources.items()}


def _renewed(before: Standing | None, source: Source, kept: bytes | None, judge: Judge) -> Standing:
    if before is not None and before.source == source and (not before.faults or before.good == kept):
        return before
    faults = source.faults
    if not faults:
        try:
            return Standing(source, (), _made_of(source.content, source.file, before, judge), source.content)
        except FileFaults as error:
            faults = error.faults
    try:
        template = None if kept is None else _made_of(kept, source.file, before, judge)
    except FileFaults:  # it was good once, but a secret that it names is gone since
        template = None
    return Standing(source, faults, template, kept)


def _made_of(content: bytes, file: str, before: Standing | None, judge: Judge) -> Template:
    if before is not None and before.template is not None and (before.good, before.source.file) == (content, file):
        return before.template
    return judge(file, content)


def templates_of(standings: Mapping[str, Standing]) -> Templates:
    """The set that serves. A template that serves in an older version than its file is among the faults too."""
    return Templates(
        MappingProxyType({name: each.template for name, each in standings.items() if each.template is not None}),
        MappingProxyType({name: each.faults for name, each in standings.items() if each.faults}))


# -- following the folder --------------------------------------------------------------------------------------------

_ACCOUNTS = "/accounts"
"""Under this name, which is no template's, the log's notes on the accounts file are kept."""
_RESTART = "restart the receiver and the worker to apply it"


class Reloader:
    """Reads the templates at the start, and follows their files from then on.

    `begin` once, before the processes part; then `follow` in each of them.
    """

    def __init__(self, folder: Path, accounts: AccountsFile, judge: Judge, shelf: Shelf) -> None:
        self._folder, self._accounts, self._judge, self._shelf = folder, accounts, judge, shelf
        self._standings: dict[str, Standing] = {}
        self._quiet = Quiet({})
        self._away: tuple[Fault, ...] = ()
        self._away_since_s: float | None = None
        self._late_looks: list[float] = []
        self._serve: Callable[[Templates, bool], None] = lambda _templates, _accounts_changed: None
        self._last_failure = ""

    def begin(self) -> Templates:
        """Read all templates for the first time. What does not load is told and stops no other."""
        try:
            self._read_all(monotonic(), first=True)
        except OSError:
            self._away = (_no_folder(self._folder),)
            _log.error("there is no folder of templates: no alert can be accepted", fault=str(self._away[0]))
        return self._templates()

    def follow(self, serve: Callable[[Templates, bool], None]) -> None:
        """Catch up with what has changed since `begin`, then follow in a thread of its own.

        `serve` is given each new set, and whether the accounts file is another than at the start.
        """
        self._serve = serve
        pause = threading.Event()
        self._look_safely()
        while self._quiet.changing:
            pause.wait(_LOOK_AGAIN_S)
            self._look_safely()
        threading.Thread(target=self._run, args=(pause,), name="templates", daemon=True).start()

    def _run(self, pause: threading.Event) -> None:
        while True:
            pause.wait(_LOOK_AGAIN_S if self._quiet.changing else LOOK_EVERY_S)
            self._look_safely()

    def _look_safely(self) -> None:
        """Whatever happens, the last set goes on serving and the next look follows; the same failure is told once."""
        try:
            self.look(monotonic())
            self._last_failure = ""
        except Exception as error:  # noqa: BLE001 nothing may end the following: an edit would never take effect
            if (failure := repr(error)) != self._last_failure:
                _log.error("the templates could not be looked at: a fault of Bridge; the last set goes on serving",
                           exc_info=error)
            self._last_failure = failure

    def look(self, now_s: float) -> None:
        """One look at the folder and the accounts file; serves a new set when there is one."""
        if self._accounts.has_turned():
            self._tell_accounts()
            self._serve(self._templates(), self._accounts.changed)
        try:
            scan = scan_folder(self._folder)
            if self._is_due(scan, now_s):
                self._read_all(now_s)
        except OSError as error:
            self._miss_folder(error, now_s)
            return
        if self._away or self._away_since_s is not None:
            self._away_since_s = None
            if self._away:
                self._away = ()
                _log.info("the folder of templates can be read again")
                self._serve(self._templates(), self._accounts.changed)

    def _is_due(self, scan: Scan, now_s: float) -> bool:
        if self._quiet.is_due(scan, now_s):
            self._late_looks = [now_s + _LATE_LOOK_S * number for number in range(1, _LATE_LOOKS + 1)]
            return True
        if self._late_looks and now_s >= self._late_looks[0] and not self._quiet.changing:
            del self._late_looks[0]
            return True
        return False

    def _read_all(self, now_s: float, *, first: bool = False) -> None:
        with self._shelf.held() as common:
            scan, sources = read_folder(self._folder)
            before = self._standings
            after = renew(before, sources, common.good, self._judged)
            common.good = {name: each.good for name, each in after.items() if each.good is not None}
            tell(before, after, common.told, first=first, hint=self._hint())
        self._standings = after
        self._quiet.was_read(scan)
        if after != before:
            self._serve(self._templates(), self._accounts.changed)

    def _judged(self, file: str, content: bytes) -> Template:
        """A template, or its faults; a fault of ours counts as one of the file's, and stops no other template."""
        try:
            return self._judge(file, content)
        except FileFaults:
            raise
        except Exception as error:  # noqa: BLE001 one template must not keep the others from loading
            _log.error("a template could not be judged: a fault of Bridge", file=file, exc_info=error)
            raise FileFaults(Fault(message=f"could not be judged ({type(error).__name__}): a fault of Bridge",
                                   file=file, line=1, column=1)) from None

    def _templates(self) -> Templates:
        found = templates_of(self._standings)
        if not self._away:
            return found
        return Templates(found.loaded, MappingProxyType({**found.faults, self._folder.name: self._away}))

    def _miss_folder(self, error: OSError, now_s: float) -> None:
        """A folder that cannot be read is no order to drop all templates: it may be on its way back."""
        if self._away_since_s is None:
            self._away_since_s = now_s
        if not self._away and now_s - self._away_since_s >= QUIET_GONE_S:
            self._away = (Fault(message=f"the folder of templates cannot be read: {error.strerror or error}",
                                file=str(self._folder), line=1, column=1),)
            _log.error("the folder of templates cannot be read; the last set goes on serving", fault=str(self._away[0]))
            self._serve(self._templates(), self._accounts.changed)

    def _hint(self) -> str:
        return f"the accounts file has changed, too: {_RESTART}" if self._accounts.changed else ""

    def _tell_accounts(self) -> None:
        with self._shelf.held() as common:
            if common.told.get(_ACCOUNTS) == self._accounts.digest:
                return
            common.told[_ACCOUNTS] = self._accounts.digest
        if self._accounts.changed:
            _log.warning(f"the accounts file has changed, which counts from the next start: {_RESTART}",
                         file=str(self._accounts.file))
        else:
            _log.info("the accounts file is again what it was at the start", file=str(self._accounts.file))


class AccountsFile:
    """Whether the accounts file is another than at the start. Made before the accounts are read, so that no change is
    missed."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._seen = self._read_of = signature(str(file))
        self._first = self.digest = read_source(file).digest
        self.changed = False

    def has_turned(self) -> bool:
        """Whether its content is another than at the last look; asked of a file that two looks saw alike."""
        seen, last = signature(str(self.file)), self._seen
        self._seen = seen
        if seen == self._read_of or seen != last:
            return False
        self._read_of = seen
        before, self.digest = self.digest, read_source(self.file).digest
        self.changed = self.digest != self._first
        return self.digest != before


def _no_folder(folder: Path) -> Fault:
    return Fault(message="there is no such folder of templates", file=str(folder), line=1, column=1)


# -- telling ---------------------------------------------------------------------------------------------------------


def tell(before: Mapping[str, Standing], after: Mapping[str, Standing], told: dict[str, str], *, first: bool,
         hint: str = "") -> None:
    """Say in the log what has changed, each change once; at the start only what is wrong. Notes it in `told`."""
    for name, now in after.items():
        mark = now.source.digest
        if told.get(name) == mark:
            continue
        is_new = name not in told
        told[name] = mark
        if now.faults:
            _tell_faults(name, now, hint)
        elif not first:
            _tell_good(name, before.get(name), is_new=is_new)
    for name in told.keys() - after.keys() - {_ACCOUNTS}:
        del told[name]
        _log.warning("a template is gone: its alerts are answered 404 like those of an unknown one", template=name)


def _tell_faults(name: str, now: Standing, hint: str) -> None:
    said = ("a template does not load; its alerts are refused" if now.template is None else
            "a changed template does not load; its last good version goes on serving")
    more = {"hint": hint} if hint else {}
    for fault in now.faults[:_MOST_TOLD]:
        _log.error(said, template=name, fault=str(fault), **more)
    if len(now.faults) > _MOST_TOLD:
        _log.error(said, template=name, fault=f"and {len(now.faults) - _MOST_TOLD} more: see `bridge check`", **more)


def _tell_good(name: str, was: Standing | None, *, is_new: bool) -> None:
    if is_new:
        _log.info("a new template serves: its address is that of another one with this name in place of the other's",
                  template=name)
    elif was is not None and was.faults:
        _log.info("a template loads again; what its file says serves now", template=name)
    else:
        _log.info("a template's change serves now", template=name)
