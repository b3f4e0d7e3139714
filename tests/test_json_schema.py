"""The JSON Schema that editors use and the loader cannot drift apart."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from marshmallow import fields

from bridge.accounts import CommonSchema, load_accounts
from bridge.brokers import BROKERS
from bridge.cli import main
from bridge.errors import FileFaults
from bridge.fields import KEYS
from bridge.fields import TYPES as FIELD_TYPES
from bridge.guards import GuardsSchema, PriceDistanceSchema
from bridge.json_schema import named_schema, part_of, schema_of
from bridge.order import KINDS, TIMES_IN_FORCE, TYPES
from bridge.products import ProductSchema, RollSchema
from bridge.schema_words import WORDS
from bridge.schemas import names_of
from bridge.template import load_template
from bridge.template_schema import (
    FIELDS_OF,
    ExitSchema,
    LegSchema,
    OrderSchema,
    RiskSchema,
    TemplateSchema,
    TestSchema,
)
from bridge.yamlfile import read_yaml_file

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE, ACCOUNTS = schema_of("template"), schema_of("accounts")
SHIPPED = sorted((ROOT / "templates").glob("*.yaml"))


def plain(value: Any) -> Any:
    """A document as JSON has it."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else float(value) if isinstance(value, Decimal) else value


def faults(schema: dict[str, Any], value: Any) -> list[str]:
    return [f"{each.json_path}: {each.message[:200]}" for each in jsonschema.Draft202012Validator(schema).iter_errors(value)]


