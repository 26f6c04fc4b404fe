"""Ways to break the ordering rules of capture, each as a replacement in the source, and the tests that must notice it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_COPIED = (
    *("capture", "proxy", "serve", "tests/capture", "tests/proxy", "tests/faults"),
    *("tests/cassettes.py", "tests/conftest.py", "pyproject.toml"),
)
_ORDER, _POWER, _CRASH, _CONTENT = (f"tests/faults/test_{name}_faults.py" for name in ("order", "power", "crash", "content"))
_COMMIT = "        if not (self._positions or self._gaps):\n            return 0\n"
_WHOLE = "        recording.whole(reply.status, passed.stored, answer.upstream, answer.model, body)\n"
_ASK = "        answer = await _ask(relay, config, asked, assignment, recording, key_id)\n"
_FIRST_TEST_FAILED, _ALL_PASSED = 1, 0


@dataclass(frozen=True, slots=True)
class Mutant:
    """One broken rule: in `file` each first text becomes the second. `killers` are the tests of which one must fail."""

    rule: str
    file: str
    changes: tuple[tuple[str, str], ...]
    killers: tuple[str, ...]


MUTANTS = (
    Mutant(
        "END is kept before the last byte is handed out",
        "proxy/forward.py",
        (
            ("    recording.end(COMPLETE)\n    await recording.settle()\n    if collector", "    if collector"),
            ("    call.finish(last)\n", "    call.finish(last)\n    recording.end(COMPLETE)\n"),
        ),
        (f"{_ORDER}::test_f01_nothing_is_handed_to_the_client_before_it_is_kept_and_no_end_before_the_end_is",),
    ),
    Mutant(
        "an answer that is there at once is kept before it is handed out",
        "proxy/forward.py",
        (
            (_WHOLE + "        await recording.settle()\n", ""),
            ("        call.finish(body)\n        return\n", f"        call.finish(body)\n{_WHOLE}        return\n"),
        ),
        (f"{_ORDER}::test_f01_nothing_is_handed_to_the_client_before_it_is_kept_and_no_end_before_the_end_is",),
    ),
    Mutant(
        "a part is kept before it is handed out",
        "proxy/forward.py",
        (
            ("            recording.part(data)\n            if collector", "            if collector"),
            ("            call.write(data)\n", "            call.write(data)\n            recording.part(data)\n"),
        ),
        (f"{_ORDER}::test_f01_nothing_is_handed_to_the_client_before_it_is_kept_and_no_end_before_the_end_is",),
    ),
    Mutant(
        "BEGIN is kept before the upstream is asked",
        "proxy/pipeline.py",
        (
            ("        is_kept = recording.begin(", "        begin = (recording.begin, "),
            ("        if not is_kept and config.capture.rejects_when_full:\n", "        if False:\n"),
            (_ASK, f"{_ASK}        begin[0](begin[1])\n"),
            ("        if is_kept or not config.capture.rejects_when_full:\n", "        if True:\n"),
            ("            is_kept = await recording.rest(asked.body)\n", "            is_kept = True\n"),
        ),
        (f"{_ORDER}::test_f01_the_request_is_kept_before_anybody_is_asked",),
    ),
    Mutant(
        "positions are committed together with their rows",
        "capture/writer.py",
        ((_COMMIT, f"{_COMMIT}        store_rows.write(self._database, (), (), (), self._positions)\n"),),
        (_CRASH,),
    ),
    Mutant(
        "a segment is removed after the commit",
        "capture/writer.py",
        ((_COMMIT, f"{_COMMIT}        _ = [self._readers[name].drop_before(at) for name, at in self._positions.items()]\n"),),
        (_CRASH,),
    ),
    Mutant(
        "the folder is synced after a new segment",
        "capture/spool.py",
        (("                    os.fsync(self._folder_fd)\n", "                    pass\n"),),
        (f"{_POWER}::test_f02_what_is_written_is_made_safe_soon_after_names_and_all",),
    ),
    Mutant(
        "segments that are full are synced too",
        "capture/spool.py",
        (("for each in (*retired, fd):", "for each in (fd,):"),),
        (f"{_POWER}::test_f02_what_is_written_is_made_safe_soon_after_names_and_all",),
    ),
    Mutant(
        "what a failed sync may have cost is written again",
        "capture/spool.py",
        (
            (
                "                self._start_over()\n                return False\n            finally",
                "                return False\n            finally",
            ),
        ),
        (f"{_POWER}::test_f09_what_a_failed_sync_made_the_kernel_forget_is_written_again",),
    ),
    Mutant(
        "in strict mode the last byte waits for the disk",
        "proxy/forward.py",
        (
            (_WHOLE + "        await recording.settle()\n", _WHOLE),
            (
                "    recording.end(COMPLETE)\n    await recording.settle()\n    if collector",
                "    recording.end(COMPLETE)\n    if collector",
            ),
        ),
        (f"{_POWER}::test_f02_in_strict_mode_an_answer_that_came_whole_survives_a_power_cut_at_once",),
    ),
    Mutant(
        "an exchange that is in the store already is left alone",
        "capture/exchange_rows.py",
        ((" if stored.exchange.id not in known}", "}"),),
        (_CRASH, "tests/capture/test_writer.py::test_a_crash_between_commit_and_removal_stores_nothing_twice"),
    ),
    Mutant(
        "a torn tail never stops the reader",
        "capture/spool_reader.py",
        (("        if is_tail:\n            return\n", '        if is_tail:\n            raise SpoolError("torn", "")\n'),),
        (_POWER,),
    ),
    Mutant(
        "what a dead relay left open is stored",
        "capture/spool_reader.py",
        (
            (
                "                        batch.add(exchange)\n                    self._open",
                "                        pass\n                    self._open",
            ),
        ),
        (_CRASH,),
    ),
    Mutant(
        "an answer with missing bytes is never stored as whole",
        "capture/derive.py",
        (("is_same_request and has_head and _digest(end.response_sha256) == relayed[1]", "True"),),
        (_POWER,),
    ),
    Mutant(
        "a poison row sinks nobody but itself",
        "capture/writer.py",
        (("            if len(batch) <= 1:\n", "            if True:\n"),),
        (f"{_CONTENT}::test_f23_numbers_that_no_column_takes_are_kept_aside_alone",),
    ),
    Mutant(
        "the store syncs every transaction",
        "capture/database.py",
        (("PRAGMA synchronous=FULL", "PRAGMA synchronous=NORMAL"),),
        (f"{_POWER}::test_f02_the_store_syncs_each_transaction_before_its_segments_go",),
    ),
)


def plant(mutant: Mutant, folder: Path) -> None:
    """Breaks the rule in the copy at `folder`; AssertionError when the source no longer says what the mutant expects."""
    path = folder / mutant.file
    source = path.read_text("utf-8")
    for old, new in mutant.changes:
        assert source.count(old) == 1, f"{mutant.file} has {source.count(old)} times, not once: {old!r}"
        source = source.replace(old, new)
    compile(source, str(path), "exec")
    path.write_text(source, "utf-8")


def copy_tree(folder: Path) -> None:
    """Makes `folder` a copy of what the killers need."""
    for name in _COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)


def passes(killers: tuple[str, ...], folder: Path) -> bool:
    """Whether all `killers` pass on the sources in `folder`; AssertionError when they could not be run."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-k", "not postgresql", "--timeout", "60"]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTEST_ADDOPTS": ""}
    basetemp = ["--basetemp", str(folder / "tmp")]
    done = subprocess.run(
        [*command, *basetemp, *killers], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (_ALL_PASSED, _FIRST_TEST_FAILED), done.stdout[-3_000:] + done.stderr[-1_000:]
    return done.returncode == _ALL_PASSED
