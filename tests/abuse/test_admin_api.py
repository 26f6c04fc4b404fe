"""The admin listener keeps to its own description, as schemathesis finds: with its token, without it, and with none set."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.admin_routes import ROUTES
from tests.abuse.house import House, begin
from tests.clients.house import ENVIRONMENT, need, run_program
from tests.proxy.scripting import free_port

pytestmark = pytest.mark.abuse

TOKEN = "5d0f3a9be1c84277a6d2b90f4e8c13a7d5609b2ef8c41d63"
HELD = {"Authorization": f"Bearer {TOKEN}"}
SENT = ("--header", f"Authorization: Bearer {TOKEN}")
OPERATIONS = {f"{route.method} {route.path}" for route in ROUTES}
GUARDED = {f"{route.method} {route.path}" for route in ROUTES if not route.is_open}


@pytest.fixture(scope="module")
def command() -> str:
    """The schemathesis command line."""
    return str(need(ENVIRONMENT / "bin" / "schemathesis"))


@pytest.fixture(scope="module")
def guarded(command: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house whose admin listener has a token."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "admin.token").touch(mode=0o600)
    (folder / "admin.token").write_text(TOKEN + "\n")
    yield from _living(begin(folder, f"http://127.0.0.1:{free_port()}", admin_token_file='"admin.token"'))


@pytest.fixture(scope="module")
def unguarded(command: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house whose admin listener has none."""
    yield from _living(begin(tmp_path_factory.mktemp("unguarded"), f"http://127.0.0.1:{free_port()}"))


def _living(house: House) -> Iterator[House]:
    try:
        asyncio.run(house.takes_requests())
        yield house
    finally:
        asyncio.run(house.stop())


def described(house: House, **headers: str) -> dict[str, Any]:
    """The listener's description of itself."""
    status, text = asyncio.run(house.get("/openapi.json", **headers))
    assert status == 200, text
    return dict(json.loads(text))


def examined(command: str, house: House, document: dict[str, Any], folder: Path, *options: str) -> tuple[dict[str, Any], str]:
    """Schemathesis' report after all its checks of `house` against `document`, and what it said.

    It reads the document from a file, because it leaves out the address that it has a document from.
    """
    (folder / "openapi.json").write_text(json.dumps(document))
    run = run_program(
        [
            *(command, "run", "openapi.json", "--url", f"http://127.0.0.1:{house.admin_port}", "--checks", "all"),
            *("--seed", "7", "--generation-database", "none", "--max-examples", "10", "--no-color", "--no-shrink"),
            *("--continue-on-failure", "--report", "json", "--report-json-path", "report.json", *options),
        ],
        env={},
        cwd=folder,
    )
    said = run.stdout + run.stderr
    assert run.returncode in (0, 1), said
    return dict(json.loads((folder / "report.json").read_text())), said


def passes(report: dict[str, Any], said: str) -> None:
    """Every operation was asked, and no check failed."""
    assert report["exit_code"] == 0 and report["failures"] == [] and report["errors"] == [], said
    operations = report["operations"]
    assert operations["total"] == operations["tested"] == len(ROUTES), said
    assert report["phases"]["coverage"]["status"] == report["phases"]["fuzzing"]["status"] == "success", said


def test_with_its_token_it_answers_as_it_describes(command: str, guarded: House, tmp_path: Path) -> None:
    report, said = examined(command, guarded, described(guarded, **HELD), tmp_path, *SENT)
    passes(report, said)
    assert set(report["valid_rates"]) == OPERATIONS, "each was asked in a way that it takes"
    assert TOKEN not in guarded.logs()


def test_without_its_token_all_but_health_refuses_as_described(command: str, guarded: House, tmp_path: Path) -> None:
    report, said = examined(command, guarded, described(guarded, **HELD), tmp_path)
    passes(report, said)
    assert set(report["warnings"]["missing_auth"]) == GUARDED
    assert set(report["valid_rates"]) == OPERATIONS - GUARDED


def test_with_no_token_set_it_answers_as_it_describes(command: str, unguarded: House, tmp_path: Path) -> None:
    report, said = examined(command, unguarded, described(unguarded), tmp_path)
    passes(report, said)
    assert set(report["valid_rates"]) == OPERATIONS


def test_a_faulty_configuration_is_refused_as_described(command: str, guarded: House, tmp_path: Path) -> None:
    assert guarded.settings.path is not None
    kept = guarded.settings.path.read_text("utf-8")
    guarded.settings.path.write_text(kept + "\nfaulty = [\n", "utf-8")
    try:
        # That check blames the request for a refusal; here the file is at fault.
        options = (*SENT, "--exclude-checks", "positive_data_acceptance")
        report, said = examined(command, guarded, described(guarded, **HELD), tmp_path, *options)
    finally:
        guarded.settings.path.write_text(kept, "utf-8")
    passes(report, said)
    assert set(report["valid_rates"]) == OPERATIONS
    assert report["valid_rates"]["POST /reload"]["coverage"]["accepted"] == 0


def test_a_description_that_is_not_true_would_be_found(command: str, guarded: House, tmp_path: Path) -> None:
    document = described(guarded, **HELD)
    document["components"]["schemas"]["Live"]["properties"]["is_live"] = {"const": False}
    report, said = examined(command, guarded, document, tmp_path, *SENT)
    assert report["exit_code"] == 1, said
    assert "GET /health/live" in said and "Response violates schema" in said
