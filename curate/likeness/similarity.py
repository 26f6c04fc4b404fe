"""How similar texts are: hashed character 4-grams, keys that similar texts share, exact Jaccard similarity of pairs.

MinHash with banding: Broder, "On the resemblance and containment of documents", 1997; Leskovec, Rajaraman and Ullman, "Mining
of massive datasets", section 3.4. A text has `BANDS` keys of 8 bytes, each made of `ROWS` minima over hashes of its 4-grams. Two
texts of similarity s share at least one with probability 1 - (1 - s^ROWS)^BANDS: 0.55 at 0.5, 0.87 at 0.6, 0.99 at 0.7.
Everything here works on Arrow arrays and is the same in every process, on every machine, on every day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.likeness.hashing import LOW, LOWER, MIX, PRIME, UPPER, runs

BANDS, ROWS = 25, 5
_GRAM, _SEED = 4, 1
_BLOCK = 1 << 16
_PIECE, _MERGED = 1 << 20, 1 << 19

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Keys = npt.NDArray[np.uint64]
Small = npt.NDArray[np.uint32]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs a[i] < b[i] with their Jaccard similarity, sorted. `crowded` counts buckets too full to compare all with all."""

    a: Indices
    b: Indices
    similarity: Floats
    crowded: int = 0

    def where(self, chosen: Flags) -> Pairs:
        """The pairs that `chosen` marks."""
        return Pairs(self.a[chosen], self.b[chosen], self.similarity[chosen], self.crowded)


@dataclass(frozen=True, slots=True)
class Grams:
    """Hashes of the grams of each text, in their order: those of text i are values[starts[i]:starts[i + 1]]."""

    values: Keys
    starts: Indices

    @property
    def rows(self) -> Indices:
        """The text that each value belongs to."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


def arrow_texts(texts: Any) -> Any:
    """A list of strings, or an Arrow array of them, as Arrow's large_string; half of a surrogate pair becomes '?'."""
    import pyarrow as pa

    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks() if texts.num_chunks != 1 else texts.chunk(0)
    if isinstance(texts, pa.Array):
        return texts.cast(pa.large_string())
    try:
        return pa.array(texts, pa.large_string())
    except UnicodeEncodeError:
        return pa.array([text.encode("utf-8", "replace").decode() for text in texts], pa.large_string())


def grams(texts: Any) -> Grams:
    """Character 4-grams of an Arrow array of texts, hashed to 64 bits. A shorter text counts as one gram, itself."""
    import pyarrow.compute as pc

    if not len(texts):
        return Grams(np.empty(0, np.uint64), np.zeros(1, np.int64))
    padded = pc.utf8_rpad(arrow_texts(texts), _GRAM, padding="\x00")
    lengths = pc.utf8_length(padded).to_numpy(zero_copy_only=False).astype(np.int64)
    offsets = np.frombuffer(padded.buffers()[1], np.int64)[padded.offset : padded.offset + len(padded) + 1]
    data = padded.buffers()[2].slice(int(offsets[0]), int(offsets[-1] - offsets[0])).to_pybytes()
    letters = np.frombuffer(data.decode().encode("utf-32-le"), np.uint32).astype(np.uint64)
    values = runs(letters, _GRAM)
    values ^= values >> np.uint64(29)
    values *= MIX
    values ^= values >> np.uint64(32)
    whole = np.ones(len(letters), np.bool_)
    for step in range(1, _GRAM):
        whole[np.cumsum(lengths) - step] = False  # these would reach into the next text
    return Grams(values[whole[: len(values)]], np.concatenate([[0], np.cumsum(lengths - _GRAM + 1)]))


def band_keys(texts: Any) -> Keys:
    """The keys of each text, `BANDS` in a row. The number of its band is in a key, so keys of two bands never agree."""
    # From a hash, not from a generator of numpy: keys that versions hold must be the same for ever.
    drawn = b"".join(blake2b(f"{_SEED} {place}".encode(), digest_size=8).digest() for place in range(BANDS * ROWS))
    factors, offsets = np.frombuffer(drawn, "<u4").reshape(-1, 2).T | np.array([[1], [0]], np.uint32)
    parts = [np.empty((0, BANDS), np.uint64)]
    for piece in pieces(arrow_texts(texts)):
        found = grams(piece)
        small = (found.values >> np.uint64(32)).astype(np.uint32)
        for first, end in blocks(found.starts, _BLOCK):
            begin = found.starts[first]
            parts.append(_keys(small[begin : found.starts[end]], found.starts[first:end] - begin, factors, offsets))
    return np.concatenate(parts)


