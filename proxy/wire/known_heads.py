"""Heads that came before. A client that asks again mostly sends the same head; what it means need not be found anew.

A head is found by its parsed form, or, when a whole request comes in one piece, by its text but for the digits of its
length: what the parser has taken once, byte for byte, it would take again.
"""

from __future__ import annotations

from typing import NamedTuple

from proxy.wire.call import Call, Head

_MOST, _LARGEST = 512, 6_144
_LENGTHS = (b"\r\nContent-Length: ", b"\r\ncontent-length: ")
_MOST_DIGITS = 9
_UNUSUAL = ("expect", "transfer-encoding", "upgrade")


class Known(NamedTuple):
    """A whole request that was recognised: where its body begins, and what the parser said of such a head."""

    head: Head
    is_keepalive: bool
    length: str
    body_at: int


class _Text(NamedTuple):
    before: bytes
    after: bytes
    digits: bytes
    body_at: int


class KnownHeads:
    """Heads of late, a bounded number of bounded size."""

    def __init__(self) -> None:
        self._by_form: dict[tuple[object, ...], Head] = {}
        self._by_text: dict[tuple[bytes, bytes], tuple[Head, bool]] = {}

    def __len__(self) -> int:
        return max(len(self._by_form), len(self._by_text))

    def forget(self) -> None:
        """Lets go of all of them; to be called when other limits or meanings are in force."""
        self._by_form, self._by_text = {}, {}

    def find(self, form: tuple[object, ...]) -> Head | None:
        """The head whose parsed form this is."""
        return self._by_form.get(form)

    def keep(self, form: tuple[object, ...], head: Head, size: int) -> None:
        """Remembers a head of `size` bytes by its parsed form, unless it is large."""
        if size > _LARGEST:
            return
        if len(self) >= _MOST:
            self.forget()
        self._by_form[form] = head

    def learn(self, data: bytes, call: Call) -> None:
        """Remembers the text of a head: the parser has made `call`, and nothing else, of `data`."""
        headers = call.headers
        if not call.head.is_sound or call.problem is not None or any(name in headers for name in _UNUSUAL):
            return
        text = _read(data)
        if text is None or text.body_at > _LARGEST or len(data) != text.body_at + int(text.digits):
            return
        if text.digits.decode("ascii") == call.length and len(self._by_text) < _MOST:
            self._by_text[text.before, text.after] = (call.head, call.is_keepalive)

    def recognise(self, data: bytes) -> Known | None:
        """What `data` is when it is one whole request, no more and no less, with a head that was learnt; else None."""
        text = _read(data) if self._by_text else None
        found = self._by_text.get((text.before, text.after)) if text is not None else None
        if text is None or found is None or len(data) != text.body_at + int(text.digits):
            return None
        return Known(*found, text.digits.decode("ascii"), text.body_at)


def _read(data: bytes) -> _Text | None:
    """The head in front of `data`, taken apart around the digits of its Content-Length; None when it has none that are plain."""
    end = data.find(b"\r\n\r\n")
    at = data.find(_LENGTHS[0], 0, end) if end > 0 else -1
    if at < 0:
        at = data.find(_LENGTHS[1], 0, end) if end > 0 else -1
    if at < 0:
        return None
    start = at + len(_LENGTHS[0])
    stop = data.find(b"\r\n", start)
    digits = data[start:stop]
    if not digits.isdigit() or len(digits) > _MOST_DIGITS:
        return None
    return _Text(data[:start], data[stop : end + 4], digits, end + 4)
