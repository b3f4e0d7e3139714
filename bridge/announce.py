"""What `bridge up` says when everything is ready: where alerts go, a line to try, what does not load, and whether real
money can move."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.alert import read_body
from bridge.clock import now
from bridge.configuration import account_in_words, money
from bridge.errors import Fault, InputError
from bridge.load import Loaded
from bridge.numbers import dump_json
from bridge.process import local_url
from bridge.settings import Settings, mask_url
from bridge.show import print_line, print_with_secret
from bridge.template import Template
from bridge.yamlfile import read_yaml_file

_MOMENT = "%Y-%m-%dT%H:%M:%SZ"
_DATE = f"$(date -u +{_MOMENT})"
_WRITTEN_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_HERE = "\x00now\x00"


def announcement(settings: Settings, loaded: Loaded, environ: Mapping[str, str], *, secret_was_given: bool,
                 processes: Mapping[str, int]) -> dict[str, Any]:
    """Everything worth saying, as data. A secret that was given is not repeated: its variable stands in its place."""
    base = local_url(settings.bind)
    shared = "$BRIDGE_SECRET" if secret_was_given else settings.secret
    templates = [{"name": name, "url": f"{base}/hook/{name}/{_own_secret(template, environ) or shared}",
                  "description": template.description} for name, template in loaded.templates.loaded.items()]
    return {
        "receiver": base,
        "sandbox": settings.sandbox or None,
        "ledger": mask_url(settings.redis_url) if settings.redis_url else str(settings.data),
        "templates": templates,
        "try": _line_to_try(loaded, {each["name"]: each["url"] for each in templates}),
        "faults": [fault.to_json() for fault in _faults(loaded)],
        "accounts": [account_in_words(account) for account in loaded.accounts.accounts.values()],
        "processes": dict(processes),
    }


def print_announcement(said: Mapping[str, Any], *, as_json: bool) -> None:
    """Print it. Unlike everything else this shows the webhook's secret where Bridge made it: a person has to paste it."""
    if as_json:
        print_with_secret(dump_json(said))
        return
    print_with_secret(f"Bridge is ready: {said['receiver']}  (Ctrl-C stops it)")
    if said["sandbox"]:
        print_with_secret(f"Sandbox: {said['sandbox']}  every account points at it, no real money can move; "
                   "what reached it: /_control/orders")
    for account in said["accounts"]:
        if account["real_money"] and not account["dry_run"]:
            print_with_secret(f"REAL MONEY: orders of {account['name']} go to {account['address']} "
                       f"({account['broker']} {account['environment']}), {money(account)}")
    if said["faults"]:
        print_with_secret("\nDoes not load, and is refused until it is mended:")
        for fault in said["faults"]:
            print_line("  " + str(Fault(**fault)))
    if not said["templates"]:
        print_with_secret("\nNo template is loaded: no alert can be accepted.")
        return
    print_with_secret("\nWebhooks, to paste into the alert (behind your public address):")
    for each in said["templates"]:
        print_with_secret(f"  {each['url']}" + (f"   {each['description']}" if each["description"] else ""))
    if said["try"]:
        print_with_secret(f"\nTry one, then look at `bridge orders`:\n  {said['try']}")


def _faults(loaded: Loaded) -> list[Fault]:
    return [*loaded.accounts.faults, *(fault for faults in loaded.templates.faults.values() for fault in faults)]


def _own_secret(template: Template, environ: Mapping[str, str]) -> str:
    """A template's own secret is always a given one: the variable's name, or a word where it comes from a file."""
    if template.secret is None:
        return ""
    return next((f"${name}" for name, value in environ.items() if value == template.secret), "<its-own-secret>")


# -- a line to try ---------------------------------------------------------------------------------------------------


def _line_to_try(loaded: Loaded, urls: Mapping[str, str]) -> str:
    """A curl line whose alert makes an order now, from the first template with a test that does; '' without one."""
    for name, template in loaded.templates.loaded.items():
        body = _body_to_try(template)
        if body and "<" not in urls[name]:
            quoted = body.replace("'", "'\\''").replace(_HERE, f"'\"{_DATE}\"'")
            return f"curl -sS \"{urls[name]}\" -d '{quoted}'"
    return ""


def _body_to_try(template: Template) -> str:
    """The body of the first test that makes an order when it is sent now, with _HERE for the present time; or ''."""
    for test in read_yaml_file(Path(template.file)).value.get("tests") or ():
        body = _body_of(template, test)
        if body and _makes_an_order(template, body.replace(_HERE, now().strftime(_MOMENT))):
            return body
    return ""


def _body_of(template: Template, test: Mapping[str, Any]) -> str:
    if "body" in test:
        return _WRITTEN_MOMENT.sub(_HERE, str(test["body"])).strip()
    sent_from = template.sent_at.reads if template.sent_at is not None else frozenset()
    alert = copy.deepcopy(dict(test["alert"]))
    for field in template.fields.declared.values():
        value = alert.get(field.name)
        if field.path != (field.name,) and value is not None:
            return ""
        if field.name in sent_from and isinstance(value, str):
            alert[field.name] = _HERE
    return dump_json(alert).replace("\\u0000", "\x00")


def _makes_an_order(template: Template, text: str) -> bool:
    try:
        body = read_body(text.encode())
        rendered = template.render(template.read(body), body, received_at=now())
    except InputError:
        return False
    return bool(rendered.orders)
