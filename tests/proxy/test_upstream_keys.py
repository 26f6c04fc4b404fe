"""Keys that we hold for upstreams: where they come from, and what is said when they cannot be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from capture import clock
from proxy.failures import Failure
from proxy.upstream_keys import UpstreamKeys, is_ours_to_mend, missing_from_client
from proxy.upstream_settings import Upstream

PLAIN = Upstream("up", "openai", "client", "", "http://up", "http://up/v1")


def from_file(path: Path) -> Upstream:
    return Upstream("up", "openai", f"file:{path}", "", "http://up", "http://up/v1", key_file=str(path))


def from_environment(protocol: str = "openai") -> Upstream:
    return Upstream("up", protocol, "env:KEY", "KEY", "http://up", "http://up/v1")


def message(found: str | Failure) -> str:
    assert isinstance(found, Failure)
    assert (found.status, is_ours_to_mend(found)) == (503, True)
    return found.message


def test_a_key_comes_from_the_environment_as_it_is_now() -> None:
    environ: dict[str, str] = {}
    keys = UpstreamKeys(environ)
    assert "Environment variable KEY, the key of upstream up, is not set" in message(keys.of(from_environment()))
    environ["KEY"] = " sk-1\n"
    assert keys.of(from_environment()) == "sk-1"


def test_a_client_keeps_its_own_key_and_the_process_that_translates_finds_its_own() -> None:
    assert UpstreamKeys({}).of(PLAIN) == ""
    assert UpstreamKeys({"KEY": "sk-1"}).of(from_environment("litellm")) == ""


def test_a_key_file_is_read_again_after_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10**12
    monkeypatch.setattr(clock, "monotonic_ns", lambda: now)
    file = tmp_path / "key"
    file.write_text("sk-old\n")
    keys = UpstreamKeys({})
    assert keys.of(from_file(file)) == "sk-old"
    file.write_text("sk-new\n")
    assert keys.of(from_file(file)) == "sk-old"
    now += 1_100_000_000
    assert keys.of(from_file(file)) == "sk-new"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"sk-1\r\nx-evil: 1", "more than one line"),
        (b"sk-\xff", "characters that no key has"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_without_a_usable_key_is_told_and_never_shown(
    tmp_path: Path, content: bytes | None, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    keys = UpstreamKeys({})
    said = message(keys.of(from_file(file)))
    assert words in said
    assert message(keys.of(from_file(file))) == said
    assert "sk-" not in said
    assert "The file in key of [upstreams.up]" in said
    assert str(tmp_path) not in said, "a client learns nothing of our disk"
    (logged,) = (record.getMessage() for record in caplog.records)
    assert logged.startswith(f"the key of [upstreams.up] in {file} ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-1")
    file.chmod(0)
    assert "cannot be read: Permission denied" in message(UpstreamKeys({}).of(from_file(file)))


def test_a_client_without_a_key_learns_which_one_to_set() -> None:
    found = missing_from_client(PLAIN)
    assert "Set OPENAI_API_KEY in the app" in found.message
    assert (found.status, is_ours_to_mend(found)) == (401, False)
