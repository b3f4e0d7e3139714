"""What `check`, `message` and `new` print, to the letter: a change of it is seen, and meant.

The files are beside this one, in golden/. To take a new output over: GOLDEN=write and run the tests once.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.cli import main
from tests.test_torn import BROKEN

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path(__file__).parent / "golden"

CASES: dict[str, list[str]] = {
    "check.txt": ["check", "broken.yaml"],
    "check_github.txt": ["check", "broken.yaml", "--format", "github"],
    "message_strategy.txt": ["message", "mes_strategy"],
    "message_indicator.txt": ["message", "es_breakout", "--indicator"],
    "message_pine.txt": ["message", "mes_strategy", "--pine"],
    "message_pairs.txt": ["message", "nt8_strategy"],
    "message_text.txt": ["message", "es_text_alert"],
    "new_strategy.yaml": ["new", "--account", "tradovate-demo", "--kind", "oso", "--form", "strategy", "--stdout"],
    "new_indicator.yaml": ["new", "--account", "pocketful", "--kind", "cover", "--form", "indicator", "--stdout"],
    "new_text.yaml": ["new", "--account", "nt8-sim", "--kind", "oco", "--form", "text", "--stdout"],
}


@pytest.mark.parametrize("name", CASES)
def test_the_output_is_as_it_was(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.yaml").write_text(BROKEN)
    environ = {"BRIDGE_TEMPLATES": str(ROOT / "templates"), "BRIDGE_ACCOUNTS": str(ROOT / "accounts.yaml")}

    result = CliRunner().invoke(main, CASES[name], env=environ)

    if os.environ.get("GOLDEN") == "write":
        (GOLDEN / name).write_text(result.output)
    assert result.output == (GOLDEN / name).read_text()
