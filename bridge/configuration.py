"""`bridge config`: every setting with its value and source, and every account with what it can do to real money."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bridge.load import load_accounts_of, settings_of
from bridge.log import MASK
from bridge.settings import SETTINGS, Setting, Settings, mask_url
from bridge.show import print_line, print_table
from bridge.work import Account


def describe(environ: Mapping[str, str], *, sandbox: bool) -> dict[str, Any]:
    """Settings and accounts as data, secrets masked."""
    settings = settings_of(environ)
    loaded = load_accounts_of(settings, environ, lenient=True, sandbox=sandbox)
    return {
        "settings": [{"name": setting.name, "value": _value(setting, settings, environ),
                      "source": settings.sources[setting.name], "meaning": setting.meaning} for setting in SETTINGS],
        "unknown": list(settings.unknown),
        "accounts": [account_in_words(account) for account in loaded.accounts.values()],
        "faults": [fault.to_json() for fault in loaded.faults],
    }


def print_configuration(found: Mapping[str, Any]) -> None:
    """The same for a person."""
    print_table(("SETTING", "VALUE", "FROM", "MEANING"),
                ((each["name"], each["value"], each["source"], each["meaning"]) for each in found["settings"]))
    for name in found["unknown"]:
        print_line(f"{name}: not a setting of Bridge, so it changes nothing", error=True)
    print_line()
    if found["accounts"]:
        print_table(("ACCOUNT", "BROKER", "ENVIRONMENT", "TRANSPORT", "ADDRESS", "MONEY"),
                    ((each["name"], each["broker"], each["environment"], each["transport"], each["address"],
                      money(each)) for each in found["accounts"]))
    for fault in found["faults"]:
        where = f"{fault['file']}:{fault.get('line', 1)}:{fault.get('column', 1)}: " if "file" in fault else ""
        print_line(f"{where}{fault['message']}", error=True)


def money(account: Mapping[str, Any]) -> str:
    """In a word what an order of this account can do."""
    if account["dry_run"]:
        return "none: dry_run"
    return "REAL MONEY CAN MOVE" if account["real_money"] else "none: paper"


def account_in_words(account: Account) -> dict[str, Any]:
    """What is worth saying of an account, without its secrets."""
    return {"name": account.name, "broker": account.broker, "environment": account.environment,
            "transport": account.transport, "address": account.rest_url, "dry_run": account.dry_run,
            "real_money": account.real_money}


def _value(setting: Setting, settings: Settings, environ: Mapping[str, str]) -> str:
    if setting.secret:
        value = str(getattr(settings, setting.name.removeprefix("BRIDGE_").lower()))
        return _without_query(mask_url(value)) if "://" in value else MASK if value else ""
    return environ.get(setting.name, "") or setting.default


def _without_query(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=MASK if parts.query else ""))
