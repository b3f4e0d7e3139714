"""Templates: one YAML file each, loaded with every fault that can be seen before an alert comes.

A template loads only if it is sound, its accounts' brokers can do what it asks for, and it passes its own tests. One
that does not load stops no other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from bridge.accounts import Accounts
from bridge.broker import Broker
from bridge.brokers import BROKERS
from bridge.dangers import DANGERS, dangers_of
from bridge.errors import Fault, FileFaults
from bridge.expressions import ExpressionError, Value, compile_condition, compile_value
from bridge.fields import REFUSED, TYPES, DeclarationError, Fields, declare, has_value
from bridge.guard_checks import compared, size_faults, symbol_guard_faults
from bridge.guards import Guards, guards_from
from bridge.order import KINDS
from bridge.order_rules import OrderRule, compile_orders
from bridge.pattern import TextPattern, compile_pattern
from bridge.rendering import Rendered, RenderedOrder, Template
from bridge.schemas import Where, meant
from bridge.secret_refs import Unset, resolve
from bridge.settings import SETTINGS
from bridge.template_checks import check_rule, overlaps, torn_texts
from bridge.template_schema import check_shape
from bridge.template_tests import run_tests
from bridge.yamlfile import Document, read_file_partly

__all__ = ["Rendered", "RenderedOrder", "Template", "Templates", "is_template", "judge_template", "load_template",
           "load_templates"]

FINGERPRINT_WINDOW_MS, ID_WINDOW_MS = 30_000, 86_400_000
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Templates:
    """A folder's templates by name, and the faults of those that do not load."""

    loaded: Mapping[str, Template] = field(default_factory=dict)
    faults: Mapping[str, tuple[Fault, ...]] = field(default_factory=dict)


def is_template(file: str) -> bool:
    """Whether a file of this name is a template; what editors and copying tools leave for a moment is none."""
    return file.endswith((".yaml", ".yml")) and not file.startswith(".")


def load_templates(folder: Path, accounts: Accounts, brokers: Mapping[str, Broker] = BROKERS, *,
                   environ: Mapping[str, str] = MappingProxyType({}), lenient: bool = False) -> Templates:
    """Every `*.yaml` and `*.yml` of a folder; one that is broken does not stop the others."""
    if not folder.is_dir():
        return Templates({}, {folder.name: (Fault(message="there is no such folder of templates", file=str(folder),
                                                  line=1, column=1),)})
    loaded: dict[str, Template] = {}
    faults: dict[str, tuple[Fault, ...]] = {}
    for path in sorted(folder.iterdir()):
        if not is_template(path.name):
            continue
        try:
            if path.stem in loaded or path.stem in faults:
                raise FileFaults(Fault(message=f"there are two templates of the name {path.stem}", file=str(path),
                                       line=1, column=1))
            loaded[path.stem] = load_template(path, accounts, brokers, environ=environ, lenient=lenient)
        except FileFaults as error:
            loaded.pop(path.stem, None)
            faults[path.stem] = faults.get(path.stem, ()) + error.faults
    return Templates(loaded, faults)


def load_template(path: Path, accounts: Accounts, brokers: Mapping[str, Broker] = BROKERS, *,
                  environ: Mapping[str, str] = MappingProxyType({}), lenient: bool = False) -> Template:
    """A template that is sound and passes its own tests. Raises FileFaults with every fault.

    `environ` is where `secret: ${NAME}` is looked up; with `lenient` it may be missing there.
    """
    return judge_template(read_file_partly(path), accounts, brokers, environ=environ, lenient=lenient)


def judge_template(document: Document, accounts: Accounts, brokers: Mapping[str, Broker] = BROKERS, *,
                   environ: Mapping[str, str] = MappingProxyType({}), lenient: bool = False) -> Template:
    """The template in a file's document, as `load_template` says."""
    if not isinstance(document.value, dict):
        kind = "is empty" if document.value is None else "is no mapping"
        raise FileFaults(document.faults or document.fault((), f"{kind}; a template has names with values: account, alert, order, …"))
    return _Loader(document, Path(document.file).stem, accounts, brokers, environ, lenient).load()


