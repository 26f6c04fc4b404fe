"""Exact joins of one set of texts with another, smaller one, in memory that grows with the smaller one alone.

By character 4-grams with a prefix filter (Xiao et al., "Efficient similarity joins for near duplicate detection", 2008), which
misses no pair, and by word 8-grams. The smaller side decides the order of grams: those that it lacks are the rarest of all, so a
text that shares too little with it is passed over without a comparison.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from curate.likeness.engine import LOCAL, Engine
from curate.likeness.hashing import LOW, LOWER, MIX, PRIME, UPPER, runs
from curate.likeness.similarity import Flags, Grams, Indices, Keys, arrow_texts, blocks, distinct_grams, pieces, running

WORDS = 8
LEAST, COMMON_SHARE = 5, 0.001
"""From this many inputs, and this part of them, a word 8-gram is common property: see `sharing`."""
SHORTEST = 4
_BLOCK = 1 << 22


def resembling(texts: Any, held_out: Any, threshold: float) -> Flags:
    """Which of `texts` have a Jaccard similarity of at least `threshold` with one of `held_out`; both are Arrow arrays."""
    index = _Index.of(arrow_texts(held_out), threshold)
    flags = [index.resembled_by(distinct_grams(piece)) for piece in pieces(arrow_texts(texts))]
    return np.concatenate([np.zeros(0, np.bool_), *flags])


def sharing(texts: Sequence[str], held_out: Sequence[str], limit: float, engine: Engine = LOCAL) -> Flags:
    """Which of `texts` share more than `limit` of the word 8-grams of the shorter one with one of `held_out`.

    What many inputs say is nobody's own: passages that come back in prompt after prompt. So words inside an 8-gram of `held_out`
    that at least `LEAST` inputs and `COMMON_SHARE` of all say are cut out first. A rest that is too short for an 8-gram counts as
    one, whole; where it has not even `SHORTEST` words, all 8-grams of both texts count.
    """
    inputs, ours = arrow_texts(texts), arrow_texts(held_out)
    grams_of_ours = _word_grams(ours)
    known, counts = np.unique(grams_of_ours.values, return_counts=True)
    if not len(known):
        return np.zeros(len(texts), np.bool_)
    for piece in pieces(arrow_texts(sorted(set(texts) - set(held_out)))):
        values = _word_grams(piece).values
        counts += np.bincount(np.searchsorted(known, values[engine.semi_join(values, known)]), minlength=len(known))
    common = known[counts >= max(LEAST, math.ceil(COMMON_SHARE * len({*texts, *held_out})))]
    own_of_ours = _word_grams(ours, common)
    whole, rest = _Holders.of(grams_of_ours), _Holders.of(own_of_ours)
    bare_of_ours = np.diff(own_of_ours.starts) == 0
    parts = [np.zeros(0, np.bool_)]
    for piece in pieces(inputs):
        grams, own = _word_grams(piece), _word_grams(piece, common)
        bare = np.diff(own.starts) == 0
        flags = rest.shared_by(own, limit, ~bare, ~bare_of_ours)
        flags |= whole.shared_by(grams, limit, bare, np.ones_like(bare_of_ours))
        flags |= whole.shared_by(grams, limit, ~bare, bare_of_ours)
        parts.append(flags)
    return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class _Index:
    """Held-out texts as rows over their 4-grams, numbered from rare to frequent: all of them, and the rarest of each."""

    vocabulary: Keys
    rank: Indices
    rows: Any
    prefixes: Any
    sizes: Indices
    threshold: float

    @classmethod
    def of(cls, held_out: Any, threshold: float) -> _Index:
        grams = distinct_grams(held_out)
        vocabulary, column, counts = np.unique(grams.values, return_inverse=True, return_counts=True)
        rank = np.empty(len(vocabulary), np.int64)
        rank[np.argsort(counts, kind="stable")] = np.arange(len(vocabulary))
        rows = _sparse(rank[column], grams.starts, len(vocabulary))
        sizes = np.diff(grams.starts)
        prefixes = _first(rows, _prefix_lengths(sizes, threshold))
        return cls(vocabulary, rank, rows, prefixes, sizes, threshold)

    def resembled_by(self, grams: Grams) -> Flags:
        """Which of the texts with these grams are similar enough to one of the index."""
        sizes = np.diff(grams.starts)
        places = np.searchsorted(self.vocabulary, grams.values).clip(max=len(self.vocabulary) - 1)
        is_known = self.vocabulary[places] == grams.values
        known = np.bincount(grams.rows[is_known], minlength=len(sizes))
        rows = _sparse(self.rank[places[is_known]], running(known), len(self.vocabulary))
        lengths = (_prefix_lengths(sizes, self.threshold) - (sizes - known)).clip(min=0)
        prefixes = _first(rows, lengths)
        ours = self.prefixes.T.tocsr()
        meets = np.add.reduceat(np.concatenate([np.diff(ours.indptr)[prefixes.indices], [0]]), prefixes.indptr[:-1])
        meets[np.diff(prefixes.indptr) == 0] = 0
        rest, our_rest = known - np.diff(prefixes.indptr), self.sizes - np.diff(self.prefixes.indptr)
        out = np.zeros(len(sizes), np.bool_)
        for first, end in blocks(running(meets), _BLOCK):
            shared = (prefixes[first:end] @ ours).tocoo()
            left, right = first + shared.row, shared.col
            # What two rows share beyond their prefixes lies in the rest of one of them; see section 3 of the paper.
            needed = self.threshold / (1 + self.threshold) * (sizes[left] + self.sizes[right]) - 1e-9
            most = np.minimum(np.minimum(sizes[left], self.sizes[right]), shared.data + np.maximum(rest[left], our_rest[right]))
            likely = most >= needed
            left, right = left[likely], right[likely]
            for start, stop in blocks(running(known[left] + self.sizes[right]), _BLOCK):
                one, other = left[start:stop], right[start:stop]
                both = np.asarray(rows[one].multiply(self.rows[other]).sum(axis=1)).ravel()
                out[one[both >= self.threshold * (sizes[one] + self.sizes[other] - both)]] = True
        return out


@dataclass(frozen=True, slots=True)
class _Holders:
    """Which rows hold a gram: those of known[g] are rows[starts[g]:starts[g + 1]]; and how many grams each row has."""

    known: Keys
    rows: Indices
    starts: Indices
    sizes: Indices

    @classmethod
    def of(cls, grams: Grams) -> _Holders:
        order = np.argsort(grams.values, kind="stable")
        known, first = np.unique(grams.values[order], return_index=True)
        return cls(known, grams.rows[order], np.append(first, len(order)), np.diff(grams.starts))

    def shared_by(self, grams: Grams, limit: float, mine: Flags, theirs: Flags) -> Flags:
        """Which rows of `grams`, of those in `mine`, share too much with one of `theirs`."""
        sizes = np.diff(grams.starts)
        out = np.zeros(len(sizes), np.bool_)
        chosen = mine[grams.rows]
        rows, values = grams.rows[chosen], grams.values[chosen]
        if not len(rows) or not len(self.known) or not theirs.any():
            return out
        places = np.searchsorted(self.known, values).clip(max=len(self.known) - 1)
        found = self.known[places] == values
        rows, places = rows[found], places[found]
        held = self.starts[places + 1] - self.starts[places]
        for first, end in blocks(running(held), _BLOCK, rows):
            count = held[first:end]
            ends = np.cumsum(count)
            at = np.arange(ends[-1]) + np.repeat(self.starts[places[first:end]] - (ends - count), count)
            pairs, shared = np.unique(np.repeat(rows[first:end], count) << 32 | self.rows[at], return_counts=True)
            left, right = pairs >> 32, pairs & 0xFFFFFFFF
            over = theirs[right] & (shared > limit * np.minimum(sizes[left], self.sizes[right]))
            out[left[over]] = True
        return out


def _prefix_lengths(sizes: Indices, threshold: float) -> Indices:
    """How many of the rarest grams of a text must hold one of every text that is as similar as `threshold`."""
    return np.asarray(sizes - np.ceil(threshold * sizes - 1e-9).astype(np.int64) + 1)


def _sparse(columns: Indices, starts: Indices, width: int) -> Any:
    from scipy.sparse import csr_matrix

    matrix = csr_matrix((np.ones(len(columns), np.int32), columns, starts), shape=(len(starts) - 1, width))
    matrix.sort_indices()
    return matrix


def _first(rows: Any, lengths: Indices) -> Any:
    """The first lengths[i] entries of each row i."""
    from scipy.sparse import csr_matrix

    sizes = np.diff(rows.indptr)
    place = np.arange(len(rows.indices)) - np.repeat(rows.indptr[:-1], sizes)
    chosen = place < np.repeat(lengths, sizes)
    return csr_matrix((rows.data[chosen], rows.indices[chosen], running(np.minimum(lengths, sizes))), shape=rows.shape)


def _word_grams(texts: Any, common: Keys | None = None) -> Grams:
    """The distinct word 8-grams of each of some normalised texts, hashed, in order; a text of fewer words has none.

    With `common`, sorted: those of what is left without the words inside such 8-grams.
    """
    parts, sizes = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for piece in pieces(texts):
        rows, values = _hashed_grams(piece, common)
        keyed = np.sort((rows.astype(np.uint64) << UPPER) | values)
        keyed = keyed[np.concatenate([[True], keyed[1:] != keyed[:-1]])] if len(keyed) else keyed
        parts.append(keyed & LOW)
        sizes.append(np.bincount((keyed >> UPPER).astype(np.int64), minlength=len(piece)))
    return Grams(np.concatenate(parts), running(np.concatenate(sizes)))


def _hashed_grams(texts: Any, common: Keys | None) -> tuple[Indices, Keys]:
    row, words = _words(texts)
    hashed = runs(words, WORDS) >> LOWER
    count = len(hashed)
    whole = row[:count] == row[WORDS - 1 : WORDS - 1 + count]
    if common is None or not len(common):
        return row[:count][whole], hashed[whole]
    is_common = whole & (common[np.searchsorted(common, hashed).clip(max=len(common) - 1)] == hashed)
    cut = np.zeros(len(words), np.bool_)
    for step in range(WORDS):
        cut[step : step + count] |= is_common
    for step in range(WORDS):
        whole &= ~cut[step : step + count]
    short_rows, short = _short_rests(row, words, cut, row[:count][whole])
    return np.concatenate([row[:count][whole], short_rows]), np.concatenate([hashed[whole], short])


def _short_rests(row: Indices, words: Keys, cut: Flags, served: Indices) -> tuple[Indices, Keys]:
    """One hash for the whole rest of each text that lost words and has no 8-gram left, but at least `SHORTEST` words."""
    rest, rest_words = row[~cut], words[~cut]
    wanted = np.setdiff1d(np.unique(row[cut]), served)
    rows, hashes = [], []
    for number in wanted.tolist():
        left = rest_words[np.searchsorted(rest, number) : np.searchsorted(rest, number, side="right")]
        if len(left) >= SHORTEST:
            rows.append(number)
            hashes.append(int.from_bytes(blake2b(left.tobytes(), digest_size=8).digest(), "little") >> int(LOWER))
    return np.array(rows, np.int64), np.array(hashes, np.uint64)


def _words(texts: Any) -> tuple[Indices, Keys]:
    """The words of all texts, hashed, and the text of each."""
    import pyarrow.compute as pc

    lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False).astype(np.int64) + 1
    letters = np.frombuffer("".join(f"{text} " for text in texts.to_pylist()).encode("utf-32-le"), np.uint32).astype(np.uint64)
    is_space = letters == ord(" ")
    begins = np.flatnonzero(~is_space & np.concatenate([[True], is_space[:-1]]))
    row = np.searchsorted(np.cumsum(lengths), begins, side="right")
    return row, _word_hashes(np.where(is_space, np.uint64(0), letters), begins)


def _word_hashes(letters: Keys, begins: Indices) -> Keys:
    if not len(begins):
        return np.empty(0, np.uint64)
    place = np.arange(begins[0], len(letters)) - np.repeat(begins, np.diff(begins, append=len(letters)))
    weights = np.cumprod(np.full(int(place.max()) + 1, PRIME, np.uint64))
    hashed = np.add.reduceat(letters[begins[0] :] * weights[place], begins - begins[0])
    hashed ^= hashed >> np.uint64(29)
    return np.asarray(hashed * MIX)
