"""Groups prompts by what their apps wrote: one group for each template, whatever was filled in.

Pieces that the same prompts hold form a block. The block that explains the most words makes a group, unless a more general one
of which it is only a filling (a rotating example, a document) does. Prompts that share a block are yet different templates
when few alternatives, each with words of its own, share them out between them. Pure; the order of the prompts does not matter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from capture.ids import content_hash
from curate.tasks.prompts import SYSTEM, TALK, Counts, Prompt, word_count

FEWEST = 3
"""Distinct prompts (or repeats of one) that a template shows itself in."""
_LEAST_WORDS, _SURE_WORDS = 6, 40
_NEARLY_ALL, _SAME = 0.9, 0.5
_MOST_ALTERNATIVES = 8
_BARE, _LARGE = 1.2, 0.1
_SKETCH = 6


@dataclass(frozen=True, slots=True)
class Group:
    """Prompts of one template: their places, and the `core`, the pieces that nearly all of them hold, by part.

    `words` says for how many words of either part the core stands, and `explained` which share of the words of a member it
    makes at least.
    """

    fingerprint: str
    members: tuple[int, ...]
    core: tuple[frozenset[int], frozenset[int]]
    words: tuple[int, int]
    explained: tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Block:
    """Pieces that the same prompts hold (`mask`, a bit for each distinct prompt), and their words in either part."""

    mask: int
    words: tuple[int, int]
    pieces: tuple[int, ...]


def group_prompts(prompts: Sequence[Prompt], about: str = "") -> list[Group]:
    """The groups among `prompts`, the largest first; a prompt that is like no others is in none.

    `about` (such as the path of the requests) goes into the fingerprints.
    """
    places: dict[bytes, list[int]] = defaultdict(list)
    for place, prompt in enumerate(prompts):
        if len(prompt.pieces):
            places[prompt.key].append(place)
    keys = sorted(places)
    distinct = [prompts[places[key][0]] for key in keys]
    sorter = _Sorter(distinct, [len(places[key]) for key in keys])
    found: list[Group] = []
    used: set[str] = set()
    for mask in sorter.masks():
        members = tuple(sorted(place for bit in _bits(mask) for place in places[keys[bit]]))
        group = _group(sorter, mask, members, about, used)
        used.add(group.fingerprint)
        found.append(group)
    return sorted(found, key=lambda group: (-len(group.members), group.fingerprint))


def _group(sorter: _Sorter, mask: int, members: tuple[int, ...], about: str, used: set[str]) -> Group:
    core = sorter.core(mask)
    pieces = sorted(piece for block in core for piece in block.pieces)
    words = (sum(block.words[SYSTEM] for block in core), sum(block.words[TALK] for block in core))
    explained = tuple(min(sorter.explained(bit, pieces, part) for bit in _bits(mask)) for part in (SYSTEM, TALK))
    name = fingerprint(pieces[:_SKETCH], about)
    if name in used:
        name = fingerprint(pieces, about)
    return Group(name, members, sorter.by_part(mask, pieces), words, (explained[SYSTEM], explained[TALK]))


def fingerprint(pieces: Sequence[int], about: str = "") -> str:
    """Twelve letters for these pieces. A few of the smallest hashes stand for all, so that a changed sentence changes little."""
    return content_hash(" ".join([about, *(f"{piece:016x}" for piece in pieces)]).encode("utf-8", "replace"))[3:15]


class _Sorter:
    """Blocks of distinct prompts, and how they divide them."""

    def __init__(self, prompts: Sequence[Prompt], copies: Sequence[int]) -> None:
        self._prompts, self._copies = prompts, copies
        self._sizes = [(word_count(prompt, SYSTEM), word_count(prompt, TALK)) for prompt in prompts]
        self._blocks = _blocks(prompts, copies)
        self._holds = {piece: place for place, block in enumerate(self._blocks) for piece in block.pieces}

    def masks(self) -> list[int]:
        """The groups, as masks of distinct prompts."""
        left, found = (1 << len(self._prompts)) - 1, []
        while left:
            merged = self._within(left)
            telling = [block for block in merged if sum(block.words) >= _LEAST_WORDS]
            if not telling:
                break
            best = max(telling, key=lambda block: (sum(block.words) * block.mask.bit_count(), -block.mask))
            general = self._general(best.mask, telling)
            parts = self._divided(general)
            found += parts
            for part in parts:
                left &= ~part
        return found

    def core(self, mask: int) -> list[_Block]:
        """The blocks that nearly all prompts of `mask` hold."""
        least = _NEARLY_ALL * mask.bit_count()
        return [block for block in self._blocks if (block.mask & mask).bit_count() >= least]

    def by_part(self, mask: int, core: Sequence[int]) -> tuple[frozenset[int], frozenset[int]]:
        """`core` as it stands in instructions and in turns."""
        parts: dict[int, int] = {}
        for bit in _bits(mask):
            if len(parts) < len(core):
                parts.update(zip(self._prompts[bit].pieces.tolist(), self._prompts[bit].part.tolist(), strict=True))
        return frozenset(p for p in core if parts[p] == SYSTEM), frozenset(p for p in core if parts[p] == TALK)

    def explained(self, bit: int, core: Sequence[int], part: int) -> float:
        """The share of a prompt's words in `part` that are in `core`; 1.0 where it has none."""
        prompt = self._prompts[bit]
        inside = np.isin(prompt.pieces, np.array(core, dtype=np.uint64)) & (prompt.part == part)
        return int(prompt.words[inside].sum()) / self._sizes[bit][part] if self._sizes[bit][part] else 1.0

    def _general(self, mask: int, telling: Sequence[_Block]) -> int:
        """The prompts of the most general block that those of `mask` are a mere filling of."""
        wider = sorted(
            (block for block in telling if block.mask & mask == mask and block.mask != mask),
            key=lambda block: (block.mask.bit_count(), block.mask),
        )
        for block in wider:
            if sum(block.words) < _SURE_WORDS and not self._opens(block):
                continue
            if self._alternatives(block.mask):
                break
            mask = block.mask
        return mask

    def _opens(self, block: _Block) -> bool:
        first = self._prompts[(block.mask & -block.mask).bit_length() - 1]
        return not set(first.opening).isdisjoint(block.pieces)

    def _divided(self, mask: int) -> list[int]:
        parts = self._alternatives(mask)
        return [smaller for part in parts for smaller in self._divided(part)] if parts else [mask]

    def _alternatives(self, mask: int) -> list[int]:
        """The templates that share out the prompts of `mask`; none where these are of one template."""
        size = mask.bit_count()
        merged = self._within(mask)
        core = [block for block in merged if block.mask.bit_count() >= _NEARLY_ALL * size]
        for part in (SYSTEM, TALK):
            common = sum(block.words[part] for block in core)
            others = [block for block in merged if block.mask.bit_count() < _NEARLY_ALL * size and block.words[part]]
            own: dict[int, int] = {}
            if part == SYSTEM and common >= _LEAST_WORDS and (bare := self._bare(mask, common)):
                own[bare] = 0
            options = [block for block in others if block.words[part] >= _LEAST_WORDS]
            for block in sorted(options, key=lambda each: (-each.words[part] * each.mask.bit_count(), each.mask)):
                if all(not block.mask & chosen for chosen in own):
                    least = _NEARLY_ALL * block.mask.bit_count()
                    own[block.mask] = sum(each.words[part] for each in others if (each.mask & block.mask).bit_count() >= least)
                if len(own) > _MOST_ALTERNATIVES:
                    break
            covered = sum(chosen.bit_count() for chosen in own)
            if part == TALK and covered < _NEARLY_ALL * size:  # what is left is free talk, beside forms that the app fills in
                own = {chosen: words for chosen, words in own.items() if chosen.bit_count() >= _LARGE * size}
                free = mask & ~sum(own)
                own |= {free: 0} if len(own) > 1 else {}
                covered = size
            if 2 <= len(own) <= _MOST_ALTERNATIVES and covered >= _NEARLY_ALL * size:
                apart = 2 * sum(own.values()) / len(own)
                if common < _SAME * (common + apart):
                    return sorted(own, key=lambda chosen: (-chosen.bit_count(), chosen))
        return []

    def _bare(self, mask: int, common: int) -> int:
        """The prompts whose instructions are little more than what all have in common."""
        bits = [bit for bit in _bits(mask) if self._sizes[bit][SYSTEM] <= _BARE * common]
        return sum(1 << bit for bit in bits) if sum(self._copies[bit] for bit in bits) >= FEWEST else 0

    def _within(self, mask: int) -> list[_Block]:
        """The blocks as they are among the prompts of `mask`."""
        words: dict[int, tuple[int, int]] = {}
        pieces: dict[int, list[tuple[int, ...]]] = defaultdict(list)
        for block in self._blocks:
            inside = block.mask & mask
            if inside:
                had = words.get(inside, (0, 0))
                words[inside] = (had[0] + block.words[0], had[1] + block.words[1])
                pieces[inside].append(block.pieces)
        return [
            _Block(inside, words[inside], tuple(piece for some in pieces[inside] for piece in some))
            for inside in words
            if self._is_frequent(inside)
        ]

    def _is_frequent(self, mask: int) -> bool:
        return mask.bit_count() >= FEWEST or sum(self._copies[bit] for bit in _bits(mask)) >= FEWEST


