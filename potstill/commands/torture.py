"""`potstill torture`: kills relay and store writer under load, and shows that nothing was lost."""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

from capture.errors import SettingsError
from capture.settings import Settings
from potstill.commands import add_command
from potstill.output import ExitCode, Output, counted

_STORY = """\
A relay worker, a second one, and the store writer run as processes of their own in a new folder; clients send streams and
whole answers through them and write down, in a ledger of their own, every exchange id and the hash of every byte that came.
Each round kills a relay worker with signal 9 at a random moment, 60 to 250 ms after it began to serve; every fourth round
kills the store writer too. At the end the spools are drained, and ledger and store are compared:

  acked      answers that a client received to their last byte
  lost       exchanges of which a client got at least the head of the answer, and that are not in the store
  duplicate  requests that are in the store more than once
  phantom    exchanges in the store that no client asked for, or that carry an id which their client was not given
  corrupt    exchanges whose stored bytes are not those sent or received (of a cut answer: do not begin with what had
             arrived; of a request never answered: are not its beginning), whose hashes are not those of their bytes, or
             that came whole and are not stored as complete

The exit code is 0 when the last four are 0, else 1, and then the folder is kept. Your own data is never touched.
"""


def add_commands(commands: Any) -> None:
    """Adds `torture`."""
    torture = add_command(
        commands,
        "torture",
        _torture,
        help="kill relay and store writer under load, N times, and count what was lost",
        examples="  potstill torture --rounds 200\n  potstill torture --rounds 20 --seed 7 --keep /tmp/torture --json | tail -1\n"
        "  potstill torture --rounds 50 --database-url postgresql://me@host/empty",
    )
    torture.description = f"{torture.description}.\n\n{_STORY}"
    torture.add_argument("--rounds", type=int, default=20, metavar="N", help="kills of a relay worker (default: 20)")
    torture.add_argument("--seed", type=int, help="makes the moments of the kills repeatable (default: a random one, shown)")
    torture.add_argument("--keep", type=Path, metavar="FOLDER", help="use this new folder and leave ledger, logs and store in it")
    torture.add_argument(
        "--database-url", default="", metavar="URL", help="PostgreSQL to store into, best an empty database (default: SQLite)"
    )


def _torture(arguments: argparse.Namespace, _settings: Settings, output: Output) -> int:
    from proxy.torture import Torture, claim_folder, run_torture

    if arguments.rounds < 1:
        raise SettingsError(f"--rounds {arguments.rounds} kills nobody.", "Take 1 or more.")
    seed = arguments.seed if arguments.seed is not None else random.randrange(2**31)
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="potstill-torture-"))
    claim_folder(folder)
    output.say(f"{counted(arguments.rounds, 'round')} of kill -9 in {folder}, seed {seed}.")
    is_kept = True
    try:
        with output.stages() as show:
            verdict = run_torture(Torture(arguments.rounds, seed, arguments.database_url), folder, show)
        is_kept = arguments.keep is not None or not verdict.is_clean
    except KeyboardInterrupt:
        is_kept = arguments.keep is not None
        raise
    finally:
        if not is_kept:
            shutil.rmtree(folder, ignore_errors=True)
    counts = {name: getattr(verdict, name) for name in ("acked", "lost", "duplicate", "phantom", "corrupt")}
    rows = [*counts.items(), ("stored", verdict.stored), ("of these cut by a kill", verdict.interrupted)]
    output.table(("EXCHANGES", "COUNT"), rows)
    for example in verdict.examples:
        output.say(f"! {example}", style="bold red")
    output.say("Nothing was lost, doubled, made up or changed." if verdict.is_clean else f"See ledger and logs in {folder}.")
    if output.as_json:
        output.json({"rounds": arguments.rounds, **counts})
    return ExitCode.OK if verdict.is_clean else ExitCode.FAILED
