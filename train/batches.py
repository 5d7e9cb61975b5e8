"""From labelled statements to the units that a Trainer samples and the batches a model reads."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from torch.utils.data import Sampler

from detente.encoding import PairEncoder, Target, as_target, pair_text
from detente.labels import LABEL_TO_ID, LABELS
from detente.languages import LANGUAGES
from detente.statement import Statement
from detente.states import State, mentions, resolve
from train.corpora import EACH_LABEL, Contrast

WITHHELD: Final = "a state"
"""The target of every statement for the target-blind twin."""

# Enough that padding stays small, few enough that every epoch sorts other units together.
_BATCHES_SORTED: Final = 40

UNKNOWN: Final = -1.0
"""In ``mentions``: a token of which it is not known whether it names the target."""


def withhold_targets(statements: Sequence[Statement]) -> list[Statement]:
    """Returns the statements as the target-blind twin sees them: same text, no states named."""
    return [replace(s, target=WITHHELD, source=None) for s in statements]


@cache
def other_names(named: State) -> tuple[str, ...]:
    """Returns what else a state is called: its code, aliases, adjectives and demonyms.

    All of them mean this state alone, by the gazetteer's own list. Capitals are left out: they
    are places as often as states.
    """
    names = _names_by_code()[named.code]
    return tuple(name for name in names if name != named.name and resolve(name) == named)


@cache
def _names_by_code() -> dict[str, list[str]]:
    gazetteer = json.loads(resources.files("detente").joinpath("states.json").read_text("utf-8"))
    return {
        row["code"]: sorted({row["code"], *row["names"], *row["lookup"]})
        for row in gazetteer["states"]
    }


def make_encoder(tokenizer: Any, max_tokens: int) -> PairEncoder:  # noqa: ANN401 (no types)
    """Builds our encoder around a copy of a transformers tokenizer."""
    rust = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    return PairEncoder(rust, max_tokens, tokenizer.pad_token_id)


def classes_of(contrast: Contrast) -> list[int]:
    """Returns the number of each label's class in label order, -1 where it has none."""
    return [next((i for i, c in enumerate(contrast) if label in c), -1) for label in LABELS]


def make_units(
    statements: Sequence[Statement],
    encoder: PairEncoder,
    *,
    contrast_weight: float | None = None,
) -> Dataset:
    """Builds what the Trainer samples: units of one row, or for training of one sentence.

    Rows that share a sentence are a unit, so that they meet in one batch and what they have in
    common, the mood of the sentence, cancels out of the gradient.

    Args:
        statements: Labelled statements. Of ``extra`` are used: ``weight`` (a row's share in the
            loss, 1 if absent), ``contrast`` (what its corpus tells apart) and ``soft_label``
            (probabilities in label order that stand in for the label).
        encoder: Tells how long they are.
        contrast_weight: For training: the factor for rows whose sentence has several labels.
    """
    training = contrast_weight is not None
    units: dict[str, list[int]] = defaultdict(list)
    for row, s in enumerate(statements):
        units[s.text if training else str(row)].append(row)
    pairs = [_pair(s.text, s.target, s.source) for s in statements]
    encoded = encoder.encode(pairs)
    lengths = [len(pair) for pair in encoded]

    def factor(rows: list[int]) -> float:
        contrasting = len({statements[row].label for row in rows}) > 1
        return contrast_weight if contrasting and contrast_weight is not None else 1.0

    return Dataset.from_list(
        [
            {
                "length": max(lengths[row] for row in rows),
                "rows": [
                    {
                        **_row(row, statements[row], factor(rows), training),
                        "cut": encoded[row].tokens_cut > 0,
                    }
                    for row in rows
                ],
            }
            for rows in units.values()
        ]
    )


