"""References to secrets in files: `${NAME}` of the environment, or `${file:/run/secrets/x}`. Never a literal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

_NAMED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)
_FILED = re.compile(r"\$\{file:(/[^{}$]+)\}")
_MOST = 16_384


class Unset(ValueError):
    """A reference whose variable or file is not there or is empty; `name` is the variable's or the file's."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(words)
        self.name = name


def is_reference(text: object) -> bool:
    """Whether a value looks like a reference, sound or not."""
    return isinstance(text, str) and "${" in text


def resolve(text: str, environ: Mapping[str, str]) -> str:
    """What a reference stands for.

    Raises Unset where it stands for nothing, ValueError for a text that is no sound reference. Neither shows a value.
    """
    if found := _NAMED.fullmatch(text):
        value = environ.get(found[1], "")
        if not value:
            state = "empty" if found[1] in environ else "not set"
            raise Unset(found[1], f"the environment variable {found[1]} is {state}")
        return _sound(value, found[1])
    if found := _FILED.fullmatch(text):
        return _sound(_content(Path(found[1])), found[1])
    raise ValueError("is no reference like ${NAME} or ${file:/run/secrets/name}")


def _content(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            content = opened.read(_MOST + 1)
        text = content.decode().rstrip("\r\n")
    except OSError as error:
        raise Unset(str(path), f"the file {path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise Unset(str(path), f"the file {path} is not UTF-8 text") from None
    if not text:
        raise Unset(str(path), f"the file {path} is empty")
    if len(content) > _MOST:
        raise ValueError(f"the file {path} is too large for a secret")
    return text


def _sound(value: str, name: str) -> str:
    if not value.isprintable():
        raise ValueError(f"what {name} holds has a line break or control character in it")
    return value
