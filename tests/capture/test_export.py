from __future__ import annotations

import base64
import io
import json
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from capture import export, exported, feed, ids
from capture.database import Database
from capture.errors import SettingsError, StoreError, UpstreamError
from capture.exchange import Content
from capture.export import JSONL, OTLP, Wanted
from capture.filters import parse_filter
from capture.otel import span_of
from capture.otel_names import NAMES, VERSION
from capture.otel_send import Collector, Patience, address_of, headers_of
from capture.pricing import PriceTable
from capture.records import Note
from capture.writer import StoreWriter
from tests.capture.collecting import Receiver, receiving

ALL = parse_filter("")
BINARY = b"\xff\xfe not text"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ODD = '{"model":"gpt-4o","temperature":0.5,"seed":7,"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"\\u2028 line\\n two \\ud800 \\u001b[31m"}]}'  # noqa: E501
CALLS = b'{"id":"chatcmpl-7","model":"gpt-4o-x","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"find","arguments":"{\\"q\\":1}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":9,"completion_tokens":4}}'  # noqa: E501


def quiet(stage: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


@pytest.fixture
def filled(database: Database, spool_root: Path, relay: Any) -> Iterator[Database]:
    relay.exchange(task="parcels", session_name="s1")
    relay.exchange(
        task="triage", body=ODD.encode(), answer=CALLS, request_headers={"traceparent": TRACE}, tags={"team": "search"}
    )
    relay.exchange(task="parcels", body=BINARY, answer=BINARY, protocol="raw", path="/v1/files")
    relay.exchange(task="parcels", state="timeout")
    relay.spool.note(ids.new_raw_id(), Note("boolean", "helpful", 1.0, exchange_id=relay.sent[0], who="ann"))
    with closing(StoreWriter(database, spool_root, PriceTable({}))) as writer:
        writer.drain()
    yield database


def lines_of(database: Database, **wanted: Any) -> list[dict[str, Any]]:
    stream = io.BytesIO()
    done = export.to_stream(database, Wanted(ALL, **wanted), stream, quiet)
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (done.exchanges, done.bytes) == (len(found), len(stream.getvalue()))
    return found


def test_each_line_is_one_exchange_with_its_conversation_and_feedback(filled: Database, relay: Any) -> None:
    found = lines_of(filled)
    assert [line["id"] for line in found] == relay.sent
    assert found[0]["asked"][0]["text"] == "Where is my parcel?"
    assert found[0]["answer"]["text"] == "On its way."
    assert [said["name"] for said in found[0]["feedback"]] == ["helpful"]
    assert found[1]["asked"][1]["text"].startswith("\u2028 line\n two")
    assert found[1]["answer"]["tool_calls"][0]["arguments"] == '{"q":1}'
    assert found[1]["tags"] == {"team": "search"}
    assert "request" not in found[0]


def test_raw_bodies_come_back_byte_for_byte(filled: Database, relay: Any) -> None:
    found = lines_of(filled, with_raw=True)
    for line, id in zip(found, relay.sent, strict=True):
        content = feed.content(filled, feed.get(filled, id))
        for side, body in (("request", content.request_body), ("response", content.response_body)):
            written = line[side]["body"]
            is_text = line[side]["body_encoding"] == "text"
            assert (written.encode() if is_text else base64.b64decode(written)) == body
    assert found[2]["request"]["body_encoding"] == "base64"
    assert found[1]["request"]["sha256"] == feed.content(filled, feed.get(filled, relay.sent[1])).request_sha256


def test_without_content_no_word_of_anybody_is_written(filled: Database) -> None:
    for format in (JSONL, OTLP):
        stream = io.BytesIO()
        export.to_stream(filled, Wanted(ALL, format, with_content=False), stream, quiet)
        for words in (b"parcel?", b"On its way", b"Be brief", b"find"):
            assert words not in stream.getvalue(), format


def test_a_filter_and_a_number_choose_what_is_exported(filled: Database, relay: Any) -> None:
    stream = io.BytesIO()
    first = export.to_stream(filled, Wanted(parse_filter("task:parcels")), stream, quiet)
    assert first.exchanges == 3
    rest = lines_of(filled, start=feed.get(filled, relay.sent[1]).number)
    assert [line["id"] for line in rest] == relay.sent[2:]
    assert export.to_stream(filled, Wanted(ALL, start=first.last_number), stream, quiet).last_number == first.last_number


def test_what_is_stored_while_an_export_runs_is_left_for_the_next(filled: Database, spool_root: Path, relay: Any) -> None:
    late: list[str] = []

    def store_another(stage: str, done: int, total: int) -> None:
        if not late:
            late.append(relay.exchange())
            with closing(StoreWriter(filled, spool_root, PriceTable({}))) as writer:
                writer.drain()

    stream = io.BytesIO()
    done = export.to_stream(filled, Wanted(ALL), stream, store_another)
    assert done.exchanges == 4
    assert [line["id"] for line in lines_of(filled, start=done.last_number)] == late


def test_a_file_is_whole_private_and_remembered(filled: Database, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("what was there")
    done = export.to_file(filled, Wanted(parse_filter("task:parcels")), path, quiet, is_forced=True)
    assert len(path.read_bytes().splitlines()) == done.exchanges == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.glob(".out*")) == []
    (file,) = exported.exported(filled)
    assert (file.path, file.format, file.filter) == (path.resolve(), JSONL, "task:parcels")


def test_an_export_that_fails_leaves_the_old_file(filled: Database, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("what was there")

    def break_off(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export.to_file(filled, Wanted(ALL), path, break_off, is_forced=True)
    assert path.read_text() == "what was there"
    assert list(tmp_path.glob(".out*")) == []
    assert exported.exported(filled) == []


def test_a_file_that_is_there_is_replaced_only_when_that_is_wanted(filled: Database, tmp_path: Path) -> None:
    path, link = tmp_path / "out.jsonl", tmp_path / "link.jsonl"
    path.write_text("what was there")
    link.symlink_to(path)
    for place in (path, link):
        with pytest.raises(SettingsError, match="already there"):
            export.to_file(filled, Wanted(ALL), place, quiet)
    assert path.read_text() == "what was there"


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_and_the_file_that_it_leads_to_is_written_and_remembered(
    filled: Database, tmp_path: Path, relay: Any, is_there: bool
) -> None:
    folder, link = tmp_path / "far", tmp_path / "out.jsonl"
    folder.mkdir()
    path = folder / "real.jsonl"
    if is_there:
        path.write_text("what was there")
    link.symlink_to(path)
    export.to_file(filled, Wanted(ALL), link, quiet, is_forced=is_there)
    assert link.is_symlink() and relay.sent[1] in path.read_text("utf-8")
    (file,) = exported.exported(filled)
    assert file.path == path.resolve()
    assert exported.erase_from(file, [relay.sent[1]], []) == 1
    assert relay.sent[1] not in link.read_text("utf-8")


def test_what_is_no_file_is_written_into_and_neither_replaced_nor_remembered(filled: Database, tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for place in (pipe, link):
        read: list[bytes] = []
        reader = threading.Thread(target=lambda read=read: read.append(pipe.read_bytes()), daemon=True)
        reader.start()
        done = export.to_file(filled, Wanted(ALL), place, quiet)
        assert stat.S_ISFIFO(pipe.stat().st_mode) and link.is_symlink(), "no file stands in its place"
        reader.join(10)
        assert len(read[0].splitlines()) == done.exchanges == 4
    assert exported.exported(filled) == []


def test_a_place_that_cannot_be_written_says_so(filled: Database, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such folder"):
        export.to_file(filled, Wanted(ALL), tmp_path / "none" / "out.jsonl", quiet)
    (tmp_path / ".out.jsonl.part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot be written"):
        export.to_file(filled, Wanted(ALL), tmp_path / "out.jsonl", quiet)
    assert not (tmp_path / "elsewhere").exists()


def test_erasing_finds_the_exchange_in_both_formats(filled: Database, tmp_path: Path, relay: Any) -> None:
    for format in (JSONL, OTLP):
        export.to_file(filled, Wanted(ALL, format), tmp_path / f"out.{format}", quiet)
    for file in exported.exported(filled):
        assert exported.erase_from(file, [relay.sent[1]], []) == 1
        assert relay.sent[1] not in file.path.read_text("utf-8")
        assert relay.sent[0] in file.path.read_text("utf-8")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def send(database: Database, receiver: Receiver, *, with_content: bool = False, **patience: Any) -> tuple[export.Export, int]:
    wanted = Wanted(ALL, OTLP, with_content=with_content)
    with Collector(address_of(receiver.url, {}), {"api-key": "k"}, Patience(**{"first_s": 0.0, **patience})) as collector:
        return export.to_collector(database, wanted, collector, quiet), collector.rejected


def facts(span: Span) -> dict[str, Any]:
    return {each.key: _plain(each.value) for each in span.attributes}


def _plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return [_plain(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, str(kind))


def test_a_collector_receives_each_exchange_as_a_span_of_the_conventions(
    filled: Database, receiver: Receiver, relay: Any
) -> None:
    done, rejected = send(filled, receiver)
    assert (done.exchanges, rejected, len(receiver.spans)) == (4, 0, 4)
    assert receiver.headers[0]["content-type"] == "application/x-protobuf"
    assert (receiver.headers[0]["path"], receiver.headers[0]["api-key"]) == ("/v1/traces", "k")
    first, second, third, fourth = receiver.spans
    got = facts(first)
    exchange = feed.get(filled, relay.sent[0])
    assert first.name == "chat gpt-4o" and first.kind == Span.SPAN_KIND_CLIENT
    assert first.start_time_unix_nano == exchange.started_us * 1_000
    assert got["gen_ai.operation.name"] == "chat" and got["gen_ai.provider.name"] == "openai"
    assert (got["gen_ai.usage.input_tokens"], got["gen_ai.usage.output_tokens"]) == (9, 4)
    assert got["gen_ai.response.finish_reasons"] == ["stop"] and got["gen_ai.response.id"] == "c1"
    assert got["gen_ai.conversation.id"] == "s1" and got["potstill.exchange.id"] == relay.sent[0]
    assert "gen_ai.input.messages" not in got and "gen_ai.output.messages" not in got
    (event,) = first.events
    assert event.name == "gen_ai.evaluation.result"
    assert second.trace_id.hex() == TRACE[3:35] and second.parent_span_id.hex() == TRACE[36:52]
    assert facts(second)["gen_ai.request.temperature"] == 0.5 and facts(second)["gen_ai.request.seed"] == 7
    assert facts(second)["potstill.tag.team"] == "search"
    assert third.name == "POST /v1/files" and "gen_ai.operation.name" not in facts(third)
    assert fourth.status.code == Status.STATUS_CODE_ERROR and facts(fourth)["error.type"] == "timeout"
    scope = receiver.requests[0].resource_spans[0].scope_spans[0].scope
    assert scope.version == VERSION


def test_content_goes_along_when_it_is_asked_for(filled: Database, receiver: Receiver) -> None:
    send(filled, receiver, with_content=True)
    got = facts(receiver.spans[1])
    assert json.loads(got[NAMES["system"]]) == [{"type": "text", "content": "Be brief."}]
    (asked,) = json.loads(got[NAMES["input"]])
    assert asked["role"] == "user" and asked["parts"][0]["type"] == "text"
    (answer,) = json.loads(got[NAMES["output"]])
    assert answer["finish_reason"] == "tool_call"
    assert answer["parts"] == [{"type": "tool_call", "id": "call_1", "name": "find", "arguments": {"q": 1}}]


def test_the_same_exchange_is_the_same_span_each_time(filled: Database, receiver: Receiver) -> None:
    send(filled, receiver)
    send(filled, receiver)
    keys = [(span.trace_id, span.span_id) for span in receiver.spans]
    assert keys[:4] == keys[4:] and len(set(keys)) == 4
    assert all(len(trace) == 16 and len(span) == 8 for trace, span in keys)


def test_a_file_of_spans_says_the_same_in_json(filled: Database, receiver: Receiver, tmp_path: Path) -> None:
    send(filled, receiver)
    export.to_file(filled, Wanted(ALL, OTLP, with_content=False), tmp_path / "spans.json", quiet)
    (line,) = (tmp_path / "spans.json").read_text("utf-8").splitlines()
    spans = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert [span["spanId"] for span in spans] == [span.span_id.hex() for span in receiver.spans]
    assert [span["traceId"] for span in spans] == [span.trace_id.hex() for span in receiver.spans]
    assert spans[1]["parentSpanId"] == TRACE[36:52]
    assert spans[0]["kind"] == 3 and spans[0]["startTimeUnixNano"] == str(receiver.spans[0].start_time_unix_nano)


def test_a_busy_collector_is_asked_again(filled: Database, receiver: Receiver) -> None:
    receiver.answers = [(429, {"retry-after": "0"}, b""), (503, {}, b""), (502, {"retry-after": "soon"}, b"")]
    done, _ = send(filled, receiver)
    assert done.exchanges == len(receiver.spans) == 4
    assert len(receiver.headers) == 4


def test_spans_that_a_collector_threw_away_are_counted(filled: Database, receiver: Receiver) -> None:
    said = ExportTraceServiceResponse()
    said.partial_success.rejected_spans = 3
    receiver.answers = [(200, {}, said.SerializeToString())]
    assert send(filled, receiver)[1] == 3
    receiver.answers = [(200, {"content-type": "application/json"}, b"{}")]
    assert send(filled, receiver)[1] == 0


def test_a_refusal_is_final_and_says_how_to_go_on(filled: Database, receiver: Receiver) -> None:
    receiver.answers = [(401, {}, b"no key\x1b[31m")]
    with pytest.raises(UpstreamError, match="answered 401") as caught:
        send(filled, receiver)
    assert "--after 0" in caught.value.next_step
    receiver.answers = [(503, {}, b"")] * 3
    with pytest.raises(UpstreamError, match="status 503"):
        send(filled, receiver, tries=3)


def test_a_collector_that_is_not_there_is_an_error_at_once(filled: Database) -> None:
    with pytest.raises(UpstreamError, match=r"http://127\.0\.0\.1:1.*cannot be reached \(ConnectError: .+\)") as caught:
        send(filled, Receiver(url="http://127.0.0.1:1"), first_s=3_600.0)
    assert "See that it runs" in caught.value.next_step and "--after 0" in caught.value.next_step


def test_a_collector_that_goes_away_later_is_tried_again_and_each_pause_is_told(receiver: Receiver) -> None:
    receiver.answers = [(503, {"retry-after": "0"}, b"")]
    told: list[str] = []
    with Collector(address_of(receiver.url, {}), {}, Patience(tries=3, first_s=0.0), told.append) as collector:
        assert collector.send(ExportTraceServiceRequest(), resume="--after 0") > 0
        assert len(told) == 1 and "status 503. Again in 0 s." in told[0]
        collector.address = "http://127.0.0.1:1/v1/traces"
        with pytest.raises(UpstreamError, match="cannot be reached"):
            collector.send(ExportTraceServiceRequest(), resume="--after 7")
    assert len(told) == 3 and "ConnectError" in told[2]


@pytest.mark.parametrize(
    ("upstream", "protocol", "provider"),
    [
        ("house-gateway", "openai", "openai"),
        ("claude-eu", "anthropic", "anthropic"),
        ("azure", "openai", "azure.ai.openai"),
        ("groq", "openai", "groq"),
        ("odd", "other", "odd"),
    ],
)
def test_the_provider_is_one_that_the_conventions_know(filled: Database, upstream: str, protocol: str, provider: str) -> None:
    exchange = replace(feed.page(filled, ALL)[0], upstream=upstream, protocol=protocol)
    assert facts(span_of(exchange, Content({}, {}, b"", b"", "", "")))["gen_ai.provider.name"] == provider


def test_where_to_send_comes_from_the_option_or_from_opentelemetrys_own_variables() -> None:
    assert address_of("http://h:4318", {}) == "http://h:4318/v1/traces"
    assert address_of("http://h:4318/v1/traces", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}) == "http://h:4318/v1/traces"
    assert address_of("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://x/otlp/"}) == "https://x/otlp/v1/traces"
    assert address_of("", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://x/own"}) == "https://x/own"
    with pytest.raises(SettingsError, match="no collector"):
        address_of("", {})
    with pytest.raises(SettingsError, match="not one of HTTP"):
        address_of("file:///etc/passwd", {})
    given = {"OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20b, team = x", "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "api-key=c"}
    assert headers_of(given) == {"api-key": "c", "team": "x"}
    with pytest.raises(SettingsError, match="without name=value"):
        headers_of({"OTEL_EXPORTER_OTLP_HEADERS": "nonsense"})


def test_a_header_that_cannot_be_sent_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsError, match="cannot be sent"):
        Collector("http://h/v1/traces", {"api-key": "schlüssel☃"})
