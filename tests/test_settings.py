"""Settings: one table, read once, every wrong one named, no secret shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import SettingsError
from bridge.settings import SETTINGS, mask_url, read_duration, read_redis_url, read_settings


def test_every_setting_has_a_default_that_can_be_read() -> None:
    settings = read_settings({})

    assert settings.bind == "127.0.0.1:8080"
    assert settings.templates == Path("templates")
    assert set(settings.sources.values()) == {"default"}


def test_every_row_of_the_table_says_what_it_means_and_begins_with_bridge() -> None:
    for setting in SETTINGS:
        assert setting.name.startswith("BRIDGE_")
        assert setting.meaning and not setting.meaning.endswith(".")


def test_a_given_setting_is_read_and_its_source_is_known() -> None:
    settings = read_settings({"BRIDGE_BIND": "0.0.0.0:80", "BRIDGE_CALL_TIMEOUT": "250ms"})

    assert settings.bind == "0.0.0.0:80"
    assert settings.call_timeout == 0.25
    assert settings.sources["BRIDGE_BIND"] == "environment"


def test_all_wrong_settings_are_named_together() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({"BRIDGE_BIND": "0.0.0.0:99999", "BRIDGE_LEASE": "soon", "BRIDGE_REDIS_URL": "http://x"})

    for name in ("BRIDGE_BIND", "BRIDGE_LEASE", "BRIDGE_REDIS_URL"):
        assert name in str(caught.value)


@pytest.mark.parametrize("secret", ["sh0rt", "has a space in it, and more", "slash/slash/slash/slash"])
def test_a_secret_that_could_be_guessed_or_does_not_fit_a_url_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({"BRIDGE_SECRET": secret})

    assert "BRIDGE_SECRET" in str(caught.value)
    assert secret not in str(caught.value)


def test_the_settings_do_not_print_their_values() -> None:
    assert "test-secret-0123456789" not in repr(read_settings({"BRIDGE_SECRET": "test-secret-0123456789"}))


@pytest.mark.parametrize(("text", "ms"), [("250ms", 250), ("60s", 60_000), ("15m", 900_000), ("24h", 86_400_000),
                                          ("90d", 7_776_000_000), ("5", 5000)])
def test_durations_are_read_with_their_units(text: str, ms: int) -> None:
    assert read_duration(text) == ms


@given(st.text())
def test_a_duration_is_read_or_refused_with_a_value_error(text: str) -> None:
    try:
        assert read_duration(text) >= 0
    except ValueError as error:
        assert "duration" in str(error)


def test_the_password_of_a_url_is_masked() -> None:
    assert mask_url("redis://me:hunter2@db:6379/1") == "redis://me:***@db:6379/1"
    assert mask_url("redis://db:6379/1") == "redis://db:6379/1"
    assert mask_url("redis://me:hun/ter@2@db") == "redis://me:***@db"


def test_every_password_of_a_list_of_servers_is_masked() -> None:
    assert mask_url("redis+sentinel://me:hunter2@a:1,b:2/orders/1?sentinel_password=hunter3&ssl_ca_certs=/ca") == \
        "redis+sentinel://me:***@a:1,b:2/orders/1?sentinel_password=***&ssl_ca_certs=/ca"
    assert mask_url("redis+cluster://:hunter2@a:1,b:2") == "redis+cluster://:***@a:1,b:2"


def test_sentinels_and_cluster_nodes_are_listed_in_one_address() -> None:
    sentinel = read_redis_url("rediss+sentinel://me:pw@one,[::1]:26380/my%20orders/2?ssl_ca_certs=/ca")
    cluster = read_redis_url("redis+cluster://one:7000,two")

    assert sentinel.hosts == (("one", 26379), ("::1", 26380)) and sentinel.service == "my orders"
    assert sentinel.plain == "rediss://me:pw@placeholder:1/2?ssl_ca_certs=/ca"
    assert cluster.hosts == (("one", 7000), ("two", 6379)) and cluster.kind == "cluster"


@pytest.mark.parametrize(("url", "words"), [
    ("http://one", "must be one of"), ("redis://", "must be one of"), ("redis+other://one", "must be one of"),
    ("redis+sentinel://one:26379", "must name the service"), ("redis+sentinel://one/orders/x", "must name the service"),
    ("redis+sentinel://one,,two/orders", "HOST:PORT"), ("redis+cluster://:pw-leak-me@one:99999", "HOST:PORT"),
    ("redis+cluster://one:7000/3", "only database 0"),
])
def test_a_wrong_address_is_refused_in_words_and_without_its_password(url: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        read_settings({"BRIDGE_REDIS_URL": url})

    assert "leak-me" not in str(caught.value)


def test_a_name_that_only_looks_like_a_setting_stops_nothing_and_is_told() -> None:
    found = read_settings({"BRIDGE_LEASES": "5s", "BRIDGE_MY_TEMPLATES_SECRET": "x"})

    assert found.unknown == ("BRIDGE_LEASES", "BRIDGE_MY_TEMPLATES_SECRET") and found.lease == 20
