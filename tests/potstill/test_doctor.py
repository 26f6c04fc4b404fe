"""Each finding of doctor: when it is raised, how bad it is, and that it says what to do."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from time import time

import pytest

from capture import ids, store_rows
from capture.capture_settings import CaptureSettings
from capture.database import open_database
from capture.errors import RetentionError
from capture.losses import Losses
from capture.records import Gap
from capture.retention import Retention, accept, measure
from capture.settings import Settings, load_settings
from capture.spool import SpoolWriter, segment_name
from capture.spool_reader import SpooledGap
from potstill import doctor_store
from potstill.doctor import examine, judge_packages
from potstill.doctor_clock import judge_skew, skew_of
from potstill.doctor_network import check_relay, check_upstreams, judge_workers
from potstill.doctor_store import (
    check_disk,
    check_privacy,
    check_spool,
    check_store,
    filesystem_of,
    judge_filesystem,
    judge_losses,
    judge_spool,
    judge_sqlite,
)
from potstill.findings import BAD, NOTE, OK, Finding
from tests.capture.planting import answer, chat, drain, write

MIB = 2**20


def one(findings: list[Finding], check: str) -> Finding:
    (found,) = [finding for finding in findings if finding.check == check]
    return found


@pytest.fixture
def house(tmp_path: Path) -> Callable[[str], Settings]:
    """Settings from a potstill.toml with this text."""

    def make(toml: str) -> Settings:
        path = tmp_path / "potstill.toml"
        path.write_text(toml, "utf-8")
        return load_settings(path, environ={})

    return make


@pytest.fixture
def upstream() -> Iterator[Callable[[float], str]]:
    """Starts upstreams whose clock is so many seconds ahead; gives their address."""
    servers: list[HTTPServer] = []

    def start(ahead_s: float) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(404)
                self.end_headers()

            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate(time() + ahead_s, usegmt=True)

            def log_message(self, format: str, *args: object) -> None:
                return None

        servers.append(HTTPServer(("127.0.0.1", 0), Answer))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ((3, 6, 23), OK),
        ((3, 7, 0), NOTE),
        ((3, 40, 1), NOTE),
        ((3, 44, 5), NOTE),
        ((3, 44, 6), OK),
        ((3, 45, 0), NOTE),
        ((3, 50, 6), NOTE),
        ((3, 50, 7), OK),
        ((3, 51, 2), NOTE),
        ((3, 51, 3), OK),
        ((3, 54, 1), OK),
    ],
)
def test_the_wal_reset_race_is_known_by_version(version: tuple[int, ...], verdict: str) -> None:
    assert judge_sqlite(version, has_fts5=True).verdict == verdict


def test_a_sqlite_without_full_text_search_is_bad() -> None:
    assert judge_sqlite((3, 54, 1), has_fts5=False).verdict == BAD


MOUNTS = r"""overlay / overlay rw 0 0
/dev/sda1 /home ext4 rw 0 0
server:/export /home/ada/shared nfs4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
/dev/sdb1 /mnt/my\040disk xfs rw 0 0
broken line"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/srv/data", "overlay"),
        ("/home/ada/.potstill", "ext4"),
        ("/home/ada/shared/.potstill", "nfs4"),
        ("/home/ada/shared", "nfs4"),
        ("/home/ada/shared2", "ext4"),
        ("/tmp/x", "tmpfs"),
        ("/mnt/my disk/x", "xfs"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(folder: str, kind: str) -> None:
    assert filesystem_of(Path(folder), MOUNTS) == kind


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        *((kind, OK) for kind in ("ext4", "overlay", "")),
        *((kind, BAD) for kind in ("nfs", "nfs4", "cifs", "fuse.sshfs")),
        *((kind, NOTE) for kind in ("9p", "fuse.mergerfs", "virtiofs", "tmpfs")),
    ],
)
def test_network_file_systems_are_bad_and_doubtful_ones_are_named(kind: str, verdict: str) -> None:
    found = judge_filesystem(kind, "/data")
    assert found.verdict == verdict
    assert bool(found.next_step) == (verdict != OK)


def test_the_disk_is_looked_at(settings: Settings) -> None:
    assert one(check_disk(settings), "disk").what.endswith(str(settings.data_folder))


@pytest.mark.parametrize(("size", "verdict"), [(0, OK), (49, OK), (51, NOTE), (100, BAD)])
def test_a_spool_is_judged_by_its_limit(size: int, verdict: str) -> None:
    assert judge_spool({"sp_a": size * MIB, "sp_b": 1}, 100 * MIB).verdict == verdict


def test_what_waits_in_the_spools_is_added_up(settings: Settings) -> None:
    for name in ("sp_a", "sp_b"):
        folder = settings.data_folder / "spool" / name
        folder.mkdir(parents=True)
        (folder / "000001.seg").write_bytes(b"x" * MIB)
    assert "2.0 MiB in 2 spools" in one(check_spool(settings), "spool").what


