"""The requests of OpenAI batches by their `custom_id`, kept in a temporary file, so that memory stays flat."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from capture import loose_json
from capture.imports.imported import LineError
from capture.imports.values import as_object, as_text, body


class BatchRequests:
    """Fill it with `add`, ask it with `find`. The temporary file goes when it is closed."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute("CREATE TABLE requests (custom_id TEXT PRIMARY KEY, path TEXT, body BLOB, times INTEGER)")
        self._connection.execute("BEGIN")

    def __enter__(self) -> BatchRequests:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()

    def add(self, record: Mapping[str, Any]) -> None:
        """Takes in one line of a batch's input. The same line again changes nothing."""
        row = (as_text(record["custom_id"]), as_text(record.get("url")), body(as_object(record.get("body"))))
        self._connection.execute(
            "INSERT INTO requests VALUES (?, ?, ?, 1) ON CONFLICT (custom_id) DO UPDATE SET times = times + 1 "
            "WHERE body != excluded.body",
            row,
        )

    def find(self, custom_id: str) -> tuple[dict[str, Any], str] | None:
        """Body and address of a request; LineError when different requests share the name."""
        query = "SELECT body, path, times FROM requests WHERE custom_id = ?"
        row = self._connection.execute(query, (custom_id,)).fetchone()
        if row is None:
            return None
        if row[2] > 1:
            raise LineError(f"{custom_id} names different requests in the files given; import each batch on its own")
        return loose_json.as_object(loose_json.parse(row[0])), row[1]
