"""accounts.yaml: the named log-ins and broker accounts, their addresses, budgets and secrets.

A faulty account is left out and named; the others serve. No message shows a secret or what stood in its place.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

from bridge.broker import Broker
from bridge.brokers import BROKERS
from bridge.errors import Fault, FileFaults
from bridge.futures import DEFAULT_ROLL, FUTURES, Futures, Roll
from bridge.guards import GuardsSchema, guards_from
from bridge.products import read_products, read_roll
from bridge.schemas import Step, Where, names_of, schema_faults, unknown_name
from bridge.secret_refs import Unset, is_reference, resolve
from bridge.sizing import symbol_fault
from bridge.work import Account, Budget, Credentials
from bridge.yamlfile import Document, read_yaml_file

SANDBOX_URL = "http://127.0.0.1:8082"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_METADATA = frozenset({"metadata.google.internal", "metadata", "instance-data"})


@dataclass(frozen=True, slots=True)
class Accounts:
    """What an accounts file holds: the sound accounts, every fault, and the names of the faulty ones."""

    accounts: Mapping[str, Account] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    broken: frozenset[str] = frozenset()


# -- the fields that every account takes -----------------------------------------------------------------------------


def _limit() -> fields.Decimal:
    return fields.Decimal(allow_nan=False, validate=validate.Range(
        min=Decimal(0), min_inclusive=False, max=Decimal(1_000_000), error="expected a number above zero"))


class _BudgetSchema(Schema):
    per_second = _limit()
    per_minute = _limit()
    burst = fields.Integer(strict=True, validate=validate.Range(min=1, error="expected a whole number above zero"))


class CommonSchema(Schema):
    broker = fields.String(required=True)
    environment = fields.String()
    base_url = fields.String()
    ws_url = fields.String()
    budget = fields.Nested(_BudgetSchema)
    dry_run = fields.Boolean(load_default=False, truthy={True}, falsy={False})
    roll = fields.Raw()
    products = fields.Raw()
    guards = fields.Nested(GuardsSchema)
    credentials = fields.Dict(keys=fields.String(), load_default=dict)


# -- loading ---------------------------------------------------------------------------------------------------------


def load_accounts(path: Path, environ: Mapping[str, str], *, sandbox: str = "", sandbox_default: str = SANDBOX_URL,
                  brokers: Mapping[str, Broker] = BROKERS, lenient: bool = False) -> Accounts:
    """The accounts of a file; what is wrong with it is in `faults`, never raised.

    `sandbox` is the URL that every account is to point at (`--sandbox`); `sandbox_default` serves those whose
    `environment` is sandbox. With `lenient`, secrets that are not set are stood in for (nothing will be sent).
    """
    try:
        document = read_yaml_file(path)
    except FileFaults as error:
        return Accounts(faults=error.faults)
    found = document.value
    if not isinstance(found, dict) or not isinstance(found.get("accounts"), dict) or not found["accounts"]:
        return Accounts(faults=(document.fault(("accounts",), "expected `accounts:` with at least one account by name "
                                                              "below it"),))
    known = ("accounts", "products")
    faults = [document.fault((name,), unknown_name(name, known)) for name in found if name not in known]
    futures, wrong = read_products(found.get("products", {}), FUTURES)
    faults += [document.fault(("products", *path), message) for path, message in wrong]
    accounts: dict[str, Account] = {}
    broken: set[str] = set()
    for name, given in found["accounts"].items():
        one = _OneAccount(document, name, given, environ, brokers, None if wrong else futures, sandbox, sandbox_default,
                          lenient)
        account = one.load()
        if account is not None:
            accounts[name] = account
        else:
            broken.add(name)
        faults += sorted(one.faults, key=lambda fault: (fault.line, fault.column))
    for others in () if sandbox else _by_login(accounts):  # there the log-ins of several addresses become one
        unlike = _LoginFaults(document, found["accounts"], others, lenient)
        faults += unlike.faults
        broken |= unlike.broken
        accounts |= unlike.sound
        for name in unlike.broken:
            del accounts[name]
    return Accounts(MappingProxyType(accounts), tuple(faults), frozenset(broken))


class _OneAccount:
    """Loads one account, collecting all that is wrong with it. `futures` is None where the file's own products are faulty:
    what an order of theirs is worth is uncertain."""

    def __init__(self, document: Document, name: str, given: Any, environ: Mapping[str, str], brokers: Mapping[str, Broker],
                 futures: Futures | None, sandbox: str, sandbox_default: str, lenient: bool) -> None:
        self.document, self.name, self.given, self.environ = document, name, given, environ
        self.brokers, self.futures, self.lenient = brokers, futures, lenient
        self.sandbox, self.sandbox_default = sandbox, sandbox_default
        self.faults: list[Fault] = []
        self._refused: set[Where] = set()

    def fault(self, path: Sequence[Step], message: str) -> None:
        self._refused.add(tuple(path))
        self.faults.append(self.document.fault(("accounts", self.name, *path), message))

    def load(self) -> Account | None:
        """The account, or None with at least one fault."""
        if not _NAME.fullmatch(self.name):
            self.fault((), "is no account name: letters, digits and . _ - (at most 64)")
        if not isinstance(self.given, dict):
            self.fault((), "expected the account's fields below its name: broker, account, credentials, …")
            return None
        broker = self._broker()
        if broker is None:
            return None
        common, own = self._fields(broker)
        environment = self._environment(broker, common)
        at_sandbox = bool(self.sandbox) or environment == "sandbox"
        rest_url, ws_url = self._addresses(broker, common, own, environment)
        credentials = self._credentials(broker, common.get("credentials", {}), at_sandbox)
        futures, roll = self._futures(broker, common)
        guards = guards_from(common.get("guards", {}))
        for place, symbol in enumerate(guards.symbols if broker.symbol_form() != "none" else ()):
            if wrong := symbol_fault(symbol, futures):
                self.fault(("guards", "symbols", place), wrong)
        if self.faults:
            return None
        account = Account(
            name=self.name, broker=broker.name, environment="sandbox" if self.sandbox else environment,
            rest_url=rest_url, ws_url=ws_url, credentials=Credentials(credentials),
            futures=futures, roll=roll, guards=guards,
            budget=_budget(broker, common.get("budget"), at_sandbox or _is_loopback_url(rest_url)),
            dry_run=common["dry_run"],
            real_money=not at_sandbox and broker.moves_real_money(environment, str(own.get("account", ""))),
            **{name: own[name] for name in ("account", "account_id", "client_id", "transport") if name in own},
            options=MappingProxyType(dict(own.get("options", {}))))
        for path, message in broker.account_faults(account):
            if not (self.lenient and path.startswith("credentials")):
                self.fault(path.split("."), message)
        if self.faults:
            return None
        return replace(account, login=f"{broker.name}@{rest_url}#{broker.login_name(account)}")

    def _broker(self) -> Broker | None:
        name = self.given.get("broker")
        if isinstance(name, str) and name in self.brokers:
            return self.brokers[name]
        if "broker" not in self.given:
            self.fault(("broker",), f"is missing; expected one of {', '.join(self.brokers)}")
        else:
            self.fault(("broker",), f"expected one of {', '.join(self.brokers)}")
        return None

    def _fields(self, broker: Broker) -> tuple[dict[str, Any], dict[str, Any]]:
        """The common fields and the broker's own, as far as they are sound."""
        common_schema, own_schema = CommonSchema(unknown=EXCLUDE), broker.account_schema(unknown=EXCLUDE)
        common_names, own_names = names_of(common_schema), names_of(own_schema)
        for name in self.given:
            if name not in common_names and name not in own_names:
                self.fault((name,), unknown_name(name, [*common_names, *own_names]))
        own = {name: self._resolved(broker, (name,), self.given[name]) for name in own_names if name in self.given}
        return (self._validated(common_schema, {name: self.given[name] for name in common_names if name in self.given}),
                self._validated(own_schema, own))

    def _validated(self, schema: Schema, values: dict[str, Any]) -> dict[str, Any]:
        try:
            loaded: dict[str, Any] = schema.load(values)
        except ValidationError as error:
            for path, message in schema_faults(schema, error.messages):
                if path in self._refused:
                    continue
                if is_reference(self._written(path)):
                    message = f"what {self._written(path)} stands for does not fit here"
                self.fault(path, message)
            valid = error.valid_data
            return {"dry_run": False, **(valid if isinstance(valid, dict) else {})}
        return loaded

    def _written(self, path: Where) -> Any:
        found: Any = self.given
        for step in path:
            found = found.get(step) if isinstance(found, dict) else None
        return found

    def _resolved(self, broker: Broker, path: Where, value: Any) -> Any:
        """A value of the broker's own fields with its references replaced."""
        if isinstance(value, dict):
            return {name: self._resolved(broker, (*path, name), each) for name, each in value.items()}
        if not is_reference(value):
            return value
        try:
            return resolve(value, self.environ)
        except Unset as unset:
            if self.sandbox or self.given.get("environment") == "sandbox":
                return broker.sandbox_credentials.get(str(path[-1]), "SANDBOX")
            if self.lenient:
                return re.sub(r"[^A-Za-z0-9_-]", "_", unset.name)[-32:]
            self.fault(path, str(unset))
        except ValueError as error:
            self.fault(path, str(error))
        return value

    def _environment(self, broker: Broker, common: Mapping[str, Any]) -> str:
        environment: str = common.get("environment", broker.default_environment)
        if environment not in broker.environments and environment != "sandbox":
            self.fault(("environment",), f"expected one of {', '.join(broker.environments)}, sandbox "
                                         f"({broker.name} knows no other)")
            return broker.default_environment
        return environment

    def _futures(self, broker: Broker, common: Mapping[str, Any]) -> tuple[Futures, Roll]:
        """The account's table of products, and when it rolls."""
        trades_futures = broker.symbol_form() != "none"
        if "products" in common and not trades_futures:
            self.fault(("products",), f"are futures, and {broker.name} takes none of the table's: there the instrument "
                                      "itself says what it is")
            return FUTURES, DEFAULT_ROLL
        if trades_futures and self.futures is None:
            self.fault((), "is left out: `products` at the top of the file has faults, and its orders depend on it")
        futures, wrong = read_products(common.get("products", {}), self.futures or FUTURES)
        for path, message in wrong:
            self.fault(("products", *path), message)
        roll, wrong = read_roll(common.get("roll", broker.default_roll), futures, broker.name, broker.front_until_days)
        for path, message in wrong:
            self.fault(("roll", *path), message)
        return futures, roll

    # -- addresses -----------------------------------------------------------------------------------------------

    def _addresses(self, broker: Broker, common: Mapping[str, Any], own: Mapping[str, Any],
                   environment: str) -> tuple[str, str]:
        """REST and WebSocket base: the sandbox's, those given, or the broker's."""
        base, ws = common.get("base_url", ""), common.get("ws_url", "")
        for name, url, schemes in (("base_url", base, ("https", "http")), ("ws_url", ws, ("wss", "ws"))):
            if name in common and (wrong := url_fault(url, schemes)):
                self.fault((name,), wrong)
        base, ws = base.rstrip("/"), ws.rstrip("/")
        if self.sandbox:
            return self.sandbox.rstrip("/"), _as_websocket(self.sandbox.rstrip("/"))
        if environment == "sandbox":
            base = base or self.sandbox_default.rstrip("/")
            return base, ws or _as_websocket(base)
        rest_own, ws_own = broker.hosts(environment, own.get("options", {}))
        if base:
            return base, ws or _as_websocket(base)
        return rest_own, ws or ws_own

    # -- credentials -----------------------------------------------------------------------------------------------

    def _credentials(self, broker: Broker, given: Mapping[str, Any], at_sandbox: bool) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in given:
            if name not in broker.credential_names:
                self.fault(("credentials", name), unknown_name(name, broker.credential_names))
        for name, required in broker.credential_names.items():
            if name in given:
                value = self._credential(broker, name, given[name], at_sandbox)
            elif at_sandbox:
                value = broker.sandbox_credentials.get(name)
            else:
                value = None
                if required and not self.lenient:
                    self.fault(("credentials", name), "is missing: write it as ${NAME} and set NAME in the environment")
            if value is not None:
                found[name] = value
        return found

    def _credential(self, broker: Broker, name: str, written: Any, at_sandbox: bool) -> str | None:
        path = ("credentials", name)
        if not is_reference(written):
            self.fault(path, "is written out here: secrets only come from the environment (${NAME}) or from files "
                             "(${file:/run/secrets/name})")
            return None
        try:
            return resolve(written, self.environ)
        except Unset as unset:
            if at_sandbox:
                return broker.sandbox_credentials.get(name)
            if self.lenient:
                return f"<from: {unset.name}>"
            self.fault(path, str(unset))
        except ValueError as error:
            self.fault(path, str(error))
        return None


