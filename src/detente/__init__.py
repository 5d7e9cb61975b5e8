"""detente measures how one state talks about another.

>>> import detente
>>> detente.predict("We value Washington's restraint.", "USA").label  # doctest: +SKIP
'conciliatory'

Importing detente is light: models and their libraries are loaded at the first prediction.
"""

from detente.classifier import Classifier, Prediction, predict
from detente.comparison import Comparison, compare
from detente.errors import (
    ConfigError,
    DataError,
    DetenteError,
    DetenteWarning,
    InputError,
    LanguageWarning,
    MissingExtraError,
    ModelError,
    TruncationWarning,
    UnknownStateError,
)
from detente.findings import Shift
from detente.labels import LABELS
from detente.shifts import shift
from detente.statement import Statement
from detente.states import State, mentions, resolve
from detente.summary import Summary, summarise

__version__ = "0.1.0"

__all__ = [
    "LABELS",
    "Classifier",
    "Comparison",
    "ConfigError",
    "DataError",
    "DetenteError",
    "DetenteWarning",
    "InputError",
    "LanguageWarning",
    "MissingExtraError",
    "ModelError",
    "Prediction",
    "Shift",
    "State",
    "Statement",
    "Summary",
    "TruncationWarning",
    "UnknownStateError",
    "compare",
    "mentions",
    "predict",
    "resolve",
    "shift",
    "summarise",
]
