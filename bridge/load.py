"""What every command begins with: settings, accounts and templates, and that no secret of theirs will ever be shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs

from bridge.accounts import Accounts, load_accounts
from bridge.brokers import BROKERS
from bridge.embedded import stored_secret
from bridge.errors import FileFaults, InputError
from bridge.log import keep_secret
from bridge.process import local_url
from bridge.settings import Settings, read_settings
from bridge.template import Template, Templates, judge_template, load_template, load_templates
from bridge.work import Account
from bridge.yamlfile import read_partly


@dataclass(frozen=True, slots=True)
class Loaded:
    """Accounts and the templates that use them."""

    accounts: Accounts
    templates: Templates


def settings_of(environ: Mapping[str, str]) -> Settings:
    """The settings. Raises SettingsError that names every wrong one."""
    settings = read_settings(environ)
    password = settings.redis_url.partition("://")[2].rpartition("@")[0].partition(":")[2]
    keep_secret(settings.secret, password, *parse_qs(settings.redis_url.partition("?")[2]).get("sentinel_password", []))
    return settings


def with_stored_secret(settings: Settings) -> Settings:
    """The settings with the secret that `bridge up` keeps, where none was given."""
    if settings.secret:
        return settings
    kept = stored_secret(settings.data)
    keep_secret(kept)
    return replace(settings, secret=kept)


def load_accounts_of(settings: Settings, environ: Mapping[str, str], *, lenient: bool,
                     sandbox: bool = False) -> Accounts:
    """The accounts; with `sandbox` (or BRIDGE_SANDBOX) every one points at the sandbox. Faults are in the answer."""
    here = local_url(settings.sandbox_bind)
    url = settings.sandbox or (here if sandbox else "")
    found = load_accounts(settings.accounts, environ, sandbox=url, sandbox_default=here, lenient=lenient)
    for account in found.accounts.values():
        keep_secret(*(value for value in account.credentials.values() if not _is_known_to_all(account, value)))
    return found


def _is_known_to_all(account: Account, value: str) -> bool:
    """Whether a credential is the sandbox's, or stands in for one that is not set."""
    return value.startswith("<from: ") or value in BROKERS[account.broker].sandbox_credentials.values()


def load(settings: Settings, environ: Mapping[str, str], *, lenient: bool, sandbox: bool = False,
         serves: bool = True) -> Loaded:
    """Accounts and templates. Faults are in the answer.

    `lenient` is for the accounts' credentials only: a template whose own secret is not set must not serve, for it would
    fall back to the shared one. Where it is not to serve, its secret may be missing too.
    """
    accounts = load_accounts_of(settings, environ, lenient=lenient, sandbox=sandbox)
    templates = load_templates(settings.templates, accounts, environ=environ, lenient=lenient and not serves)
    keep_secret(*(template.secret for template in templates.loaded.values() if template.secret))
    return Loaded(accounts, templates)


def judge_for(accounts: Accounts, environ: Mapping[str, str]) -> Callable[[str, bytes], Template]:
    """What makes a template of a file's name and content, as `load` would; it raises FileFaults with every fault."""

    def judge(file: str, content: bytes) -> Template:
        template = judge_template(read_partly(content, file), accounts, environ=environ)
        keep_secret(*filter(None, (template.secret,)))
        return template

    return judge


def load_named(settings: Settings, environ: Mapping[str, str], template: str) -> tuple[Template, Accounts]:
    """One template by its name or path, with accounts whose secrets may be missing: nothing will be sent.

    Raises InputError when there is none, FileFaults with every fault when it does not load.
    """
    path = _path_of(settings, template)
    accounts = load_accounts_of(settings, environ, lenient=True)
    if not accounts.accounts:
        raise FileFaults(accounts.faults)
    return load_template(path, accounts, environ=environ, lenient=True), accounts


def _path_of(settings: Settings, template: str) -> Path:
    given = Path(template)
    if given.suffix in (".yaml", ".yml") and given.is_file():
        return given
    for suffix in (".yaml", ".yml"):
        if given.name == template and (path := settings.templates / f"{template}{suffix}").is_file():
            return path
    raise InputError(f"there is no template {template!r} in {settings.templates}, and no file of that name")
