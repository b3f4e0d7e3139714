"""`bridge new`: asks for account, kind of order and form of alert, and writes a template that passes `bridge check`."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.accounts import Accounts
from bridge.brokers import BROKERS
from bridge.errors import FileFaults, InputError
from bridge.json_schema import schema_of
from bridge.load import load_accounts_of, settings_of
from bridge.numbers import dump_json
from bridge.schemas import meant
from bridge.settings import Settings
from bridge.show import print_json, print_line
from bridge.starting import EDITOR_SCHEMA, FORMS, Wish, compose, forms_for, kinds_at
from bridge.template import judge_template
from bridge.work import Account
from bridge.yamlfile import read_yaml

Ask = Callable[[str, Sequence[str], str], str]
"""Asks a person: the question, the choices (none: any text), the default."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the command line says; "" for what is to be asked."""

    name: str = ""
    account: str = ""
    kind: str = ""
    form: str = ""


def write_new(environ: Mapping[str, str], given: Given, ask: Ask, *, to_stdout: bool, as_json: bool) -> None:
    """Write the template, or print it. Raises InputError for what cannot be, and where the file is there already."""
    settings = settings_of(environ)
    accounts = load_accounts_of(settings, environ, lenient=True)
    if not accounts.accounts:
        raise FileFaults(accounts.faults)
    wish = _wish(given, accounts, ask)
    path = settings.templates / f"{wish.name}.yaml"
    for taken in () if to_stdout else (path, path.with_suffix(".yml")):
        if taken.exists():
            raise InputError(f"{taken} is there already: nothing was written; give the new template another name")
    text = compose(wish)
    judge_template(read_yaml(text.encode(), str(path)), accounts, environ=environ)
    if to_stdout:
        if as_json:
            print_json({"template": wish.name, "file": None, "text": text})
        for line in () if as_json else text.splitlines():
            print_line(line)
        return
    written = [_write(path, text), *_write_schema(settings)]
    if as_json:
        print_json({"template": wish.name, "file": str(path), "text": text})
        return
    for file in written:
        print_line(f"wrote {file}")
    for line in _next(wish, text):
        print_line(line)


# -- asking ----------------------------------------------------------------------------------------------------------


def _wish(given: Given, accounts: Accounts, ask: Ask) -> Wish:
    names = list(accounts.accounts)
    name = given.account or ask("Which account is to trade?", names, names[0])
    if name not in accounts.accounts:
        raise InputError(f"there is no account {name!r}; {meant(name, names)}")
    account = accounts.accounts[name]
    broker = BROKERS[account.broker]
    kinds = kinds_at(broker)
    kind = given.kind or ask(f"Which kind of order? ({_explained(kinds)})", kinds, kinds[0])
    if kind not in kinds:
        instead = broker.capabilities.instead.get(kind, f"it can do {', '.join(kinds)}")
        raise InputError(f"{broker.name} has no {kind} order: {instead}")
    forms = forms_for(kind)
    told = "; ".join(f"{each}: {FORMS[each]}" for each in forms)
    form = given.form or ask(f"Which form of alert? ({told})", forms, forms[0])
    if form not in forms:
        raise InputError(f"a {kind} order is not made of {FORMS.get(form, form)}; use {' or '.join(forms)}")
    suggested = _suggested(account, kind)
    wanted = given.name or ask("What is the template to be called? It is its file name and webhook path", (), suggested)
    if not _NAME.fullmatch(wanted):
        raise InputError(f"{wanted!r} is no template's name: letters, digits, _ and - (at most 64)")
    return Wish(name=wanted, account=account, broker=broker, kind=kind, form=form)


def _explained(kinds: Sequence[str]) -> str:
    said = {"plain": "one order", "cover": "an entry with its stop", "oco": "two, one of which fills",
            "oso": "an entry with its exits", "cancel": "withdraw", "close": "flatten"}
    return "; ".join(f"{kind}: {said[kind]}" for kind in kinds)


def _suggested(account: Account, kind: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "_", f"{account.name}_{kind}")[:64]


# -- writing ---------------------------------------------------------------------------------------------------------


def _write(path: Path, text: str) -> Path:
    """The file, whole or not at all, and never in place of another."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".new-", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.link(file.name, path)
    except FileExistsError:
        raise InputError(f"{path} is there already: nothing was written") from None
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None
    return path


def _write_schema(settings: Settings) -> list[Path]:
    """What the template's first line points at, for editors, where it is not there yet."""
    path = settings.templates / EDITOR_SCHEMA
    if path.exists():
        return []
    return [_write(path, dump_json(schema_of("template"), indent=2) + "\n")]


def _next(wish: Wish, text: str) -> list[str]:
    name = wish.name
    form = " --indicator" if wish.form == "indicator" else ""
    test = read_yaml(text.encode(), name).value["tests"][0]
    body = test["body"] if "body" in test else dump_json(test["alert"])
    return ["", "next:",
            f"  bridge message {name}{form}", "      what to paste into TradingView",
            f"  echo '{body}' | bridge render {name} --alert - --now {test['now']}",
            "      the exact requests of an alert; nothing is sent",
            f"  bridge send {name} --alert FILE", "      an alert to the running bridge (`bridge up --sandbox`)"]