def test_a_store_is_described_and_losses_are_bad(settings: Settings) -> None:
    healthy = check_store(settings)
    assert "SQLite" in one(healthy, "store").what and "schema m0" in one(healthy, "store").what
    assert one(healthy, "losses").verdict == OK
    database = open_database(settings.database_url)
    letter = store_rows.DeadLetter(ids.new_id("ex"), "refused", b"")
    store_rows.write(database, (), [letter], [("sp_a", SpooledGap("gap_1", Gap(1, 2, 5, "disk full")))])
    database.close()
    found = one(check_store(settings), "losses")
    assert found.verdict == BAD
    assert "5 exchanges were dropped, 1 could not be stored" in found.what
    assert "potstill losses" in found.next_step


def test_a_refused_retention_is_bad_until_a_person_accepts_it(house: Callable[[str], Settings]) -> None:
    settings = house("[capture]\nretention_exchanges = 1\n")
    spool = SpoolWriter(settings.data_folder / "spool")
    for _ in range(3):
        write(spool, chat("a"), answer("b"))
    spool.close()
    database = open_database(settings.database_url)
    drain(database, settings.data_folder / "spool")
    limits = settings.section("capture", CaptureSettings)
    with pytest.raises(RetentionError):
        Retention(database, limits).step()
    found = one(check_store(settings), "retention")
    assert (found.verdict, "2 of 3 exchanges" in found.what) == (BAD, True)
    assert "potstill retention run --force" in found.next_step
    accept(database, measure(database, limits))
    database.close()
    assert [finding for finding in check_store(settings) if finding.check == "retention"] == []


def test_losses_of_long_ago_are_worth_knowing_but_not_bad(settings: Settings) -> None:
    database = open_database(settings.database_url)
    store_rows.write(database, (), (), [("sp_a", SpooledGap("gap_1", Gap(1, 2, 5, "disk full")))])
    database.close()
    found = one(check_store(settings), "losses")
    assert (found.verdict, "more than a week ago" in found.what) == (NOTE, True)
    week_us = 7 * 86_400_000_000
    verdicts = [judge_losses(Losses(5, 1, (), 0, (), (), 10), now).verdict for now in (week_us, week_us + 10, week_us + 11)]
    assert verdicts == [BAD, BAD, NOTE]


def test_postgresql_is_described_without_its_password_and_its_clock_compared(
    house: Callable[[str], Settings], postgresql_url: str
) -> None:
    url = postgresql_url.replace("postgresql+psycopg://", "postgresql://")
    findings = check_store(house(f'[store]\ndatabase_url = "{url}"\n'))
    assert one(findings, "store").what.startswith("PostgreSQL ")
    assert one(findings, "store clock").verdict == OK


def test_a_writer_that_is_behind_is_bad(settings: Settings) -> None:
    folder = settings.data_folder / "spool" / "sp_a"
    folder.mkdir(parents=True)
    for number, age_s in ((1, 600), (2, 0)):
        path = folder / segment_name(number)
        path.write_bytes(b"x")
        os.utime(path, (time() - age_s, time() - age_s))
    found = one(check_store(settings), "writer")
    assert (found.verdict, found.next_step) == (BAD, "Start the store writer: potstill up")


@pytest.mark.parametrize(("ahead_s", "verdict"), [(0.4, OK), (-29, OK), (31, NOTE), (-4000, NOTE)])
def test_a_clock_may_be_thirty_seconds_wrong(ahead_s: float, verdict: str) -> None:
    assert judge_skew("x", ahead_s).verdict == verdict


def test_a_clock_that_is_wrong_says_which_way() -> None:
    assert "40 s behind that of x" in judge_skew("x", 40).what
    assert "40 s ahead of that of x" in judge_skew("x", -40).what


def test_a_date_that_is_none_says_nothing() -> None:
    assert skew_of("", 0) is None
    assert skew_of("tomorrow", 0) is None
    assert skew_of("Thu, 01 Jan 1970 00:01:00 GMT", 0) == 60


def test_upstreams_are_reached_and_their_clock_is_compared(
    house: Callable[[str], Settings], upstream: Callable[[float], str]
) -> None:
    toml = f'[upstreams.here]\nurl = "{upstream(3600)}"\n[upstreams.gone]\nurl = "http://127.0.0.1:9"\n'
    findings = check_upstreams(house(toml))
    assert one(findings, "upstream here").verdict == OK
    gone = one(findings, "upstream gone")
    assert gone.verdict == BAD and "[upstreams.gone] url" in gone.next_step
    assert one(findings, "clock").verdict == NOTE
    assert "3600 s behind" in one(findings, "clock").what or "3599 s behind" in one(findings, "clock").what


def test_a_key_that_cannot_be_had_and_a_translation_that_does_not_run_are_told(house: Callable[[str], Settings]) -> None:
    toml = (
        '[upstreams.filed]\nurl = "http://127.0.0.1:9"\nkey = "file:own.key"\n'
        '[upstreams.named]\nurl = "http://127.0.0.1:9"\nkey = "env:POTSTILL_NO_SUCH_KEY"\n'
        '[upstreams.gemini]\nprotocol = "litellm"\n'
    )
    findings = check_upstreams(house(toml))
    filed, named = one(findings, "upstream filed"), one(findings, "upstream named")
    assert filed.verdict == named.verdict == BAD
    assert "cannot be read" in filed.what and "own.key" in filed.next_step
    assert "POTSTILL_NO_SUCH_KEY" in named.what and "export POTSTILL_NO_SUCH_KEY" in named.next_step
    assert one(findings, "upstream gemini").verdict == NOTE


