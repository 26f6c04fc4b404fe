"""Importing whole files into real stores."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from capture import feed
from capture.database import Database, open_database
from capture.errors import NotEnoughError, NotFoundError, SettingsError
from capture.exchange import Exchange
from capture.filters import parse_filter
from capture.imports.importing import import_files
from capture.pricing import PriceSettings, PriceTable, load_price_table
from capture.pseudonyms import PersonalPolicy
from capture.verify import verify
from capture.writer import StoreWriter
from tests.capture.conftest import Relay

HOUR_US = 3_600_000_000


@pytest.fixture(scope="module")
def prices() -> PriceTable:
    return load_price_table(PriceSettings())


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{tmp_path / 'store' / 'potstill.db'}")
    yield opened
    opened.close()


def pair(number: int, **more: Any) -> dict[str, Any]:
    answer = {
        "model": "gpt-4o",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": f"answer {number}"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10},
    }
    asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": f"question {number}"}]}
    return {"id": f"c{number}", "timestamp": 1_716_990_000 + number, "request": asked, "response": answer, **more}


def write(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def stored(database: Database) -> list[Exchange]:
    return feed.page(database, parse_filter(""), limit=2000)


def test_an_imported_exchange_is_derived_as_captured_ones_are(database: Database, prices: PriceTable, tmp_path: Path) -> None:
    path = write(tmp_path / "calls.jsonl", [pair(1, latency_ms=500, user_id="u1", metadata={"task": "triage", "lang": "de"})])
    report = import_files(database, prices, [path])
    assert (report.read, report.stored, report.known, report.bad) == (1, 1, 0, 0)
    (exchange,) = stored(database)
    assert exchange.started_us == 1_716_990_001_000_000
    assert (exchange.ended_us - exchange.started_us, exchange.latency_us) == (500_000, 500_000)
    assert (exchange.task, exchange.user_name, exchange.purpose, exchange.upstream) == (
        "triage",
        "u1",
        "app",
        "import:openai-jsonl",
    )
    assert exchange.tags["imported_from"] == "openai-jsonl" and exchange.tags["lang"] == "de"
    assert (exchange.tokens_in, exchange.tokens_out, exchange.usage_source) == (100, 10, "reported")
    assert exchange.cost_microusd == prices.cost_microusd("gpt-4o", 100, 10)
    assert (exchange.state, exchange.status, exchange.output_text) == ("complete", 200, "answer 1")
    assert exchange.is_success


def test_importing_twice_adds_nothing(database: Database, prices: PriceTable, tmp_path: Path) -> None:
    path = write(tmp_path / "calls.jsonl", map(pair, range(450)))
    assert import_files(database, prices, [path]).stored == 450
    again = import_files(database, prices, [path])
    assert (again.read, again.stored, again.known) == (450, 0, 450)
    moved = write(tmp_path / "moved.jsonl", [pair(3), pair(3), pair(900)])
    assert import_files(database, prices, [moved]).stored == 1
    assert len(stored(database)) == 451


def test_an_import_that_broke_off_goes_on_where_it_was(sqlite: Database, prices: PriceTable, tmp_path: Path) -> None:
    path = write(tmp_path / "calls.jsonl", map(pair, range(450)))

    def break_off(_path: Path, _done: int, _size: int) -> None:
        if stored(sqlite):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_files(sqlite, prices, [path], on_progress=break_off)
    begun = len(stored(sqlite))
    assert 0 < begun < 450
    assert import_files(sqlite, prices, [path]).stored == 450 - begun
    assert len({exchange.id for exchange in stored(sqlite)}) == 450


def test_bad_lines_are_told_by_number_and_the_good_ones_are_kept(sqlite: Database, prices: PriceTable, tmp_path: Path) -> None:
    rows = [pair(1), "not json", pair(2), {"request": {}, "response": None}, {"messages": [{"role": "user", "content": "hi"}]}]
    report = import_files(sqlite, prices, [write(tmp_path / "calls.jsonl", rows)])
    assert (report.stored, report.bad) == (2, 3)
    assert [problem.line for problem in report.problems] == [2, 4, 5]
    assert all(problem.file.endswith("calls.jsonl") and problem.reason for problem in report.problems)


def test_many_bad_lines_are_counted_and_the_first_hundred_told(sqlite: Database, prices: PriceTable, tmp_path: Path) -> None:
    path = write(tmp_path / "calls.jsonl", [pair(1), *["?"] * 300])
    report = import_files(sqlite, prices, [path])
    assert (report.stored, report.bad, len(report.problems)) == (1, 300, 100)


def test_nothing_readable_is_an_error_with_the_first_reason(sqlite: Database, prices: PriceTable, tmp_path: Path) -> None:
    path = write(tmp_path / "calls.jsonl", [{"messages": [{"role": "user", "content": "hi"}]}])
    with pytest.raises(NotEnoughError, match="line 1: ends with a message of role user"):
        import_files(sqlite, prices, [path])


def test_an_unknown_format_is_refused_with_what_was_found(sqlite: Database, prices: PriceTable, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="its first line has name, age") as refused:
        import_files(sqlite, prices, [write(tmp_path / "people.jsonl", [{"name": "Ada", "age": 36}])])
    assert "--format" in refused.value.next_step
    with pytest.raises(SettingsError, match="cvs"):
        import_files(sqlite, prices, [], format="cvs")
    with pytest.raises(NotFoundError):
        import_files(sqlite, prices, [tmp_path / "missing.jsonl"])


def test_a_dry_run_counts_by_task_and_model(prices: PriceTable, tmp_path: Path) -> None:
    rows = [pair(1, task="triage"), pair(2, task="triage"), pair(3), "bad"]
    report = import_files(None, prices, [write(tmp_path / "calls.jsonl", rows)])
    assert report.is_dry_run and (report.read, report.stored, report.bad) == (3, 0, 1)
    assert [(group.task, group.model, group.exchanges) for group in report.groups] == [("triage", "gpt-4o", 2), ("", "gpt-4o", 1)]


def test_new_exchanges_are_told_from_known_ones_in_each_group(sqlite: Database, prices: PriceTable, tmp_path: Path) -> None:
    path = write(tmp_path / "calls.jsonl", [pair(1, task="triage"), pair(2)])
    import_files(sqlite, prices, [path])
    write(path, [pair(1, task="triage"), pair(3, task="triage"), pair(3, task="triage"), pair(2)])
    report = import_files(sqlite, prices, [path])
    assert {group.task: (group.exchanges, group.new) for group in report.groups} == {"triage": (3, 1), "": (1, 0)}
    assert (report.stored, report.known) == (1, 3)


def test_a_task_that_is_given_is_the_task_of_all(sqlite: Database, prices: PriceTable, tmp_path: Path) -> None:
    path = write(tmp_path / "calls.jsonl", [pair(1, task="triage"), pair(2)])
    import_files(sqlite, prices, [path], task="support")
    assert {exchange.task for exchange in stored(sqlite)} == {"support"}


def test_secrets_in_logs_are_taken_out(database: Database, prices: PriceTable, tmp_path: Path) -> None:
    key = "sk-proj-abcdefghijklmnopqrstuvwx1234567890"
    row = pair(1, metadata={"key": key})
    row["request"]["messages"][0]["content"] = f"my key is {key}"
    import_files(database, prices, [write(tmp_path / "calls.jsonl", [row])])
    (exchange,) = stored(database)
    assert exchange.redactions >= 2
    assert key not in str(exchange)
    assert key not in str(feed.conversation(database, exchange))


def test_texts_of_tasks_that_are_left_out_and_personal_data_are_not_stored(
    sqlite: Database, prices: PriceTable, tmp_path: Path
) -> None:
    private, open_one = pair(1, task="hr-letters"), pair(2, task="triage")
    open_one["request"]["messages"][0]["content"] = "write to ada@example.org"
    path = write(tmp_path / "calls.jsonl", [private, open_one])
    import_files(sqlite, prices, [path], personal=PersonalPolicy("mask"), omit_tasks=["hr-*"])
    found = {exchange.task: exchange for exchange in stored(sqlite)}
    assert (found["hr-letters"].content, found["hr-letters"].output_text) == ("omitted", "")
    assert "ada@example.org" not in feed.conversation(sqlite, found["triage"]).asked[0].text


def test_the_two_files_of_a_batch_belong_together(sqlite: Database, prices: PriceTable, tmp_path: Path) -> None:
    def asked(number: int) -> dict[str, Any]:
        return {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions", "body": pair(number)["request"]}

    def told(number: int) -> dict[str, Any]:
        body = pair(number)["response"] | {"created": 1_716_990_000}
        return {
            "id": f"batch_req_{number}",
            "custom_id": f"r{number}",
            "response": {"status_code": 200, "body": body},
            "error": None,
        }

    requests = write(tmp_path / "in.jsonl", map(asked, range(60)))
    answers = write(tmp_path / "out.jsonl", [told(number) for number in reversed(range(60))] + [told(99)])
    report = import_files(sqlite, prices, [answers, requests])
    assert (report.stored, report.bad) == (60, 1)
    assert "r99" in report.problems[0].reason
    assert report.skipped == {"a request of a batch; it is stored with its answer": 60}
    seven = next(exchange for exchange in stored(sqlite) if exchange.output_text == "answer 7")
    assert feed.conversation(sqlite, seven).asked[0].text == "question 7"


def test_two_batches_with_the_same_names_are_not_mixed_up(sqlite: Database, prices: PriceTable, tmp_path: Path) -> None:
    asked = [{"custom_id": "r", "url": "/v1/chat/completions", "body": pair(number)["request"]} for number in (1, 2)]
    told = {"id": "b", "custom_id": "r", "response": {"status_code": 200, "body": pair(1)["response"]}}
    files = [write(tmp_path / name, rows) for name, rows in (("a", asked[:1]), ("b", asked[1:]), ("c", [told]))]
    with pytest.raises(NotEnoughError, match="import each batch on its own"):
        import_files(sqlite, prices, files)


def test_a_time_that_the_log_lacks_is_that_of_the_file(sqlite: Database, prices: PriceTable, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    path = write(tmp_path / "tuning.jsonl", [{"messages": messages}])
    import_files(sqlite, prices, [path])
    (exchange,) = stored(sqlite)
    assert exchange.started_us == path.stat().st_mtime_ns // 1000
    assert exchange.latency_us is None
    copied = write(tmp_path / "copied.jsonl", [{"messages": messages}])
    assert import_files(sqlite, prices, [copied]).known == 1


def test_a_relayed_stream_in_a_log_is_put_together(sqlite: Database, prices: PriceTable, tmp_path: Path) -> None:
    pieces = [{"model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": word}}]} for word in ("On ", "its ", "way.")]
    pieces.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + "data: [DONE]\n\n"
    asked = pair(1)["request"] | {"stream": True}
    row = {"request_id": "q", "request_created_at": "2024-05-29T13:46:19Z", "request_body": asked, "response_status": 200}
    rows = [row | {"response_body": {"streamed_data": events}}, pair(2) | {"request": asked, "response": events}]
    for number, each in enumerate(rows):
        import_files(sqlite, prices, [write(tmp_path / f"{number}.jsonl", [each])])
    assert [(exchange.output_text, exchange.state, exchange.is_stream) for exchange in stored(sqlite)] == [
        ("On its way.", "complete", True)
    ] * 2


def test_csv_of_litellm_is_read(sqlite: Database, prices: PriceTable, tmp_path: Path) -> None:
    row = pair(1)
    columns = ["request_id", "call_type", "spend", "prompt_tokens", "completion_tokens", "startTime", "endTime", "model"]
    values = ["x1", "acompletion", "0.1", "100", "10", "2024-05-29 13:46:19.963+00", "2024-05-29 13:46:20.963+00", "gpt-4o"]
    more = {
        "metadata": "{}",
        "messages": "{}",
        "response": json.dumps(row["response"]),
        "proxy_server_request": json.dumps(row["request"]),
    }
    lines = [[*columns, *more], [*values, *more.values()]]
    quoted = [",".join('"' + value.replace('"', '""') + '"' for value in line) for line in lines]
    report = import_files(sqlite, prices, [write(tmp_path / "spend.csv", quoted)])
    assert list(report.formats.values()) == ["litellm"]
    (exchange,) = stored(sqlite)
    assert (exchange.output_text, exchange.latency_us, exchange.model_served) == ("answer 1", 1_000_000, "gpt-4o")


def test_a_log_of_figures_alone_is_stored_without_content(database: Database, prices: PriceTable, tmp_path: Path) -> None:
    row = {"request_id": "x", "call_type": "acompletion", "spend": 0.1, "prompt_tokens": 100, "completion_tokens": 10}
    row |= {"startTime": "2024-05-29T13:46:19Z", "endTime": "2024-05-29T13:46:20Z", "model": "gpt-4o", "response": "{}"}
    import_files(database, prices, [write(tmp_path / "spend.jsonl", [row])])
    (exchange,) = stored(database)
    assert (exchange.tokens_in, exchange.cost_microusd, exchange.output_text) == (
        100,
        prices.cost_microusd("gpt-4o", 100, 10),
        "",
    )
    assert exchange.content == "omitted"


def test_a_row_that_the_store_refuses_is_told_and_its_neighbours_are_kept(
    sqlite: Database, prices: PriceTable, tmp_path: Path
) -> None:
    with sqlite.write() as connection:
        connection.execute(
            text(
                "CREATE TRIGGER picky BEFORE INSERT ON exchanges WHEN NEW.task = 'poison' "
                "BEGIN SELECT RAISE(ABORT, 'no poison'); END"
            )
        )
    rows = [pair(number, task="poison" if number == 7 else "fine") for number in range(20)]
    report = import_files(sqlite, prices, [write(tmp_path / "calls.jsonl", rows)])
    assert (report.stored, report.bad) == (19, 1)
    assert report.problems[0].line == 8 and "no poison" in report.problems[0].reason


def test_an_import_beside_a_store_writer_loses_and_mixes_up_nothing(
    database: Database, prices: PriceTable, tmp_path: Path, spool_root: Path, relay: Relay
) -> None:
    path = write(tmp_path / "calls.jsonl", map(pair, range(450)))
    writer = StoreWriter(database, spool_root, prices, poll_s=0.001)
    stop = threading.Event()
    thread = threading.Thread(target=writer.run, args=(stop,))
    thread.start()

    def send(_path: Path, _done: int, _size: int) -> None:
        for _ in range(40):
            relay.exchange()

    report = import_files(database, prices, [path, write(tmp_path / "more.jsonl", map(pair, range(440, 900)))], on_progress=send)
    stop.set()
    thread.join()
    writer.close()
    assert (report.read, report.stored, report.known) == (910, 900, 10)
    found = stored(database)
    assert sum(exchange.tags.get("imported_from") == "openai-jsonl" for exchange in found) == 900
    assert {exchange.id for exchange in found} >= set(relay.sent)
    assert len(found) == 900 + len(relay.sent) == len({exchange.number for exchange in found})
    assert verify(database).faults == []


def test_progress_reaches_the_size_of_each_file(sqlite: Database, prices: PriceTable, tmp_path: Path) -> None:
    path = write(tmp_path / "calls.jsonl", map(pair, range(600)))
    seen: list[tuple[int, int]] = []
    import_files(sqlite, prices, [path], on_progress=lambda _path, done, size: seen.append((done, size)))
    assert seen == sorted(seen) and seen[-1] == (path.stat().st_size,) * 2 and len(seen) >= 3
