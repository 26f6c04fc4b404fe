from __future__ import annotations

import json
from pathlib import Path

from curate.datasets import build, load_split
from curate.formats import export_openai_jsonl
from curate.settings import CurateSettings
from tests.curate.sending import Traffic, mails


def test_the_export_is_openais_chat_format(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send(mails(60))
    version = build(traffic.database, tmp_path, "mail", CurateSettings())
    assert export_openai_jsonl(version, tmp_path / "out") == 60
    for split in ("train", "val", "test"):
        rows = [json.loads(line) for line in (tmp_path / "out" / f"{split}.jsonl").read_text("utf-8").splitlines()]
        for row, example in zip(rows, load_split(version, split), strict=True):
            assert list(row) == ["messages"]
            assert [turn["role"] for turn in row["messages"]] == ["system", "user", "assistant"]
            assert row["messages"][-1]["content"] == example.target


def test_a_line_separator_inside_a_text_does_not_break_a_line(traffic: Traffic, tmp_path: Path) -> None:
    sent = mails(60)
    traffic.send([*sent[1:], type(sent[0])("First line\u2028second line\x85third\r\nfourth \U0001f600", sent[0].answer)])
    version = build(traffic.database, tmp_path, "mail", CurateSettings())
    texts = {example.messages[1].text for split in ("train", "val", "test") for example in load_split(version, split)}
    assert "First line\u2028second line\x85third\r\nfourth \U0001f600" in texts