def _keys(values: Small, starts: Indices, factors: Small, offsets: Small) -> Keys:
    keys = np.empty((len(starts), BANDS), np.uint64)
    hashed = np.empty_like(values)
    for band in range(BANDS):
        key = np.full(len(starts), band, np.uint64)
        for place in range(band * ROWS, band * ROWS + ROWS):
            np.multiply(values, factors[place], out=hashed)
            np.add(hashed, offsets[place], out=hashed)
            key = (key ^ np.minimum.reduceat(hashed, starts)) * PRIME
            key ^= key >> np.uint64(32)
        keys[:, band] = (key << np.uint64(5)) | np.uint64(band)
    return keys


def jaccard(left: Any, right: Any) -> Floats:
    """Exact Jaccard similarity of the 4-grams of left[i] and right[i], two Arrow arrays of texts.

    Exact but for hashes: two different 4-grams of a pair are taken for one with a probability of 2**-44.
    """
    import pyarrow as pa

    coded = pa.concat_arrays([arrow_texts(left), arrow_texts(right)]).dictionary_encode()
    places = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    one, other = places[: len(left)], places[len(left) :]
    texts = distinct_grams(coded.dictionary)
    sizes = np.diff(texts.starts)
    parts = [np.empty(0)]
    for first, end in blocks(running(sizes[one] + sizes[other]), _MERGED):
        parts.append(_merged(texts, one[first:end], other[first:end]))
    return np.concatenate(parts)


def distinct_grams(texts: Any) -> Grams:
    """As `grams`, but each gram of a text once and in order, with the lowest bits lost."""
    parts, sizes = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for piece in pieces(texts):
        found = grams(piece)
        values = (found.rows.astype(np.uint64) << UPPER) | (found.values >> LOWER)
        values.sort(kind="stable")  # a run for each text, so three times as fast
        values = values[np.concatenate([[True], values[1:] != values[:-1]])]
        parts.append(values & LOW)
        sizes.append(np.bincount((values >> UPPER).astype(np.int64), minlength=len(found.starts) - 1))
    return Grams(np.concatenate(parts), running(np.concatenate(sizes)))


def _merged(texts: Grams, one: Indices, other: Indices) -> Floats:
    """Similarity of few enough pairs of `texts`: both lists of a pair become one, in order, where equal grams are neighbours."""
    pairs = np.repeat(np.arange(len(one), dtype=np.uint64), 2)
    chosen = np.column_stack([one, other]).ravel()
    sizes = np.diff(texts.starts)[chosen]
    ends = np.cumsum(sizes)
    places = np.arange(ends[-1]) + np.repeat(texts.starts[chosen] - (ends - sizes), sizes)
    values = texts.values[places] | np.repeat(pairs << UPPER, sizes)
    values.sort(kind="stable")  # two sorted runs for each pair: merged in one pass
    equal = values[1:][values[1:] == values[:-1]]
    shared = np.bincount((equal >> UPPER).astype(np.int64), minlength=len(one))
    return np.asarray(shared / (sizes[::2] + sizes[1::2] - shared))


def pieces(texts: Any) -> Iterator[Any]:
    """Slices of an Arrow array of texts that are small enough to be worked on at once."""
    import pyarrow.compute as pc

    lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
    for first, end in blocks(running(lengths + _GRAM), _PIECE):
        yield texts[first:end]


def running(sizes: Indices) -> Indices:
    """Where each of rows with these sizes starts in one array of all their values, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(sizes)])


def blocks(starts: Indices, size: int, groups: Indices | None = None) -> Iterator[tuple[int, int]]:
    """Runs (first, end) of rows with at most `size` values together, or of a single row; row i has starts[i + 1] - starts[i].

    With `groups`, in order: runs do not part rows of one group.
    """
    first, count = 0, len(starts) - 1
    while first < count:
        end = int(np.searchsorted(starts, starts[first] + size, side="right")) - 1
        end = min(max(end, first + 1), count)
        if groups is not None and end < count and groups[end] == groups[end - 1]:
            begin = int(np.searchsorted(groups, groups[end]))
            end = begin if begin > first else int(np.searchsorted(groups, groups[end], side="right"))
        yield first, end
        first = end
