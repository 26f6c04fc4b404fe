"""Draws docs/img/{traffic,review,rollout}.svg from a store that the demo filled.

python docs/make_screenshots.py .potstill-demo/potstill.toml
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from capture.database import Database, open_database
from capture.settings import Settings, load_settings
from tui.app import PotstillApp, make_desk

SIZE = (100, 30)
# Digits pick a target while a card of Review is open, so that screen is left with escape.
KEYS = {"traffic": ("1", "j", "j"), "review": ("3",), "rollout": ("escape", "6")}
IMAGES = Path(__file__).parent / "img"


async def draw(settings: Settings, database: Database) -> None:
    """Opens the app without a terminal, read-only, and saves its three working screens."""
    app = PotstillApp(make_desk(settings, database, read_only=True))
    async with app.run_test(size=SIZE) as pilot:
        for name, keys in KEYS.items():
            for key in keys:
                await pilot.press(key)
                await pilot.pause()
                await app.workers.wait_for_complete()
            await pilot.pause()
            path = IMAGES / f"{name}.svg"
            path.write_text(app.export_screenshot(title=f"potstill tui: {name.title()}"), "utf-8")
            sys.stdout.write(f"{path}\n")


def main(arguments: list[str]) -> int:
    """Draws from the settings file named on the command line."""
    if len(arguments) != 1:
        sys.stderr.write(__doc__ or "")
        return 2
    settings = load_settings(Path(arguments[0]), {})
    IMAGES.mkdir(exist_ok=True)
    database = open_database(settings.database_url)
    try:
        asyncio.run(draw(settings, database))
    finally:
        database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
