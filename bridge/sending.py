"""`bridge send`: post an alert to the receiver that runs here."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from bridge.errors import BridgeError, ServiceError, SettingsError
from bridge.load import load_named, settings_of, with_stored_secret
from bridge.process import local_url
from bridge.settings import Settings

_PATIENCE_S = 10.0


def send_alert(environ: Mapping[str, str], template: str, body: bytes) -> tuple[int, Any]:
    """(HTTP status, answer). Raises ServiceError when nothing listens, SettingsError without a secret."""
    settings = with_stored_secret(settings_of(environ))
    url = local_url(settings.bind)
    secret = _own_secret(settings, environ, template) or settings.secret
    if not secret:
        if not _listens(url):
            raise ServiceError(f"nothing listens on BRIDGE_BIND {url}: start `bridge up`")
        raise SettingsError(f"BRIDGE_SECRET is not set, and {settings.data} keeps none: whose bridge is it?")
    try:
        status, text = _post(url, f"/hook/{quote(template, safe='')}/{quote(secret, safe='')}", body)
    except OSError as error:
        raise ServiceError(f"nothing answers on BRIDGE_BIND {url}: {error.strerror or error}; "
                           "start `bridge up`") from None
    except http.client.HTTPException as error:
        raise ServiceError(f"what listens on BRIDGE_BIND {url} is no receiver ({type(error).__name__})") from None
    try:
        return status, json.loads(text)
    except ValueError:
        raise ServiceError(f"what listens on BRIDGE_BIND {url} is no receiver (HTTP {status}, no JSON)") from None


def _own_secret(settings: Settings, environ: Mapping[str, str], template: str) -> str:
    """A template's own secret; '' where it has none or cannot be read here: then the receiver will say so."""
    try:
        return load_named(settings, environ, template)[0].secret or ""
    except BridgeError:
        return ""


def _listens(url: str) -> bool:
    try:
        return _post(url, "/hook/-/-", b"")[0] > 0
    except (OSError, http.client.HTTPException):
        return False


def _post(url: str, path: str, body: bytes) -> tuple[int, str]:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=_PATIENCE_S)
    try:
        connection.request("POST", path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    finally:
        connection.close()
