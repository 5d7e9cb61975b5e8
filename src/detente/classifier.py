"""The classifier: from a sentence and a target state to a tone with its probabilities."""

from __future__ import annotations

import functools
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from detente import hub
from detente.batching import map_ahead, map_beside, plan_batches
from detente.encoding import PairEncoder, Target, as_target
from detente.errors import DetenteError, InputError, LanguageWarning, ModelError
from detente.labels import LABELS, Label
from detente.languages import check_language, language_of
from detente.runtimes import Runtime, RuntimeName, choose
from detente.statement import Statement, check_text
from detente.states import State, mentions

StatementLike = Statement | tuple[str, str]
Triple = tuple[str, Target, Target | None]
"""A sentence, its target and its source, read and checked."""

WINDOW: Final = 8192
"""Statements that are sorted by length, and kept in memory, at a time."""


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


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A window of statements, ready to be computed: its batches, each with its rows."""

    triples: list[Triple]
    tokens_cut: list[int]
    batches: list[tuple[list[int], dict[str, npt.NDArray[np.int64]]]]


class Classifier:
    """A tone classifier, loaded once and used many times.

    Make one with :meth:`load`. It may be shared between threads.

    Attributes:
        name: What the model was called when it was loaded.
        languages: ISO 639 codes of those it learned from; empty if not known. Text in the letters
            of another one is answered with a :class:`LanguageWarning`.
    """

    def __init__(
        self,
        encoder: PairEncoder,
        runtime: Runtime,
        name: str,
        languages: Collection[str] = (),
    ) -> None:
        self.encoder, self.runtime, self.name = encoder, runtime, name
        self.languages = frozenset(languages)

    @classmethod
    def load(
        cls,
        model: str | Path = hub.DEFAULT,
        *,
        revision: str | None = None,
        runtime: RuntimeName = "auto",
        threads: int | None = None,
    ) -> Classifier:
        """Loads a model and checks its files against its manifest.

        Args:
            model: ``"default"`` (bundled), a folder that training wrote, or a hub id.
            revision: A branch, tag or commit of the hub; only with a hub id.
            runtime: ``"onnx"``, ``"torch"``, or ``"auto"``: ONNX where the model has it.
            threads: Batches that ONNX computes side by side; ``None`` takes the cores this
                process may use. One is for those who call the classifier from several threads.

        Raises:
            ModelError: There is no such model, or its files are not right.
            MissingExtraError: The runtime's packages are not installed.
        """
        from tokenizers import Tokenizer

        folder = hub.locate(model, revision, runtime)
        try:
            tokenizer = Tokenizer.from_file(str(folder.path / "tokenizer.json"))
        except Exception as error:  # the Rust library raises plain Exception
            raise ModelError(
                f"cannot be read as a tokenizer ({error})",
                where=str(folder.path / "tokenizer.json"),
            ) from error
        encoder = PairEncoder(tokenizer, folder.max_tokens, folder.pad_id)
        started = _start_runtime(folder, runtime, threads)
        return cls(encoder, started, folder.name, folder.languages)

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
        self._check_languages([triple])
        encoded = self.encoder.encode([triple])
        probabilities = softmax(self.runtime.logits(self.encoder.collate(encoded)))
        return _prediction(triple, encoded[0].tokens_cut, probabilities[0])

    def predict_batch(
        self,
        statements: Sequence[StatementLike],
        *,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> list[Prediction]:
        """Returns the tone of many statements, in their order.

        Equal statements are computed once, and statements of like length together, so that at
        most 3 % of what is computed is padding. The same statements are always put together in
        the same way.

        Args:
            statements: Statements, or ``(text, target)`` pairs.
            batch_size: The most statements computed at a time, for a machine with little memory;
                without it, as many as the runtime computes fastest. Numbers do not depend on it
                beyond rounding: see ``docs/speed.md``.
            progress: Show a progress bar on standard error.

        Raises:
            InputError: A statement cannot be read; the message gives its position.
        """
        _check_batch_size(batch_size)
        triples = [_read_statement(i, statement) for i, statement in enumerate(statements)]
        unique = list(dict.fromkeys(triples))
        self._check_languages(unique)
        with _progress(len(unique), progress) as advance:
            found = {
                triple: prediction
                for window in self._predict_windows(_windows(unique), batch_size, advance)
                for triple, prediction in window.items()
            }
        return [found[triple] for triple in triples]

    def predict_iter(
        self, statements: Iterable[StatementLike], *, batch_size: int | None = None
    ) -> Iterator[Prediction]:
        """Yields the tone of each statement in order, in bounded memory.

        Statements are taken in windows of :data:`WINDOW`, one window ahead of what is yielded;
        those that are equal within a window are computed once.

        Args:
            statements: Any iterable, also an endless one.
            batch_size: As for :meth:`predict_batch`.

        Raises:
            InputError: A statement cannot be read; those before its window are yielded first.
        """
        _check_batch_size(batch_size)
        read = (_read_statement(i, statement) for i, statement in enumerate(statements))
        taken: deque[list[Triple]] = deque()

        def unique() -> Iterator[list[Triple]]:
            for window in _windows(read):
                taken.append(window)
                self._check_languages(window)
                yield list(dict.fromkeys(window))

        for found in self._predict_windows(unique(), batch_size):
            for triple in taken.popleft():
                yield found[triple]

    def read(
        self, document: str, source: str | State | None = None, *, language: str | None = None
    ) -> list[Prediction]:
        """Finds every state a document names, and the tone of each sentence toward it.

        Args:
            document: Any text.
            source: The state that speaks; sentences that name it are not scored toward it.
            language: ISO 639 code, one of :data:`detente.languages.LANGUAGES`, for splitting into
                sentences and finding states; without it, told by the script.

        Returns:
            One prediction for each sentence and state named in it, in order; ``span`` is the
            sentence's place in the document.

        Raises:
            InputError: The document is empty or cannot be read, or the language is not known.
        """
        placed = list(statements_in(document, source, language=language))
        triples = [_triple(each.text, each.target, each.source) for _, each in placed]
        self._check_languages(triples)
        found = {
            triple: prediction
            for window in self._predict_windows(_windows(dict.fromkeys(triples)))
            for triple, prediction in window.items()
        }
        return [
            replace(found[triple], span=span)
            for (span, _), triple in zip(placed, triples, strict=True)
        ]

    def _predict_windows(
        self,
        windows: Iterable[list[Triple]],
        batch_size: int | None = None,
        advance: Callable[[int], object] = lambda computed: None,
    ) -> Iterator[dict[Triple, Prediction]]:
        """Yields the predictions of each window's statements, which must be distinct.

        While a window is computed, the next one is tokenised on another thread.

        Args:
            windows: Statements that are sorted by length together.
            batch_size: The most statements of a batch.
            advance: Called with the number of statements of each batch that is done.
        """

        def prepare(window: list[Triple]) -> _Prepared:
            encoded = self.encoder.encode(window)
            lengths = [len(pair) for pair in encoded]
            plan = plan_batches(lengths, self.runtime.batch_tokens, batch_size)
            batches = [(rows, self.encoder.collate([encoded[i] for i in rows])) for rows in plan]
            return _Prepared(window, [pair.tokens_cut for pair in encoded], batches)

        for prepared in map_ahead(prepare, windows):
            logits = np.empty((len(prepared.triples), len(LABELS)), dtype=np.float32)
            batches = [batch for _, batch in prepared.batches]
            computed = map_beside(self.runtime.logits, batches, self.runtime.batches_at_a_time)
            for (rows, _), of_batch in zip(prepared.batches, computed, strict=True):
                logits[rows] = of_batch
                advance(len(rows))
            found = zip(prepared.triples, prepared.tokens_cut, softmax(logits), strict=True)
            yield {triple: _prediction(triple, cut, p) for triple, cut, p in found}

    def _check_languages(self, triples: Sequence[Triple]) -> None:
        """Warns of text in the letters of a language that the model has not learned."""
        if not self.languages:
            return
        # Latin letters do not tell English from other languages.
        found = {language_of(text) for text, _, _ in triples if not text.isascii()} - {"en"}
        for language in sorted(found - self.languages):
            warnings.warn(
                LanguageWarning(
                    f"text in another language ({language}) than the model {self.name!r} learned "
                    f"({', '.join(sorted(self.languages))}): its tones are guesses. "
                    "docs/multilingual.md says how to get a model that reads more."
                ),
                stacklevel=3,
            )


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


def statements_in(
    document: str, source: str | State | None = None, *, language: str | None = None
) -> Iterator[tuple[tuple[int, int], Statement]]:
    """Yields the statements that :meth:`Classifier.read` scores, with their places.

    Args:
        document: Any text.
        source: The state that speaks; sentences that name it are not about it.
        language: ISO 639 code, one of :data:`detente.languages.LANGUAGES`, for splitting into
            sentences and finding states; without it, told by the script.

    Yields:
        For each sentence and state named in it: the sentence's characters in the document
        (half open), and the statement.

    Raises:
        InputError: The document is empty or cannot be read, or the language is not known.
    """
    check_text(document, "document")
    check_language(language)
    speaker = as_target(source, "source") if source is not None else None
    speaks = None if speaker is None else _code(speaker)
    for start, end in _sentence_spans(document, language or language_of(document)):
        sentence = document[start:end]
        for state in dict.fromkeys(mention.state for mention in mentions(sentence, language)):
            if state != speaker:
                yield (start, end), Statement(sentence, state.code, speaks)


@functools.cache
def default_classifier() -> Classifier:
    """Returns the bundled classifier, loaded at the first call."""
    return Classifier.load()


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Turns logits of shape (rows, 3) into probabilities of the same shape."""
    exponents = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=-1, keepdims=True))


