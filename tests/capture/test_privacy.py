"""What must not be in the store is not in it: looked for in every byte of the database, its WAL, the spool and the log."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import zstandard
from sqlalchemy import text

from capture.capture_settings import CaptureSettings
from capture.content import read_content
from capture.database import Database, open_database
from capture.errors import SettingsError
from capture.exchange import MASKED, OMITTED
from capture.pseudonyms import Keys, PersonalPolicy, read_policy
from capture.records import OMIT
from capture.reveal import reveal
from capture.verify import verify
from tests.capture.planting import MARK, answer, chat, columns_of, drain, everything, raw_bytes, send, stream

MAIL = f"{MARK}@example.org"
KEY = "0123456789abcdef" * 4


@pytest.mark.parametrize("is_refused", [False, True], ids=["answered", "failed"])
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_omitted_content_is_nowhere_and_figures_stay(
    database: Database, tmp_path: Path, is_stream: bool, is_refused: bool
) -> None:
    response = stream(MARK, 3) if is_stream else answer(MARK)
    id = send(
        tmp_path / "spool", chat(MARK), response, content=OMIT, is_stream=is_stream, error=MARK if is_refused else "",
        status=500 if is_refused else 200, request_headers={"user-agent": MARK},
    )  # fmt: skip
    drain(database, tmp_path / "spool")
    stored = columns_of(database, id)
    assert MARK not in everything(database) and MARK.encode() not in raw_bytes(tmp_path)
    assert stored["content"] == OMITTED and stored["latency_us"] == 1500 and stored["task"] == "t"
    assert (stored["user_name"], json.loads(str(stored["tags"]))) == ("ann", {"team": "a"})
    assert stored["input_hash"] == stored["output_text"] == stored["error_message"] == ""
    assert stored["tokens_in"] == 9 or is_stream


def test_the_dead_letter_of_an_omitted_exchange_has_no_content(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    id = send(tmp_path / "spool", chat(MARK), answer(MARK), content=OMIT, status=2**63, error=MARK)
    with caplog.at_level(logging.DEBUG):
        drain(database, tmp_path / "spool")
    with database.read() as connection:
        letters = connection.execute(text("SELECT exchange_id, record FROM dead_letters")).all()
    assert [row[0] for row in letters] == [id]
    record = zstandard.ZstdDecompressor().decompress(bytes(letters[0][1]))
    assert b"ann" in record and MARK.encode() not in record + raw_bytes(tmp_path)
    assert MARK not in everything(database) + caplog.text


@pytest.mark.parametrize("mode", ["mask", "pseudonyms"])
@pytest.mark.parametrize("size", [0, 1, 4])
def test_personal_data_is_nowhere(database: Database, tmp_path: Path, mode: str, size: int) -> None:
    policy = read_policy(CaptureSettings(personal_data=mode, personal_data_key_env="K"), {"K": KEY})
    said = f"Write to {MAIL} today."
    id = send(tmp_path / "spool", chat(said), stream(said, size) if size else answer(said), is_stream=bool(size), error=MAIL)
    drain(database, tmp_path / "spool", policy)
    stored, found = columns_of(database, id), everything(database)
    assert MAIL not in found and MAIL.encode() not in raw_bytes(tmp_path)
    assert stored["content"] == MASKED and stored["state"] == "complete"
    assert ("[email]" in found) == (mode == "mask") and ("<EMAIL_" in found) == (mode == "pseudonyms")


@pytest.mark.parametrize("size", [1, 3, 7])
def test_a_secret_and_a_datum_in_one_stream_both_go(database: Database, tmp_path: Path, size: int) -> None:
    secret = "sk-proj-" + MARK + "0123456789abcdef"
    said = f"Send {secret} to {MAIL} and {MAIL}."
    id = send(tmp_path / "spool", chat("how"), stream(said, size), is_stream=True)
    drain(database, tmp_path / "spool", PersonalPolicy("mask"))
    found = everything(database)
    assert MARK not in found and columns_of(database, id)["output_text"] == "Send [redacted:openai-key] to [email] and [email]."


def test_a_pseudonym_is_revealed_with_the_key_alone(database: Database, tmp_path: Path) -> None:
    keys = Keys(KEY)
    id = send(tmp_path / "spool", chat(f"Write to {MAIL}."), answer("ok"))
    send(tmp_path / "spool", chat(f"Again to {MAIL.upper()}."), answer("ok"))
    drain(database, tmp_path / "spool", PersonalPolicy("pseudonyms", keys))
    with database.read() as connection:
        tokens = {row[0] for row in connection.execute(text("SELECT token FROM pseudonyms"))}
    (token,) = tokens
    assert reveal(database, keys, token) == reveal(database, keys, token.strip("<>")) == MAIL
    with pytest.raises(SettingsError, match="does not open"):
        reveal(database, Keys(KEY[::-1]), token)
    assert token in everything(database) and columns_of(database, id)["content"] == MASKED


@pytest.mark.parametrize("is_stream", [False, True])
def test_what_was_left_out_or_hidden_verifies(database: Database, tmp_path: Path, is_stream: bool) -> None:
    for content in ("", OMIT):
        body = stream(MAIL, 2) if is_stream else answer(MAIL)
        send(tmp_path / "spool", chat(MAIL), body, is_stream=is_stream, content=content)
    drain(database, tmp_path / "spool", PersonalPolicy("mask"))
    report = verify(database)
    assert (report.faults, report.changed, report.omitted, report.as_relayed) == ([], 1, 1, 0)


@pytest.mark.parametrize("environ", [{}, {"K": "short"}])
def test_pseudonyms_without_a_key_are_refused(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="environment variable K") as refused:
        read_policy(CaptureSettings(personal_data="pseudonyms", personal_data_key_env="K"), environ)
    assert "openssl rand" in refused.value.next_step


def test_exchanges_without_personal_data_stay_byte_for_byte(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'potstill.db'}")
    id = send(tmp_path / "spool", chat("hello"), answer("hi"))
    drain(database, tmp_path / "spool", PersonalPolicy("mask"))
    with database.read() as connection:
        (content,) = read_content(connection, [1]).values()
    assert (content.request_body, content.response_body) == (chat("hello"), answer("hi"))
    assert columns_of(database, id)["content"] == "kept" and content.request_sha256
    database.close()
