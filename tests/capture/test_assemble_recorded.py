from __future__ import annotations

from typing import Any

from capture.assemble import assemble, input_hash, state_of


def test_every_recorded_chat_assembles_to_an_answer(recordings: list[Any]) -> None:
    whole = [item for item in recordings if item.status == 200]
    kinds = {(item.protocol, item.is_stream) for item in whole}
    assert kinds == {("openai", True), ("openai", False), ("anthropic", True), ("anthropic", False)}
    bad = []
    for item in whole:
        got = assemble(item.protocol, item.path, item.is_stream, item.request, item.response, item.encoding, item.status)
        answer = got.conversation.answer
        if not (answer and (answer.text or answer.tool_calls or answer.other_parts)) or not got.conversation.asked:
            bad.append((item.name, item.response[:300]))
        elif state_of("complete", 200, got) != "complete" or not got.finish_reason or not input_hash(got.conversation):
            bad.append((item.name, got))
    print(len(whole), len(bad))
    assert bad == []