def _by_login(accounts: Mapping[str, Account]) -> list[list[Account]]:
    found: dict[str, list[Account]] = {}
    for account in accounts.values():
        found.setdefault(account.login, []).append(account)
    return [each for each in found.values() if len(each) > 1]


class _LoginFaults:
    """Accounts of one log-in share its token and its budget: what is said of these has to be the same.

    The credentials of the first count. A budget that one of them gives is that of all.
    """

    def __init__(self, document: Document, given: Mapping[str, Any], accounts: Sequence[Account], lenient: bool) -> None:
        self.faults: list[Fault] = []
        self.broken: set[str] = set()
        self._document = document
        first = accounts[0]
        for account in accounts[1:] if not lenient else ():  # stand-ins for secrets differ by the names of their variables
            for name in sorted(set(first.credentials) | set(account.credentials)):
                if first.credentials.get(name) != account.credentials.get(name):
                    self._fault(account, f"credentials.{name}", f"differs from that of the account {first.name}, though "
                                "both are the same log-in (the same user at the same address), of which there is one: "
                                "write the same in both")
        alike = [each for each in accounts if each.name not in self.broken]
        giving = [each for each in alike if "budget" in given[each.name]]
        for account in giving[1:]:
            if account.budget != giving[0].budget:
                self._fault(account, "budget", f"differs from that of the account {giving[0].name}, though both are the "
                            "same log-in, and a budget counts for all of its accounts together: write it in one of them, "
                            "or the same in each")
        budget = giving[0].budget if giving else first.budget
        self.sound = {each.name: replace(each, budget=budget) for each in alike if each.name not in self.broken}

    def _fault(self, account: Account, field_name: str, message: str) -> None:
        self.broken.add(account.name)
        self.faults.append(self._document.fault(("accounts", account.name, *field_name.split(".")), message))


