"""What goes over HTTP: from a JSON body to statements, from predictions and errors to JSON.

``/predict`` understands two dialects. Ours is ``{"text", "target", "source"}`` for one statement
and ``{"statements": [...]}`` for many. The other is that of the text-classification route of
text-embeddings-inference: ``{"inputs": [text, target]}`` for one, ``{"inputs": [[text, target],
...]}`` for many, answered by a list of labels with their scores. There, as with plain transformers,
the second half of a pair may be ``SOURCE -> TARGET``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from detente.classifier import Prediction
from detente.encoding import SEPARATOR
from detente.errors import DetenteError, InputError, shorten
from detente.languages import check_language
from detente.statement import Statement, check_text

STATEMENT_KEYS: Final = ("text", "target", "source")
NAME_CHARACTERS: Final = 200
"""The most characters of a target or a source."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request may ask for.

    Attributes:
        body_bytes: Bytes of a body.
        statements: Statements of a request, or that are found in a document.
        text_characters: Characters of a statement's text, or of a document's sentence.
        document_characters: Characters of a document.
    """

    body_bytes: int = 1 << 20
    statements: int = 256
    text_characters: int = 5_000
    document_characters: int = 100_000


@dataclass(frozen=True, slots=True)
class Question:
    """A body of ``/predict``, read.

    Attributes:
        statements: What is asked for.
        answer: Makes the JSON value of the answer from the predictions and the model's name.
    """

    statements: list[Statement]
    answer: Callable[[Sequence[Prediction], str], object]


@dataclass(frozen=True, slots=True)
class Document:
    """A body of ``/read``, read: any text, the state that speaks, and the text's language."""

    text: str
    source: str | None
    language: str | None = None


def parse_json(body: bytes) -> dict[str, Any]:
    """Returns the JSON object of a body.

    Raises:
        InputError: It is not one.
    """
    try:
        value = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(f"the body is not JSON ({reason})", expected="a JSON object") from None
    if not isinstance(value, dict):
        raise InputError("the body is not a JSON object", got=value)
    return value


def parse_question(body: Mapping[str, Any], limits: Limits) -> Question:
    """Reads the body of ``/predict``, in either dialect.

    Raises:
        InputError: It cannot be read or is over a limit; the message says where.
    """
    if "inputs" in body:
        return _parse_inputs(body, limits)
    if "statements" in body:
        _check_keys(body, ("statements",))
        rows = body["statements"]
        if not isinstance(rows, list) or not rows:
            raise InputError(
                "statements is not a list with at least one statement", got=rows, where="statements"
            )
        _check_count(len(rows), limits, "statements")
        return Question(
            [_parse_row(row, f"statements[{i}]", limits) for i, row in enumerate(rows)], rows_answer
        )
    return Question([_parse_row(body, None, limits)], _one)


def parse_document(body: Mapping[str, Any], limits: Limits) -> Document:
    """Reads the body of ``/read``: ``{"text", "source", "language"}``.

    Raises:
        InputError: It cannot be read, or is over a limit.
    """
    _check_keys(body, ("text", "source", "language"))
    text = _text(body.get("text"), "text", limits.document_characters)
    source = body.get("source")
    language = body.get("language")
    if language is not None:
        check_language(_text(language, "language", NAME_CHARACTERS))
    speaker = None if source is None else _text(source, "source", NAME_CHARACTERS)
    return Document(text, speaker, language)


def check_found(found: Sequence[Statement], limits: Limits) -> None:
    """Checks what was found in a document.

    Raises:
        InputError: There are too many statements, or a sentence is too long.
    """
    _check_count(len(found), limits, "states named in sentences")
    for each in found:
        _text(each.text, "a sentence of the document", limits.text_characters)


def rows_answer(predictions: Sequence[Prediction], model: str) -> dict[str, Any]:
    """Returns the predictions as rows, as ``/read`` and ``{"statements"}`` answer."""
    return {"model": model, "predictions": [prediction.to_row() for prediction in predictions]}


