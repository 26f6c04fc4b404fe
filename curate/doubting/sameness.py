"""Whether two answers to one input are the same answer."""

from __future__ import annotations

from capture.messages import Message
from curate.doubting.contradictions import TEXT, answers, kind_of
from curate.likeness.wording import normalise


def answer_key(message: Message) -> str:
    """Equal for answers that are the same: calls and JSON by canonical form, labels and free text by their normalised wording.

    Stricter than what contradicts: two wordings of one free text are two answers here, because one may be the better one.
    """
    if message.tool_calls or kind_of([message]).name != TEXT:
        return answers([message])[0]
    return f"text {normalise(message.text)}"
