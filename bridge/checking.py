"""`bridge check`: every fault of templates and accounts, each with file, line and column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bridge.accounts import Accounts
from bridge.errors import EXIT_DONE, EXIT_INPUT, Fault, FileFaults
from bridge.load import load_accounts_of, settings_of
from bridge.settings import Settings
from bridge.show import print_json, print_line
from bridge.template import load_template
from bridge.yamlfile import read_yaml_file


@dataclass
class Findings:
    """What a check found: faults, warnings, and how much it looked at."""

    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    templates: int = 0
    accounts: int = 0


def check_paths(environ: Mapping[str, str], paths: Iterable[Path], *, sandbox: bool, as_json: bool) -> int:
    """Check the paths (or what the settings name), print what was found, and return the exit code."""
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
    _print(found, as_json=as_json)
    return EXIT_INPUT if found.faults else EXIT_DONE


def _files_of(path: Path, found: Findings) -> Iterable[Path]:
    if not path.is_dir():
        return [path]
    files = [each for each in sorted(path.iterdir())
             if each.suffix in (".yaml", ".yml") and not each.name.startswith(".")]
    if not files:
        found.faults.append(Fault(message="there is no template in this folder", file=str(path), line=1, column=1))
    return files


def _holds_accounts(file: Path, settings: Settings) -> bool:
    """The accounts file itself, another of its name, or one that begins like it and like no template."""
    if file == settings.accounts or file.name == "accounts.yaml":
        return True
    try:
        value = read_yaml_file(file).value
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
    except FileFaults as error:
        found.faults += error.faults


def _print(found: Findings, *, as_json: bool) -> None:
    if as_json:
        print_json({"faults": [fault.to_json() for fault in found.faults],
                    "warnings": [warning.to_json() for warning in found.warnings],
                    "templates": found.templates, "accounts": found.accounts})
        return
    for fault in found.faults:
        print_line(str(fault))
    for warning in found.warnings:
        print_line(f"{warning} (a warning)")
    looked = ", ".join(_count(number, word) for number, word in
                       ((found.templates, "template"), (found.accounts, "account")) if number)
    verdict = _count(len(found.faults), "fault") if found.faults else "all sound"
    print_line(f"{looked or 'nothing'} checked: {verdict}")


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
