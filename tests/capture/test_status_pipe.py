"""A child's words to its supervisor, through a real pipe."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec
import pytest

from capture.status_pipe import StatusPipe


@pytest.fixture
def pipe() -> Iterator[tuple[int, StatusPipe]]:
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    yield read_fd, StatusPipe(write_fd)
    for fd in (read_fd, write_fd):
        os.close(fd)


def read_all(fd: int) -> bytes:
    found = b""
    while True:
        try:
            found += os.read(fd, 2**20)
        except BlockingIOError:
            return found


def test_a_supervisor_that_is_slow_gets_whole_lines_however_long_they_are(pipe: tuple[int, StatusPipe]) -> None:
    read_fd, status = pipe
    heard = b""
    for number in range(40):
        status.tell({"number": number, "much": "x" * 50_000})
        if number % 5 == 4:
            heard += read_all(read_fd)
    lines = heard.split(b"\n")
    numbers = [msgspec.json.decode(line)["number"] for line in lines[:-1]]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0
    assert numbers[-1] > 30
    assert len(numbers) < 40, "what finds no room is left out"


def test_it_says_so_when_nobody_listens_any_more() -> None:
    read_fd, write_fd = os.pipe()
    status = StatusPipe(write_fd)
    os.close(read_fd)
    with pytest.raises(BrokenPipeError):
        status.tell({})
    os.close(write_fd)
