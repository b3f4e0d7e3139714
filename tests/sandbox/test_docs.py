"""The sandbox's page names every fault, operation, setting and control that there is."""

from __future__ import annotations

from pathlib import Path

from bridge.sandbox.app import App
from bridge.sandbox.faults import FAULTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sandbox.md"


def test_the_page_names_everything_that_can_be_asked_for() -> None:
    text = PAGE.read_text()
    app = App()
    names = {*FAULTS}
    for broker in app.brokers.values():
        names |= {broker.name, *broker.operations, *broker.settings}

    assert sorted(name for name in names if f"`{name}`" not in text and f"| {name} |" not in text) == []
    assert [path for _, path in app.control.names() if f"/_control/{path}" not in text] == []