def test_without_an_upstream_that_answers_the_clock_is_not_judged(house: Callable[[str], Settings]) -> None:
    findings = check_upstreams(house('[upstreams.gone]\nurl = "http://127.0.0.1:9"\n'))
    assert [finding.check for finding in findings] == ["upstream gone"]


def test_a_port_that_somebody_else_has_is_bad(house: Callable[[str], Settings]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as admin:
        port, admin_port = taken.getsockname()[1], admin.getsockname()[1]
        admin.close()
        found = one(check_relay(house(f"[relay]\nport = {port}\nadmin_port = {admin_port}\n")), "relay")
    assert found.verdict == BAD and str(port) in found.what


@pytest.mark.parametrize(
    ("status", "said", "verdict", "words"),
    [
        (200, {"is_ready": True, "is_degraded": False, "ailing": []}, OK, "up on 127.0.0.1:"),
        (200, {"is_ready": True, "is_degraded": True, "ailing": ["writer"]}, NOTE, "ailing: writer"),
        (503, {"is_ready": False, "is_degraded": True, "ailing": ["relay 1", "relay 2"]}, BAD, "relay 1; relay 2"),
        (503, {"is_ready": False}, BAD, "status 503"),
        (200, ["odd"], BAD, "not ready"),
    ],
)
def test_a_relay_is_well_only_when_it_says_so(
    status: int, said: object, verdict: str, words: str, house: Callable[[str], Settings]
) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health/ready" else 200)
            self.end_headers()
            self.wfile.write(json.dumps(said if self.path == "/health/ready" else {"workers": []}).encode())

        def log_message(self, format: str, *args: object) -> None:
            return None

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        found = one(check_relay(house(f"[relay]\nadmin_port = {server.server_port}\n")), "relay")
        server.shutdown()
    assert found.verdict == verdict and words in found.what
    assert bool(found.next_step) == (verdict != OK)


def test_a_relay_on_an_ipv6_address_is_looked_at(house: Callable[[str], Settings]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one_port, socket.create_server(("127.0.0.1", 0)) as another:
        ports = one_port.getsockname()[1], another.getsockname()[1]
    found = one(check_relay(house(f'[relay]\nhost = "::1"\nport = {ports[0]}\nadmin_port = {ports[1]}\n')), "relay")
    assert found.check == "relay" and str(ports[0]) in found.what


def test_a_check_that_breaks_is_a_finding_that_names_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, upstream: Callable[[float], str]
) -> None:
    def breaks(_settings: Settings) -> list[Finding]:
        raise RuntimeError("odd")

    monkeypatch.setattr(doctor_store, "check_spool", breaks)
    found = one(examine(settings), "spool")
    assert found.verdict == BAD and "RuntimeError: odd" in found.what


def test_the_relays_own_counters_are_read() -> None:
    assert [finding.verdict for finding in judge_workers([{"sync_failures": 0, "dropped": 0}, {}])] == [OK]
    findings = judge_workers([{"sync_failures": 2}, {"dropped": 3, "sync_failures": 1}, "odd"])
    assert "refused 3 times" in one(findings, "sync").what and one(findings, "sync").verdict == BAD
    assert "dropped 3" in one(findings, "dropped").what


def test_packages_that_are_missing_or_evil_are_named() -> None:
    good = {"sqlalchemy": "2.1", "litellm": "1.90.0", "torch": "2.0"}
    assert judge_packages(good)[0].verdict == OK
    assert judge_packages({**good, "torch": ""})[0].verdict == NOTE
    assert judge_packages({**good, "sqlalchemy": ""})[0].verdict == BAD
    evil = judge_packages({**good, "litellm": "1.82.8"})[0]
    assert evil.verdict == BAD and "change every key" in evil.next_step


def test_pseudonyms_without_a_key_are_bad(
    house: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch, upstream: Callable[[float], str]
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    toml = (
        f'[capture]\npersonal_data = "pseudonyms"\npersonal_data_key_env = "NO_SUCH_KEY"\n[upstreams.u]\nurl = "{upstream(0)}"\n'
    )
    found = one(examine(house(toml)), "privacy")
    assert found.verdict == BAD and "NO_SUCH_KEY" in found.what
    assert "mask" in one(check_privacy(house('[capture]\npersonal_data = "mask"\n')), "privacy").what


def test_a_store_that_cannot_be_opened_is_a_finding_and_the_rest_is_looked_at(
    house: Callable[[str], Settings], upstream: Callable[[float], str]
) -> None:
    toml = f'[store]\ndatabase_url = "postgresql://nobody@127.0.0.1:9/none"\n[upstreams.u]\nurl = "{upstream(0)}"\n'
    findings = examine(house(toml))
    assert one(findings, "store").verdict == BAD
    assert one(findings, "upstream u").verdict == OK
    assert all(finding.next_step for finding in findings if finding.verdict == BAD)