def _blocks(prompts: Sequence[Prompt], copies: Sequence[int]) -> list[_Block]:
    """Pieces of at least FEWEST prompts, those of the same prompts together."""
    if not prompts:
        return []
    pieces = np.concatenate([prompt.pieces for prompt in prompts])
    rows = np.repeat(np.arange(len(prompts), dtype=np.int32), [len(prompt.pieces) for prompt in prompts])
    words, part = (np.concatenate([getattr(prompt, name) for prompt in prompts]) for name in ("words", "part"))
    values, first, column = np.unique(pieces, return_index=True, return_inverse=True)
    counts = np.bincount(column, weights=np.array(copies)[rows])
    order = np.argsort(column, kind="stable")
    starts = np.searchsorted(column[order], np.arange(len(values) + 1))
    found: dict[bytes, list[int]] = defaultdict(list)
    for place in np.flatnonzero(counts >= FEWEST).tolist():
        found[rows[order[starts[place] : starts[place + 1]]].tobytes()].append(place)
    blocks = []
    for held, places in found.items():
        mask = _mask(np.frombuffer(held, dtype=np.int32), len(prompts))
        by_part = [0, 0]
        for place in places:
            by_part[int(part[first[place]])] += int(words[first[place]])
        blocks.append(_Block(mask, (by_part[0], by_part[1]), tuple(int(values[place]) for place in places)))
    return blocks


def _mask(rows: Counts, count: int) -> int:
    bits = np.zeros(count, dtype=np.uint8)
    bits[rows] = 1
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")


def _bits(mask: int) -> list[int]:
    data = np.frombuffer(mask.to_bytes((mask.bit_length() + 7) // 8 or 1, "little"), dtype=np.uint8)
    bits: list[int] = np.flatnonzero(np.unpackbits(data, bitorder="little")).tolist()
    return bits
