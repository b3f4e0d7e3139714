"""One-time passwords of authenticator apps (RFC 6238), for brokers whose log-in asks for one. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re


def totp(key: bytes, now: float, digits: int = 6) -> str:
    """The one-time password of RFC 6238 (SHA-1, 30 s) for `now` in seconds since the epoch."""
    hashed = hmac.new(key, int(now // 30).to_bytes(8, "big"), hashlib.sha1).digest()
    start = hashed[-1] & 15
    number = int.from_bytes(hashed[start:start + 4], "big") & 0x7FFFFFFF
    return str(number % 10**digits).zfill(digits)


def key_of(secret: str) -> bytes | None:
    """The key in the base32 text that an authenticator app is given; None for what is none."""
    text = re.sub(r"[\s=-]", "", secret).upper()
    try:
        return base64.b32decode(text + "=" * (-len(text) % 8)) or None
    except (binascii.Error, ValueError):
        return None
