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
    return Sender(environ).send(template, body)


class Sender:
    """Posts alerts to the receiver that runs here; each template's secret is looked up once."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._settings = with_stored_secret(settings_of(environ))
        self._secrets: dict[str, str] = {}
        self.url = local_url(self._settings.bind)

    def send(self, template: str, body: bytes) -> tuple[int, Any]:
        """(HTTP status, answer). Raises ServiceError when nothing listens, SettingsError without a secret."""
        path = f"/hook/{quote(template, safe='')}/{quote(self._secret(template), safe='')}"
        try:
            status, text = _post(self.url, path, body)
        except OSError as error:
            raise ServiceError(f"nothing answers on BRIDGE_BIND {self.url}: {error.strerror or error}; "
                               "start `bridge up`") from None
        except http.client.HTTPException as error:
            raise ServiceError(f"what listens on BRIDGE_BIND {self.url} is no receiver ({type(error).__name__})") from None
        try:
            return status, json.loads(text)
        except ValueError:
            raise ServiceError(f"what listens on BRIDGE_BIND {self.url} is no receiver (HTTP {status}, no JSON)") from None

    def _secret(self, template: str) -> str:
        if template not in self._secrets:
            secret = _own_secret(self._settings, self._environ, template) or self._settings.secret
            if not secret:
                if not _listens(self.url):
                    raise ServiceError(f"nothing listens on BRIDGE_BIND {self.url}: start `bridge up`")
                raise SettingsError(f"BRIDGE_SECRET is not set, and {self._settings.data} keeps none: whose bridge is it?")
            self._secrets[template] = secret
        return self._secrets[template]


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
