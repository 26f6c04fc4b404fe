"""What is left of somebody in a dataset version after their exchanges went out of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.datasets import build, get_version
from curate.forget import erase_from_version
from curate.settings import CurateSettings
from tests.curate.sending import Traffic, mails


@pytest.mark.parametrize(
    ("user", "filter", "left"),
    [
        ("u", "status:200 purpose:app -user:u", "status:200 purpose:app -user:erased"),
        ("u", '-user:v,"u",w -tag.u:u', "-user:v,erased,w -tag.u:erased"),
        ("user", "-user:user", "-user:erased"),
        ('a "b"', '-user:"a \\"b\\"" -user:a', "-user:erased -user:a"),
        ("Jane Doe", '-"mail of jane doe, today" -doe', "-erased -doe"),
        ("ann", "-path:*/ann/* -user:ann* -user:ann-b", "-path:erased -user:erased -user:ann-b"),
    ],
)
def test_a_filter_loses_the_name_of_the_forgotten_and_no_other_letter(
    user: str, filter: str, left: str, traffic: Traffic, tmp_path: Path
) -> None:
    sent = traffic.send(mails(60))
    version = build(traffic.database, tmp_path, "mail", CurateSettings(minimum_examples=3, filter=filter))
    erase_from_version(traffic.database, version, sent[:1], user)
    assert get_version(traffic.database, "mail").manifest["settings"]["filter"] == left
