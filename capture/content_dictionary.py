"""What bodies and headers of providers, and English, say again and again: zstd starts from it, so that a short body packs small.

Dictionary 1 was trained on made-up exchanges in the shapes of OpenAI's and Anthropic's interfaces, with the scripted provider's
tickets and this project's documents as their texts. The store's frames cannot be read without it: it is never changed. A better
one gets a number and a file of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

LATEST = 1
DICTIONARIES: Mapping[int, bytes] = {1: Path(__file__).with_name("dictionary-1.zdict").read_bytes()}
