"""The classifier: from a sentence and a target state to a tone with its probabilities."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from detente import hub
from detente.encoding import EncodedPair, PairEncoder, Target, as_target
from detente.errors import DetenteError, InputError, ModelError
from detente.labels import LABELS, Label
from detente.runtimes import Runtime
from detente.statement import Statement, check_text
from detente.states import State, mentions

RuntimeName = Literal["auto", "onnx", "torch"]
StatementLike = Statement | tuple[str, str]

BATCH_SIZE: Final = 32
_CHUNK: Final = 2048  # statements that predict_iter sorts by length at a time


@dataclass(frozen=True, slots=True)
class Prediction:
    """The tone of one sentence toward one target.

    Attributes:
        label: The most probable tone.
        probabilities: Each label's probability, in label order; they sum to one.
        target: The state, or the free text given where the gazetteer knows no such state.
        sentence: The sentence that was read.
        source: The state whose tone it is, where one was given.
        span: Where the sentence stands in its document: (start, end) in characters, half
            open; ``None`` if it did not come from a document.
        tokens_cut: Tokens of the sentence that were over the model's limit and not read.
    """

    label: Label
    probabilities: dict[Label, float]
    target: Target
    sentence: str
    source: Target | None = None
    span: tuple[int, int] | None = None
    tokens_cut: int = 0

    @property
    def score(self) -> float:
        """P(conciliatory) − P(critical), in [−1, 1]."""
        return self.probabilities["conciliatory"] - self.probabilities["critical"]

    def to_row(self) -> dict[str, Any]:
        """Returns the prediction as a flat row: scored files add the name of the model."""
        row: dict[str, Any] = {
            "text": self.sentence,
            "target": _code(self.target),
            "label": self.label,
            "score": round(self.score, 6),
            **{f"p_{label}": round(p, 6) for label, p in self.probabilities.items()},
        }
        if self.source is not None:
            row["source"] = _code(self.source)
        if self.span is not None:
            row["start"], row["end"] = self.span
        if self.tokens_cut:
            row["tokens_cut"] = self.tokens_cut
        return row


class Classifier:
    """A tone classifier, loaded once and used many times.

    Make one with :meth:`load`. It may be shared between threads.
    """

    def __init__(self, encoder: PairEncoder, runtime: Runtime, name: str) -> None:
        self.encoder, self.runtime, self.name = encoder, runtime, name

    @classmethod
    def load(
        cls,
        model: str | Path = hub.DEFAULT,
        *,
        revision: str | None = None,
        runtime: RuntimeName = "auto",
    ) -> Classifier:
        """Loads a model and checks its files against its manifest.

        Args:
            model: ``"default"`` (bundled), a folder that training wrote, or a hub id.
            revision: A branch, tag or commit of the hub; only with a hub id.
            runtime: ``"onnx"``, ``"torch"``, or ``"auto"``: ONNX where the model has it.

        Raises:
            ModelError: There is no such model, or its files are not right.
            MissingExtraError: The runtime's packages are not installed.
        """
        from tokenizers import Tokenizer

        folder = hub.locate(model, revision)
        try:
            tokenizer = Tokenizer.from_file(str(folder.path / "tokenizer.json"))
        except Exception as error:  # the Rust library raises plain Exception
            raise ModelError(
                f"cannot be read as a tokenizer ({error})",
                where=str(folder.path / "tokenizer.json"),
            ) from error
        encoder = PairEncoder(tokenizer, folder.max_tokens, folder.pad_id)
        return cls(encoder, _start_runtime(folder, runtime), folder.name)

    def predict(
        self, text: str, target: str | State, *, source: str | State | None = None
    ) -> Prediction:
        """Returns the tone of a sentence toward a state.

        Args:
            text: One sentence. For longer text, see :meth:`read`.
            target: The state: a code, name, alias or capital, or free text.
            source: The state whose tone is asked for; without it, the sentence's speaker.

        Raises:
            InputError: The text, target or source is empty or cannot be read.
        """
        triple = _triple(text, target, source)
        (encoded,) = self.encoder.encode([triple])
        (probabilities,) = self._probabilities([encoded], batch_size=1)
        return _prediction(triple, encoded, probabilities)

    def predict_batch(
        self,
        statements: Sequence[StatementLike],
        *,
        batch_size: int = BATCH_SIZE,
        progress: bool = False,
    ) -> list[Prediction]:
        """Returns the tone of many statements, in their order.

        Equal statements are computed once, and statements of like length together.

        Args:
            statements: Statements, or ``(text, target)`` pairs.
            batch_size: Statements computed at a time.
            progress: Show a progress bar on standard error.

        Raises:
            InputError: A statement cannot be read; the message gives its position.
        """
        _check_batch_size(batch_size)
        return self._predict_batch(statements, batch_size, progress=progress)

    def _predict_batch(
        self,
        statements: Sequence[StatementLike],
        batch_size: int,
        *,
        progress: bool = False,
        first: int = 0,
    ) -> list[Prediction]:
        """Does the work of :meth:`predict_batch`; ``first`` is the first one's position."""
        triples = [_read_statement(i, statement) for i, statement in enumerate(statements, first)]
        unique = list(dict.fromkeys(triples))
        encoded = self.encoder.encode(unique)
        probabilities = self._probabilities(encoded, batch_size, progress=progress)
        found = {
            triple: _prediction(triple, pair, row)
            for triple, pair, row in zip(unique, encoded, probabilities, strict=True)
        }
        return [found[triple] for triple in triples]

    def predict_iter(
        self, statements: Iterable[StatementLike], *, batch_size: int = BATCH_SIZE
    ) -> Iterator[Prediction]:
        """Yields the tone of each statement in order, in bounded memory.

        Args:
            statements: Any iterable, also an endless one.
            batch_size: Statements computed at a time.

        Raises:
            InputError: A statement cannot be read.
        """
        _check_batch_size(batch_size)
        remaining = iter(statements)
        first = 0
        while chunk := list(islice(remaining, _CHUNK)):
            yield from self._predict_batch(chunk, batch_size, first=first)
            first += len(chunk)

    def read(
        self, document: str, source: str | State | None = None, *, language: str = "en"
    ) -> list[Prediction]:
        """Finds every state a document names, and the tone of each sentence toward it.

        Args:
            document: Any text.
            source: The state that speaks; sentences that name it are not scored toward it.
            language: ISO 639 code, for splitting into sentences.

        Returns:
            One prediction for each sentence and state named in it, in order; ``span`` is the
            sentence's place in the document.

        Raises:
            InputError: The document is empty or cannot be read.
        """
        check_text(document, "document")
        speaker = as_target(source, "source") if source is not None else None
        spans, triples = [], []
        for start, end in _sentence_spans(document, language):
            sentence = document[start:end]
            states = dict.fromkeys(mention.state for mention in mentions(sentence))
            for state in states:
                if state != speaker:
                    spans.append((start, end))
                    triples.append((sentence, state, speaker))
        encoded = self.encoder.encode(triples)
        probabilities = self._probabilities(encoded, BATCH_SIZE)
        return [
            _prediction(triple, pair, row, span)
            for triple, pair, row, span in zip(triples, encoded, probabilities, spans, strict=True)
        ]

    def _probabilities(
        self, encoded: Sequence[EncodedPair], batch_size: int, *, progress: bool = False
    ) -> npt.NDArray[np.float64]:
        """Returns shape (pairs, 3), computed in batches of like length, in the given order."""
        from tqdm import tqdm

        order = np.argsort([-len(pair) for pair in encoded], kind="stable")
        logits = np.empty((len(encoded), len(LABELS)), dtype=np.float32)
        with tqdm(total=len(encoded), unit="sentence", disable=not progress) as bar:
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                batch = self.encoder.collate([encoded[row] for row in rows])
                logits[rows] = self.runtime.logits(batch)
                bar.update(len(rows))
        return softmax(logits)


