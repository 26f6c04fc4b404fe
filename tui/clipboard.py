"""Copying through the terminal (OSC 52): it always says what went out and how much."""

from __future__ import annotations

from typing import Any

from textual.app import App

from tui.text import encodable
from tui.words import characters


def copy(app: App[Any], what: str, text: str) -> None:
    """Hands `text` to the terminal's clipboard and says so; `what` names it. Nothing is copied when it is empty."""
    if not text:
        app.notify(f"There is nothing to copy: {what} is empty.", severity="warning", markup=False)
        return
    app.copy_to_clipboard(encodable(text))
    app.notify(f"Copied {what}: {characters(len(text))}.", markup=False)
