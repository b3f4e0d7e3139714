"""Other services' keys inside alerts, masked before an alert is kept.

Messages for other tools carry their keys in the body (CrossTrade's `key`, PickMyTrade's `token`, OpenAlgo's `apikey`).
Bridge knows a sender by its own secret in the address and never needs these; a record of alerts must not hold them.
Everything else of a body stays as it came, to the byte, so that it can be replayed.
"""

from __future__ import annotations

import json
import re

MASK = "***"
SECRET_NAMES = frozenset({
    "key", "token", "secret", "passphrase", "password", "passwd", "apikey", "api_key", "api-key", "apisecret",
    "api_secret", "api-secret", "auth", "authorization", "auth_token", "access_token", "accesstoken", "email_token",
    "bot_secret", "client_secret", "private_key", "secret_key", "secretkey", "webhook_secret", "license", "license_id",
    "licenseid", "relay_user"})
"""Names, in small letters, whose values are keys. `code` is none: it is a symbol or an error as often as a key; nor is
`instrument_token`, a number of what is traded."""


def is_secret(name: str) -> bool:
    """Whether a field of this name holds a key. Upper and lower case are the same."""
    return name.strip().lower() in SECRET_NAMES


def masked(text: str) -> str:
    """A body with its keys masked: a JSON object stays one, pairs stay pairs, broken ones are masked as far as they go."""
    return _mask_json(text) if text.lstrip("\ufeff \t\r\n")[:1] in ("{", "[") else _mask_pairs(text)


# -- JSON --------------------------------------------------------------------------------------------------------------

_STRING = r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)'
_NAME = re.compile(rf"({_STRING})(\s*+:\s*+)?", re.DOTALL)
_PART = re.compile(rf"{_STRING}|[\[\]{{}}]", re.DOTALL)
_SCALAR = re.compile(rf"{_STRING}|[^\s,\]}}]*+", re.DOTALL)


def _mask_json(text: str) -> str:
    kept: list[str] = []
    at = done = 0
    while found := _NAME.search(text, at):
        at = found.end()
        if found[2] is not None and is_secret(_plain(found[1])):
            end = _end_of_value(text, at)
            if end > at:
                kept += (text[done:at], f'"{MASK}"')
                at = done = end
    return "".join((*kept, text[done:]))


def _plain(name: str) -> str:
    try:
        return str(json.loads(name))
    except ValueError:
        return name.strip('"')


def _end_of_value(text: str, start: int) -> int:
    """Where the value that begins at `start` ends; the end of the text where it never does."""
    if text[start:start + 1] not in ("{", "["):
        found = _SCALAR.match(text, start)
        return found.end() if found else start
    depth = 0
    for part in _PART.finditer(text, start):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(part[0], 0)
        if depth == 0:
            return part.end()
    return len(text)


# -- pairs and text ------------------------------------------------------------------------------------------------------

_NAMES = "|".join(sorted((re.escape(name) for name in SECRET_NAMES), key=len, reverse=True))
_PAIR = re.compile(rf"((?:\A|[;\r\n])[^\S\r\n]*+(?:{_NAMES})[^\S\r\n]*+=[^\S\r\n]*+)([^;\r\n]++)", re.IGNORECASE)
_WORD = re.compile(rf"((?<![\w.-])(?:{_NAMES})[^\S\r\n]*+[=:][^\S\r\n]*+)([^;\s]++)", re.IGNORECASE)


def _mask_pairs(text: str) -> str:
    return _WORD.sub(rf"\g<1>{MASK}", _PAIR.sub(rf"\g<1>{MASK}", text))
