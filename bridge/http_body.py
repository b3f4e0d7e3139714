"""Read the body of a request whole, or say with an HTTP status why not. A body is never cut and then parsed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.alert import MAX_BYTES


class Unread(Exception):
    """The body could not be read: the HTTP status, and words for the sender."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


def announced_length(environ: Mapping[str, Any]) -> int | None:
    """The length that the request announces; None for a chunked one.

    Raises Unread for one that is too large, is no number, or is a body in a form that is not read.
    """
    if environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower() not in ("", "identity"):
        raise Unread(415, "compressed bodies are not read: send the alert as it is")
    if coding := environ.get("HTTP_TRANSFER_ENCODING", "").strip().lower():
        if coding != "chunked":
            raise Unread(415, "compressed bodies are not read: send the alert as it is")
        return None
    given = environ.get("CONTENT_LENGTH") or "0"
    if not (given.isascii() and given.isdigit()):
        raise Unread(400, "Content-Length is not a number")
    if len(given) > 12 or int(given) > MAX_BYTES:
        raise too_large()
    return int(given)


def read_request(environ: Mapping[str, Any], length: int | None) -> bytes:
    """The whole body. Raises Unread when it is cut short, malformed, too large, or too slow in coming."""
    source = environ["wsgi.input"]
    try:
        body: bytes = source.read(MAX_BYTES + 1 if length is None else length)
    except TimeoutError:
        raise Unread(408, "the body took too long to arrive") from None
    except Exception as error:  # noqa: BLE001 whatever a server raises for a malformed body is its sender's fault
        raise Unread(400, f"the body is malformed ({type(error).__name__})") from None
    if length is None and len(body) > MAX_BYTES:
        raise too_large()
    if length is not None and len(body) < length:
        raise Unread(400, f"the body ended after {len(body)} of {length} bytes")
    return body


def too_large() -> Unread:
    """What is answered to a body over the limit."""
    return Unread(413, f"the body is larger than {MAX_BYTES} bytes")
