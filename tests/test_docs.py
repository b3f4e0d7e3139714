"""The documents and the program cannot drift apart: what is in one is in the other, and every example works."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from decimal import Decimal
from pathlib import Path

import click
import pytest

from bridge import life
from bridge.accounts import load_accounts
from bridge.broker import Broker
from bridge.brokers import BROKERS
from bridge.call import Seen
from bridge.cli import main
from bridge.expressions import Context, compile_value
from bridge.fields import TYPES as FIELD_TYPES
from bridge.filters import FILTERS
from bridge.order import TIMES_IN_FORCE, TYPES
from bridge.schemas import names_of
from bridge.settings import SETTINGS
from bridge.template import load_template
from bridge.template_schema import ExitSchema, LegSchema, OrderSchema, TemplateSchema, TestSchema
from bridge.work import Budget

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md")])


def page(name: str) -> str:
    return (DOCS / name).read_text()


def section(text: str, title: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    found = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert found, f"no heading {title!r}"
    rest = text[found.end():]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[:end.start()] if end else rest


def rows(text: str) -> list[list[str]]:
    """The rows of all tables in a text, cells stripped; a `\\|` is no border."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not re.fullmatch(r"[| :-]+", line)]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# -- settings and commands -------------------------------------------------------------------------------------------


def test_every_setting_stands_in_the_documents_with_its_default_and_no_other_does() -> None:
    written = {code(row[0])[0]: row[1].strip("`") for row in rows(page("settings.md")) if row[0].startswith("`BRIDGE_")}

    assert written == {setting.name: setting.default or "unset" for setting in SETTINGS}


def commands() -> Iterator[tuple[str, click.Command]]:
    for name, command in sorted(main.commands.items()):
        if not command.hidden:
            yield name, command


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_every_command_and_each_of_its_options_stands_in_the_documents(name: str) -> None:
    text = section(page("commands.md"), f"bridge {name}")

    for parameter in main.commands[name].params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert f"`{max(parameter.opts, key=len)}" in text, f"{name} {parameter.opts}"


def test_no_command_is_documented_that_does_not_exist() -> None:
    known = {name for name, _ in commands()}
    later = {"explain", "new", "schema", "replay", "resolve", "reconcile", "pause", "resume", "panic", "doctor",
             "dashboard"}

    for path in PAGES:
        for found in re.findall(r"(?:`|^\$ |^    )(?:\.venv/bin/)?bridge ([a-z]+)\b", path.read_text(), re.MULTILINE):
            assert found in known | (later if path.name != "README.md" else set()), f"{path.name}: bridge {found}"


# -- templates -------------------------------------------------------------------------------------------------------


def documented(text: str) -> set[str]:
    return {name for row in rows(text) for name in code(row[0])}


def test_every_field_of_a_template_stands_in_the_documents() -> None:
    text = page("templates.md")

    assert set(TemplateSchema().fields) <= documented(section(text, "The whole file"))
    assert set(OrderSchema().fields) <= documented(section(text, "The order"))
    assert set(ExitSchema().fields) <= documented(section(text, "Legs: stop and target"))
    assert set(TestSchema().fields) <= documented(section(text, "Its own tests"))
    for name in LegSchema().fields:
        assert f"`{name}`" in section(text, "oco") and f"`{name}`" in section(text, "oso")


def test_every_type_of_field_and_of_order_stands_in_the_documents() -> None:
    text = page("templates.md")

    assert set(FIELD_TYPES) <= documented(section(text, "Fields of the alert"))
    assert {"type", "optional", "from", "one_of", "zone", "tradingview"} <= documented(
        section(text, "Fields of the alert"))
    for word in (*TYPES, *TIMES_IN_FORCE):
        assert f"`{word}`" in section(text, "The order")


def test_every_filter_stands_in_the_documents_and_no_other_does() -> None:
    written = {name.partition("(")[0] for name in documented(section(page("templates.md"), "Filters"))}

    assert written == set(FILTERS)


