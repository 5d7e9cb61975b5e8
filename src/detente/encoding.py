"""From a sentence and its target to model input: the only place that knows the pair template.

A model reads the pair ``(sentence, TARGET)`` or, with a source, ``(sentence, SOURCE -> TARGET)``,
states by their canonical names: what ``transformers.pipeline("text-classification")`` makes of
``{"text": sentence, "text_pair": "United States"}``. A plain pair does as well as a head of its
own on political news (see ``docs/training.md``), and any library can serve it.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from detente.errors import InputError, TruncationWarning
from detente.statement import check_text
from detente.states import State, mentions, resolve

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SEPARATOR: Final = " -> "
TEMPLATE: Final = {
    "text": "{sentence}",
    "text_pair": "{target}",
    "text_pair_with_source": f"{{source}}{SEPARATOR}{{target}}",
}
"""What every model folder records in its ``detente.json``, and a loader compares."""

Target = State | str
"""A state of the gazetteer, or free text that it does not know."""


def as_target(name: str | State, role: str = "target") -> Target:
    """Returns the state that ``name`` names, or the name itself where none is known.

    Raises:
        InputError: The name is empty or cannot be read.
    """
    if isinstance(name, State):
        return name
    return _known(check_text(name, role).strip())


@functools.lru_cache(maxsize=4096)
def _known(name: str) -> Target:
    """Returns the state of a name; kept, since an archive names the same few again and again."""
    return resolve(name) or name


def pair_text(target: Target, source: Target | None = None) -> str:
    """Returns the second half of the pair: ``TARGET`` or ``SOURCE -> TARGET``."""
    return f"{source}{SEPARATOR}{target}" if source is not None else str(target)


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """One (sentence, target) pair as token ids, special tokens included.

    Attributes:
        ids: Token ids, at most the encoder's ``max_tokens``.
        type_ids: Segment of each token (0 sentence, 1 pair), as many as ``ids``.
        tokens_cut: Tokens of the sentence that did not fit.
    """

    ids: list[int]
    type_ids: list[int]
    tokens_cut: int = 0

    def __len__(self) -> int:
        """Returns the number of tokens."""
        return len(self.ids)


class PairEncoder:
    """Turns (sentence, target, source) into token ids of at most a given length.

    A sentence that is too long is cut around the first mention of its target, so that the
    target survives, and a :class:`TruncationWarning` says how many tokens were left out.

    Args:
        tokenizer: A fast tokenizer; its own truncation and padding are switched off.
        max_tokens: The most tokens a pair may have, special tokens included.
        pad_id: The id that fills up short rows in :meth:`collate`.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int, pad_id: int) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer, self.max_tokens, self.pad_id = tokenizer, max_tokens, pad_id
        self._special = tokenizer.num_special_tokens_to_add(is_pair=True)

    def encode(self, pairs: Sequence[tuple[str, Target, Target | None]]) -> list[EncodedPair]:
        """Encodes (sentence, target, source or None) triples, in their order.

        Raises:
            InputError: The pair is too long, and its second half alone takes more than half of
                ``max_tokens``.
        """
        texts = [(sentence, pair_text(target, source)) for sentence, target, source in pairs]
        encodings = self.tokenizer.encode_batch_fast(texts)  # without offsets
        return [
            EncodedPair(encoding.ids, encoding.type_ids)
            if len(encoding.ids) <= self.max_tokens
            else self._encode_long(sentence, pair, target, len(encoding.ids))
            for encoding, (sentence, pair), (_, target, _) in zip(
                encodings, texts, pairs, strict=True
            )
        ]

    def collate(self, encoded: Sequence[EncodedPair]) -> dict[str, npt.NDArray[np.int64]]:
        """Pads encoded pairs to the longest of them.

        Returns:
            ``input_ids``, ``attention_mask`` (1 for a token, 0 for padding) and
            ``token_type_ids``, each of shape (pairs, longest).
        """
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        held = np.arange(lengths.max(initial=0)) < lengths[:, None]
        ids = np.full(held.shape, self.pad_id, dtype=np.int64)
        types = np.zeros(held.shape, dtype=np.int64)
        # All rows at once: on a GPU, filling them one by one would take longer than the model.
        ids[held] = np.fromiter(chain.from_iterable(pair.ids for pair in encoded), np.int64)
        types[held] = np.fromiter(chain.from_iterable(pair.type_ids for pair in encoded), np.int64)
        return {
            "input_ids": ids,
            "attention_mask": held.astype(np.int64),
            "token_type_ids": types,
        }

    def _encode_long(self, sentence: str, pair: str, target: Target, length: int) -> EncodedPair:
        pair_length = len(self.tokenizer.encode(pair, add_special_tokens=False).ids)
        if pair_length > self.max_tokens // 2:
            raise InputError(
                f"target and source take {pair_length} of the model's {self.max_tokens} tokens",
                got=pair,
                expected=f"a target of at most {self.max_tokens // 2} tokens",
                fix="Name the target state alone and put the rest into the text.",
            )
        budget = self.max_tokens - pair_length - self._special
        encoding = self.tokenizer.encode(self._window(sentence, target, budget), pair)
        # Byte-level vocabularies may split the first word of a window into more tokens.
        while len(encoding.ids) > self.max_tokens:
            budget -= len(encoding.ids) - self.max_tokens
            encoding = self.tokenizer.encode(self._window(sentence, target, budget), pair)
        cut = length - len(encoding.ids)
        warnings.warn(
            TruncationWarning(
                f"a sentence of {length} tokens with its target is over the model's limit of "
                f"{self.max_tokens}: {cut} tokens were cut, keeping those around the target. "
                "Split long texts into sentences first, for instance with Classifier.read()."
            ),
            stacklevel=2,
        )
        return EncodedPair(encoding.ids, encoding.type_ids, tokens_cut=cut)

    def _window(self, sentence: str, target: Target, budget: int) -> str:
        """Returns whole words of ``sentence``, at most ``budget`` tokens, around the target."""
        encoding = self.tokenizer.encode(sentence, add_special_tokens=False)
        offsets, words = encoding.offsets, encoding.word_ids
        start, end = _find_target(sentence, target)
        inside = [i for i, (a, b) in enumerate(offsets) if a < end and b > start] or [0]
        first, last = inside[0], inside[-1]
        # As many tokens before the mention as after it, shifted where the sentence ends.
        begin = max(0, min(first - (budget - (last - first + 1)) // 2, len(offsets) - budget))
        stop = min(begin + budget, len(offsets))
        # Whole words only: half a word would be split into other tokens than before.
        while 0 < begin < first and words[begin] == words[begin - 1]:
            begin += 1
        while last + 1 < stop < len(offsets) and words[stop] == words[stop - 1]:
            stop -= 1
        return sentence[offsets[begin][0] : offsets[stop - 1][1]]


def _find_target(sentence: str, target: Target) -> tuple[int, int]:
    """Returns the characters of the first mention of the target, or an empty span at the start."""
    if isinstance(target, State):
        for mention in mentions(sentence):
            if mention.state == target:
                return mention.start, mention.end
    at = _fold(sentence).find(_fold(str(target)))
    return (at, at + len(str(target))) if at >= 0 else (0, 0)


def _fold(text: str) -> str:
    """Folds case without changing the length, so that offsets stay true."""
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)
