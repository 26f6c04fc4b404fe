"""Takes exchanges out of everything that was made of them here: dataset versions, examples, reviews, split keys.

A version keeps its number and stays loadable. Its files lose the rows, its manifest gets an entry under `erasures` that says how
many and what its hash was before, and its hash is made anew: it is that of what is there.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sqlalchemy import Connection, text

from capture import clock, feed
from capture.database import Database
from capture.errors import NotFoundError, StoreError
from capture.filters import parse_filter, quote
from capture.ids import content_hash, exchange_ids_in
from capture.statements import among, few
from curate.card import write_card
from curate.datasets import DatasetVersion, versions
from curate.examples import Example, from_line
from curate.freeze import (
    CARD,
    DRAFTS,
    DROPPED,
    GOLDEN_FILE,
    MANIFEST,
    PHRASE_WARNING,
    PREFERENCES,
    TEMPLATE,
    hashed,
    to_json,
    version_folder,
)
from curate.likeness.duplicates import EXACT
from curate.likeness.templates import read_input, still_said
from curate.reviewing.look_alikes import answer_of
from curate.reviewing.review_order import short
from curate.selection import input_key
from curate.splits import SPLITS, TRAIN
from curate.tasks.aliases import every_name
from curate.version_keys import KEYS, make_keys, without_keys

ERASED = "erased"
"""What stands in a manifest's bill, and in the place of an id, for an exchange that was forgotten."""
_FEW = 200
_MIXED = "mixed_in"
"""How many of the examples that go were mixed in from another task: these were never on the bill."""
_MORE_ROWS = (PREFERENCES, GOLDEN_FILE)
"""Further files of a version with a row an exchange; older versions have none."""
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_TERM = re.compile(
    rf'(?P<field>-?(?:[A-Za-z_]+(?:\.[^\s:<>=!"]+)?(?:[<>!]=|[:=<>]))?)(?P<values>(?:{_QUOTED}|[^\s"])+)', re.DOTALL
)
"""A term of the filter language, whose values have commas between."""
_VALUE = re.compile(rf'(?:{_QUOTED}|[^",])+', re.DOTALL)
_ESCAPED = re.compile(r'\\(.)|"', re.DOTALL)
_BESIDE_NAMES = re.compile(r'[\s*,;!?()"/=&]+')
"""What parts a name from others in a value, as in `path:*/ann/*`."""


@dataclass(frozen=True, slots=True)
class ErasedVersion:
    """A dataset version that lost `examples` rows, and `listed` lines about exchanges that it had left out."""

    id: str
    task: str
    number: int
    examples: int
    listed: int
    hash_before: str
    hash: str


@dataclass(frozen=True, slots=True)
class ErasedExamples:
    """What went out of the store's tables about datasets."""

    examples: int
    reviews: int
    split_keys: int
    golden: int
    relabels: int
    audited: int


def touched_versions(database: Database, exchange_ids: Iterable[str]) -> list[DatasetVersion]:
    """The dataset versions whose files name one of these exchanges."""
    wanted = set(exchange_ids)
    return [version for version in versions(database) if wanted and any(_lines_about(version, wanted))]


def erased_examples(version: DatasetVersion, exchange_ids: Iterable[str]) -> list[Example]:
    """The examples of `version` that were made of these exchanges."""
    wanted = set(exchange_ids)
    found = []
    for split in SPLITS:
        lines = (line for line in _read(version.folder / f"{split}.jsonl") if _id_of(line) in wanted)
        found += [from_line(line, version.task, split) for line in lines]
    return found


