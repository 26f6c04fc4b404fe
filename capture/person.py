"""Who sits here: the name under which a verdict, a flag change or feedback is written down."""

from __future__ import annotations

import getpass
import os


def who_am_i() -> str:
    """The login name; for a user id that has none, as in many containers, `uid 12345`."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