def _budget(broker: Broker, given: Mapping[str, Any] | None, free: bool) -> Budget:
    """The broker's figures with those given in their place; at a sandbox or on this machine only those given."""
    base = Budget() if free else broker.budget
    values = dict(given or {})
    for name in ("per_second", "per_minute"):
        if name in values:
            values[name] = float(values[name])
    return replace(base, **values)


# -- URLs ------------------------------------------------------------------------------------------------------------


def _as_websocket(url: str) -> str:
    return "ws" + url.removeprefix("http")


def _is_loopback_url(url: str) -> bool:
    return _is_loopback(urlsplit(url).hostname or "")


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def url_fault(url: str, schemes: tuple[str, str]) -> str:
    """What is wrong with the address of a broker, or "". `schemes`: the encrypted one, and the one for loopback."""
    secure, plain = schemes
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return f"is no URL like {secure}://host:port"
    if parts.scheme not in schemes or not host or not url.isascii() or not url.isprintable() or " " in url or port == 0:
        return f"is no URL like {secure}://host:port"
    if "@" in parts.netloc:
        return "may not hold a user name or password"
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return "is scheme, host and port only; the paths are the broker's"
    return _host_fault(host) or _plain_fault(parts.scheme, plain, secure, host)


def _plain_fault(scheme: str, plain: str, secure: str, host: str) -> str:
    if scheme == plain and not _is_loopback(host):
        return f"without encryption only to this machine (127.0.0.1); use {secure}://"
    return ""


def _host_fault(host: str) -> str:
    address = _address(host)
    if address is None:
        if host in _METADATA or re.fullmatch(r"[0-9.]+|0x[0-9a-f.x]+", host):
            return "names no broker's host"
        return ""
    if address.is_loopback:
        return ""
    if address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved:
        return "names a link-local or reserved address; no broker is there"
    return ""