def filter_examples() -> list[tuple[str, str]]:
    found = []
    for row in rows(section(page("templates.md"), "Filters")):
        if "→" in row[-1]:
            source, _, result = row[-1].partition("→")
            found.append((code(source)[0], result.strip().split(" at ")[0].strip("` ")))
    return found


@pytest.mark.parametrize(("source", "result"), filter_examples())
def test_every_example_of_a_filter_comes_out_as_it_says(source: str, result: str) -> None:
    value = compile_value("{{ " + source + " }}", {}).evaluate(Context(alert={}, contract=lambda symbol: "ESZ6"))

    assert (format(value, "f") if isinstance(value, Decimal) else str(value)) == result


def yaml_blocks() -> list[tuple[str, str]]:
    return [(f"{path.stem}_{number}", block) for path in PAGES
            for number, block in enumerate(re.findall(r"^```yaml\n(.*?)^```", path.read_text(),
                                                      re.DOTALL | re.MULTILINE))]


@pytest.mark.parametrize(("name", "block"), yaml_blocks(), ids=[name for name, _ in yaml_blocks()])
def test_every_template_in_the_documents_loads_and_passes_its_tests(name: str, block: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.yaml"
    file.write_text(block)

    assert load_template(file, load_accounts(ROOT / "accounts.yaml", {})).name == name


def test_every_shipped_template_stands_in_the_documents() -> None:
    text = section(page("templates.md"), "The shipped templates")

    for path in (ROOT / "templates").glob("*.yaml"):
        assert f"(../templates/{path.name})" in text


def test_the_words_of_later_versions_are_refused_as_the_page_says(tmp_path: Path) -> None:
    text = section(page("templates.md"), "What is not there yet")

    for word in ("only_if", "after", "exits", "managed", "break_even"):
        assert f"`{word}`" in text
        assert word not in TemplateSchema().fields and word not in OrderSchema().fields


# -- brokers ---------------------------------------------------------------------------------------------------------


def broker_section(broker: Broker) -> str:
    titles = {"tradovate": "Tradovate", "crosstrade": "CrossTrade (NinjaTrader 8)", "pocketful": "Pocketful (India)"}
    return section(page("brokers.md"), titles[broker.name])


BROKER_LIST = list(BROKERS.values())
NAMES = [broker.name for broker in BROKER_LIST]


@pytest.mark.parametrize("broker", BROKER_LIST, ids=NAMES)
def test_every_option_of_a_broker_and_of_its_account_stands_in_the_documents(broker: Broker) -> None:
    text = broker_section(broker)
    account = broker.account_schema()

    for name in (*broker.options_schema().fields, *(name for name in account.fields if name != "options")):
        assert f"| `{name}` |" in text, name
    options = getattr(account.fields.get("options"), "schema", None)
    for name in options.fields if options else ():
        assert re.search(rf"`options: {{[^`]*\b{name}: …", text), name
    for name in broker.credential_names:
        assert f"`{name}`" in text, name


def test_every_common_field_of_an_account_stands_in_the_documents() -> None:
    from bridge import accounts
    written = documented(section(page("brokers.md"), "Accounts"))

    assert set(names_of(accounts.CommonSchema())) <= written
    assert {each.name for each in fields(Budget)} <= set(re.findall(r"\w+", section(page("brokers.md"), "Accounts")))


def test_the_table_of_kinds_says_what_the_brokers_declare() -> None:
    found = rows(section(page("brokers.md"), "Kinds"))
    names = found[0][1:]

    for row in found[1:]:
        kind = code(row[0])[0]
        for name, cell in zip(names, row[1:], strict=True):
            assert cell.partition(",")[0] == BROKERS[name].capabilities.kinds.get(kind, "—"), f"{name} {kind}"
    for broker in BROKER_LIST:
        assert set(broker.capabilities.kinds) <= {code(row[0])[0] for row in found[1:]}


def test_the_table_of_types_and_times_in_force_says_what_the_brokers_declare() -> None:
    found = rows(section(page("brokers.md"), "Types and times in force"))
    names = found[0][1:]

    for title, declared in (("types of an entry", "types"), ("types of a leg", "leg_types"),
                            ("times in force", "times_in_force")):
        row = next(row for row in found if row[0] == title)
        for name, cell in zip(names, row[1:], strict=True):
            assert set(code(cell)) == getattr(BROKERS[name].capabilities, declared), f"{name} {title}"


@pytest.mark.parametrize("broker", BROKER_LIST, ids=NAMES)
def test_every_environment_of_a_broker_stands_in_the_documents(broker: Broker) -> None:
    text = section(page("brokers.md"), "Accounts")

    for environment in broker.environments:
        assert f"`{environment}`" in text


# -- states ----------------------------------------------------------------------------------------------------------


def test_every_state_stands_in_the_documents() -> None:
    written = documented(section(page("orders.md"), "The states"))

    assert written == set(life.STATES)


def test_the_table_of_moves_is_the_programs_own() -> None:
    written = {tuple(code(cell)[0] for cell in row[:3]) for row in rows(section(page("orders.md"), "Every move there is"))
               if row[0].startswith("`")}

    assert written == {(state, event, after) for state, moves in life.MOVES.items() for event, after in moves.items()}


def test_the_picture_of_an_orders_life_is_the_programs_own() -> None:
    picture = [line.rstrip() for line in (life.__doc__ or "").splitlines() if line.startswith("    ")]

    assert picture
    for line in picture:
        assert line in page("orders.md"), line


def test_every_word_of_the_brokers_status_stands_in_the_documents() -> None:
    text = section(page("orders.md"), "What the broker says: `broker_status`")

    for word in ("working", "partially_filled", "filled", "canceled", "rejected", "expired"):
        assert word in (Seen.__doc__ or "") and f"`{word}`" in text


# -- links, and what must not stand anywhere -------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """The anchors that a heading gets."""
    plain = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
            for heading in re.findall(r"^#+ (.*)$", plain, re.MULTILINE)}


