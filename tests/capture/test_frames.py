from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from capture.frames import Damage, Record, frame, salt_of, scan

SALT = salt_of("sp_one")
PAYLOADS = st.lists(st.binary(max_size=200), min_size=1, max_size=8)


def written(payloads: list[bytes], salt: int = SALT) -> bytes:
    return b"".join(
        frame(salt, 3, seq, 10 + seq, 1000 + seq, bytes([seq] * 16), payload) + payload for seq, payload in enumerate(payloads)
    )


def read(data: bytes) -> list[Record]:
    return [found for found in scan(data, 0, SALT) if isinstance(found, Record)]


@given(PAYLOADS)
def test_what_was_written_is_read(payloads: list[bytes]) -> None:
    records = read(written(payloads))
    assert [record.payload for record in records] == payloads
    assert [record.seq for record in records] == list(range(len(payloads)))
    assert [record.exchange_id for record in records] == [bytes([seq] * 16) for seq in range(len(payloads))]


@given(PAYLOADS, st.data())
def test_a_cut_segment_gives_a_prefix(payloads: list[bytes], data: st.DataObject) -> None:
    whole = written(payloads)
    cut = data.draw(st.integers(0, len(whole)))
    ends = [record.end for record in read(whole)]
    assert [record.payload for record in read(whole[:cut])] == payloads[: sum(end <= cut for end in ends)]


@given(PAYLOADS, st.data())
def test_a_flipped_byte_costs_only_the_record_it_is_in(payloads: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(written(payloads))
    position = data.draw(st.integers(0, len(whole) - 1))
    hit = next(number for number, record in enumerate(read(bytes(whole))) if position < record.end)
    whole[position] ^= data.draw(st.integers(1, 255))
    assert [record.seq for record in read(bytes(whole))] == [seq for seq in range(len(payloads)) if seq != hit]


@given(st.binary(max_size=500), PAYLOADS)
def test_rubbish_before_records_is_passed_over_and_reported(rubbish: bytes, payloads: list[bytes]) -> None:
    found = list(scan(rubbish + written(payloads), 0, SALT))
    assert [item.payload for item in found if isinstance(item, Record)] == payloads
    assert sum(item.end - item.position for item in found if isinstance(item, Damage)) == len(rubbish)


@given(st.binary(max_size=2000))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    assert read(data) == []


def test_records_of_another_spool_inside_a_damaged_body_are_not_taken_for_ours() -> None:
    forged = written([b"forged"], salt_of("sp_two"))
    whole = bytearray(written([b"first", forged, b"last"]))
    whole[60] ^= 1
    assert b"forged" not in b"".join(record.payload for record in read(bytes(whole)) if record.seq != 1)
    whole = bytearray(written([forged, b"last"]))
    whole[0] ^= 1
    assert [record.payload for record in read(bytes(whole))] == [b"last"]
