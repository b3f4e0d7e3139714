"""House rules that are read from the source: who may import what, and who may not look at a clock."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "bridge"
SANDBOX = "sandbox"

LAYERS = {
    "words": {"", "errors", "numbers", "order", "call", "work", "broker", "life", "record", "views", "rehearse", "settings"},
    "rules": {"alert", "fields", "values", "yamlfile", "pattern", "expressions", "contracts", "template", "accounts",
              "brokers"},
    "rooms": {"ledger", "transport", "clock", "log", "process", "throttle"},
    "parts": {"session", "lane", "worker", "receiver", "embedded"},
    "commands": {"cli", "__main__"},
}
"""From the bottom up. A module that is not named is free to import any of them, and none of them may import it,
except those of its own layer or above: it is placed by what it imports (see `layer_of`)."""
ORDER = list(LAYERS)

ONLY_IN = {
    "redis": {"ledger.connection"},
    "requests": {"transport"},
    "websocket": {"transport"},
    "flask": {"receiver"},
    "werkzeug": {"receiver"},
    "gunicorn": {"gunicorn_app"},
    "prometheus_client": {"metrics"},
    "click": {"cli", "show"},
    "jinja2": {"expressions", "expression_nodes"},
    "yaml": {"yamlfile"},
    "cryptography": {"session"},
    # A probe for a free port, this machine's name in a lease, and our own receiver's address: none of them is a broker.
    "socket": {"transport", "process", "worker"},
    "http.client": {"sending"},
    "urllib3": {"transport"},
    "urllib.request": set(),
}
CLOCKS = {"time", "random", "secrets", "uuid", "bridge.clock"}


def modules() -> list[str]:
    return sorted(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip(".")
                  for path in ROOT.rglob("*.py"))


@cache
def tree(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split(".")) if module else ROOT
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())


def imports(node: ast.AST) -> Iterator[str]:
    """The full names of what is imported anywhere below a node."""
    for each in ast.walk(node):
        if isinstance(each, ast.Import):
            yield from (alias.name for alias in each.names)
        elif isinstance(each, ast.ImportFrom) and each.level == 0:
            for alias in each.names:
                yield f"{each.module}.{alias.name}"


def top(module: str) -> str:
    return module.partition(".")[0]


@cache
def ours(module: str) -> frozenset[str]:
    """Our modules that this one imports when it is imported itself."""
    known = set(modules())
    found = set()
    for node in tree(module).body:
        for name in imports(node) if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) else ():
            if not name.startswith("bridge"):
                continue
            inner = name.removeprefix("bridge").lstrip(".")
            while inner not in known:
                inner = inner.rpartition(".")[0]
            found.add(inner)
    return frozenset(found - {module})


def layer_of(module: str) -> int:
    for number, name in enumerate(ORDER):
        if top(module) in LAYERS[name]:
            return number
    return max((layer_of(each) for each in ours(module)), default=0)


PRODUCT = [module for module in modules() if top(module) != SANDBOX]


@pytest.mark.parametrize("module", PRODUCT)
def test_imports_point_one_way(module: str) -> None:
    for other in ours(module):
        assert layer_of(other) <= layer_of(module), f"{module} imports {other} of a layer above it"


def test_no_module_imports_itself_by_a_detour() -> None:
    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join((*path, module))
        if module in done:
            return
        for other in ours(module):
            walk(other, (*path, module))
        done.add(module)

    done: set[str] = set()
    for module in PRODUCT:
        walk(module, ())


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_each_library_of_the_outside_world_has_its_room(library: str) -> None:
    users = {module for module in PRODUCT for name in imports(tree(module)) if f"{name}.".startswith(f"{library}.")}

    assert users <= ONLY_IN[library]


@pytest.mark.parametrize("module", [module for module in PRODUCT if layer_of(module) <= 1])
def test_words_and_rules_do_no_input_or_output_and_read_no_clock(module: str) -> None:
    for name in imports(tree(module)):
        assert name not in CLOCKS and top(name) not in CLOCKS - {"bridge.clock"}, f"{module} imports {name}"
        assert top(name) not in ("socket", "subprocess", "threading", "asyncio", "http"), f"{module} imports {name}"
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("now", "utcnow", "today"), f"{module}:{node.lineno} asks for the time"


def test_no_shared_module_imports_a_broker() -> None:
    for module in PRODUCT:
        if top(module) != "brokers":
            names = {name for name in imports(tree(module)) if name.startswith("bridge.brokers")}
            assert names <= {"bridge.brokers.BROKERS"}, f"{module} imports {names}"


def test_the_sandbox_and_the_product_share_no_code() -> None:
    for module in modules():
        for name in imports(tree(module)):
            if top(module) == SANDBOX:
                assert not name.startswith("bridge.") or name.startswith("bridge.sandbox"), f"{module} imports {name}"
            elif name.startswith("bridge.sandbox"):
                assert module == "parts", f"{module} imports {name}"


@pytest.mark.parametrize("module", PRODUCT)
def test_imports_stand_at_the_top_except_where_they_keep_the_command_line_quick(module: str) -> None:
    if module in ("cli", "parts", "up"):
        return
    for node in ast.walk(tree(module)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert not list(imports(node)), f"{module}:{node.lineno} {node.name} imports inside"


@pytest.mark.parametrize("module", modules())
def test_functions_fit_a_screen_and_modules_have_one_subject(module: str) -> None:
    for node in ast.walk(tree(module)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 70, f"{module}:{node.lineno} {node.name}"
    path = ROOT.joinpath(*module.split(".")) if module else ROOT
    text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    most = 1400 if top(module) == "brokers" else 650  # a broker is one file
    assert text.count("\n") <= most, f"{module} has {text.count(chr(10))} lines"