@pytest.mark.parametrize("path", PAGES, ids=[path.name for path in PAGES])
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found.read_text()), target


def tracked() -> list[Path]:
    """The files of the repository, those included that are not yet added."""
    try:
        said = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT,
                              capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git repository")
    return [ROOT / name for name in said.split("\0") if name and (ROOT / name).is_file()]


FORBIDDEN = (
    r"(?<![\w.])/(?:" + "work|tmp/v|root" + r")(?:/|\b)",
    r"https?://(?:[\w.-]*\.)?(?:" + "pypi|pythonhosted" + r")\.org",
    r"(?i)(?:--extra-)?" + "index" + r"-url[ =]https?://",
)
"""A machine's own paths and the address of a package registry say nothing to a reader."""


def test_no_machines_path_and_no_registrys_address_stand_in_any_file() -> None:
    for path in tracked():
        text = path.read_text(errors="ignore")
        for pattern in FORBIDDEN:
            found = re.search(pattern, text)
            assert not found, f"{path.relative_to(ROOT)}: {found[0] if found else ''}"


@pytest.mark.parametrize("path", PAGES, ids=[path.name for path in PAGES])
def test_every_file_that_is_named_is_there(path: Path) -> None:
    for found in re.findall(r"`((?:bridge|tests|docs|\.ci)/[\w./-]*)`", path.read_text()):
        assert "NAME" in found or (ROOT / found).exists(), found


def test_the_code_map_names_every_module_and_no_other() -> None:
    text = section((ROOT / "ARCHITECTURE.md").read_text(), "Code map, in the order an alert travels")
    written = [name.rstrip("/") for row in rows(text)[1:] for name in code(row[0])]
    there = {path.stem for path in (ROOT / "bridge").iterdir()
             if (path.suffix == ".py" or path.is_dir()) and not path.stem.startswith("__")}

    assert sorted(written) == sorted(there)


def test_long_lines_stand_only_in_tables_and_examples() -> None:
    for path in PAGES:
        fenced = False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            fenced ^= line.startswith("```")
            if not fenced and not line.startswith(("|", "    ")) and "](" not in line:
                assert len(line) <= 125, f"{path.name}:{number}"


