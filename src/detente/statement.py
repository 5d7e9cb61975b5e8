"""A statement: one sentence, the state it is about and, where known, who said it and when."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from detente.errors import InputError
from detente.labels import Label, parse_label

COLUMNS: Final = ("text", "target", "label", "source", "speaker", "date", "doc_id", "id")
"""The columns that have a meaning; every other column of a row is carried through."""


def check_text(text: object, name: str = "text") -> str:
    """Returns ``text`` if a model can read it.

    Args:
        text: The text to check.
        name: What to call it in the message.

    Raises:
        InputError: It is not a string, is empty or blank, or holds a NUL character or a lone
            surrogate (half of a character pair, which no encoding can write).
    """
    if not isinstance(text, str):
        raise InputError(f"{name} is not a string", got=text, expected="a str")
    if not text.strip():
        raise InputError(
            f"{name} is empty", got=text, expected="at least one character that is not blank"
        )
    if (at := text.find("\0")) >= 0:
        raise InputError(
            f"{name} holds a NUL character at offset {at}",
            got=text,
            expected="text without control bytes",
            fix="Remove it: it usually means that a binary or UTF-16 file was read as UTF-8.",
        )
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"{name} holds a lone surrogate at offset {error.start}",
                got=text,
                expected="text that can be written as UTF-8",
                fix="Decode the source again, for instance with errors='replace'.",
            ) from None
    return text


def text_hash(text: str) -> str:
    """Returns the first twelve hexadecimal digits of a text's SHA-1."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence with the state whose treatment in it is asked for.

    A statement that exists is valid: the constructor checks every field once.

    Attributes:
        text: The sentence.
        target: The state talked about: a code, a name, an alias, or free text.
        source: The state whose tone is asked for; ``None`` means the sentence's speaker.
        label: The tone, where it is known.
        speaker: The person or office that speaks.
        date: The day of the statement; an ISO string (``2025-02-14``) is accepted.
        doc_id: The document the sentence comes from.
        id: A name that is unique within a file.
        extra: All other columns of the row.

    Raises:
        InputError: A field cannot be read; the message names the field.
    """

    text: str
    target: str
    source: str | None = None
    label: Label | None = None
    speaker: str | None = None
    date: dt.date | None = None
    doc_id: str | None = None
    id: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        """Checks every field, and turns the label and the date into their own types."""
        check_text(self.text)
        check_text(self.target, "target")
        for name in ("source", "speaker", "doc_id", "id"):
            if getattr(self, name) is not None:
                check_text(getattr(self, name), name)
        if self.label is not None:
            object.__setattr__(self, "label", parse_label(self.label))
        object.__setattr__(self, "date", _parse_date(self.date))
        object.__setattr__(self, "extra", dict(self.extra))

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Statement:
        """Builds a statement from a row with the columns of :data:`COLUMNS`.

        Blank optional cells count as absent, as CSV files have them.

        Raises:
            InputError: ``text`` or ``target`` is missing, or a field cannot be read.
        """
        for name in ("text", "target"):
            if name not in row:
                raise InputError(
                    f"the column {name!r} is missing",
                    got=list(row),
                    expected="the columns text and target, and optionally "
                    + ", ".join(COLUMNS[2:]),
                )
        optional = {name: row[name] for name in COLUMNS[2:] if not is_blank(row.get(name))}
        for name in ("speaker", "doc_id", "id"):
            if name in optional:
                optional[name] = str(optional[name])
        extra = {name: value for name, value in row.items() if name not in COLUMNS}
        return cls(text=row["text"], target=row["target"], extra=extra, **optional)

    def to_row(self) -> dict[str, Any]:
        """Returns the statement as a row; absent fields are left out, the date is ISO text."""
        known = {name: getattr(self, name) for name in COLUMNS}
        if self.date is not None:
            known["date"] = self.date.isoformat()
        return {name: value for name, value in known.items() if value is not None} | dict(
            self.extra
        )


def is_blank(value: object) -> bool:
    """Returns whether a cell is empty: nothing, blanks, or the NaN that tables fill in."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _parse_date(value: object) -> dt.date | None:
    if value is None:
        return None
    if isinstance(value, dt.datetime):
        return value.date()
    if isinstance(value, dt.date):
        return value
    if isinstance(value, str):
        try:
            return dt.datetime.fromisoformat(value.strip()).date()
        except ValueError:
            pass
    raise InputError(
        "date is not an ISO date", got=value, expected="year-month-day, such as 2025-02-14"
    )
