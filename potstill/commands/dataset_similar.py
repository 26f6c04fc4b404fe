"""`potstill dataset similar TASK`: examples that an embedding of yours finds alike, for review; nothing is deleted."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from capture.database import open_database
from capture.settings import Settings
from potstill.commands import add_command, whole_number
from potstill.commands.dataset_relabel import relay_url
from potstill.output import ExitCode, Output, counted, one_line

_WIDTH = 60


def add_commands(verbs: Any) -> None:
    """Adds `similar` to the verbs of `dataset`."""
    similar = add_command(
        verbs,
        "similar",
        _similar,
        help="examples that an embedding finds alike: notes for review, never a deletion",
        examples="  potstill dataset similar triage --vectors vectors.parquet --threshold 0.95\n"
        "  potstill dataset similar triage --model text-embedding-3-small --note\n"
        'a row of the file is {"id": "ex_...", "vector": [0.1, ...]}; Parquet, JSONL, or .npz with the arrays ids and vectors',
    )
    similar.add_argument("task")
    source = similar.add_mutually_exclusive_group(required=True)
    source.add_argument("--vectors", type=Path, metavar="FILE", help="vectors of exchanges, by id")
    source.add_argument("--model", help="embedding model to ask through the relay; every example is sent to it")
    similar.add_argument("--url", help="base URL of the relay (default: the one in potstill.toml)")
    similar.add_argument("--threshold", type=float, default=0.95, help="cosine from which two are alike (default: 0.95)")
    similar.add_argument("--note", action="store_true", help="say it in Review, beside the examples, until the next build")
    similar.add_argument("--limit", type=whole_number, default=20, help="how many pairs to show (default: 20; --json shows all)")


def _similar(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate import alike
    from curate.likeness import semantic
    from curate.likeness.embedding import embed
    from curate.likeness.embedding_files import read_vectors
    from curate.tasks.aliases import canonical

    database = open_database(settings.database_url)
    try:
        task = canonical(database, arguments.task)
        examples = alike.kept_examples(database, task)
        with output.stages() as show_progress:
            if arguments.vectors is not None:
                ids, vectors = read_vectors(arguments.vectors)
            else:
                ids = list(examples)
                texts = [examples[id].asked for id in ids]
                vectors = embed(texts, arguments.url or relay_url(settings), arguments.model, task, show_progress)
            known = [place for place, id in enumerate(ids) if id in examples]
            show_progress("compare vectors", 0, len(known))
            found = semantic.similar_by_embedding(vectors[known], [ids[place] for place in known], arguments.threshold)
            show_progress("compare vectors", len(known), len(known))
        noted = alike.write_notes(database, task, semantic.notes_of(found.pairs)) if arguments.note else 0
    finally:
        database.close()
    counts = {"examples": len(examples), "compared": len(known), "unknown": len(ids) - len(known), "noted": noted}
    if output.as_json:
        output.json({**counts, "found": found.found, "pairs": found.pairs})
        return ExitCode.OK
    rows = [
        (f"{pair.similarity:.3f}", one.exchange_id, one_line(one.asked, _WIDTH), one_line(one.target, _WIDTH))
        for pair in found.pairs[: arguments.limit]
        for one in (examples[pair.left], examples[pair.right])
    ]
    if rows:
        output.table(("COSINE", "EXCHANGE", "ASKED", "TARGET"), rows, right=("COSINE",))
    output.say(f"{counted(found.found, 'pair')} of {counted(len(known), 'example')} at {arguments.threshold} or above.")
    if len(known) < len(examples):
        output.say(f"{counted(len(examples) - len(known), 'example')} without a vector.")
    if len(ids) > len(known):
        output.say(f"{counted(len(ids) - len(known), 'vector')} of no kept example of {task}.")
    if found.found and not arguments.note:
        output.say("Nothing was changed. With --note, Review shows it beside the examples.")
    elif noted:
        output.say(f"{counted(noted, 'example')} noted until the next build: potstill review next {task}")
    return ExitCode.OK
