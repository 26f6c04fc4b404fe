"""Exchanges in the store and out of it again, on both kinds of store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from capture import ids
from capture.content import is_sealed, read_content, read_stored
from capture.database import Database, open_database
from capture.derive import StoredExchange, derive
from capture.exchange_rows import delete_exchanges, insert_exchanges, merge_words, rebuild_words, take_turn
from capture.pricing import PriceTable
from capture.records import Begin, End, Head
from capture.spool_reader import SpooledExchange

SYSTEM = "You label the tickets of a parcel service. " * 40


def exchange(asked: str, answered: str, *, system: str = SYSTEM, history: tuple[str, ...] = ()) -> StoredExchange:
    turns = [{"role": "user" if at % 2 == 0 else "assistant", "content": said} for at, said in enumerate((*history, asked))]
    body = json.dumps({"model": "m", "messages": [{"role": "system", "content": system}, *turns]}).encode()
    choice = {"index": 0, "message": {"role": "assistant", "content": answered}, "finish_reason": "stop"}
    begin = Begin("POST", "/v1/chat/completions", "", "openai", task="parcels", body=body, request_headers={"accept": "json"})
    spooled = SpooledExchange(ids.new_id("ex"), begin, (1, 0), 1_000, 0, 0)
    spooled.head, spooled.end = Head(200, {"content-type": "application/json"}), End(200, "complete")
    spooled.parts = [json.dumps({"model": "m", "choices": [choice]}).encode()]
    return derive(spooled, PriceTable({}))


def insert(database: Database, *exchanges: StoredExchange) -> int:
    with database.write() as connection:
        take_turn(connection)
        return insert_exchanges(connection, exchanges)


def delete(database: Database, *numbers: int) -> int:
    with database.write() as connection:
        take_turn(connection)
        return delete_exchanges(connection, numbers)


def count(database: Database, table: str) -> int:
    with database.read() as connection:
        return int(connection.execute(text(f"SELECT COUNT(*) FROM {table}")).scalar_one())


def found(database: Database, word: str) -> list[int]:
    """Numbers of the exchanges under which the index knows `word`."""
    sql = (
        "SELECT rowid FROM exchange_words WHERE exchange_words MATCH :word ORDER BY rowid"
        if database.is_sqlite
        else "SELECT number FROM exchange_words WHERE words @@ to_tsquery('simple', :word) ORDER BY number"
    )
    with database.read() as connection:
        return [int(row[0]) for row in connection.execute(text(sql), {"word": word})]


def test_bodies_come_back_byte_for_byte_and_sealed(database: Database) -> None:
    stored = exchange("Where is my parcel? I have been waiting for it for more than two weeks now.", "late")
    insert(database, stored)
    with database.read() as connection:
        content = read_content(connection, [1])[1]
        record = read_stored(connection, [1])[1]
    assert content.request_body == stored.spooled.begin.body
    assert content.response_body == stored.spooled.parts[0]
    assert content.request_headers == {"accept": "json"}
    assert is_sealed(record, content)


def test_exchanges_are_numbered_in_the_order_of_storing(database: Database) -> None:
    insert(database, exchange("one", "1"), exchange("two", "2"))
    insert(database, exchange("three", "3"))
    with database.read() as connection:
        rows = connection.execute(text("SELECT number, output_text FROM exchanges ORDER BY number")).all()
    assert [tuple(row) for row in rows] == [(1, "1"), (2, "2"), (3, "3")]


def test_what_is_there_already_is_left_alone(database: Database) -> None:
    first, second = exchange("one", "1"), exchange("two", "2")
    assert insert(database, first, first) == 1
    assert insert(database, first, second) == 1
    assert (count(database, "exchanges"), count(database, "contents")) == (2, 2)


def test_a_number_is_never_given_twice(database: Database) -> None:
    insert(database, exchange("one", "1"), exchange("two", "2"))
    delete(database, 1, 2)
    insert(database, exchange("three", "3"))
    with database.read() as connection:
        assert connection.execute(text("SELECT number FROM exchanges")).scalar_one() == 3


def test_a_shared_prompt_is_stored_once(database: Database) -> None:
    insert(
        database,
        *(exchange(f"Question number {n} of a customer who would like to know something about a parcel", "x") for n in range(5)),
    )
    assert count(database, "pieces") == 6
    assert count(database, "piece_uses") == 10


def test_words_of_question_and_answer_are_found_under_every_exchange_and_those_of_the_prompt_under_the_first(
    database: Database,
) -> None:
    insert(database, exchange("zebra", "lion"), exchange("zebra again", "tiger"))
    insert(database, exchange("more", "lion"))
    assert found(database, "zebra") == [1, 2]
    assert found(database, "lion") == [1, 3]
    assert found(database, "tickets") == [1]


def test_earlier_turns_are_found_where_they_were_new(database: Database) -> None:
    question = "My zebra has not been delivered, please tell me where it is and when it will come."
    answer = "I am sorry about your zebra, it is still in the lion's depot and will come on Monday."
    insert(database, exchange(question, answer))
    insert(database, exchange("Thank you.", "You are welcome.", history=(question, answer)))
    assert found(database, "delivered") == [1]
    assert found(database, "welcome") == [2]


def test_deleting_takes_everything_that_only_the_deleted_held(database: Database) -> None:
    asked = "A question about a {} that is long enough to be kept as a piece of its own in the store."
    insert(database, exchange(asked.format("zebra"), "lion"), exchange(asked.format("giraffe"), "tiger"))
    assert delete(database, 1) == 1
    assert [count(database, table) for table in ("exchanges", "contents", "pieces", "piece_uses")] == [1, 1, 2, 2]
    assert found(database, "zebra") == found(database, "lion") == []
    assert found(database, "giraffe") == [2]
    with database.read() as connection:
        assert b"giraffe" in read_content(connection, [2])[2].request_body
    assert delete(database, 2, 99) == 1
    assert [count(database, table) for table in ("exchanges", "contents", "pieces", "piece_uses")] == [0, 0, 0, 0]


def test_when_the_exchange_that_brought_a_prompt_goes_its_words_are_found_at_the_next(database: Database) -> None:
    insert(database, exchange("zebra", "1"), exchange("zebra", "2"), exchange("zebra", "3"))
    assert (found(database, "tickets"), found(database, "zebra")) == ([1], [1, 2, 3])
    delete(database, 1, 2)
    assert (found(database, "tickets"), found(database, "zebra")) == ([3], [3])
    delete(database, 3)
    assert found(database, "tickets") == found(database, "zebra") == []


def test_feedback_goes_with_its_exchange(database: Database) -> None:
    stored = exchange("one", "1")
    insert(database, stored)
    row = {"id": "f", "exchange": stored.exchange.id}
    columns = [column for column in columns_of(database, "feedback") if column not in ("number", "id", "exchange_id", "value")]
    zeros = ", ".join("0" if column.endswith("_us") else "''" for column in columns)
    sql = f"INSERT INTO feedback (id, exchange_id, {', '.join(columns)}) VALUES (:id, :exchange, {zeros})"
    with database.write() as connection:
        connection.execute(text(sql), row)
    delete(database, 1)
    assert count(database, "feedback") == 0


def columns_of(database: Database, table: str) -> list[str]:
    from sqlalchemy import inspect

    with database.read() as connection:
        return [column["name"] for column in inspect(connection).get_columns(table)]


def test_the_index_can_be_made_anew_from_what_is_stored(database: Database) -> None:
    insert(database, *(exchange(f"zebra {n}", f"lion{n}") for n in range(4)))
    with database.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO exchange_words(exchange_words) VALUES ('delete-all')"
            if database.is_sqlite
            else "DELETE FROM exchange_words"
        )
    assert found(database, "zebra") == []
    with database.write() as connection:
        take_turn(connection)
        rebuild_words(connection)
    assert found(database, "zebra") == [1, 2, 3, 4]
    assert found(database, "tickets") == [1]
    assert found(database, "lion3") == [4]


def test_nothing_of_deleted_words_stays_in_the_file_once_merged(tmp_path: Path) -> None:
    path = tmp_path / "potstill.db"
    database = open_database(f"sqlite:///{path}", is_checkpointer=True)
    insert(database, *(exchange(f"Plain words {n}", f"answer {n}") for n in range(30)))
    insert(database, exchange("The marker is xylophonist and it stands here in a long question of its own kind.", "quixotically"))
    checkpoint(database)
    assert b"xylophonist" in path.read_bytes()
    delete(database, 31)
    with database.write() as connection:
        merge_words(connection)
    checkpoint(database)
    database.close()
    left = b"".join(each.read_bytes() for each in tmp_path.iterdir())
    assert b"xylophonist" not in left
    assert b"quixotically" not in left


def test_words_that_cannot_be_told_exactly_make_the_merge_begin_anew(tmp_path: Path) -> None:
    """A reader that reads an answer otherwise than at the time of storing must not damage the index."""
    database = open_database(f"sqlite:///{tmp_path / 'potstill.db'}", is_checkpointer=True)
    insert(database, exchange("zebra", "lion"), exchange("giraffe", "tiger"))
    with database.write() as connection:
        connection.execute(text("UPDATE exchanges SET protocol = 'raw' WHERE number = 1"))
    delete(database, 1)
    assert found(database, "lion") == [1], "the index still knows it, under a number that no exchange has"
    with database.write() as connection:
        merge_words(connection)
    assert found(database, "lion") == []
    assert found(database, "tiger") == [2]
    database.close()


DAMAGES = {
    "a record is overwritten": "UPDATE contents SET zstd = :bytes WHERE number = 1",
    "a record is lost": "DELETE FROM contents WHERE number = 1",
    "a piece is overwritten": "UPDATE pieces SET zstd = :bytes WHERE number IN (SELECT piece FROM piece_uses WHERE exchange = 1)",
    "a piece is lost": "DELETE FROM pieces WHERE number IN (SELECT piece FROM piece_uses WHERE exchange = 1)",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_deleted_like_the_rest(database: Database, damage: str) -> None:
    asked = "A question about a {} that is long enough to be kept as a piece of its own in the store."
    insert(database, exchange(asked.format("zebra"), "lion"), exchange(asked.format("giraffe"), "tiger", system="Be nice."))
    with database.write() as connection:
        sql = text(DAMAGES[damage])
        connection.execute(sql, {"bytes": b"\0\xffdamaged"} if ":bytes" in DAMAGES[damage] else {})
    with database.write() as connection:
        take_turn(connection)
        rebuild_words(connection)
    assert (found(database, "lion"), found(database, "giraffe")) == ([], [2])
    assert delete(database, 1) == 1
    assert [count(database, table) for table in ("exchanges", "contents", "pieces", "piece_uses")] == [1, 1, 2, 2]
    assert delete(database, 2) == 1
    assert [count(database, table) for table in ("exchanges", "contents", "pieces", "piece_uses")] == [0, 0, 0, 0]


@pytest.mark.parametrize("damage", DAMAGES)
def test_words_of_what_is_damaged_leave_the_index_with_the_merge(database: Database, damage: str) -> None:
    insert(database, exchange("A question about a zebra.", "lion"), exchange("giraffe", "tiger", system="Be nice."))
    with database.write() as connection:
        sql = text(DAMAGES[damage])
        connection.execute(sql, {"bytes": b"\0\xffdamaged"} if ":bytes" in DAMAGES[damage] else {})
    delete(database, 1)
    with database.write() as connection:
        merge_words(connection)
    assert (found(database, "lion"), found(database, "tiger")) == ([], [2])


def test_an_exchange_with_any_byte_of_its_record_flipped_can_be_deleted(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'potstill.db'}")
    insert(database, exchange("A question about a zebra that is long enough to be kept as a piece of its own.", "lion"))
    with database.write() as connection:
        record = bytes(connection.execute(text("SELECT zstd FROM contents")).scalar_one())
        for position in range(len(record)):
            flipped = record[:position] + bytes((record[position] ^ 0x81,)) + record[position + 1 :]
            connection.exec_driver_sql("SAVEPOINT flip")
            connection.execute(text("UPDATE contents SET zstd = :zstd"), {"zstd": flipped})
            delete_exchanges(connection, [1])
            left = [connection.execute(text(f"SELECT COUNT(*) FROM {name}")).scalar_one() for name in ("pieces", "piece_uses")]
            assert left == [0, 0], position
            connection.exec_driver_sql("ROLLBACK TO flip")
    database.close()


def checkpoint(database: Database) -> None:
    with database.read() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()


def test_numbers_become_visible_in_their_order_when_two_hosts_write_at_once(postgresql_url: str) -> None:
    import threading

    first, second = open_database(postgresql_url), open_database(postgresql_url)
    has_begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()
    seen: list[Any] = []

    def write_slowly() -> None:
        with first.write() as connection:
            take_turn(connection)
            insert_exchanges(connection, [exchange("one", "1")])
            has_begun.set()
            may_end.wait(30)

    def write() -> None:
        has_begun.wait(30)
        insert(second, exchange("two", "2"))
        ended.set()

    threads = [threading.Thread(target=each) for each in (write_slowly, write)]
    for thread in threads:
        thread.start()
    has_begun.wait(30)
    seen.append(ended.wait(0.2))
    seen.append(count(second, "exchanges"))
    may_end.set()
    for thread in threads:
        thread.join(30)
    with first.read() as connection:
        rows = connection.execute(text("SELECT number, output_text FROM exchanges ORDER BY number")).all()
    first.close()
    second.close()
    assert seen == [False, 0]
    assert [tuple(row) for row in rows] == [(1, "1"), (2, "2")]
