from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.redact import Redacted, redact, redact_text

# Split, so that no scanner takes this file for a leak.
SECRETS = {
    "openai-key": "sk-" + "proj-abcDEF123456789012345678",
    "anthropic-key": "sk-ant-" + "api03-abcdefghij0123456789",
    "aws-key": "AKIA" + "IOSFODNN7EXAMPLE",
    "github-token": "ghp_" + "a1" * 18,
    "slack-token": "xoxb-" + "123456789012-abcdefghij",
    "google-key": "AIza" + "SyA1234567890abcdefghijklmnopqrstuv",
    "stripe-key": "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "huggingface-token": "hf_" + "abcdefghijABCDEFGHIJabcdefghijABCD",
    "jwt": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0." + "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9",
    "xai-key": "xai-" + "a1B2" * 20,
    "groq-key": "gsk_" + "a1B2" * 13,
    "potstill-key": "ps-" + "0a1b2c3d4e5f-" + "a1B2_-" * 7 + "x",
    "private-key": "-----BEGIN RSA PRIVATE KEY-----\\nMIIEow\\n-----END RSA PRIVATE KEY-----",
}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_taken_out_and_counted(kind: str) -> None:
    got = redact(f'{{"content":"my key is {SECRETS[kind]} please help"}}'.encode())
    assert got.data == f'{{"content":"my key is [redacted:{kind}] please help"}}'.encode()
    assert got.count == 1


@pytest.mark.parametrize(
    "prefix", ["", " ", "\n", "\\n", "\\t", "\\r", "\\u000a", "\\u000A", "\\\\n", "\\\\u000a", "=", "%20", '"']
)
@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_found_wherever_a_word_begins(kind: str, prefix: str) -> None:
    assert redact(f"{prefix}{SECRETS[kind]}".encode()) == Redacted(f"{prefix}[redacted:{kind}]".encode(), 1)


@pytest.mark.parametrize("word", ["Bearer", "bearer"])
def test_what_follows_bearer_is_taken_out(word: str) -> None:
    assert redact_text(f"-H 'Authorization: {word} {'a1b2c3d4' * 4}'") == (
        f"-H 'Authorization: {word} [redacted:bearer-token]'",
        1,
    )


def test_every_secret_of_a_body_is_counted() -> None:
    assert redact("\n".join(SECRETS.values()).encode()).count == len(SECRETS)
    assert redact_text(f"a {SECRETS['aws-key']} b") == ("a [redacted:aws-key] b", 1)


@pytest.mark.parametrize(
    "text",
    [
        "risk-assessment-for-the-next-twenty-years",
        "ask-me-anything-about-the-weather-today",
        "sk-learn is fine",
        "task sk-1",
        "Bearer of bad news",
        "the bearer of-this-rather-long-letter",
        "C:\\nask-me-anything-about-the-weather-in-2026",
    ],
)
def test_ordinary_words_are_left_alone(text: str) -> None:
    assert redact(text.encode()).count == 0


@given(st.binary(max_size=500))
def test_bytes_without_a_secret_stay_byte_for_byte(data: bytes) -> None:
    got = redact(data)
    assert (got.data == data) == (got.count == 0)
