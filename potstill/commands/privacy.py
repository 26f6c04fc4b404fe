"""`potstill privacy reveal|hash-key`: a pseudonym back to what it stands for, and a client key as settings want it."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from contextlib import closing
from typing import Any

from capture.errors import SettingsError
from capture.settings import Settings
from potstill.commands import add_command, add_noun
from potstill.output import ExitCode, Output


def add_commands(commands: Any) -> None:
    """Adds `privacy` with its verbs."""
    verbs = add_noun(commands, "privacy", help="pseudonyms and keys that keep content out: reveal, hash-key")
    reveal = add_command(
        verbs,
        "reveal",
        _reveal,
        help="the datum behind a pseudonym; needs the key that was set when it was captured",
        examples="  potstill privacy reveal '<EMAIL_k3f9q2m5x7a1b4c6>'\n  potstill privacy reveal EMAIL_k3f9q2m5x7a1b4c6 --json",
    )
    reveal.add_argument("token", help="the pseudonym, with or without its angle brackets")
    add_command(
        verbs,
        "hash-key",
        _hash_key,
        help="a client's key as omit_content_keys in [capture] wants it; the key is read from stdin and never shown",
        examples="  potstill privacy hash-key\n  printenv OPENAI_API_KEY | potstill privacy hash-key",
    )


def _reveal(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from capture.capture_settings import CaptureSettings
    from capture.database import open_database
    from capture.pseudonyms import read_keys
    from capture.reveal import reveal

    keys = read_keys(settings.section("capture", CaptureSettings), os.environ)
    with closing(open_database(settings.database_url)) as database:
        datum = reveal(database, keys, arguments.token)
    if output.as_json:
        output.json({"token": arguments.token, "datum": datum})
    else:
        output.say(datum)
    return ExitCode.OK


def _hash_key(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from proxy.omission import hash_of_key

    key = getpass.getpass("Client key (not shown): ") if sys.stdin.isatty() else sys.stdin.readline()
    if not key.strip():
        raise SettingsError("There is no key on stdin.", "Give one: printenv OPENAI_API_KEY | potstill privacy hash-key")
    hashed = hash_of_key(key)
    if output.as_json:
        output.json({"sha256": hashed})
    else:
        output.say(hashed)
    return ExitCode.OK
