"""`bridge message` and `bridge schema`: what a trader pastes elsewhere, printed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bridge.alert import read_body
from bridge.errors import BodyError
from bridge.json_schema import schema_of
from bridge.load import load_named, settings_of
from bridge.show import print_json, print_line, print_with_secret
from bridge.yamlfile import read_yaml_file


def print_message(environ: Mapping[str, str], template: str, form: str, *, pairs: bool, as_json: bool) -> None:
    """Print the message of a template; what there is to know about it goes to standard error.

    Raises InputError for a template that does not load, or that cannot have such a message.
    """
    found = load_named(settings_of(environ), environ, template)[0]
    message = found.message(form, pairs=pairs or (found.pattern is None and _reads_pairs(Path(found.file))))
    if as_json:
        print_json({"template": template, "form": message.form, "message": message.text, "notes": list(message.notes)})
        return
    print_with_secret(message.text)
    for note in message.notes:
        print_line(note, error=True)


def _reads_pairs(file: Path) -> bool:
    """Whether the template's own tests are alerts of key=value; pairs."""
    bodies = [test["body"] for test in read_yaml_file(file).value.get("tests") or () if "body" in test]
    try:
        return bool(bodies) and all(read_body(body.encode()).form == "key_value" for body in bodies)
    except BodyError:
        return False


def print_schema(what: str) -> None:
    """Print a JSON Schema, as it is shipped in templates/.schema."""
    print_json(schema_of(what))
