"""What marshmallow says of a file's part, as faults with a path and in a trader's words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from marshmallow import Schema, fields

Step = str | int
Where = tuple[Step, ...]

_WORDS = {
    "Missing data for required field.": "is missing",
    "Field may not be null.": "is empty",
    "Unknown field.": "is unknown here",
    "Not a valid string.": "expected a text",
    "Not a valid integer.": "expected a whole number",
    "Not a valid number.": "expected a number",
    "Not a valid boolean.": "expected true or false",
    "Not a valid mapping type.": "expected names with values below it",
    "Not a valid list.": "expected a list",
    "Invalid input type.": "expected names with values below it",
}


def unknown_name(name: str, known: Iterable[str]) -> str:
    """The words for a name that is not known, with the one that was probably meant."""
    return f"is unknown here; {meant(name, known)}"


def meant(name: str, known: Iterable[str]) -> str:
    """The name that was probably meant, or all that are known."""
    names = list(known)
    close = difflib.get_close_matches(name, names, 1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names) or 'none'}"


def names_of(schema: Schema | type[Schema]) -> list[str]:
    """The names that a schema reads."""
    made = schema if isinstance(schema, Schema) else schema()
    return [field.data_key or name for name, field in made.fields.items()]


def schema_faults(schema: Schema, messages: Any, path: Sequence[Step] = ()) -> Iterator[tuple[Where, str]]:
    """Every message of a ValidationError with its path below `path`."""
    yield from _walk(schema, messages, tuple(path))


def _walk(schema: Any, messages: Any, path: Where) -> Iterator[tuple[Where, str]]:
    if isinstance(messages, str):
        yield path, _WORDS.get(messages, messages)
    elif isinstance(messages, Mapping):
        for key, below in messages.items():
            if key == "_schema":
                yield from _walk(schema, below, path)
            elif below == ["Unknown field."] and isinstance(schema, Schema):
                yield (*path, key), unknown_name(str(key), names_of(schema))
            elif isinstance(schema, fields.Dict) and isinstance(below, Mapping):
                for part in below.values():
                    yield from _walk(None, part, (*path, key))
            else:
                yield from _walk(_below(schema, key), below, (*path, key))
    else:
        for message in messages:
            yield from _walk(schema, message, path)


def _below(schema: Any, key: Any) -> Any:
    if isinstance(schema, Schema):
        renamed = (field for field in schema.fields.values() if field.data_key == key)
        found = schema.fields.get(key) or next(renamed, None)
        return found.schema if isinstance(found, fields.Nested) else found
    if isinstance(schema, fields.List):
        return schema.inner.schema if isinstance(schema.inner, fields.Nested) else schema.inner
    return schema
