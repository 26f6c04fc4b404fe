from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from capture import feed
from capture.database import open_database
from capture.filters import parse_filter
from capture.messages import Message
from capture.pricing import PriceTable
from capture.writer import StoreWriter
from curate import datasets
from curate.datasets import Example
from proxy.provider import ProviderOptions, serving
from proxy.worker import start_worker
from tests.proxy.scripting import relay_settings
from tests.train.conftest import House
from train.evaluate import Answers, evaluate_all
from train.recipe import load_recipe
from train.runs import Evaluation, RunOptions, create_run
from train.settings import TrainSettings
from train.teacher import ask_again, teacher_request

Reply = Callable[[str], tuple[int, str]]
"""Takes a question and gives a status and the text of the answer."""


class Upstream:
    """A small server that speaks both protocols as a teacher behind a relay does, and keeps what it was asked."""

    def __init__(self, reply: Reply) -> None:
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                upstream.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                status, answer = reply(body["messages"][-1]["content"])
                data = json.dumps(_wire(self.path, status, answer)).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def _wire(path: str, status: int, answer: str) -> dict[str, Any]:
    if status != 200:
        return {"error": {"message": answer}}
    if path == "/v1/messages":
        content = [{"type": "text", "text": answer}]
        usage = {"input_tokens": 1, "output_tokens": 1}
        return {
            "type": "message",
            "role": "assistant",
            "model": "t",
            "content": content,
            "stop_reason": "end_turn",
            "usage": usage,
        }
    choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "model": "t", "choices": [choice], "usage": {}}


@pytest.fixture
def upstream() -> Iterator[Callable[[Reply], Upstream]]:
    opened: list[Upstream] = []

    def start(reply: Reply) -> Upstream:
        opened.append(Upstream(reply))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-openai")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-for-anthropic")


def teacher_row(house: House, url: str, **recipe: object) -> Evaluation:
    """The teacher's row of an evaluation whose other rows are of no interest."""
    chosen = load_recipe("sft-lora", {"minimum_examples": 50, **recipe})
    run = create_run(house.database, house.version, chosen, "", house.settings.data_folder, RunOptions(url))
    train, test = (datasets.load_split(house.version, split) for split in ("train", "test"))
    nothing = ("",) * len(test)
    rows = evaluate_all(house.database, TrainSettings(teacher_timeout_s=5), run, train, test, Answers(nothing, nothing))
    return next(row for row in rows if row.variant == "teacher")


def right_answers(house: House) -> dict[str, str]:
    return {example.messages[-1].text: example.target for example in datasets.load_split(house.version, "test")}


@pytest.mark.usefixtures("keys")
def test_the_teacher_is_asked_in_the_protocol_of_each_example_with_purpose_eval(
    house: House, upstream: Callable[[Reply], Upstream]
) -> None:
    known = right_answers(house)
    server = upstream(lambda question: (200, known[question]))
    row = teacher_row(house, server.url)
    assert (row.n, row.value) == (len(known), 1.0)
    assert row.low is not None
    assert 0.5 < row.low < 1 == row.high
    assert sorted(body["messages"][-1]["content"] for _, _, body in server.asked) == sorted(known), "each once"
    protocols = {example.protocol for example in datasets.load_split(house.version, "test")}
    assert protocols == {"openai", "anthropic"}, "the fixture asks both"
    for path, headers, body in server.asked:
        assert headers["x-potstill-purpose"] == "eval"
        assert headers["x-potstill-task"] == "triage"
        assert body["model"] == "teacher-1"
        if path == "/v1/messages":
            assert headers["x-api-key"] == "sk-for-anthropic"
            assert "authorization" not in headers
            assert body["max_tokens"] == 99, "as it was captured"
            assert body["system"].startswith("You sort support tickets")
            assert [turn["role"] for turn in body["messages"]] == ["user"]
        else:
            assert path == "/v1/chat/completions"
            assert headers["authorization"] == "Bearer sk-for-openai"
            assert [turn["role"] for turn in body["messages"]] == ["system", "user"]


@pytest.mark.usefixtures("keys")
def test_a_teacher_that_changes_its_mind_scores_less_than_one(house: House, upstream: Callable[[Reply], Upstream]) -> None:
    known = right_answers(house)
    turned = sorted(known)[0]
    server = upstream(lambda question: (200, '{"queue": "other"}' if question == turned else known[question]))
    row = teacher_row(house, server.url)
    assert row.value == pytest.approx(1 - 1 / len(known))


@pytest.mark.usefixtures("keys")
def test_only_as_many_questions_are_paid_for_as_the_recipe_allows(house: House, upstream: Callable[[Reply], Upstream]) -> None:
    known = right_answers(house)
    server = upstream(lambda question: (200, known[question]))
    row = teacher_row(house, server.url, teacher_examples=3)
    assert (row.n, len(server.asked)) == (3, 3)