def predict(text: str, target: str | State, *, source: str | State | None = None) -> Prediction:
    """Returns the tone of a sentence toward a state, by the bundled model.

    Args:
        text: One sentence.
        target: The state: a code, name, alias or capital, or free text.
        source: The state whose tone is asked for; without it, the sentence's speaker.

    Raises:
        InputError: The text, target or source is empty or cannot be read.
    """
    return default_classifier().predict(text, target, source=source)


@functools.cache
def default_classifier() -> Classifier:
    """Returns the bundled classifier, loaded at the first call."""
    return Classifier.load()


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Turns logits of shape (rows, 3) into probabilities of the same shape."""
    exponents = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=-1, keepdims=True))


def _start_runtime(folder: hub.ModelFolder, runtime: RuntimeName) -> Runtime:
    has_onnx = folder.onnx_file is not None and (folder.path / folder.onnx_file).is_file()
    if runtime == "auto":
        runtime = "onnx" if has_onnx and importlib.util.find_spec("onnxruntime") else "torch"
    if runtime == "torch":
        from detente.runtimes.torch_runtime import TorchRuntime

        return TorchRuntime(folder.path)
    if runtime != "onnx":
        raise InputError("unknown runtime", got=runtime, expected="auto, onnx or torch")
    if folder.onnx_file is None or not has_onnx:
        raise ModelError(
            "the model has no ONNX file",
            where=str(folder.path),
            fix="Load it with runtime='torch'.",
        )
    from detente.runtimes.onnx_runtime import OnnxRuntime

    return OnnxRuntime(folder.path / folder.onnx_file)


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise InputError("batch_size is not positive", got=batch_size, expected="at least 1")


Triple = tuple[str, Target, Target | None]


def _triple(text: str, target: str | State, source: str | State | None) -> Triple:
    return (
        check_text(text),
        as_target(target),
        as_target(source, "source") if source is not None else None,
    )


def _read_statement(position: int, statement: StatementLike) -> Triple:
    try:
        if isinstance(statement, Statement):
            return _triple(statement.text, statement.target, statement.source)
        if not isinstance(statement, tuple | list) or len(statement) != 2:
            raise InputError(
                "not a statement", got=statement, expected="a Statement or a (text, target) pair"
            )
        return _triple(*statement, None)
    except DetenteError as error:
        raise error.at(f"statement {position}") from None


def _prediction(
    triple: Triple,
    encoded: EncodedPair,
    probabilities: npt.NDArray[np.float64],
    span: tuple[int, int] | None = None,
) -> Prediction:
    sentence, target, source = triple
    return Prediction(
        label=LABELS[int(probabilities.argmax())],
        probabilities=dict(zip(LABELS, probabilities.tolist(), strict=True)),
        target=target,
        sentence=sentence,
        source=source,
        span=span,
        tokens_cut=encoded.tokens_cut,
    )


def _sentence_spans(document: str, language: str) -> Iterator[tuple[int, int]]:
    """Yields the characters of each sentence, without the blanks around it."""
    import sentencex

    for boundary in sentencex.get_sentence_boundaries(language, document):
        piece = document[boundary["start_index"] : boundary["end_index"]]
        if stripped := piece.strip():
            start = boundary["start_index"] + piece.index(stripped)
            yield start, start + len(stripped)


def _code(target: Target) -> str:
    return target.code if isinstance(target, State) else target
