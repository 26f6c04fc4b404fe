"""A small grammar for made-up texts, and the phrases that all desks share.

`[a|b]` is a choice, `{slot}` is a phrase of `SLOTS`; choices nest. Runs of fixed words are kept short, so that two tickets of
one queue rarely share eight words in a row unless one was made from the other.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

_SLOT = re.compile(r"\{(\w+)\}")
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SPACE_BEFORE_MARK = re.compile(r" +([,.?!])")


def patterns(text: str) -> Mapping[str, tuple[str, ...]]:
    """The patterns of every label in `text`: a label has its own line, `- ` opens a pattern, an indented line goes on with it."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.strip().splitlines():
        if line.startswith("- "):
            current.append(line[2:])
        elif line.startswith("  "):
            current[-1] += " " + line.strip()
        else:
            current = found.setdefault(line.strip(), [])
    return {label: tuple(each) for label, each in found.items()}


def expand(pattern: str, rng: random.Random) -> str:
    """One text of `pattern`: choices from the inside out, then slots, then single spaces."""
    while "[" in pattern:
        pattern = _CHOICE.sub(lambda match: rng.choice(match.group(1).split("|")), pattern)
    text = _SLOT.sub(lambda match: _slot(match.group(1), rng), pattern)
    return _SPACE_BEFORE_MARK.sub(r"\1", " ".join(text.split()))


def _slot(name: str, rng: random.Random) -> str:
    if name == "number":
        return str(rng.randrange(1000, 100_000))
    if name == "euro":
        return f"{rng.randrange(4, 400)}" + rng.choice(("", "", ".50", ".99", ".90"))
    if name == "dom":
        return str(rng.randrange(1, 29))
    return expand(SLOTS[name], rng)


PRODUCT_AREAS: Mapping[str, tuple[str, ...]] = {
    "kitchen_tools": ("coffee grinder", "toaster", "kettle", "blender", "frying pan", "knife set", "waffle iron"),
    "garden_outdoor": ("lawn mower", "garden hose", "parasol", "hammock", "tent", "camping stove", "hedge trimmer"),
    "audio_sound": ("headphones", "soundbar", "record player", "earbuds", "bluetooth speaker", "microphone", "radio"),
    "home_furniture": ("desk lamp", "armchair", "bookshelf", "sofa", "office chair", "side table", "mattress"),
    "sports_bikes": ("racing bike", "yoga mat", "bike helmet", "treadmill", "dumbbells", "tennis racket", "rowing machine"),
    "kids_toys": ("puzzle", "train set", "doll house", "pram", "toy kitchen", "board game", "car seat"),
    "phones_tablets": ("phone case", "tablet", "smartwatch", "charger", "power bank", "e-reader", "screen protector"),
    "clothing_shoes": ("rain jacket", "running shoes", "jeans", "wool sweater", "hiking boots", "backpack", "scarf"),
}
_PRODUCTS = "|".join(name for names in PRODUCT_AREAS.values() for name in names)

SLOTS: Mapping[str, str] = {
    "product": "[|||new|blue|black|small|large|white|red|second] [" + _PRODUCTS + "]",
    "order": "[order {number}|#{number}|order no {number}|my order|purchase {number}|ref {number}]",
    "when": "[yesterday|last {day}|this {day}|on {day}|two days ago|{few} days ago|last week|{few} weeks ago|a month ago"
    "|in {month}|on {dom} {month}|this morning|today|over the weekend|just now|last night]",
    "day": "[Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday]",
    "month": "[January|February|March|April|May|June|July|August|September|October|November|December]",
    "few": "[three|four|five|six|nine|ten|twelve]",
    "amount": "[{euro} euros|${euro}|{euro} EUR|{euro} pounds]",
    "place": "[Leeds|Porto|Oslo|Ghent|Turin|Graz|Lyon|Malmo|Cork|Basel|Bergen|Tartu|Bath|Delft|Nantes|Aarhus|Riga|Bonn|Vigo]",
    "device": "[phone|laptop|tablet|iPad|Android phone|iPhone|work computer|old PC|MacBook]",
    "browser": "[Firefox|Chrome|Safari|Edge|the app|the Android app|the iOS app|your website]",
    "name": "[Anna|Ben|Carla|David|Elif|Farid|Greta|Hugo|Ines|Jonas|Kemal|Lena|Marta|Nils|Olga|Pavel|Rosa|Samir|Tessa|Victor]",
}
