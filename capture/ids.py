"""Ids that sort by time and show their noun, and content hashes that show their algorithm.

An id is a noun, an underscore and 26 characters of Crockford base32 over a UUIDv7, so `ex_...` sorts by creation time
and 16 bytes carry it in the spool. A content hash is `b2:` and 64 hex digits of BLAKE2b-256.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection
from hashlib import blake2b

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUE = {letter: number for number, letter in enumerate(_ALPHABET)}
_EXCHANGE = re.compile(r"ex_[0-9a-z]{26}")
_RAW = re.compile(rb"(?=(.{6}[\x70-\x7f].[\x80-\xbf].{7}))", re.DOTALL)  # ahead of the place, as two may overlap
_SHIFTS = range(120, -1, -10)
_VERSION, _VARIANT = 7 << 76, 2 << 62
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]


def new_raw_id() -> bytes:
    """16 bytes of UUIDv7 (RFC 9562, method 3): milliseconds, 12 bits of the fraction of one, then 62 random bits.

    Ids that one process makes one after the other thus sort in that order. A clock before 1970 counts as 1970.
    """
    milliseconds, rest = divmod(max(0, time.time_ns()), 1_000_000)
    random = int.from_bytes(os.urandom(8), "big") >> 2
    return (milliseconds << 80 | _VERSION | (rest << 12) // 1_000_000 << 64 | _VARIANT | random).to_bytes(16, "big")


def format_id(noun: str, raw: bytes) -> str:
    """`noun_` and the 26 letters of `raw` (16 bytes)."""
    number = int.from_bytes(raw, "big")
    return f"{noun}_{''.join([_PAIRS[(number >> shift) & 1023] for shift in _SHIFTS])}"


def parse_id(text: str) -> bytes:
    """The 16 bytes of an id made by `format_id`; ValueError when it is not one."""
    letters = text.rpartition("_")[2]
    if len(letters) != 26 or any(letter not in _VALUE for letter in letters):
        raise ValueError(f"not an id: {text!r}")
    number = 0
    for letter in letters:
        number = number << 5 | _VALUE[letter]
    return number.to_bytes(17, "big")[1:]


def exchange_ids_in(text: str) -> set[str]:
    """Everything in `text` that has the shape of an exchange's id."""
    return set(_EXCHANGE.findall(text))


def has_raw_id(data: bytes, raw_ids: Collection[bytes]) -> bool:
    """Whether one of `raw_ids` stands anywhere in `data`; those that `new_raw_id` made are looked for all at once."""
    others = [raw for raw in raw_ids if not _RAW.match(raw)]
    wanted = set(raw_ids)
    return any(raw in data for raw in others) or any(found[1] in wanted for found in _RAW.finditer(data))


def new_id(noun: str) -> str:
    """A fresh id such as `run_01j...`; nouns in use: ex, eg, rv, dsv, run, ad, rel, ev, chg."""
    return format_id(noun, new_raw_id())


def content_hash(data: bytes) -> str:
    """The tagged BLAKE2b-256 of `data`."""
    return "b2:" + blake2b(data, digest_size=32).hexdigest()
