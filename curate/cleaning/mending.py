"""Mends text that was decoded wrongly (`donâ€™t`), with ftfy's detection, and nothing else.

Quotes, ligatures, widths and entities stay as they were written. JSON and fenced code are left alone: what looks broken there
may be data.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from curate.cleaning.json_strings import is_json

_FENCE = "```"


def mend(text: str) -> str:
    """`text` as it was meant; the very same where nothing is broken, and where it is JSON. Fenced code stays."""
    if text.isascii() or is_json(text):
        return text
    from ftfy.badness import is_bad

    if not is_bad(text):
        return text
    parts = text.split(_FENCE)
    parts[::2] = map(_mended, parts[::2])
    return _FENCE.join(parts)


def _mended(part: str) -> str:
    import ftfy

    # By lines, as ftfy does: letters of another alphabet would hide what is broken beside them.
    return "\n".join(ftfy.fix_encoding(line, _config()) for line in part.split("\n"))


@lru_cache(maxsize=1)
def _config() -> Any:
    import ftfy

    return ftfy.TextFixerConfig(unescape_html=False, uncurl_quotes=False, fix_latin_ligatures=False)
