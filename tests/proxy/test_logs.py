"""Rotation of logs that other processes hold open."""

from __future__ import annotations

from pathlib import Path

from proxy.logs import rotate


def test_a_log_stays_small_and_so_many_old_ones_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "writer.log"
    with log.open("ab", buffering=0) as held:
        for number in range(1, 6):
            held.write(f"{number}".encode() * 2_000)
            assert rotate(tmp_path, 1_000, 2) == []
            assert log.stat().st_size == 0
        held.write(b"new\n")
    assert log.read_text() == "new\n"
    assert (tmp_path / "writer.log.1").read_text() == "5" * 2_000
    assert (tmp_path / "writer.log.2").read_text() == "4" * 2_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["writer.log", "writer.log.1", "writer.log.2"]
    assert (tmp_path / "writer.log.1").stat().st_mode & 0o777 == 0o600


def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "writer.log").write_text("small")
    assert rotate(tmp_path, 1_000, 2) == []
    assert (tmp_path / "writer.log").read_text() == "small"


def test_a_log_that_cannot_be_copied_is_emptied_all_the_same_and_it_says_why(tmp_path: Path) -> None:
    (tmp_path / "writer.log").write_text("x" * 2_000)
    (tmp_path / "writer.log.2").mkdir()
    (tmp_path / "writer.log.1").mkdir()
    (tmp_path / "writer.log.2" / "in-the-way").touch()
    (said,) = rotate(tmp_path, 1_000, 2)
    assert str(tmp_path / "writer.log") in said
    assert (tmp_path / "writer.log").stat().st_size == 0


def test_without_old_logs_it_is_only_emptied(tmp_path: Path) -> None:
    (tmp_path / "writer.log").write_text("x" * 2_000)
    assert rotate(tmp_path, 1_000, 0) == []
    assert [path.name for path in tmp_path.iterdir()] == ["writer.log"]
