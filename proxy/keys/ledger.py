"""What keys and tasks use just now, shared exactly by all relay workers of a host: a file mapped into the memory of each.

Every look and change is made under a lock of the kernel, which a process that dies lets go of. A worker writes what it holds
(requests in flight, money reserved) into a slot of its own besides the sums, so that what a dead one held can be given back:
its requests at once, its reservations when the store writer has stored all of its spool.

A subject that holds nothing is told from a new one by its name alone. When the file is full a new one takes its place, so the
place of a subject is looked at anew under each lock.

    host's file    slots: who holds them | subjects: id, buckets, sums, budgets, and what each slot holds
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from capture.errors import StoreError
from capture.spend import day_of
from proxy.keys.limits import (
    CONCURRENT,
    DAY,
    HELD,
    MONTH,
    REQUESTS,
    TOKENS,
    Limits,
    full_again,
    month_of,
    until_next_day_us,
    until_next_month_us,
    wait_us,
)

SLOTS = 64
"""Most relay workers of one host."""
SUBJECTS = 8192
"""Most keys and tasks that hold something at a time, or have spent something of this month's budget."""
_FILE = "ledger-1"
"""The number is that of the file's form."""
_SLOT_WORDS = 4
_FREE, _HELD_BY_LIVING, _HELD_BY_DEAD = 0, 1, 2
_FIRST, _SECOND, _REQUESTS, _TOKENS, _IN_FLIGHT, _RESERVED = 0, 1, 2, 3, 4, 5
_DAY, _DAY_SPENT, _DAY_BOOKED, _MONTH, _MONTH_SPENT, _MONTH_BOOKED = 6, 7, 8, 9, 10, 11
_HELD = 16
_WORDS = _HELD + 2 * SLOTS
_SUBJECTS_AT = SLOTS * _SLOT_WORDS
_SIZE = 8 * (_SUBJECTS_AT + SUBJECTS * _WORDS)
_BUSY_US, _HELD_US = 1_000_000, 2_000_000
_LOOK_AGAIN_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request would use of one subject."""

    subject: str
    limits: Limits


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which of the wishes cannot be met, by which limit, and how long (microseconds) it is worth waiting."""

    place: int
    limit: str
    wait_us: int


@dataclass(frozen=True, slots=True)
class Use:
    """What a subject uses at a moment; money is micro-dollars, `spent` includes what is booked on this host alone."""

    in_flight: int
    reserved: int
    day_spent: int
    month_spent: int


