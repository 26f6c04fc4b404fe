"""Sections [relay] and [upstreams.NAME]."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from capture.errors import SettingsError
from capture.settings import Settings
from proxy.settings import RelaySettings, read_upstreams, translation_socket

SECONDS = [field for field in dataclasses.fields(RelaySettings) if field.name.endswith("_s")]
MAY_BE_ZERO = ("client_keepalive_s", "keepalive_s", "drain_timeout_s")


def settings(**sections: object) -> Settings:
    return Settings(None, Path(), sections)


def test_without_upstreams_the_public_addresses_are_used() -> None:
    found = read_upstreams(settings())
    assert found["openai"].base == "https://api.openai.com/v1"
    assert found["anthropic"].base == "https://api.anthropic.com/v1"
    assert found["openai"].key == "client"


@pytest.mark.parametrize(
    ("url", "protocol", "root", "base"),
    [
        ("https://api.openai.com/v1", "openai", "https://api.openai.com", "https://api.openai.com/v1"),
        ("https://api.openai.com", "openai", "https://api.openai.com", "https://api.openai.com/v1"),
        ("http://127.0.0.1:8000/", "openai", "http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("https://openrouter.ai/api/v1/", "openai", "https://openrouter.ai/api", "https://openrouter.ai/api/v1"),
        ("https://x.example/v1beta/openai", "openai", "https://x.example/v1beta/openai", "https://x.example/v1beta/openai"),
        ("https://api.anthropic.com", "anthropic", "https://api.anthropic.com", "https://api.anthropic.com/v1"),
        ("https://api.anthropic.com/v1", "anthropic", "https://api.anthropic.com", "https://api.anthropic.com/v1"),
        ("https://x.example/claude", "anthropic", "https://x.example/claude", "https://x.example/claude/v1"),
    ],
)
def test_a_base_address_is_understood_with_and_without_v1(url: str, protocol: str, root: str, base: str) -> None:
    found = read_upstreams(settings(upstreams={"up": {"url": url, "protocol": protocol}}))["up"]
    assert (found.root, found.base) == (root, base)


@pytest.mark.parametrize(
    ("upstream", "words"),
    [
        ({"url": "api.openai.com"}, "not an address"),
        ({"url": "ftp://x"}, "not an address"),
        ({"url": "https://user:pw@x/v1"}, "user name or password"),
        ({"url": "https://x", "protocol": "gemini"}, "not one of openai, anthropic, litellm"),
        ({"protocol": "litellm", "proxy": "http://proxy.example:3128"}, "HTTPS_PROXY"),
        ({"protocol": "litellm", "ca_file": "ca.pem"}, "SSL_CERT_FILE"),
        ({"url": "https://x", "key": "sk-123"}, "not client, none, env:NAME or file:PATH"),
        ({"url": "https://x", "keys": "client"}, "Did you mean key"),
        ({}, "missing"),
    ],
)
def test_a_wrong_upstream_is_refused_by_name(upstream: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        read_upstreams(settings(upstreams={"up": upstream}))
    assert "upstreams.up" in str(caught.value)


def test_a_key_comes_from_the_environment_by_name() -> None:
    found = read_upstreams(settings(upstreams={"up": {"url": "https://x", "key": "env:MY_KEY"}}))["up"]
    assert found.key_variable == "MY_KEY"


def test_an_upstream_name_must_fit_into_a_path() -> None:
    with pytest.raises(SettingsError, match="not usable in a path"):
        read_upstreams(settings(upstreams={"a/b": {"url": "https://x"}}))


def up(folder: Path = Path(), **given: object) -> Settings:
    """Settings with the one upstream `up`."""
    return Settings(None, folder, {"upstreams": {"up": {"url": "https://x.example/v1", **given}}})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"key": "env:"}, "key is not client"),
        ({"key": "env:A B"}, "key is not client"),
        ({"key_header": "cookie"}, "key_header is 'cookie', not one of authorization, x-api-key, api-key"),
        ({"api_version": "2024&x=1"}, "api_version is '2024&x=1'"),
        ({"api_version": "2024-10-21", "protocol": "anthropic"}, "Azure's OpenAI alone"),
        ({"fallback_on": [200]}, "fallback_on has 200, not a status between 400 and 599"),
        ({"retry_on": ["busy"]}, "'busy', not a number"),
        ({"retries": -1}, "retries is -1"),
        ({"idle_timeout_s": float("nan")}, "idle_timeout_s is nan"),
        ({"aliases": {"fast": ""}}, "both must name a model"),
        ({"aliases": {"fast": 5}}, "'fast' is 5, not of type str"),
        ({"aliases": "fast"}, "aliases"),
        ({"models": [""]}, "empty pattern"),
        ({"proxy": "http://user:secret@p.example:1"}, "proxy holds a user name or password"),
        ({"proxy": "socks5://p.example:1"}, "not an address like http://proxy.example:3128"),
        ({"ca_file": "no.pem"}, "no.pem cannot be read: .*No such file"),
        ({"fallbacks": ["other"]}, "names 'other', which is no other upstream"),
        ({"fallbacks": ["up"]}, "names 'up', which is no other upstream"),
    ],
)
def test_a_setting_of_an_upstream_that_cannot_work_is_refused_by_name(given: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        read_upstreams(up(**given))
    assert "upstreams.up" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_key_written_into_the_settings_by_mistake_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        read_upstreams(up(key="sk-123456"))
    assert "sk-123456" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((field.name, value) for field in SECONDS for value in (-1.0, float("nan"), float("inf"))),
        *((field.name, 0.0) for field in SECONDS if field.name not in MAY_BE_ZERO),
        ("max_headers", 0),
        ("max_header_bytes", -1),
    ],
)
def test_a_time_or_size_that_the_relay_cannot_work_with_is_refused_by_name(key: str, value: float) -> None:
    with pytest.raises(SettingsError, match=rf"section \[relay\]: {key} is {value}, not ") as caught:
        settings(relay={key: value}).section("relay", RelaySettings)
    assert caught.value.next_step == "Mend the value."


@pytest.mark.parametrize("key", MAY_BE_ZERO)
def test_some_times_may_be_none_at_all(key: str) -> None:
    assert getattr(settings(relay={key: 0}).section("relay", RelaySettings), key) == 0


def test_what_an_upstream_leaves_out_is_filled_in_from_the_relay(tmp_path: Path) -> None:
    given = {"relay": {"connect_timeout_s": 3, "idle_timeout_s": 50}, "upstreams": {"up": {"url": "https://x"}}}
    found = read_upstreams(Settings(None, tmp_path, given))["up"]
    assert (found.connect_timeout_s, found.first_byte_timeout_s, found.idle_timeout_s, found.total_timeout_s) == (3, 50, 50, 0)
    own = read_upstreams(up(connect_timeout_s=1, idle_timeout_s=2, total_timeout_s=9, first_byte_timeout_s=4))["up"]
    assert (own.connect_timeout_s, own.first_byte_timeout_s, own.idle_timeout_s, own.total_timeout_s) == (1, 4, 2, 9)


def test_files_of_an_upstream_are_looked_for_beside_the_settings(tmp_path: Path) -> None:
    assert read_upstreams(up(tmp_path, key="file:keys/openai"))["up"].key_file == str(tmp_path / "keys/openai")
    with pytest.raises(SettingsError, match=f"ca_file {tmp_path}/own/ca.pem cannot be read"):
        read_upstreams(up(tmp_path, ca_file="own/ca.pem"))


@pytest.mark.parametrize(
    ("given", "root", "base"),
    [
        ({"url": "https://r.openai.azure.com"}, "https://r.openai.azure.com", "https://r.openai.azure.com/openai/v1"),
        ({"url": "https://r.openai.azure.com/openai/v1/"}, "https://r.openai.azure.com", "https://r.openai.azure.com/openai/v1"),
        ({"url": "https://r.openai.azure.com/openai"}, "https://r.openai.azure.com", "https://r.openai.azure.com/openai/v1"),
        ({"url": "http://gate.example/az", "api_version": "2024-10-21"}, "http://gate.example/az", "http://gate.example/az/openai/v1"),
    ],
)  # fmt: skip
def test_an_azure_resource_is_known_by_its_host_or_its_api_version(given: dict[str, str], root: str, base: str) -> None:
    found = read_upstreams(settings(upstreams={"azure": given}))["azure"]
    assert found.is_azure
    assert (found.root, found.base, found.key_header) == (root, base, "api-key")


def test_the_header_for_our_key_is_the_protocols_unless_another_is_set() -> None:
    assert read_upstreams(up())["up"].key_header == "authorization"
    assert read_upstreams(up(protocol="anthropic"))["up"].key_header == "x-api-key"
    assert read_upstreams(up(protocol="anthropic", key_header="Authorization"))["up"].key_header == "authorization"


def test_an_upstream_to_translate_for_takes_the_models_of_its_name_and_holds_no_key(tmp_path: Path) -> None:
    given = Settings(None, tmp_path, {"upstreams": {"gemini": {"protocol": "litellm"}}})
    found = read_upstreams(given)["gemini"]
    assert (found.models, found.key, found.socket) == (("gemini/*",), "none", str(translation_socket(given)))
    assert found.speaks("openai")
    assert found.speaks("anthropic")


def test_an_upstream_of_the_other_protocol_cannot_stand_in() -> None:
    both = {"a": {"url": "https://a", "fallbacks": ["b"]}, "b": {"url": "https://b", "protocol": "anthropic", "key": "none"}}
    with pytest.raises(SettingsError, match="speaks anthropic and not openai"):
        read_upstreams(settings(upstreams=both))


def test_no_upstream_stands_in_with_a_clients_key_that_was_meant_for_another() -> None:
    both = {"a": {"url": "https://a", "fallbacks": ["b"]}, "b": {"url": "https://b"}}
    with pytest.raises(SettingsError, match="would get the client's key for a"):
        read_upstreams(settings(upstreams=both))
    same = {"a": {"url": "https://a/v1", "fallbacks": ["b"]}, "b": {"url": "https://a/eu/v1"}}
    assert read_upstreams(settings(upstreams=same))["a"].fallbacks == ("b",)


def test_a_relay_needs_a_worker() -> None:
    with pytest.raises(SettingsError, match="workers is 0"):
        settings(relay={"workers": 0}).section("relay", RelaySettings)


@pytest.mark.parametrize("key", ["port", "admin_port"])
@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_that_cannot_be_is_refused_by_name(key: str, port: int) -> None:
    with pytest.raises(SettingsError, match=rf"\[relay\]: {key} is {port}, not between 0 and 65535"):
        settings(relay={key: port}).section("relay", RelaySettings)
    assert settings(relay={key: 65_535}).section("relay", RelaySettings)
