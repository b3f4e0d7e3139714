"""Secret settings that are read from a file: `${file:/absolute/path}`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import SettingsError
from bridge.settings import read_settings

SECRET = "a-secret-of-the-tests-0123456789"


def test_a_secret_is_read_from_the_file_that_its_setting_names(tmp_path: Path) -> None:
    file = tmp_path / "bridge_secret"
    file.write_text(SECRET + "\n")

    settings = read_settings({"BRIDGE_SECRET": f"${{file:{file}}}"})

    assert settings.secret == SECRET
    assert settings.sources["BRIDGE_SECRET"] == f"file:{file}"


def test_the_servers_url_with_its_password_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "redis_url"
    file.write_text("redis://:hunter2@redis:6379/0")

    assert read_settings({"BRIDGE_REDIS_URL": f"${{file:{file}}}"}).redis_url == "redis://:hunter2@redis:6379/0"


@pytest.mark.parametrize(("content", "words"), [
    (b"", "is empty"), (b"\n", "is empty"), (b"\xff\xfe", "not UTF-8 text"), (b"x" * 20000, "too large"),
    (b"tooshort", "shorter than 16"), (b"with a blank in it, long enough", "letters, digits")])
def test_a_file_that_holds_no_usable_secret_is_refused_and_its_content_not_shown(
        tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "bridge_secret"
    file.write_bytes(content)

    with pytest.raises(SettingsError, match=words) as caught:
        read_settings({"BRIDGE_SECRET": f"${{file:{file}}}"})

    assert "BRIDGE_SECRET" in str(caught.value)
    assert len(content.strip()) < 3 or content.decode("latin-1") not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="BRIDGE_SECRET is to be read from a file: the file .*nowhere cannot be read: No such file"):
        read_settings({"BRIDGE_SECRET": f"${{file:{tmp_path}/nowhere}}"})


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(SettingsError, match="BRIDGE_SECRET.*/run/secrets"):
        read_settings({"BRIDGE_SECRET": "${file:secrets/bridge_secret}"})


def test_only_secret_settings_are_read_from_files(tmp_path: Path) -> None:
    file = tmp_path / "bind"
    file.write_text("0.0.0.0:80")

    with pytest.raises(SettingsError, match="BRIDGE_BIND"):
        read_settings({"BRIDGE_BIND": f"${{file:{file}}}"})