def _start_runtime(folder: hub.ModelFolder, runtime: RuntimeName, threads: int | None) -> Runtime:
    has_onnx = folder.onnx_file is not None and (folder.path / folder.onnx_file).is_file()
    if choose(runtime, has_onnx) == "torch":
        from detente.runtimes.torch_runtime import TorchRuntime

        return TorchRuntime(folder.path, bf16=None)
    if folder.onnx_file is None or not has_onnx:
        raise ModelError(
            "the model has no ONNX file",
            where=str(folder.path),
            fix="Load it with runtime='torch'.",
        )
    from detente.runtimes.onnx_runtime import OnnxRuntime

    return OnnxRuntime(folder.path / folder.onnx_file, threads)


def _check_batch_size(batch_size: int | None) -> None:
    if batch_size is not None and batch_size < 1:
        raise InputError("batch_size is not positive", got=batch_size, expected="at least 1")


@contextmanager
def _progress(total: int, shown: bool) -> Iterator[Callable[[int], object]]:
    """Gives what to call with the number of statements done, for a bar on standard error."""
    if not shown:
        yield lambda done: None
        return
    # Not at the top: a first prediction must not wait for what shows the progress of thousands.
    from tqdm import tqdm

    with tqdm(total=total, unit="sentence") as bar:
        yield bar.update


def _windows(triples: Iterable[Triple]) -> Iterator[list[Triple]]:
    remaining = iter(triples)
    while window := list(islice(remaining, WINDOW)):
        yield window


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
    tokens_cut: int,
    probabilities: npt.NDArray[np.float64],
) -> Prediction:
    sentence, target, source = triple
    return Prediction(
        label=LABELS[int(probabilities.argmax())],
        probabilities=dict(zip(LABELS, probabilities.tolist(), strict=True)),
        target=target,
        sentence=sentence,
        source=source,
        tokens_cut=tokens_cut,
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
