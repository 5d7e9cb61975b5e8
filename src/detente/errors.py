"""What can go wrong, in one tree.

::

    DetenteError
    ├── InputError (ValueError)          a text, a target or another argument that cannot be read
    ├── DataError (ValueError)           a file or one of its rows
    ├── ConfigError (ValueError)         a training configuration
    ├── ModelError (OSError)             a model folder or a hub id that cannot be loaded
    ├── MissingExtraError (ImportError)  an optional dependency that is not installed
    ├── BusyError (RuntimeError)         a server that takes no more for now
    ├── UnknownStateError (LookupError)  a state code that is not in the gazetteer
    └── TrainingError (RuntimeError)     a training that cannot go on
        ├── DivergedError                its loss is no number any more
        └── StoppedError                 it was asked to stop, and saved its state

    DetenteWarning (UserWarning)
    ├── TruncationWarning                a sentence was longer than the model reads
    ├── DamageWarning                    a checkpoint is not as it was written
    ├── EnvironmentWarning               a run goes on under other conditions
    └── OtherFileWarning                 a corpus file is not the one our figures were made on

Every message says what went wrong and where, what came, what was expected and what to do,
in that order and as far as each is known.
"""

from __future__ import annotations

import reprlib
from typing import Final


class DetenteError(Exception):
    """Base of all errors that detente raises on purpose.

    Args:
        what: What went wrong, as a clause without a full stop.
        where: The file, row, key or argument concerned.
        got: What came; shown with ``repr`` and shortened to 80 characters.
        expected: What would have been right, in words.
        fix: What the reader can do about it, as a sentence.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        got: object = None,
        expected: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.what, self.where, self.got, self.expected, self.fix = what, where, got, expected, fix
        message = f"{where}: {what}" if where else what
        if got is not None:
            message += f"; got {shorten(got)}"
        if expected:
            message += f"; expected {expected}"
        super().__init__(message + (f". {fix}" if fix else ""))

    def at(self, where: str) -> DetenteError:
        """Returns the same error with a place: how a reader of files adds file and row."""
        return type(self)(
            self.what, where=where, got=self.got, expected=self.expected, fix=self.fix
        )


class InputError(DetenteError, ValueError):
    """A text, a target or another argument cannot be read."""


class DataError(DetenteError, ValueError):
    """A data file, or one of its rows, is not what it should be."""


class ConfigError(DetenteError, ValueError):
    """A training configuration is wrong."""


class ModelError(DetenteError, OSError):
    """A model folder or a hub id cannot be loaded."""


class MissingExtraError(DetenteError, ImportError):
    """Something needs an optional dependency that is not installed."""

    @classmethod
    def of(cls, purpose: str, extra: str) -> MissingExtraError:
        """Builds the error for one of detente's own extras.

        Args:
            purpose: What needs it, such as ``"the torch runtime"``.
            extra: The name of the extra in ``pyproject.toml``.
        """
        return cls(
            f"{purpose} needs packages that are not installed",
            fix=f"Install them with: pip install 'detente[{extra}]'",
        )


class BusyError(DetenteError, RuntimeError):
    """A server takes no more for now."""


class UnknownStateError(DetenteError, LookupError):
    """A state code is not in the gazetteer."""


class TrainingError(DetenteError, RuntimeError):
    """A training cannot go on."""


class DivergedError(TrainingError):
    """The loss of a training, or its gradient, is no number any more."""


class StoppedError(TrainingError):
    """A training was asked to stop, and saved its state."""


class DetenteWarning(UserWarning):
    """Base of all warnings that detente gives."""


class TruncationWarning(DetenteWarning):
    """A sentence was longer than the model reads, and a part of it was left out."""


class LanguageWarning(DetenteWarning):
    """A text is in a language that the model has not learned."""


class DamageWarning(DetenteWarning):
    """A checkpoint is not as it was written, and was passed over."""


class EnvironmentWarning(DetenteWarning):
    """A run goes on under other conditions than it was started under."""


class OtherFileWarning(DetenteWarning):
    """A corpus file is read that is not the one the project's figures were made on."""


# What comes may be a list of lists without end, or name the same list a billion times.
_repr: Final = reprlib.Repr()
_repr.maxlevel = 3
_repr.maxdict = _repr.maxlist = _repr.maxtuple = _repr.maxset = _repr.maxfrozenset = 40
_repr.maxstring = _repr.maxother = _repr.maxlong = 1000


def shorten(value: object, limit: int = 80) -> str:
    """Returns what ``repr`` says of a value, of at most so many characters."""
    shown = _repr.repr(value)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
