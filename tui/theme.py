"""Two themes with one accent each. Text has a contrast of 4.5 to 1 or more against its ground in both."""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="potstill-dark",
    primary="#d9a441",
    secondary="#8fb8c9",
    accent="#d9a441",
    foreground="#e6e1d8",
    background="#171512",
    surface="#1f1c18",
    panel="#2a2620",
    boost="#37312a",
    success="#9dc183",
    warning="#e0b64f",
    error="#f08a78",
    dark=True,
    variables={"text-error": "#f08a78", "text-muted": "#b3aca0"},
)
LIGHT = Theme(
    name="potstill-light",
    primary="#7a4f00",
    secondary="#2c5d70",
    accent="#7a4f00",
    foreground="#231f1a",
    background="#faf8f4",
    surface="#f3efe8",
    panel="#e6e0d5",
    boost="#dbd3c4",
    success="#2f5d16",
    warning="#6b4a00",
    error="#9c1c0c",
    dark=False,
    variables={"text-error": "#9c1c0c", "text-muted": "#544d43"},
)
