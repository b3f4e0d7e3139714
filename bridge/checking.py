"""`bridge check`: every fault of templates and accounts, each with file, line and column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bridge.accounts import Accounts
from bridge.clock import now
from bridge.errors import EXIT_DONE, EXIT_INPUT, Fault, FileFaults
from bridge.load import load_accounts_of, settings_of
from bridge.masters import kept_masters, symbols_named, unknown_symbols
from bridge.rendering import Template
from bridge.rolls import rolls_named
from bridge.settings import Settings
from bridge.show import print_json, print_line
from bridge.template import is_template, load_template
from bridge.yamlfile import read_file_partly


@dataclass
class Findings:
    """What a check found: faults, warnings, and how much it looked at."""

    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    templates: int = 0
    accounts: int = 0


FORMATS = ("text", "json", "github")


def check_paths(environ: Mapping[str, str], paths: Iterable[Path], *, sandbox: bool, form: str = "text") -> int:
    """Check the paths (or what the settings name), print what was found in one of FORMATS, and return the exit code."""
    settings = settings_of(environ)
    found = Findings()
    given = tuple(paths) or (settings.accounts, settings.templates)
    files = [file for path in given for file in _files_of(path, found)]
    accounts_files = [file for file in files if _holds_accounts(file, settings)]
    for file in accounts_files:
        settings = replace(settings, accounts=file)
        accounts = _check_accounts(settings, environ, sandbox, found)
    if not accounts_files:
        accounts = load_accounts_of(settings, environ, lenient=True, sandbox=sandbox)
        if not accounts.accounts:
            found.faults += accounts.faults
    for file in files:
        if file not in accounts_files:
            _check_template(file, accounts, environ, found)
    _PRINTERS[form](found)
    return EXIT_INPUT if found.faults else EXIT_DONE


def _files_of(path: Path, found: Findings) -> Iterable[Path]:
    if not path.is_dir():
        return [path]
    files = [each for each in sorted(path.iterdir()) if is_template(each.name)]
    if not files:
        found.faults.append(Fault(message="there is no template in this folder", file=str(path), line=1, column=1))
    return files


def _holds_accounts(file: Path, settings: Settings) -> bool:
    """The accounts file itself, another of its name, or one that begins like it and like no template."""
    if file == settings.accounts or file.name == "accounts.yaml":
        return True
    try:
        value = read_file_partly(file).value
    except FileFaults:
        return False
    return isinstance(value, dict) and "accounts" in value and not {"order", "orders", "alert", "account"} & set(value)


def _check_accounts(settings: Settings, environ: Mapping[str, str], sandbox: bool, found: Findings) -> Accounts:
    """The accounts for the templates' sake; a secret that is not set is a fault here, and only here."""
    strict = load_accounts_of(settings, environ, lenient=False, sandbox=sandbox)
    found.faults += strict.faults
    found.accounts += len(strict.accounts) + len(strict.broken)
    return load_accounts_of(settings, environ, lenient=True, sandbox=sandbox)


def _check_template(file: Path, accounts: Accounts, environ: Mapping[str, str], found: Findings) -> None:
    found.templates += 1
    try:
        template = load_template(file, accounts, environ=environ)
        found.warnings += template.warnings
        found.warnings += _rolls(file, template)
        found.warnings += _symbols(file, template, settings_of(environ).data, accounts)
    except FileFaults as error:
        found.faults += error.faults


def _rolls(file: Path, template: Template) -> Iterable[Fault]:
    """The rolls that are only days away, of the symbols that a template's own tests and texts name."""
    document = read_file_partly(file)
    if "roll-ahead" in document.value.get("allow", ()):
        return
    accounts = [(account, template.brokers[account.broker].symbol_form())
                for account in map(template.known_accounts.__getitem__, template.accounts)]
    told = {name: value for name, value in document.value.items() if name != "description"}
    for where, words in rolls_named(told, accounts, now().date()):
        yield replace(document.fault(where, words), name="roll-ahead", field="")


def _symbols(file: Path, template: Template, data: Path, accounts: Accounts) -> Iterable[Fault]:
    """The symbols written out that are not in the instrument master kept here."""
    named = list(symbols_named(template))
    document = read_file_partly(file)
    if not named or "symbol-unknown" in document.value.get("allow", ()):
        return
    masters, words = kept_masters(data, accounts, template.accounts)
    for each in words:
        print_line(each, error=True)
    for where, message in unknown_symbols(template, named, masters, now()):
        yield replace(document.fault(where, message), name="symbol-unknown", field="")


# -- printing --------------------------------------------------------------------------------------------------------


def _print_text(found: Findings) -> None:
    for fault in found.faults:
        print_line(str(fault))
    for warning in found.warnings:
        print_line(f"{_place(warning)}: warning: {_what(warning)} [{warning.name}]")
    looked = ", ".join(_count(number, word) for number, word in
                       ((found.templates, "template"), (found.accounts, "account")) if number)
    verdict = _count(len(found.faults), "fault") if found.faults else "all sound"
    print_line(f"{looked or 'nothing'} checked: {verdict}"
               + (f", {_count(len(found.warnings), 'warning')}" if found.warnings else ""))


def _print_json(found: Findings) -> None:
    print_json({"faults": [_entry("fault", fault) for fault in found.faults],
                "warnings": [_entry("warning", warning) for warning in found.warnings],
                "templates": found.templates, "accounts": found.accounts})


def _entry(severity: str, fault: Fault) -> dict[str, Any]:
    return {"severity": severity, "name": fault.name or None, "file": fault.file, "line": fault.line,
            "column": fault.column, "field": fault.field, "message": fault.message}


def _print_github(found: Findings) -> None:
    """GitHub's workflow commands: each becomes a note beside the line of a pull request."""
    for command, faults in (("error", found.faults), ("warning", found.warnings)):
        for fault in faults:
            known = (("file", fault.file), ("line", fault.line), ("col", fault.column), ("title", fault.name))
            properties = ",".join(f"{name}={_escaped(str(value), ':,')}" for name, value in known if value)
            print_line(f"::{command} {properties}::{_escaped(_what(fault))}")


def _escaped(text: str, more: str = "") -> str:
    return "".join(f"%{ord(character):02X}" if character in f"%\r\n{more}" else character for character in text)


_PRINTERS: Mapping[str, Callable[[Findings], None]] = MappingProxyType(
    dict(zip(FORMATS, (_print_text, _print_json, _print_github), strict=True)))


def _place(fault: Fault) -> str:
    return f"{fault.file}:{fault.line}:{fault.column}"


def _what(fault: Fault) -> str:
    return f"{fault.field}: {fault.message}" if fault.field else fault.message


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