@contextmanager
def without_builds(data_folder: Path, tasks: Iterable[str]) -> Iterator[None]:
    """Keeps builds of these tasks out, so that none takes up again what is being erased, and removes what builds of any task left
    behind when they were broken off. StoreError while a build is under way."""
    folders = {version_folder(data_folder, task, 0).parent for task in tasks}
    folders |= {draft.parent for draft in (data_folder.resolve() / "datasets").glob(f"*/{DRAFTS}")}
    with ExitStack() as held:
        for folder in sorted(folder for folder in folders if folder.is_dir()):
            lock = held.enter_context((folder / ".lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                what = f"A build of dataset {unquote(folder.name)!r} is under way."
                raise StoreError(what, "Wait for it to end, then run potstill forget again.") from error
            for draft in folder.glob(DRAFTS):
                shutil.rmtree(draft)
        yield


def lines_to_go(version: DatasetVersion, exchange_ids: Iterable[str]) -> dict[str, int]:
    """How many lines of each file of `version` are about these exchanges."""
    return _without(version, set(exchange_ids))[1]


def erase_from_version(
    database: Database,
    version: DatasetVersion,
    exchange_ids: Iterable[str],
    user: str = "",
    begun: tuple[str, Mapping[str, int]] | None = None,
) -> ErasedVersion:
    """Rewrites the files of `version` without these exchanges; a filter by `user` loses the name.

    The caller keeps builds out meanwhile: see `without_builds`. The store hears of it last, so that one that was cut short
    can be done again, with `begun`: the hash before the first change, and `lines_to_go` at that time.
    """
    wanted = set(exchange_ids)
    files, gone = _without(version, wanted)
    hash_before, left = version.hash, gone
    if begun is not None:
        hash_before, gone = begun[0], {name: max(count, gone.get(name, 0)) for name, count in begun[1].items()}
    new_hash = version.hash
    if hash_before == version.hash or any(left.values()):
        manifest = _amended(version, files, gone if hash_before == version.hash else left, wanted, user)
        _write(version.folder, manifest, files)
        with database.write() as connection:
            _update(connection, version.id, manifest)
        new_hash = str(manifest["hash"])
    examples = sum(gone[split] for split in SPLITS)
    return ErasedVersion(version.id, version.task, version.number, examples, gone[DROPPED], hash_before, new_hash)


def erase_rows(
    database: Database, exchange_ids: Sequence[str], examples: Iterable[Example] = (), versions: Sequence[DatasetVersion] = ()
) -> ErasedExamples:
    """Removes examples and reviews of these exchanges, notes that quote them, and the split keys of inputs nobody else sent.

    `examples` are further ones of theirs, out of the dataset `versions` that name them. Call it while exchanges and versions are
    as they were: they tell who sent which input.
    """
    counts: Counter[str] = Counter()
    wanted = set(exchange_ids)
    sent = {(example.exchange_id, example.task, example.input_key) for example in examples}
    sent.update(_inputs(database, exchange_ids))
    others = _other_senders(database, versions, wanted, {key for _, _, key in sent})
    with database.write() as connection:
        for listed in few(exchange_ids):
            some = {"ids": listed}
            rows = connection.execute(
                among("SELECT task, input_key, target, answer, exchange_id FROM examples WHERE exchange_id IN :ids"), some
            ).all()
            pinned = connection.execute(
                among("SELECT exchange_id, task, input_key FROM golden WHERE exchange_id IN :ids"), some
            ).all()
            for table in ("examples", "reviews", "golden", "relabels", "audit_verdicts"):
                where = "exchange_id IN :ids" + (" OR answer_exchange_id IN :ids" if table == "relabels" else "")
                counts[table] += connection.execute(among(f"DELETE FROM {table} WHERE {where}"), some).rowcount  # noqa: S608
            sent |= {(row.exchange_id, row.task, row.input_key) for row in (*rows, *pinned)}
            _unquote(connection, [row[:4] for row in rows])
        counts["audited"] = _unsample(connection, wanted)
        repeated = _stored_again(connection, sent, wanted)
        others |= {key for exchange_id, _, key in sent if exchange_id in repeated}
        keys = _drop_keys(connection, {(task, key) for _, task, key in sent if key not in others})
    return ErasedExamples(counts["examples"], counts["reviews"], keys, counts["golden"], counts["relabels"], counts["audited"])


def _inputs(database: Database, exchange_ids: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Id, tag and input key of those exchanges that are stored and can be read."""
    for some in few(exchange_ids, _FEW):
        ids = ",".join(map(quote, some))
        for exchange in feed.after(database, parse_filter(f"id:{ids}"), limit=_FEW, longest_s=feed.PATIENT_S):
            try:
                content = feed.content(database, exchange)
            except (StoreError, NotFoundError):  # damaged, as verify says: nobody can tell its input
                continue
            conversation, offered = feed.asked_of(exchange, content)
            if conversation.asked:
                yield exchange.id, exchange.task, input_key(conversation.asked, offered.tools)


def _other_senders(database: Database, versions: Iterable[DatasetVersion], wanted: set[str], keys: set[str]) -> set[str]:
    """Those of the inputs `keys` that came from others, too: exact duplicates that versions left out for one of `wanted`."""
    left_out: dict[str, None] = {}
    because = {ERASED, *wanted}
    for version in versions:
        for line in _read(version.folder / DROPPED):
            id = _id_of(line) if EXACT in line else ""
            if id and id not in wanted and json.loads(line).get("because") in because:
                left_out[id] = None
    found: set[str] = set()
    for _, _, key in _inputs(database, list(left_out)):
        found |= {key} & keys
        if found == keys:
            break
    return found


def _stored_again(connection: Connection, sent: Iterable[tuple[str, str, str]], wanted: set[str]) -> set[str]:
    """Those of `wanted` whose input is that of another stored exchange of an app, under any name of the task."""
    tasks: dict[str, set[str]] = {}
    for exchange_id, task, _ in sent:
        tasks.setdefault(task, set()).add(exchange_id)
    found = set()
    sql = among("""SELECT own.id, other.id FROM exchanges AS own JOIN exchanges AS other ON other.input_hash = own.input_hash
        WHERE own.id IN :ids AND own.input_hash <> '' AND other.task IN :names AND other.purpose = 'app'
        AND other.id <> own.id""")
    for task, ids in tasks.items():
        names = every_name(connection, task)
        for some in few(sorted(ids)):
            pairs = connection.execute(sql, {"ids": some, "names": names})
            found |= {own for own, other in pairs if other not in wanted}
    return found


def _drop_keys(connection: Connection, inputs: Iterable[tuple[str, str]]) -> int:
    """Forgets which side these inputs belong to, by any name of their tasks, where no example or pin is left of them."""
    gone = 0
    names: dict[str, tuple[str, ...]] = {}
    for task, key in sorted(inputs):
        if task not in names:
            names[task] = every_name(connection, task)
        values = {"names": names[task], "key": key}
        sql = """DELETE FROM splits WHERE task IN :names AND input_key = :key AND NOT EXISTS
            (SELECT 1 FROM examples WHERE examples.task IN :names AND examples.input_key = :key) AND NOT EXISTS
            (SELECT 1 FROM golden WHERE golden.task IN :names AND golden.input_key = :key)"""
        gone += connection.execute(among(sql), values).rowcount
    return gone


def _unsample(connection: Connection, wanted: set[str]) -> int:
    """Takes the ids out of the samples of audits; how many there were. What is left was still drawn at random."""
    gone = 0
    for id, listed in connection.execute(text("SELECT id, exchange_ids FROM audits")).all():
        sample = json.loads(listed)
        left = [exchange_id for exchange_id in sample if exchange_id not in wanted]
        if len(left) < len(sample):
            values = {"id": id, "ids": json.dumps(left), "gone": len(sample) - len(left)}
            sql = "UPDATE audits SET exchange_ids = :ids, population = population - :gone WHERE id = :id"
            connection.execute(text(sql), values)
            gone += len(sample) - len(left)
    return gone


def _unquote(connection: Connection, rows: Sequence[Any]) -> None:
    """Empties the notes of other examples where they quote an erased target."""
    quoted: dict[str, set[str]] = {}
    for task, _, target, answer in rows:
        for said in (target, answer_of(answer, target).said):
            if said.strip():
                quoted.setdefault(task, set()).add(short(said))
    for task, targets in quoted.items():
        noted = connection.execute(text("SELECT id, note FROM examples WHERE task = :task AND note <> ''"), {"task": task}).all()
        stale = [{"id": id} for id, note in noted if any(target in note for target in targets)]
        if stale:
            connection.execute(text("UPDATE examples SET note = '' WHERE id = :id"), stale)


def _lines_about(version: DatasetVersion, wanted: set[str]) -> Iterator[str]:
    for name in (*(f"{split}.jsonl" for split in SPLITS), DROPPED, *_MORE_ROWS):
        yield from (line for line in _read(version.folder / name) if _id_of(line) in wanted)
    told = to_json(version.manifest["contradictions"]["first"])
    yield from wanted & exchange_ids_in(told)


def _without(version: DatasetVersion, wanted: set[str]) -> tuple[dict[str, str | bytes], dict[str, int]]:
    """The content of each file without these exchanges, and how many lines of it went."""
    files: dict[str, str | bytes] = {}
    gone: dict[str, int] = {}
    kept: list[Example] = []
    erased = {example.input_key for example in erased_examples(version, wanted)}
    for split in SPLITS:
        lines = _read(version.folder / f"{split}.jsonl")
        left = [line for line in lines if _id_of(line) not in wanted]
        if split == TRAIN:
            gone[_MIXED] = sum(
                from_line(line, version.task, TRAIN).task != version.task for line in lines if _id_of(line) in wanted
            )
        files[f"{split}.jsonl"], gone[split] = "".join(f"{line}\n" for line in left), len(lines) - len(left)
        kept += [from_line(line, version.task, split) for line in left if _id_of(line)]
    for name in _MORE_ROWS:
        if (version.folder / name).is_file():
            lines = _read(version.folder / name)
            left = [line for line in lines if wanted.isdisjoint((_id_of(line), *exchange_ids_in(line)))]
            files[name], gone[name] = "".join(f"{line}\n" for line in left), len(lines) - len(left)
    lines = _read(version.folder / DROPPED)
    left = [line for line in lines if _id_of(line) not in wanted]
    files[DROPPED], gone[DROPPED] = "".join(f"{_without_because(line, wanted)}\n" for line in left), len(lines) - len(left)
    keys = version.folder / KEYS
    if keys.is_file():
        try:
            files[KEYS] = without_keys(keys.read_bytes(), erased - {example.input_key for example in kept})
        except StoreError:  # damaged, as doctor says; what cannot be read may hold what must go
            files[KEYS] = make_keys((), (), ())
    template = version.folder / TEMPLATE
    if template.is_file():
        said = still_said(
            json.loads(template.read_text("utf-8")), [read_input(example.messages, example.tools) for example in kept]
        )
        files[TEMPLATE] = to_json(said, indent=2) + "\n"
    return files, gone


def _without_because(line: str, wanted: set[str]) -> str:
    if wanted.isdisjoint(exchange_ids_in(line)):
        return line
    return to_json({**json.loads(line), "because": ERASED})


def _amended(
    version: DatasetVersion, files: Mapping[str, str | bytes], gone: Mapping[str, int], wanted: set[str], user: str
) -> dict[str, Any]:
    manifest = json.loads(to_json(version.manifest))
    manifest.pop("hash", None)
    examples = sum(gone[split] for split in SPLITS)
    manifest["counts"] = {split: manifest["counts"][split] - gone[split] for split in SPLITS}
    own = examples - gone[_MIXED]
    manifest["bill"]["kept"] -= own
    if own:
        dropped = manifest["bill"]["dropped"]
        dropped[ERASED] = dropped.get(ERASED, 0) + own
    if examples and "doubts" in manifest:  # phrases of few people
        manifest["doubts"]["poisoned"] = {}
        manifest["warnings"] = [warning for warning in manifest["warnings"] if not warning.startswith(PHRASE_WARNING)]
    if gone.get(GOLDEN_FILE):
        manifest["golden"]["pinned"] -= gone[GOLDEN_FILE]
    if gone.get(PREFERENCES):
        left = [json.loads(line)["source"] for line in str(files[PREFERENCES]).split("\n") if line]
        manifest["preferences"] |= {"pairs": len(left), "sources": dict(sorted(Counter(left).items()))}
    listed = manifest["contradictions"]["first"]
    manifest["contradictions"]["first"] = [each for each in listed if wanted.isdisjoint((each["kept"], *each["dropped"]))]
    if user and manifest["settings"].get("filter"):
        manifest["settings"]["filter"] = _without_name(manifest["settings"]["filter"], user)
    if TEMPLATE in files:
        template = json.loads(files[TEMPLATE])
        manifest["template"] |= {
            "hash": content_hash(str(files[TEMPLATE]).encode()), "context": len(template["context"]),
            "frames": sorted(template["frames"]), "segments": len(template["segments"]), "phrases": len(template["phrases"]),
        }  # fmt: skip
    note = {"at_us": clock.now_us(), "examples": examples, "listed": gone[DROPPED], "hash_before": version.hash}
    manifest["erasures"] = [*manifest.get("erasures", []), note]
    return hashed(manifest, files)


def _without_name(filter: str, user: str) -> str:
    """`filter` with ERASED for each of its values that says the name `user`; fields and other words stay."""

    def spaced(said: str) -> str:
        return f" {' '.join(_BESIDE_NAMES.sub(' ', said).casefold().split())} "

    def value(found: re.Match[str]) -> str:
        plain = _ESCAPED.sub(r"\1", found[0]) if '"' in found[0] else found[0]
        return ERASED if spaced(user) in spaced(plain) else found[0]

    return _TERM.sub(lambda term: term["field"] + _VALUE.sub(value, term["values"]), filter)


def _update(connection: Connection, version_id: str, manifest: Mapping[str, Any]) -> None:
    values = {"id": version_id, "hash": manifest["hash"], "manifest": to_json(manifest), **manifest["counts"]}
    connection.execute(
        text(
            "UPDATE dataset_versions SET hash = :hash, manifest = :manifest, train = :train, val = :val, test = :test "
            "WHERE id = :id"
        ),
        values,
    )


def _write(folder: Path, manifest: Mapping[str, Any], files: Mapping[str, str | bytes]) -> None:
    """File by file, the manifest last; a file that was lost stays lost."""
    if not folder.is_dir():
        return
    for name, content in {**files, CARD: write_card(manifest), MANIFEST: to_json(manifest, indent=2) + "\n"}.items():
        path, part = folder / name, folder / f".{name}.part"
        with part.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)


def _read(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8").split("\n") if line] if path.is_file() else []


def _id_of(line: str) -> str:
    """The exchange that a line is about; '' for a line that somebody has changed beyond reading."""
    try:
        return str(json.loads(line)["exchange_id"])
    except (ValueError, KeyError, TypeError):
        return ""
