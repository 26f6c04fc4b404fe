"""Sections [relay] and [upstreams.NAME]."""

from __future__ import annotations

from pathlib import Path

import pytest

from capture.errors import SettingsError
from capture.settings import Settings
from proxy.settings import RelaySettings, read_upstreams


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
        ({"url": "https://x", "protocol": "gemini"}, "not one of openai, anthropic"),
        ({"url": "https://x", "key": "sk-123"}, "not client, none or env:NAME"),
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


def test_a_relay_needs_a_worker() -> None:
    with pytest.raises(SettingsError, match="workers is 0"):
        settings(relay={"workers": 0}).section("relay", RelaySettings)


@pytest.mark.parametrize("key", ["port", "admin_port"])
@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_that_cannot_be_is_refused_by_name(key: str, port: int) -> None:
    with pytest.raises(SettingsError, match=rf"\[relay\]: {key} is {port}, not between 0 and 65535"):
        settings(relay={key: port}).section("relay", RelaySettings)
    assert settings(relay={key: 65_535}).section("relay", RelaySettings)
