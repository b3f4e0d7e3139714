"""The log: no secret, no forged line, one shape for people and one for machines."""

from __future__ import annotations

import io
import json
import logging
import unicodedata
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import SettingsError
from bridge.log import get_logger, keep_secret, mask, plain, set_up

SECRET = "s3cret/with spaces&\"quotes\""


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def written(log_format: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    set_up(log_format, level, stream)
    return stream


def test_a_secret_is_masked_however_it_is_quoted() -> None:
    keep_secret(SECRET)
    stream = written("json")

    get_logger("receiver").warning(f"sent {SECRET}", url="http://x/s3cret%2Fwith%20spaces%26%22quotes%22",
                                   body=json.dumps({"a": SECRET}), shown={"a": SECRET})

    assert "s3cret" not in stream.getvalue()
    assert stream.getvalue().count("***") == 4


def test_a_secret_in_a_traceback_is_masked() -> None:
    keep_secret("hunter2-hunter2")
    stream = written("text")

    try:
        raise ValueError("wrong: hunter2-hunter2")
    except ValueError as error:
        get_logger("worker").error("failed", exc_info=error)

    assert "ValueError: wrong: ***" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_an_alerts_text_cannot_forge_a_line_or_move_the_cursor() -> None:
    stream = written("text")

    get_logger("receiver").info("alert", body="x\n12:00:00   receiver  alert accepted\x1b[2J\u2028\u202e")

    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue() and "\u202e" not in stream.getvalue()


def test_json_lines_have_time_level_part_and_event() -> None:
    stream = written("json")

    structlog.get_logger("bridge.worker").error("told to a person", order="o1")

    line = json.loads(stream.getvalue())
    assert (line["level"], line["part"], line["event"], line["order"]) == ("error", "worker", "told to a person", "o1")
    assert line["time"].endswith("Z")


def test_what_libraries_log_takes_the_same_way() -> None:
    keep_secret("library-secret")
    stream = written("json")

    logging.getLogger("urllib3.connectionpool").warning("retrying %s", "library-secret")

    assert json.loads(stream.getvalue())["event"] == "retrying ***"


def test_lines_below_the_level_are_dropped() -> None:
    stream = written("text", "warning")

    get_logger("receiver").info("quiet")

    assert stream.getvalue() == ""


def test_an_unknown_format_or_level_names_its_setting() -> None:
    with pytest.raises(SettingsError, match="BRIDGE_LOG_FORMAT"):
        set_up("yaml")
    with pytest.raises(SettingsError, match="BRIDGE_LOG_LEVEL"):
        set_up("text", "loud")


def test_a_value_too_short_to_be_a_secret_leaves_lines_readable() -> None:
    keep_secret("8")

    assert mask("8080") == "8080"


@given(st.text(st.characters(exclude_categories=[])))
def test_plain_text_is_one_line_without_control_characters(text: str) -> None:
    assert not {"Cc", "Cs"} & {unicodedata.category(character) for character in plain(text)}