@pytest.mark.parametrize("schema", [TEMPLATE, ACCOUNTS], ids=["template", "accounts"])
def test_it_is_a_schema_of_draft_2020_12(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("path", SHIPPED, ids=[path.stem for path in SHIPPED])
def test_every_shipped_template_validates(path: Path) -> None:
    assert faults(TEMPLATE, plain(read_yaml_file(path).value)) == []


def test_the_shipped_accounts_validate_and_so_do_real_ones() -> None:
    assert faults(ACCOUNTS, plain(read_yaml_file(ROOT / "accounts.yaml").value)) == []
    secrets = {"name": "${A}", "password": "${file:/run/secrets/x}", "cid": "${C}", "sec": "${S}", "device_id": "${D}"}
    assert faults(ACCOUNTS, {"products": {"ES": {"tick": 0.25}}, "accounts": {"live": {
        "broker": "tradovate", "environment": "live", "account": "1", "account_id": 1, "credentials": secrets,
        "budget": {"per_minute": 60}, "roll": {"days_before_expiry": 5}, "guards": {"max_quantity": 3},
        "options": {"mit_price": "price"}}}}) == []


# -- the same names, both ways ---------------------------------------------------------------------------------------


def names_in(schema: dict[str, Any], part: str) -> set[str]:
    return set(schema["$defs"][part]["properties"])


def test_every_field_that_the_loader_knows_is_in_it_and_no_other() -> None:
    assert set(TEMPLATE["properties"]) == set(names_of(TemplateSchema()))
    for schema in (OrderSchema, ExitSchema, LegSchema, TestSchema, GuardsSchema, PriceDistanceSchema, RiskSchema):
        assert names_in(TEMPLATE, part_of(schema())) == set(names_of(schema())), schema
    long = TEMPLATE["properties"]["alert"]["additionalProperties"]["anyOf"][1]
    assert set(long["properties"]) == set(KEYS) and long["additionalProperties"] is False
    own = {name for broker in BROKERS.values() for name in names_of(broker.account_schema())}
    assert names_in(ACCOUNTS, "account") == {*names_of(CommonSchema()), *own}
    assert names_in(ACCOUNTS, "roll") == set(names_of(RollSchema()))
    assert names_in(ACCOUNTS, "product") == set(names_of(ProductSchema()))


def test_every_kind_type_and_time_in_force_is_in_it() -> None:
    order = TEMPLATE["$defs"]["order"]

    assert order["properties"]["kind"]["enum"] == list(KINDS)
    assert {each["if"]["properties"]["kind"]["const"]: each["then"]["propertyNames"]["enum"]
            for each in order["allOf"]} == {kind: list(names) for kind, names in FIELDS_OF.items()}
    assert set(order["properties"]["type"]["anyOf"][0]["enum"]) == set(TYPES)
    assert set(order["properties"]["time_in_force"]["anyOf"][0]["enum"]) == set(TIMES_IN_FORCE)
    assert set(TEMPLATE["properties"]["alert"]["additionalProperties"]["anyOf"][0]["enum"]) == set(FIELD_TYPES)


def test_every_option_of_every_broker_is_in_it_with_words() -> None:
    options = TEMPLATE["$defs"]["order"]["properties"]["options"]["properties"]

    assert set(options) == {name for broker in BROKERS.values() for name in names_of(broker.options_schema())}
    for broker in BROKERS.values():
        for name, field in broker.options_schema().fields.items():
            assert f"{broker.name}: {field.metadata['description']}" in options[name]["description"]
        of_it = next(each["then"] for each in ACCOUNTS["$defs"]["account"]["allOf"]
                     if each["if"]["properties"]["broker"]["const"] == broker.name)
        assert set(of_it["properties"]["credentials"]["properties"]) == set(broker.credential_names)
        nested = broker.account_schema().fields.get("options")
        if isinstance(nested, fields.Nested):
            assert set(of_it["properties"]["options"]["properties"]) == set(names_of(nested.schema))


def parts() -> Iterator[tuple[str, str]]:
    for part, schema in (("template", TemplateSchema), ("order", OrderSchema), ("exit", ExitSchema), ("leg", LegSchema),
                         ("test", TestSchema), ("guards", GuardsSchema), ("distance", PriceDistanceSchema),
                         ("risk", RiskSchema), ("account", CommonSchema), ("roll", RollSchema), ("product", ProductSchema)):
        for name in names_of(schema()):
            yield part, name
    budget = CommonSchema().fields["budget"]
    assert isinstance(budget, fields.Nested)
    yield from (("budget", name) for name in names_of(budget.schema))
    yield from (("account", name) for broker in BROKERS.values() for name in names_of(broker.account_schema()))
    yield from (("field", name) for name in KEYS)
    yield from (("use", name) for name in ("name", "multiplier", "symbols"))
    yield from (("accounts", name) for name in ("accounts", "products"))


def test_an_editor_shows_words_for_every_field_and_none_are_left_over() -> None:
    assert {f"{part}.{name}" for part, name in parts()} == set(WORDS)


# -- what the loader refuses -----------------------------------------------------------------------------------------


def mappings(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all names that are fields: not those of an alert's own, nor what a test expects."""
    if isinstance(value, dict):
        for name, each in value.items():
            if path not in (("alert",),) and not (path[:1] == ("tests",) and len(path) > 2):
                yield (*path, name)
            yield from mappings(each, (*path, name))
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from mappings(each, (*path, place))


def misspelt(value: Any, path: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(value)
    inside = changed
    for step in path[:-1]:
        inside = inside[step]
    inside[f"{path[-1]}x"] = inside.pop(path[-1])
    return changed


@pytest.mark.parametrize("path", SHIPPED, ids=[path.stem for path in SHIPPED])
def test_a_misspelt_name_is_refused_by_the_schema_and_by_the_loader(path: Path, tmp_path: Path) -> None:
    value = plain(read_yaml_file(path).value)
    accounts = load_accounts(ROOT / "accounts.yaml", {})

    for where in mappings(value):
        wrong = misspelt(value, where)
        assert faults(TEMPLATE, wrong), where
        (tmp_path / path.name).write_text(json.dumps(wrong))
        with pytest.raises(FileFaults):
            load_template(tmp_path / path.name, accounts)


def test_a_misspelt_name_in_the_accounts_is_refused_by_both(tmp_path: Path) -> None:
    value = plain(read_yaml_file(ROOT / "accounts.yaml").value)

    for where in mappings(value):
        if len(where) == 2:
            continue  # an account's own name is free
        wrong = misspelt(value, where)
        assert faults(ACCOUNTS, wrong), where
        (tmp_path / "accounts.yaml").write_text(json.dumps(wrong))
        assert load_accounts(tmp_path / "accounts.yaml", {}).faults, where


@pytest.mark.parametrize(("path", "wrong"), [
    (("order", "kind"), "osso"), (("order", "type"), "limt"), (("order", "side"), "up"), (("order", "time_in_force"), "dya"),
    (("order", "quantity"), "many"), (("order", "stop_loss"), {}), (("order", "stop_loss"), {"type": "stop"}),
    (("alert", "price"), "numbr"), (("alert", "price"), {"typ": "number"}), (("allow",), ["day-leg"]), (("sent_at",), "now"),
    (("max_age",), 60), (("orders",), [{"kind": "plain"}]), (("secret",), "in-clear-text-0123456789"), (("account",), []),
    (("order", "options"), {"maxSho": 1}), (("guards",), {"max_quantity": 0}), (("dry_run",), "yes"), (("order", "other"), {}),
    (("tests",), [{"name": "x"}])])
def test_a_wrong_value_is_refused_by_both(path: tuple[str, ...], wrong: Any, tmp_path: Path) -> None:
    value = plain(read_yaml_file(ROOT / "templates/es_breakout.yaml").value)
    inside = value
    for step in path[:-1]:
        inside = inside[step]
    inside[path[-1]] = wrong

    assert faults(TEMPLATE, value)
    (tmp_path / "t.yaml").write_text(json.dumps(value))
    with pytest.raises(FileFaults):
        load_template(tmp_path / "t.yaml", load_accounts(ROOT / "accounts.yaml", {}))


def test_a_secret_that_is_written_out_is_underlined() -> None:
    value = plain(read_yaml_file(ROOT / "accounts.yaml").value)
    value["accounts"]["nt8-sim"]["credentials"] = {"token": "in-clear-text"}

    assert faults(ACCOUNTS, value)


# -- where editors find it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["template", "accounts"])
def test_the_shipped_file_is_what_the_command_prints(what: str) -> None:
    result = CliRunner().invoke(main, ["schema", what])

    assert result.exit_code == 0
    assert result.stdout == (ROOT / f"templates/.schema/{what}.json").read_text(), (
        f"run: bridge schema {what} > templates/.schema/{what}.json")
    assert json.loads(result.stdout) == schema_of(what)


@pytest.mark.parametrize("path", [*SHIPPED, ROOT / "accounts.yaml"], ids=lambda path: path.stem)
def test_every_shipped_file_points_at_its_schema(path: Path) -> None:
    named = named_schema(path.read_text())

    assert (path.parent / named).resolve() == ROOT / "templates/.schema" / (
        "accounts.json" if path.name == "accounts.yaml" else "template.json")
    assert (path.parent / named).is_file()
