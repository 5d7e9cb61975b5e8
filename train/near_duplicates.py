"""Sentences that are nearly the same: scanned twice, transcribed twice, or with a word changed.

Likeness is the Jaccard index of two sets of character 5-grams. MinHash signatures in bands
(`datasketch`) propose pairs, and every pair proposed is checked exactly, so that nothing below the
threshold is ever reported. Whether a pair is proposed depends on its two texts alone, hence the
order of the rows does not matter.

Characters rather than words: scans and spellings break words, and a formula that differs in one
name ("at the initiative of the … side") shares as many word pairs as an honest rewrite. The
threshold was chosen on the public corpora: see ``docs/training.md``.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from datasketch import MinHash, MinHashLSH

THRESHOLD: Final = 0.7
"""Two texts nearly equal each other from this Jaccard index on."""

_SHINGLE: Final = 5
# A pair at the threshold escapes all bands with a probability of (1 - 0.7 ** 4) ** 32 = 0.00015,
# one at 0.8 with 5e-8.
_BANDS: Final = 32
_ROWS: Final = 4
_SEED: Final = 1


def likeness(a: str, b: str) -> float:
    """Returns the Jaccard index of the character 5-grams of two texts, in [0, 1]."""
    left, right = _shingles(a), _shingles(b)
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


def signatures(texts: Iterable[str]) -> dict[str, MinHash]:
    """Returns the MinHash of each text: the slow part, so that several indices can share it."""
    distinct = list(dict.fromkeys(texts))
    made = MinHash.generator(
        (_shingles(text) for text in distinct),
        num_perm=_BANDS * _ROWS,
        seed=_SEED,
        hashfunc=_checksum,
    )
    return dict(zip(distinct, made, strict=True))


class NearIndex:
    """Texts among which those that nearly equal another one are found.

    Args:
        signed: The signatures of all texts that will be added or looked up.
    """

    def __init__(self, signed: Mapping[str, MinHash]) -> None:
        self._signed = signed
        self._bands = MinHashLSH(num_perm=_BANDS * _ROWS, params=(_BANDS, _ROWS))

    def add(self, texts: Iterable[str]) -> None:
        """Adds texts; one that is there already stays there once."""
        for text in texts:
            if text not in self._bands:
                self._bands.insert(text, self._signed[text])

    def near(self, text: str) -> Iterator[tuple[str, float]]:
        """Yields the other texts that nearly equal ``text``, in alphabetical order.

        Yields:
            The text and its likeness, at least :data:`THRESHOLD`.
        """
        for other in sorted(self._bands.query(self._signed[text])):
            if other != text and (found := likeness(text, other)) >= THRESHOLD:
                yield other, found


def _shingles(text: str) -> set[str]:
    return {text[i : i + _SHINGLE] for i in range(max(1, len(text) - _SHINGLE + 1))}


def _checksum(shingle: str) -> int:
    # datasketch mixes the bits afterwards, and SHA-1, its default, takes twice the time.
    return zlib.crc32(shingle.encode())