class _Lock:
    """One at a time: of the threads of this process, and of all processes that have the file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._within = threading.Lock()

    def __enter__(self) -> None:
        self._within.acquire()
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        except BaseException:
            self._within.release()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            with suppress(OSError):  # what was changed is changed; whoever wants the lock next is told
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        finally:
            self._within.release()


class Ledger:
    """This process's hold on the ledger in `folder`. `holder` (16 bytes) names the spool of this process.

    StoreError when the folder cannot be used, or there are more workers than slots. Later OSError where the kernel does not give
    its lock, with nothing changed.
    """

    def __init__(self, folder: Path, holder: bytes) -> None:
        self._folder = folder
        self._known: dict[str, tuple[int, int, int]] = {}
        """Where subjects stood when they were last looked for, and the two words of their ids."""
        self._full_until_us = 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(folder / _FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            os.posix_fallocate(self._fd, 0, _SIZE)  # a page that finds no room on the disk later would end the process
            self._map = mmap.mmap(self._fd, _SIZE)
        except OSError as error:
            raise StoreError(f"The ledger of limits in {folder} cannot be used: {error}.", "Give it space and access.") from error
        self._words = memoryview(self._map).cast("q")
        self._locked = _Lock(self._fd)
        with self._locked:
            self._slot, self._slot_fd = self._take_slot(holder)

    def close(self) -> None:
        """Lets go of the slot. What it still holds stays until `sweep` of another finds it."""
        self._words.release()
        self._map.close()
        os.close(self._slot_fd)
        os.close(self._fd)

    def take(self, wishes: Sequence[Wish], tokens: int, microusd: int, now_us: int) -> Refusal | None:
        """Takes one request, `tokens` and a reservation of `microusd` from every subject, or nothing at all and says why.

        StoreError when a subject finds no room.
        """
        words = self._words
        with self._locked:
            worst: Refusal | None = None
            places: list[int] = []
            for wish in wishes:
                places.append(self._enter(wish.subject, now_us, places))
            for place, (at, wish) in enumerate(zip(places, wishes, strict=True)):
                if wish.limits.has_budget:
                    self._turn_period(at, now_us)
                found = self._refusal(place, at, wish.limits, tokens, microusd, now_us)
                if found is not None and (worst is None or found.wait_us > worst.wait_us):
                    worst = found
            if worst is not None:
                return worst
            for at, wish in zip(places, wishes, strict=True):
                limits = wish.limits
                if limits.requests_per_minute:
                    words[at + _REQUESTS] = full_again(words[at + _REQUESTS], limits.requests_per_minute, 1, now_us)
                if limits.tokens_per_minute and tokens:
                    words[at + _TOKENS] = full_again(words[at + _TOKENS], limits.tokens_per_minute, tokens, now_us)
                self._hold(at, 1, microusd if limits.has_budget else 0)
        return None

    def finish(self, wishes: Sequence[Wish]) -> None:
        """A request that was taken is over; what it reserved stays until `settle`."""
        with self._locked:
            for wish in wishes:
                if at := self._look(wish.subject)[0]:
                    self._hold(at, -1, 0)

    def settle(self, wishes: Sequence[Wish], tokens: int, used_tokens: int, microusd: int, now_us: int) -> None:
        """Gives the reservation back, and corrects the bucket of tokens to what was used in place of what was guessed.

        A subject without a place has a full bucket: it gets one only when that is not so any more, and when there is room.
        """
        words = self._words
        with self._locked:
            for wish in wishes:
                at, limits = self._look(wish.subject)[0], wish.limits
                if not at and limits.tokens_per_minute and used_tokens > tokens:
                    at = self._put(wish.subject, now_us)
                if not at:
                    continue
                if limits.tokens_per_minute and used_tokens != tokens:
                    moment = max(words[at + _TOKENS], now_us) if used_tokens > tokens else words[at + _TOKENS]
                    words[at + _TOKENS] = full_again(moment, limits.tokens_per_minute, used_tokens - tokens, 0)
                if limits.has_budget:
                    self._hold(at, 0, -microusd)

    def write_off(self, wishes: Sequence[Wish], microusd: int, now_us: int) -> None:
        """The store will never say what this cost: the reservation counts as its cost, on this host."""
        words = self._words
        with self._locked:
            for wish in wishes:
                if wish.limits.has_budget and (at := self._look(wish.subject)[0]):
                    self._turn_period(at, now_us)
                    self._hold(at, 0, -microusd)
                    words[at + _DAY_BOOKED] += microusd
                    words[at + _MONTH_BOOKED] += microusd

    def book(self, subject: str, day_spent: int, month_spent: int, now_us: int) -> None:
        """What the store says was spent today and this month; a look that is older than another's changes nothing.

        A subject that has spent nothing needs no place; one that finds none is limited by nothing, as `take` says then.
        """
        words = self._words
        if not (day_spent or month_spent):
            return
        with self._locked:
            if at := self._put(subject, now_us):
                self._turn_period(at, now_us)
                words[at + _DAY_SPENT] = max(words[at + _DAY_SPENT], day_spent)
                words[at + _MONTH_SPENT] = max(words[at + _MONTH_SPENT], month_spent)

    def use(self, subject: str, now_us: int) -> Use:
        """What a subject uses now."""
        words = self._words
        with self._locked:
            at = self._look(subject)[0]
            if not at:
                return Use(0, 0, 0, 0)
            self._turn_period(at, now_us)
            day = words[at + _DAY_SPENT] + words[at + _DAY_BOOKED]
            month = words[at + _MONTH_SPENT] + words[at + _MONTH_BOOKED]
            return Use(words[at + _IN_FLIGHT], words[at + _RESERVED], day, month)

    def sweep(self, is_stored: Callable[[bytes], bool]) -> int:
        """Gives back what dead workers held: their requests, and the reservations of those whose spool `is_stored`.

        How many dead ones still have reservations.
        """
        waiting = 0
        for slot in range(SLOTS):
            at = slot * _SLOT_WORDS
            if slot == self._slot or not self._words[at]:
                continue
            fd = self._lock_slot(slot)
            if fd is None:
                continue
            try:
                is_gone = is_stored(self._words[at + 1 : at + 3].tobytes())
                if is_gone or self._words[at] == _HELD_BY_LIVING:
                    with self._locked:
                        self._give_back(slot, is_gone)
                        self._words[at] = _FREE if is_gone else _HELD_BY_DEAD
                waiting += not is_gone
            finally:
                os.close(fd)
        return waiting

    def _refusal(self, place: int, at: int, limits: Limits, tokens: int, microusd: int, now_us: int) -> Refusal | None:
        words = self._words
        refusals = []
        if limits.requests_per_minute and (wait := wait_us(words[at + _REQUESTS], limits.requests_per_minute, 1, now_us)):
            refusals.append(Refusal(place, REQUESTS, wait))
        if limits.tokens_per_minute and (wait := wait_us(words[at + _TOKENS], limits.tokens_per_minute, tokens, now_us)):
            refusals.append(Refusal(place, TOKENS, wait))
        if limits.concurrent and words[at + _IN_FLIGHT] >= limits.concurrent:
            refusals.append(Refusal(place, CONCURRENT, _BUSY_US))
        reserved = words[at + _RESERVED]
        if limits.day_microusd:
            left = limits.day_microusd - words[at + _DAY_SPENT] - words[at + _DAY_BOOKED] - microusd
            if left < reserved:
                refusals.append(Refusal(place, DAY, until_next_day_us(now_us)) if left < 0 else Refusal(place, HELD, _HELD_US))
        if limits.month_microusd:
            left = limits.month_microusd - words[at + _MONTH_SPENT] - words[at + _MONTH_BOOKED] - microusd
            if left < reserved:
                is_spent = left < 0
                refusals.append(
                    Refusal(place, MONTH, until_next_month_us(now_us)) if is_spent else Refusal(place, HELD, _HELD_US)
                )
        return max(refusals, key=lambda each: each.wait_us, default=None)

    def _turn_period(self, at: int, now_us: int) -> None:
        """A new day or month begins with nothing spent. A clock that goes back stays in the later one."""
        words = self._words
        day, month = day_of(now_us), month_of(now_us)
        if day > words[at + _DAY]:
            words[at + _DAY], words[at + _DAY_SPENT], words[at + _DAY_BOOKED] = day, 0, 0
        if month > words[at + _MONTH]:
            words[at + _MONTH], words[at + _MONTH_SPENT], words[at + _MONTH_BOOKED] = month, 0, 0

    def _hold(self, at: int, requests: int, microusd: int) -> None:
        words, mine = self._words, at + _HELD + 2 * self._slot
        words[at + _IN_FLIGHT] += requests
        words[at + _RESERVED] += microusd
        words[mine] += requests
        words[mine + 1] += microusd

    def _give_back(self, slot: int, with_reservations: bool) -> None:
        words = self._words
        for number in range(SUBJECTS):
            at = self._at(number)
            if not words[at]:
                continue
            held = at + _HELD + 2 * slot
            words[at + _IN_FLIGHT] -= words[held]
            words[held] = 0
            if with_reservations:
                words[at + _RESERVED] -= words[held + 1]
                words[held + 1] = 0

    def _take_slot(self, holder: bytes) -> tuple[int, int]:
        """A slot of ours: one that is free, else one of a dead worker, whose reservations are given up."""
        by_state = sorted(range(SLOTS), key=lambda slot: self._words[slot * _SLOT_WORDS] != _FREE)
        for slot in by_state:
            if (fd := self._lock_slot(slot)) is not None:
                at = slot * _SLOT_WORDS
                if self._words[at] != _FREE:
                    self._give_back(slot, True)
                self._words[at + 1 : at + 3] = memoryview(holder).cast("q")
                self._words[at] = _HELD_BY_LIVING
                return slot, fd
        raise StoreError(f"All {SLOTS} slots of the ledger of limits in {self._folder} are taken.", "Start fewer relay workers.")

    def _lock_slot(self, slot: int) -> int | None:
        """A descriptor that holds the slot as long as it is open; None when another process has it."""
        fd = os.open(self._folder / f"slot-{slot:02d}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def _enter(self, subject: str, now_us: int, kept: Sequence[int]) -> int:
        """The place of a subject, which is none of `kept` when it is a new one; StoreError when the ledger is full."""
        if at := self._put(subject, now_us, kept):
            return at
        raise StoreError(
            f"The ledger of limits in {self._folder} is full: {SUBJECTS} keys and tasks have requests under way, or have spent "
            "something this month.",
            f"Take limits from keys that need none, or stop Potstill, remove {_FILE} and slot-* from there, and start again; "
            "leave all other files, without which no virtual key can be checked.",
        )

    def _put(self, subject: str, now_us: int, kept: Sequence[int] = ()) -> int:
        """As `_enter`; 0 when the ledger is full."""
        at, free, first, second = self._look(subject)
        if at:
            return at
        if not free and not 0 < self._full_until_us - now_us <= _LOOK_AGAIN_US:
            free = self._idle_place(first, now_us, kept)
            if not free:
                self._full_until_us = now_us + _LOOK_AGAIN_US
        if free:
            self._words[free], self._words[free + _SECOND] = first, second
            self._remember(subject, free, first, second)
        return free

    def _look(self, subject: str) -> tuple[int, int, int, int]:
        """Where a subject stands, 0 for nowhere; then the first place without any, 0 for none; and the words of its id."""
        words = self._words
        known = self._known.get(subject)
        if known is not None:
            at, first, second = known
            if words[at] == first and words[at + _SECOND] == second:
                return at, 0, first, second
        digest = memoryview(blake2b(subject.encode("utf-8", "replace"), digest_size=16).digest()).cast("q")
        first, second = digest[0] or 1, digest[1]
        for step in range(SUBJECTS):
            at = self._at((first + step) % SUBJECTS)
            if not words[at]:
                return 0, at, first, second
            if words[at] == first and words[at + _SECOND] == second:
                self._remember(subject, at, first, second)
                return at, 0, first, second
        return 0, 0, first, second

    def _remember(self, subject: str, at: int, first: int, second: int) -> None:
        if len(self._known) >= SUBJECTS:
            self._known.clear()
        self._known[subject] = at, first, second

    def _idle_place(self, first: int, now_us: int, kept: Sequence[int]) -> int:
        """A place whose subject holds nothing and has spent nothing that counts yet; 0 for none.

        It is given on as it is: no place becomes empty again, so whoever stands behind it is still found.
        """
        words, day, month = self._words, day_of(now_us), month_of(now_us)
        for step in range(SUBJECTS):
            at = self._at((first + step) % SUBJECTS)
            if at in kept or words[at + _IN_FLIGHT] or words[at + _RESERVED]:
                continue
            if words[at + _REQUESTS] > now_us or words[at + _TOKENS] > now_us:
                continue
            spent_today = words[at + _DAY] >= day and (words[at + _DAY_SPENT] or words[at + _DAY_BOOKED])
            spent_this_month = words[at + _MONTH] >= month and (words[at + _MONTH_SPENT] or words[at + _MONTH_BOOKED])
            if not (spent_today or spent_this_month):
                return at
        return 0

    @staticmethod
    def _at(number: int) -> int:
        return _SUBJECTS_AT + number * _WORDS
