"""One linear history of the whole store, append-only: opening the store brings it up to date.

Each migration is a function from a dialect to SQL statements; its name is its entry in table `migrations`. One that has to
rewrite rows has a companion in `MOVES`, which runs behind its statements in the same transaction. A landed migration is never
edited. `tests/test_schema.py` compares the result with the tables that the packages declare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Dialect:
    """The few words that SQLite and PostgreSQL spell differently."""

    blob: str
    serial: str
    key: str
    without_rowid: str
    words: tuple[str, ...]


SQLITE = Dialect(
    blob="BLOB",
    serial="INTEGER PRIMARY KEY AUTOINCREMENT",
    key="INTEGER",
    without_rowid=" WITHOUT ROWID",
    words=(
        """CREATE VIRTUAL TABLE exchange_words USING fts5(words, content='', columnsize=0,
            tokenize='unicode61 remove_diacritics 2')""",
    ),
)
POSTGRESQL = Dialect(
    blob="BYTEA",
    serial="BIGSERIAL PRIMARY KEY",
    key="BIGINT",
    without_rowid="",
    words=(
        "CREATE TABLE exchange_words (number BIGINT PRIMARY KEY, words TSVECTOR NOT NULL)",
        "CREATE INDEX exchange_words_by_word ON exchange_words USING gin (words)",
    ),
)


def m001_initial(d: Dialect) -> list[str]:
    """Exchanges and bodies; examples, reviews and dataset versions; runs, evaluations, adapters; releases and flags."""
    return [
        f"CREATE TABLE bodies (hash TEXT PRIMARY KEY, size BIGINT NOT NULL, zstd {d.blob} NOT NULL)",
        """CREATE TABLE exchanges (
            id TEXT PRIMARY KEY, started_us BIGINT NOT NULL, ended_us BIGINT NOT NULL,
            method TEXT NOT NULL, path TEXT NOT NULL, protocol TEXT NOT NULL, purpose TEXT NOT NULL,
            task TEXT NOT NULL, unit TEXT NOT NULL, unit_source TEXT NOT NULL,
            user_name TEXT NOT NULL, session_name TEXT NOT NULL, environment TEXT NOT NULL, tags TEXT NOT NULL,
            model_asked TEXT NOT NULL, model_served TEXT NOT NULL, upstream TEXT NOT NULL,
            variant TEXT NOT NULL, release_id TEXT NOT NULL, flag_revision BIGINT NOT NULL, fallback_reason TEXT NOT NULL,
            is_stream BIGINT NOT NULL, status BIGINT NOT NULL, state TEXT NOT NULL,
            error_kind TEXT NOT NULL, error_message TEXT NOT NULL, finish_reason TEXT NOT NULL,
            latency_us BIGINT, first_byte_us BIGINT, overhead_us BIGINT,
            tokens_in BIGINT, tokens_out BIGINT, usage_source TEXT NOT NULL, cost_microusd BIGINT,
            input_hash TEXT NOT NULL, output_text TEXT NOT NULL,
            request_headers TEXT NOT NULL, response_headers TEXT NOT NULL,
            request_body TEXT NOT NULL, response_body TEXT NOT NULL,
            request_sha256 TEXT NOT NULL, response_sha256 TEXT NOT NULL, redactions BIGINT NOT NULL)""",
        "CREATE INDEX exchanges_by_task ON exchanges (task, id)",
        "CREATE INDEX exchanges_by_input ON exchanges (task, input_hash)",
        "CREATE INDEX exchanges_by_variant ON exchanges (task, variant, id)",
        """CREATE TABLE spools (spool_id TEXT PRIMARY KEY, segment BIGINT NOT NULL, position BIGINT NOT NULL,
            updated_us BIGINT NOT NULL)""",
        """CREATE TABLE gaps (id TEXT PRIMARY KEY, spool_id TEXT NOT NULL, from_us BIGINT NOT NULL, to_us BIGINT NOT NULL,
            lost BIGINT NOT NULL, reason TEXT NOT NULL)""",
        f"""CREATE TABLE dead_letters (exchange_id TEXT PRIMARY KEY, reason TEXT NOT NULL, record {d.blob} NOT NULL,
            created_us BIGINT NOT NULL)""",
        """CREATE TABLE dataset_versions (
            id TEXT PRIMARY KEY, task TEXT NOT NULL, number BIGINT NOT NULL, hash TEXT NOT NULL,
            train BIGINT NOT NULL, val BIGINT NOT NULL, test BIGINT NOT NULL,
            folder TEXT NOT NULL, manifest TEXT NOT NULL, created_us BIGINT NOT NULL, UNIQUE (task, number))""",
        """CREATE TABLE examples (
            id TEXT PRIMARY KEY, task TEXT NOT NULL, exchange_id TEXT NOT NULL UNIQUE, input_key TEXT NOT NULL,
            split TEXT NOT NULL, reason TEXT NOT NULL, messages TEXT NOT NULL, target TEXT NOT NULL,
            priority BIGINT NOT NULL, note TEXT NOT NULL, created_us BIGINT NOT NULL)""",
        "CREATE INDEX examples_by_task ON examples (task, priority, id)",
        """CREATE TABLE splits (task TEXT NOT NULL, input_key TEXT NOT NULL, split TEXT NOT NULL, first_version BIGINT NOT NULL,
            PRIMARY KEY (task, input_key))""",
        f"""CREATE TABLE reviews (
            number {d.serial}, id TEXT NOT NULL, task TEXT NOT NULL, exchange_id TEXT NOT NULL, verdict TEXT NOT NULL,
            target TEXT NOT NULL, reviewer TEXT NOT NULL, note TEXT NOT NULL, created_us BIGINT NOT NULL)""",
        "CREATE INDEX reviews_by_task ON reviews (task, exchange_id, number)",
        """CREATE TABLE runs (
            id TEXT PRIMARY KEY, number BIGINT NOT NULL, task TEXT NOT NULL, dataset_version_id TEXT NOT NULL,
            recipe_name TEXT NOT NULL, recipe_hash TEXT NOT NULL, recipe TEXT NOT NULL, base_model TEXT NOT NULL,
            state TEXT NOT NULL, stage TEXT NOT NULL, step BIGINT NOT NULL, total_steps BIGINT NOT NULL,
            error_message TEXT NOT NULL, pid BIGINT NOT NULL, folder TEXT NOT NULL, heartbeat_us BIGINT NOT NULL,
            created_us BIGINT NOT NULL, ended_us BIGINT NOT NULL)""",
        """CREATE TABLE run_metrics (run_id TEXT NOT NULL, step BIGINT NOT NULL, metric TEXT NOT NULL,
            value DOUBLE PRECISION NOT NULL, created_us BIGINT NOT NULL, PRIMARY KEY (run_id, step, metric))""",
        """CREATE TABLE evaluations (
            id TEXT PRIMARY KEY, run_id TEXT NOT NULL, variant TEXT NOT NULL, split TEXT NOT NULL, metric TEXT NOT NULL,
            n BIGINT NOT NULL, value DOUBLE PRECISION, low DOUBLE PRECISION, high DOUBLE PRECISION,
            note TEXT NOT NULL, created_us BIGINT NOT NULL)""",
        """CREATE TABLE adapters (
            id TEXT PRIMARY KEY, run_id TEXT NOT NULL, task TEXT NOT NULL, dataset_version_id TEXT NOT NULL,
            recipe_hash TEXT NOT NULL, base_model TEXT NOT NULL, folder TEXT NOT NULL, hash TEXT NOT NULL,
            card TEXT NOT NULL, created_us BIGINT NOT NULL)""",
        """CREATE TABLE releases (
            id TEXT PRIMARY KEY, task TEXT NOT NULL, number BIGINT NOT NULL, adapter_id TEXT NOT NULL,
            engine_model TEXT NOT NULL, state TEXT NOT NULL, gate TEXT NOT NULL, parity_n BIGINT NOT NULL,
            parity_same BIGINT NOT NULL, created_us BIGINT NOT NULL, UNIQUE (task, number))""",
        f"""CREATE TABLE flag_changes (
            revision {d.serial}, id TEXT NOT NULL, task TEXT NOT NULL, release_id TEXT NOT NULL, engine_model TEXT NOT NULL,
            share_bp BIGINT NOT NULL, unit TEXT NOT NULL, salt TEXT NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL,
            created_us BIGINT NOT NULL)""",
        "CREATE INDEX flag_changes_by_task ON flag_changes (task, revision)",
    ]


def m002_pieces(d: Dialect) -> list[str]:
    """Bodies as content-addressed pieces, exchanges numbered in the order of storing, full-text index, feedback, privacy."""
    return [
        "DROP INDEX exchanges_by_task",
        "DROP INDEX exchanges_by_input",
        "DROP INDEX exchanges_by_variant",
        "ALTER TABLE exchanges RENAME TO old_exchanges",
        "ALTER TABLE bodies RENAME TO old_bodies",
        f"""CREATE TABLE exchanges (
            number {d.serial}, id TEXT NOT NULL, started_us BIGINT NOT NULL, ended_us BIGINT NOT NULL,
            method TEXT NOT NULL, path TEXT NOT NULL, query TEXT NOT NULL, protocol TEXT NOT NULL, purpose TEXT NOT NULL,
            task TEXT NOT NULL, unit TEXT NOT NULL, unit_source TEXT NOT NULL,
            user_name TEXT NOT NULL, session_name TEXT NOT NULL, environment TEXT NOT NULL, tags TEXT NOT NULL,
            model_asked TEXT NOT NULL, model_served TEXT NOT NULL, upstream TEXT NOT NULL,
            variant TEXT NOT NULL, release_id TEXT NOT NULL, flag_revision BIGINT NOT NULL, fallback_reason TEXT NOT NULL,
            is_stream BIGINT NOT NULL, status BIGINT NOT NULL, state TEXT NOT NULL,
            error_kind TEXT NOT NULL, error_message TEXT NOT NULL, finish_reason TEXT NOT NULL,
            latency_us BIGINT, first_byte_us BIGINT, overhead_us BIGINT,
            tokens_in BIGINT, tokens_out BIGINT, tokens_cached BIGINT NOT NULL, tokens_cache_written BIGINT NOT NULL,
            tokens_reasoning BIGINT NOT NULL, usage_source TEXT NOT NULL, cost_microusd BIGINT,
            input_hash TEXT NOT NULL, output_text TEXT NOT NULL, content TEXT NOT NULL, body_bytes BIGINT NOT NULL,
            redactions BIGINT NOT NULL)""",
        "CREATE UNIQUE INDEX exchanges_by_id ON exchanges (id)",
        "CREATE INDEX exchanges_by_task ON exchanges (task, number)",
        "CREATE INDEX exchanges_by_variant ON exchanges (task, variant, number) WHERE variant <> ''",
        "CREATE INDEX exchanges_by_session ON exchanges (session_name) WHERE session_name <> ''",
        "CREATE INDEX exchanges_by_user ON exchanges (user_name) WHERE user_name <> ''",
        """CREATE INDEX exchanges_failed ON exchanges (number, task, status, state)
            WHERE NOT (state = 'complete' AND status >= 200 AND status < 300)""",
        "CREATE INDEX exchanges_by_start ON exchanges (started_us)",
        "CREATE INDEX exchanges_by_latency ON exchanges (latency_us)",
        "CREATE INDEX exchanges_by_cost ON exchanges (cost_microusd)",
        "CREATE INDEX exchanges_by_model ON exchanges (COALESCE(NULLIF(model_served, ''), model_asked))",
        f"CREATE TABLE contents (number {d.key} PRIMARY KEY, zstd {d.blob} NOT NULL)",
        f"CREATE TABLE pieces (number {d.serial}, hash {d.blob} NOT NULL, size BIGINT NOT NULL, zstd {d.blob} NOT NULL)",
        "CREATE UNIQUE INDEX pieces_by_hash ON pieces (hash)",
        f"""CREATE TABLE piece_uses (piece BIGINT NOT NULL, exchange BIGINT NOT NULL,
            PRIMARY KEY (piece, exchange)){d.without_rowid}""",
        *d.words,
        f"""CREATE TABLE feedback (
            number {d.serial}, id TEXT NOT NULL UNIQUE, exchange_id TEXT NOT NULL, session_name TEXT NOT NULL, name TEXT NOT NULL,
            kind TEXT NOT NULL, value DOUBLE PRECISION, text TEXT NOT NULL, who TEXT NOT NULL, source TEXT NOT NULL,
            tags TEXT NOT NULL, created_us BIGINT NOT NULL)""",
        "CREATE INDEX feedback_by_exchange ON feedback (exchange_id)",
        "CREATE INDEX feedback_by_session ON feedback (session_name)",
        f"""CREATE TABLE pseudonyms (token TEXT NOT NULL, exchange_id TEXT NOT NULL, sealed {d.blob} NOT NULL,
            PRIMARY KEY (token, exchange_id))""",
        "CREATE INDEX pseudonyms_by_exchange ON pseudonyms (exchange_id)",
        "CREATE TABLE exports (path TEXT PRIMARY KEY, format TEXT NOT NULL, filter TEXT NOT NULL, created_us BIGINT NOT NULL)",
        "CREATE TABLE erasures (id TEXT PRIMARY KEY, receipt TEXT NOT NULL, created_us BIGINT NOT NULL)",
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    ]


def m003_drop_bodies(_d: Dialect) -> list[str]:
    """The tables whose rows `move_bodies` has carried over."""
    return ["DROP TABLE old_exchanges", "DROP TABLE old_bodies"]


def m004_keys(_d: Dialect) -> list[str]:
    """Virtual keys; which key and trace an exchange belongs to; what a cache saved; what each key and task cost a day."""
    return [
        "ALTER TABLE exchanges ADD COLUMN key_id TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE exchanges ADD COLUMN trace_id TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE exchanges ADD COLUMN saved_microusd BIGINT NOT NULL DEFAULT 0",
        "CREATE INDEX exchanges_by_key ON exchanges (key_id) WHERE key_id <> ''",
        "CREATE INDEX exchanges_by_trace ON exchanges (trace_id) WHERE trace_id <> ''",
        """CREATE TABLE spend (day BIGINT NOT NULL, key_id TEXT NOT NULL, task TEXT NOT NULL, exchanges BIGINT NOT NULL,
            unpriced BIGINT NOT NULL, tokens BIGINT NOT NULL, cost_microusd BIGINT NOT NULL, saved_microusd BIGINT NOT NULL,
            PRIMARY KEY (day, key_id, task))""",
        """CREATE TABLE keys (
            id TEXT PRIMARY KEY, name TEXT NOT NULL, hash TEXT NOT NULL, scopes TEXT NOT NULL, tasks TEXT NOT NULL,
            models TEXT NOT NULL, upstreams TEXT NOT NULL, requests_per_minute BIGINT NOT NULL, tokens_per_minute BIGINT NOT NULL,
            concurrent BIGINT NOT NULL, day_microusd BIGINT NOT NULL, month_microusd BIGINT NOT NULL, who TEXT NOT NULL,
            created_us BIGINT NOT NULL, expires_us BIGINT NOT NULL, revoked_us BIGINT NOT NULL, previous_hash TEXT NOT NULL,
            previous_until_us BIGINT NOT NULL, revision BIGINT NOT NULL)""",
    ]


def m005_curation(d: Dialect) -> list[str]:
    """Tools in examples, the answers verdicts are on; names and templates of tasks, pins, other teachers' answers, audits."""
    return [
        "ALTER TABLE examples ADD COLUMN tools TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE examples ADD COLUMN answer TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE examples ADD COLUMN target_source TEXT NOT NULL DEFAULT 'answer'",
        "ALTER TABLE examples ADD COLUMN look_alike TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE examples ADD COLUMN stands_for BIGINT NOT NULL DEFAULT 1",
        "CREATE INDEX examples_by_look_alike ON examples (task, look_alike)",
        "ALTER TABLE reviews ADD COLUMN answer_hash TEXT NOT NULL DEFAULT ''",
        """CREATE TABLE task_names (fingerprint TEXT PRIMARY KEY, task TEXT NOT NULL, who TEXT NOT NULL,
            created_us BIGINT NOT NULL)""",
        "CREATE TABLE task_aliases (alias TEXT PRIMARY KEY, task TEXT NOT NULL, who TEXT NOT NULL, created_us BIGINT NOT NULL)",
        """CREATE TABLE task_templates (task TEXT NOT NULL, version BIGINT NOT NULL, fingerprint TEXT NOT NULL,
            template TEXT NOT NULL, distinct_inputs BIGINT NOT NULL, first_us BIGINT NOT NULL, created_us BIGINT NOT NULL,
            PRIMARY KEY (task, version))""",
        """CREATE TABLE golden (task TEXT NOT NULL, input_key TEXT NOT NULL, exchange_id TEXT NOT NULL, messages TEXT NOT NULL,
            tools TEXT NOT NULL, answer TEXT NOT NULL, grade TEXT NOT NULL, who TEXT NOT NULL, note TEXT NOT NULL,
            created_us BIGINT NOT NULL, PRIMARY KEY (task, input_key))""",
        """CREATE TABLE relabels (id TEXT PRIMARY KEY, task TEXT NOT NULL, exchange_id TEXT NOT NULL,
            answer_exchange_id TEXT NOT NULL, model TEXT NOT NULL, answer TEXT NOT NULL, score DOUBLE PRECISION,
            judge TEXT NOT NULL, note TEXT NOT NULL, is_chosen BIGINT NOT NULL, created_us BIGINT NOT NULL)""",
        "CREATE INDEX relabels_by_exchange ON relabels (exchange_id)",
        """CREATE TABLE audits (id TEXT PRIMARY KEY, task TEXT NOT NULL, number BIGINT NOT NULL, population BIGINT NOT NULL,
            exchange_ids TEXT NOT NULL, seed BIGINT NOT NULL, who TEXT NOT NULL, created_us BIGINT NOT NULL)""",
        f"""CREATE TABLE audit_verdicts (number {d.serial}, audit_id TEXT NOT NULL, exchange_id TEXT NOT NULL,
            verdict TEXT NOT NULL, who TEXT NOT NULL, note TEXT NOT NULL, created_us BIGINT NOT NULL)""",
        "CREATE INDEX audit_verdicts_by_audit ON audit_verdicts (audit_id)",
    ]


def _move_bodies(connection: Connection) -> None:
    from capture.move_bodies import move_bodies  # brings everything that derives exchanges, which few who open a store need

    move_bodies(connection)


HISTORY: tuple[Callable[[Dialect], list[str]], ...] = (m001_initial, m002_pieces, m003_drop_bodies, m004_keys, m005_curation)
MOVES: Mapping[str, Callable[[Connection], None]] = {"m002_pieces": _move_bodies}