class _Loader:
    """Loads one template, collecting all that is wrong with it."""

    def __init__(self, document: Document, name: str, accounts: Accounts, brokers: Mapping[str, Broker],
                 environ: Mapping[str, str], lenient: bool) -> None:
        self.document, self.name, self.accounts, self.brokers = document, name, accounts, brokers
        self.environ, self.lenient = environ, lenient
        self.found: Mapping[str, Any] = document.value
        self.faults: dict[tuple[Where, str], None] = {}
        self.torn: set[Where] = set()

    def fault(self, path: Where, message: str) -> None:
        if path not in self.torn:
            self.faults[(path, message)] = None

    def load(self) -> Template:
        """The template, or FileFaults."""
        if not _NAME.fullmatch(self.name):
            self.fault((), f"{self.name!r} is no template's name: its file name becomes a part of the webhook's URL; "
                           "letters, digits, _ and - (at most 64)")
        valid, shape = check_shape(self.found)
        for path, message in shape:
            self.fault(path, message)
        for path, message in torn_texts(self.found):
            self.fault(path, message)
            self.torn.add(path)
        fields = self._fields()
        types = {name: kind for name, given in self._section("alert").items() if has_value(kind := _type_of(given))}
        pattern = self._pattern(fields)
        when = self._value("when", types, compile_condition)
        sent_at, key = self._value("sent_at", types, compile_value), self._value("id", types, compile_value)
        rules, wrong = compile_orders(self.found, valid, types)
        for each in wrong:
            self.fault(each.path, each.message)
        names = self._account_names(rules)
        for rule in rules:
            self._check_rule(rule)
        guards, with_prices = self._guards(valid, rules, names, types)
        secret, allowed = self._secret(valid), self._allowed(valid)
        self._raise_faults()
        window = valid.get("dedupe_window", FINGERPRINT_WINDOW_MS if key is None else ID_WINDOW_MS)
        template = Template(
            name=self.name, file=self.document.file, description=valid.get("description", ""),
            fields=cast(Fields, fields), rules=tuple(rules), accounts=names, pattern=pattern, when=when,
            sent_at=sent_at, id=key, dedupe_window_ms=window, secret=secret, dry_run=valid["dry_run"],
            guards=guards, compared=with_prices, known_accounts=self.accounts.accounts, brokers=self.brokers)
        for path, message in run_tests(template, valid.get("tests", ())):
            self.fault(path, message)
        self._raise_faults()
        return replace(template, warnings=tuple(self._warnings(template, allowed)))

    def _raise_faults(self) -> None:
        faults = list(self.document.faults)
        faults += [self.document.fault(path, message) for path, message in self.faults
                   if not overlaps(path, self.document.told)]
        if faults:
            raise FileFaults(sorted(faults, key=lambda fault: (fault.line, fault.column)))

    def _section(self, name: str) -> Mapping[str, Any]:
        found = self.found.get(name)
        return found if isinstance(found, dict) else {}

    def _fields(self) -> Fields | None:
        try:
            return declare(self._section("alert"))
        except DeclarationError as error:
            for path, message in error.faults:
                self.fault(("alert", *path), message)
            return None

    def _pattern(self, fields: Fields | None) -> TextPattern | None:
        source = self.found.get("parse")
        if not isinstance(source, str):
            return None
        try:
            pattern = compile_pattern(source)
        except ValueError as error:
            self.fault(("parse",), str(error))
            return None
        if fields is not None:
            read = {each.path[0] for each in fields.declared.values() if len(each.path) == 1}
            for group in pattern.groups:
                if group not in read:
                    self.fault(("parse",), f"captures {group!r}, which no field under `alert:` reads; "
                                           f"{meant(group, map(str, read))}")
            for each in fields.declared.values():
                if not each.optional and each.path[0] not in pattern.groups:
                    self.fault(("parse",), f"does not capture {each.name!r}, which is not optional")
        return pattern

    def _value(self, name: str, types: Mapping[str, str],
               compiler: Callable[[Any, Mapping[str, str]], Value]) -> Value | None:
        given = self.found.get(name)
        if given is None or isinstance(given, (dict, list)):
            return None
        try:
            value = compiler(given, types)
            if name == "sent_at" and value.is_constant:
                raise ExpressionError('is the same for every alert; read a field of it, like "{{ alert.time }}"')
            if name == "id" and value.is_constant:
                raise ExpressionError("is the same for every alert: only the first one would ever be taken")
        except ExpressionError as error:
            self.fault((name,), str(error))
            return None
        return value

    def _account_names(self, rules: list[OrderRule]) -> tuple[str, ...]:
        """All accounts that are named, in the file's order; each must be one that is loaded."""
        named: dict[str, Where] = {}
        for rule in rules:
            if not rule.accounts and rule.kind and "account" not in self.found:
                self.fault(("account",), "is missing: which account is to trade?")
            for name in rule.accounts:
                own = _is_named_in(self.document, rule.path)
                named.setdefault(name, (*rule.path, "account") if own else ("account",))
        for name, path in named.items():
            if name in self.accounts.broken:
                self.fault(path, f"the account {name!r} is itself at fault: see what is said of the accounts file")
            elif name not in self.accounts.accounts:
                self.fault(path, f"there is no account {name!r}; {meant(name, self.accounts.accounts)}")
        return tuple(named)

    def _check_rule(self, rule: OrderRule) -> None:
        """What each account's broker says of an order before any alert; what is told already is not told again."""
        if rule.kind not in KINDS:
            return
        told = [path for path, _ in self.faults]
        told += [(*rule.path, *leg.path) for leg in rule.legs
                 if any(path[:len(rule.path) + len(leg.path)] == (*rule.path, *leg.path) for path in told)]
        several = len(rule.accounts) > 1
        for name in rule.accounts:
            account = self.accounts.accounts.get(name)
            if account is None:
                continue
            for below, message in check_rule(rule, account, self.brokers[account.broker]):
                path = (*rule.path, *below)
                if not overlaps(path, told):
                    self.fault(path, f"{message} (account {name})" if several else message)

    def _guards(self, valid: Mapping[str, Any], rules: list[OrderRule], names: tuple[str, ...],
                types: Mapping[str, str]) -> tuple[Guards, Mapping[str, Value]]:
        """The guards, and what they compare prices with."""
        accounts = self.accounts.accounts
        guards = guards_from(valid.get("guards") or {})
        with_prices, faults = compared(self.found, guards, rules, accounts, types)
        for path, message in (*faults, *symbol_guard_faults(guards, names, accounts, self.brokers),
                              *size_faults(self.found, rules, accounts, self.brokers)):
            self.fault(path, message)
        return guards, with_prices

    def _secret(self, valid: Mapping[str, Any]) -> str | None:
        written = valid.get("secret")
        if written is None:
            return None
        try:
            value = resolve(written, self.environ)
            next(setting for setting in SETTINGS if setting.name == "BRIDGE_SECRET").read(value)
        except Unset as unset:
            if not self.lenient:
                self.fault(("secret",), str(unset))
            return None
        except ValueError as error:
            self.fault(("secret",), f"{error}; a template's own secret is a reference, ${{NAME}}, to at least 16 "
                                    "letters and digits in the environment")
            return None
        return value

    def _allowed(self, valid: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of the warnings that are meant so."""
        names: list[str] = valid.get("allow", [])
        for place, name in enumerate(names):
            if name not in DANGERS:
                self.fault(("allow", place), f"there is no warning {name!r}; {meant(name, DANGERS)}")
        return tuple(names)

    def _warnings(self, template: Template, allowed: tuple[str, ...]) -> Iterable[Fault]:
        for danger in dangers_of(template, self.found):
            if danger.name not in allowed:
                yield replace(self.document.fault(danger.path, danger.message), name=danger.name)


def _type_of(given: Any) -> str:
    kind = given.get("type", REFUSED if "refuse" in given else None) if isinstance(given, dict) else given
    return kind if isinstance(kind, str) and kind in (*TYPES, REFUSED) else "any"


def _is_named_in(document: Document, path: Where) -> bool:
    return (*path, "account") in document.places