def problem(status: int, error: DetenteError) -> dict[str, Any]:
    """Returns an error as RFC 9457 has it, with our parts beside.

    ``error`` is where clients of text-embeddings-inference look.
    """
    told = {
        "type": "about:blank",
        "title": error.what,
        "status": status,
        "detail": str(error),
        "where": error.where,
        "got": None if error.got is None else shorten(error.got),
        "expected": error.expected,
        "fix": error.fix,
        "error": str(error),
    }
    return {name: value for name, value in told.items() if value is not None}


def _one(predictions: Sequence[Prediction], model: str) -> dict[str, Any]:
    return {"model": model, **predictions[0].to_row()}


def _parse_inputs(body: Mapping[str, Any], limits: Limits) -> Question:
    inputs = body["inputs"]
    for name, offered in (("raw_scores", (None, False)), ("truncate", (None, False, True))):
        if not any(body.get(name) is value for value in offered):
            raise InputError(
                "not offered", where=name, got=body[name], expected=f"one of {offered}"
            )
    single = not (isinstance(inputs, list) and inputs and isinstance(inputs[0], list))
    pairs = [inputs] if single else inputs
    _check_count(len(pairs), limits, "inputs")
    statements = [
        _parse_pair(pair, "inputs" if single else f"inputs[{i}]", limits)
        for i, pair in enumerate(pairs)
    ]

    def answer(predictions: Sequence[Prediction], model: str) -> object:
        if body.get("truncate") is False and any(each.tokens_cut for each in predictions):
            raise InputError(
                "a pair is longer than the model reads, and truncate is false",
                where="inputs",
                fix="Leave truncate out: a sentence is then cut around its target.",
            )
        found = [_labels_by_score(prediction) for prediction in predictions]
        return found[0] if single else found

    return Question(statements, answer)


def _labels_by_score(prediction: Prediction) -> list[dict[str, Any]]:
    ordered = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    return [{"label": label, "score": score} for label, score in ordered]


def _parse_pair(pair: object, where: str, limits: Limits) -> Statement:
    if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[1], str):
        raise InputError(
            "not a pair of a text and its target",
            where=where,
            got=pair,
            expected="[text, target]; several are [[text, target], ...]",
        )
    text, second = pair
    source, arrow, target = second.partition(SEPARATOR)
    row = {"text": text, "target": target, "source": source} if arrow else None
    return _parse_row(row or {"text": text, "target": second}, where, limits)


def _parse_row(row: object, where: str | None, limits: Limits) -> Statement:
    if not isinstance(row, dict):
        raise InputError("not a JSON object", where=where, got=row)
    try:
        _check_keys(row, STATEMENT_KEYS)
        source = row.get("source")
        return Statement(
            _text(row.get("text"), "text", limits.text_characters),
            _text(row.get("target"), "target", NAME_CHARACTERS),
            None if source is None else _text(source, "source", NAME_CHARACTERS),
        )
    except InputError as error:
        raise (error.at(where) if where else error) from None


def _check_keys(body: Mapping[str, Any], known: Sequence[str]) -> None:
    # A misspelt source must not be an answer to another question.
    if unknown := sorted(body.keys() - set(known)):
        raise InputError(
            f"there is no key {shorten(unknown[0])}", expected=f"the keys {', '.join(known)}"
        )


def _check_count(count: int, limits: Limits, what: str) -> None:
    if count > limits.statements:
        raise InputError(
            f"too many {what}",
            got=count,
            expected=f"at most {limits.statements} in a request",
            fix="Send several requests.",
        )


def _text(value: object, name: str, most: int) -> str:
    if value is None:
        raise InputError(f"{name} is missing")
    if isinstance(value, str) and len(value) > most:
        raise InputError(
            f"{name} is too long", got=len(value), expected=f"at most {most} characters"
        )
    return check_text(value, name)
