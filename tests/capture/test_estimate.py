from __future__ import annotations

import pytest

from capture.estimate import estimated, estimated_input
from capture.exchange import Conversation
from capture.messages import Message, ToolCall, Usage

NOTHING = Usage(None, None, "missing")
ASKED = (Message("system", "12345678"), Message("user", "1234"))


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        (Message("assistant", "12345"), 2),
        (Message("assistant", "東京"), 2),
        (Message("assistant", "", (ToolCall("find", '{"q":1}'),)), 3),
        (Message("assistant", "1234", reasoning="1234"), 2),
        (Message("assistant", "1234", refusal="1234"), 1),
        (Message("assistant", ""), 0),
    ],
)
def test_a_token_is_four_bytes_rounded_up(answer: Message, tokens: int) -> None:
    assert estimated(Conversation(ASKED, answer), NOTHING) == Usage(3, tokens, "estimated")


def test_what_was_reported_stays() -> None:
    answered = Conversation(ASKED, Message("assistant", "1234"))
    assert estimated(answered, Usage(99, None, "missing", 7)) == Usage(99, 1, "estimated", 7)
    assert estimated(answered, Usage(None, 0, "missing")) == Usage(3, 0, "estimated")


def test_without_an_answer_nothing_is_estimated() -> None:
    assert estimated(Conversation(ASKED, None), NOTHING) == NOTHING
    assert estimated_input((), NOTHING) == NOTHING
    assert estimated_input(ASKED, NOTHING) == Usage(3, 0, "estimated")