@pytest.mark.usefixtures("keys")
def test_a_refused_key_leaves_the_value_open_and_is_asked_with_once(house: House, upstream: Callable[[Reply], Upstream]) -> None:
    server = upstream(lambda question: (401, "no such key"))
    row = teacher_row(house, server.url)
    assert (row.value, row.low, row.high, row.n) == (None, None, None, 0)
    assert "401" in row.note
    assert "no such key" in row.note
    assert len(server.asked) == 1


def test_an_unreachable_relay_leaves_the_value_open_and_says_how_to_start_it(house: House) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody can answer there
        row = teacher_row(house, f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert row.value is None
    assert "cannot be asked" in row.note


def test_a_relay_address_that_is_none_leaves_the_value_open(house: House) -> None:
    row = teacher_row(house, "http://[::1")
    assert row.value is None
    assert "the relay at http://[::1 cannot be asked: InvalidURL" in row.note


@pytest.mark.usefixtures("keys")
async def test_questions_pass_through_a_real_relay_and_are_kept_apart_from_the_traffic_of_the_app(
    house: House, tmp_path: Path
) -> None:
    test = datasets.load_split(house.version, "test")
    (tmp_path / "relay").mkdir()
    async with serving(ProviderOptions(latency_ms=0, error_share=0)) as provider:
        settings = relay_settings(tmp_path / "relay", provider)
        relay = await start_worker(settings)
        try:
            url = f"http://127.0.0.1:{relay.port}"
            told = await asyncio.to_thread(ask_again, house.database, test, url, threads=2, timeout_s=30)
        finally:
            await relay.drain(0.0)
    assert told.problem == ""
    assert all(answer is not None and json.loads(answer)["queue"] for answer in told.answers)
    kept = open_database(settings.database_url)
    writer = StoreWriter(kept, settings.data_folder / "spool", PriceTable({}, 0.0))
    try:
        assert writer.drain() == len(test)
        assert feed.count(kept, parse_filter("purpose:eval task:triage status:200"), 10_000) == len(test)
        assert feed.count(kept, parse_filter("purpose:app"), 10_000) == 0
    finally:
        writer.close()
        kept.close()


@pytest.mark.usefixtures("keys")
def test_a_few_unanswered_questions_are_counted_and_too_many_leave_the_value_open(
    house: House, upstream: Callable[[Reply], Upstream]
) -> None:
    known = right_answers(house)
    order = [example.messages[-1].text for example in datasets.load_split(house.version, "test")]
    one = upstream(lambda question: (500, "overloaded") if question == order[-1] else (200, known[question]))
    row = teacher_row(house, one.url)
    assert (row.n, row.value) == (len(known) - 1, 1.0)
    assert "1 unanswered" in row.note
    assert "overloaded" in row.note
    half = set(order[len(order) // 2 :])
    many = upstream(lambda question: (500, "overloaded") if question in half else (200, known[question]))
    row = teacher_row(house, many.url)
    assert row.value is None
    assert f"{len(known) - len(half)} of {len(known)} questions answered" in row.note


def test_a_run_that_shall_not_ask_the_teacher_does_not(house: House, upstream: Callable[[Reply], Upstream]) -> None:
    server = upstream(lambda question: (200, "x"))
    row = teacher_row(house, server.url, teacher_examples=0)
    assert (row.value, row.note, server.asked) == (None, "not asked", [])


def test_a_question_goes_out_as_it_was_captured_but_for_what_belongs_to_the_app() -> None:
    messages = (Message("system", "Sort."), Message("user", "Where?"))
    example = Example("eg_1", "ex_1", "triage", messages, "a", "test", "b2:0", "gpt-x", "openai")
    captured = {
        "model": "gpt-y",
        "temperature": 0.3,
        "stream": True,
        "user": "u1",
        "messages": [{"role": "user", "content": "old"}],
    }
    path, body = teacher_request(example, captured)
    assert path == "/v1/chat/completions"
    turns = [{"role": "system", "content": "Sort."}, {"role": "user", "content": "Where?"}]
    assert body == {"model": "gpt-y", "temperature": 0.3, "messages": turns}
    path, body = teacher_request(dataclasses.replace(example, protocol="anthropic"), {})
    assert path == "/v1/messages"
    assert (body["model"], body["system"], body["messages"]) == ("gpt-x", "Sort.", turns[1:])
    assert body["max_tokens"] > 0


def test_nobody_is_asked_nothing(house: House) -> None:
    assert ask_again(house.database, [], "http://127.0.0.1:1", threads=2, timeout_s=1).answers == ()