class LengthSampler(Sampler[int]):
    """Puts units of like length into one batch, and the batches in random order.

    Transformers' own sampler leaves the batches of a stretch sorted from long to short, so that
    an encoder sees little but short sentences for a while, and then little but long ones; it
    learns less by that. The order depends on seed and epoch alone, the same in every process.

    Args:
        lengths: Of the units, in tokens.
        batch_size: Units a batch, over all processes.
        seed: Of the order.

    Attributes:
        epoch: The epoch that the order belongs to.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = np.asarray(lengths), batch_size, seed
        self.epoch = 0

    def __len__(self) -> int:
        """Returns the number of units."""
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        """Yields the place of every unit once; a batch that is not full comes last."""
        draws = np.random.default_rng((self.seed, self.epoch))
        order = draws.permutation(len(self.lengths))
        stretch = _BATCHES_SORTED * self.batch_size
        for start in range(0, len(order), stretch):
            part = order[start : start + stretch]
            order[start : start + stretch] = part[np.argsort(self.lengths[part], kind="stable")]
        full = len(order) - len(order) % self.batch_size
        batches = order[:full].reshape(-1, self.batch_size)
        yield from map(int, draws.permutation(batches).ravel())
        yield from map(int, order[full:])


class Collator:
    """Encodes units into padded batches with weighted label distributions.

    The packed ``labels`` have shape (rows, 2, 3). The first three numbers are the row's label
    distribution times its weight, so that class weights, smoothing and soft labels need no
    column of their own; the others are the class of each label (:func:`classes_of`). With
    ``find_mentions`` a training batch also has ``mentions`` of shape (rows, tokens): 1 where a
    token of the sentence names the row's target, 0 where it does not, ``UNKNOWN`` elsewhere.
    A training batch says in ``rows`` which statements it is made of, by their number.

    In training each row's source is withheld with a fixed probability, and with another one
    a target that the sentence names is exchanged for a state that it does not name, toward
    which its tone is neutral. With a third one the pair has another name of its target: its code,
    an alias, an adjective or a demonym. The draws depend on seed, epoch and row alone, so that a
    resumed run sees what an undisturbed one would.

    Args:
        encoder: Makes token ids.
        weights: Shape (3,), the weight of each label.
        smoothing: Share of a row's weight spread evenly over the labels its corpus has.
        source_dropout: Share of training rows without source.
        absent_targets: Share of training rows with a target that the sentence does not name, of
            those whose own target it names: "your government" can mean anybody.
        target_names: Share of training rows whose pair names the target otherwise, of those whose
            target is a state. A sentence that is cut keeps the name by which it is cut.
        states: What absent targets are drawn from: those of the training rows, so that a state
            that is often talked about is often absent.
        seed: Of the draws.
        segments: Whether the encoder takes token types.
        find_mentions: Whether training batches say which tokens name the target.

    Attributes:
        epoch: The epoch that the draws belong to.
    """

    def __init__(
        self,
        encoder: PairEncoder,
        *,
        weights: npt.NDArray[np.float64],
        smoothing: float,
        source_dropout: float,
        seed: int,
        absent_targets: float = 0.0,
        target_names: float = 0.0,
        states: Sequence[str] = (),
        segments: bool,
        find_mentions: bool = False,
    ) -> None:
        self.encoder, self.segments, self.seed = encoder, segments, seed
        self.source_dropout, self.absent_targets = source_dropout, absent_targets
        self.target_names, self.find_mentions = target_names, find_mentions
        self._states = np.asarray(states)
        self._weights, self._smoothing = weights, smoothing
        self.epoch = 0

    def __call__(self, units: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Collates units of :func:`make_units` into ``input_ids``, masks and ``labels``."""
        rows = [row for unit in units for row in unit["rows"]]
        rows = [self._augmented(row) if row["training"] else row for row in rows]
        pairs = [_pair(row["text"], row["target"], row["source"], row.get("shown")) for row in rows]
        batch = self.encoder.collate(self.encoder.encode(pairs))
        if not self.segments:
            del batch["token_type_ids"]
        tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
        if any(row["training"] for row in rows):
            tensors["rows"] = torch.tensor([row["row"] for row in rows])
            if self.find_mentions:
                shape = batch["input_ids"].shape
                tensors["mentions"] = torch.from_numpy(self._mentions(rows, pairs, shape))
        labels = np.stack([self._packed(row) for row in rows])
        return tensors | {"labels": torch.from_numpy(labels)}

    def _packed(self, row: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        label, classes = np.asarray(row["label"]), np.asarray(row["classes"])
        if row["training"]:
            told = classes >= 0
            smooth = (1 - self._smoothing) * label + self._smoothing * told / told.sum()
            label = row["weight"] * (label @ self._weights) * smooth
        return np.stack([label, classes]).astype(np.float32)

    def _augmented(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        asked = self._asked(row)
        return {**asked, "shown": self._other_name(asked)}

    def _other_name(self, row: Mapping[str, Any]) -> str | None:
        """Returns what the pair calls the target in place of its own name, or ``None``."""
        target = as_target(row["target"])
        if not self.target_names or row["cut"] or not isinstance(target, State):
            return None
        # Draws of their own: the others are the same with and without them.
        draws = np.random.default_rng((self.seed, self.epoch, row["row"], 1))
        names = other_names(target)
        return names[draws.integers(len(names))] if draws.random() < self.target_names else None

    def _asked(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns a row with the source and the target that it is asked for."""
        draws = np.random.default_rng((self.seed, self.epoch, row["row"]))
        source = None if draws.random() < self.source_dropout else row["source"]
        target = as_target(row["target"])
        if draws.random() >= self.absent_targets or not _spans(
            row["mentions"], row["text"], target
        ):
            return {**row, "source": source}
        named = {mention["name"] for mention in row["mentions"]}
        named |= {str(as_target(name)) for name in (row["target"], row["source"]) if name}
        absent = str(draws.choice(self._states))
        if absent in named or absent in row["text"]:
            return {**row, "source": source}
        neutral = _one_hot(LABEL_TO_ID["neutral"])
        changed = {"target": absent, "label": neutral, "classes": classes_of(EACH_LABEL)}
        return {**row, "source": source, "absent": True, **changed}

    def _mentions(
        self,
        rows: Sequence[Mapping[str, Any]],
        pairs: Sequence[tuple[str, Target, Target | None]],
        shape: tuple[int, ...],
    ) -> npt.NDArray[np.float32]:
        """Returns which tokens name the target, shape (rows, tokens)."""
        found = np.full(shape, UNKNOWN, dtype=np.float32)
        encodings = self.encoder.tokenizer.encode_batch(
            [(text, pair_text(target, source)) for text, target, source in pairs]
        )
        for line, row, encoding in zip(found, rows, encodings, strict=True):
            spans = _spans(row["mentions"], row["text"], as_target(row["target"]))
            # A target that nothing names ("your government") may still be meant somewhere, and
            # the tokens of a sentence that was cut do not stand where these do.
            if not (spans or row["absent"]) or len(encoding.ids) > self.encoder.max_tokens:
                continue
            for token, (part, (start, end)) in enumerate(
                zip(encoding.sequence_ids, encoding.offsets, strict=True)
            ):
                if part == 0:
                    line[token] = any(start < b and end > a for a, b in spans)
        return found


def _row(number: int, s: Statement, factor: float, training: bool) -> dict[str, Any]:
    extra = s.extra
    language = extra.get("lang")
    named = mentions(s.text, language if language in LANGUAGES else None) if training else []
    label = extra.get("soft_label") or _one_hot(LABEL_TO_ID[s.label] if s.label else 0)
    return {
        "row": number,
        "text": s.text,
        "target": s.target,
        "source": s.source,
        "label": list(label),
        "classes": classes_of(extra.get("contrast", EACH_LABEL)),
        "weight": factor * extra.get("weight", 1.0),
        "mentions": [{"name": str(m.state), "start": m.start, "end": m.end} for m in named],
        "absent": False,
        "training": training,
    }


def _pair(
    text: str, target: str, source: str | None, shown: str | None = None
) -> tuple[str, Target, Target | None]:
    # As a state an alias would be read as its canonical name.
    return text, shown or as_target(target), as_target(source, "source") if source else None


def _one_hot(label: int) -> list[float]:
    return [float(label == i) for i in range(len(LABELS))]


def _spans(found: Sequence[Mapping[str, Any]], text: str, target: Target) -> list[tuple[int, int]]:
    """Returns the characters that name the target: half open, as the gazetteer or the text has."""
    spans = [(m["start"], m["end"]) for m in found if m["name"] == str(target)]
    if not spans and (at := text.find(str(target))) >= 0:
        spans = [(at, at + len(str(target)))]
    return spans
