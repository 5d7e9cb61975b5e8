"""What stands beside a model: the least that it must be better than.

The target-blind twin, the same training with the target withheld, is trained by
:mod:`train.run`, since it is a model of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from detente.encoding import as_target
from detente.labels import LABELS
from detente.statement import Statement
from train.tone_metric import labels_of

Baseline = Callable[[Sequence[Statement], Sequence[Statement]], npt.NDArray[np.float64]]
"""From training statements and statements to label to probabilities of shape (rows, 3)."""


def majority(train: Sequence[Statement], test: Sequence[Statement]) -> npt.NDArray[np.float64]:
    """Gives every statement the label shares of the training statements."""
    counts = np.bincount(labels_of(train), minlength=len(LABELS))
    return np.tile(counts / counts.sum(), (len(test), 1))


def tfidf(train: Sequence[Statement], test: Sequence[Statement]) -> npt.NDArray[np.float64]:
    """TF-IDF of words, word pairs and character sequences, with logistic regression.

    The target's name stands at the end of the sentence, so that the baseline knows it too.
    """
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, min_df=2),
    )
    model = make_pipeline(features, LogisticRegression(C=10.0, max_iter=2000))
    model.fit([_with_target(s) for s in train], labels_of(train))
    found = model.predict_proba([_with_target(s) for s in test])
    probabilities = np.zeros((len(test), len(LABELS)))
    probabilities[:, model.classes_] = found
    return probabilities


def lexicon(train: Sequence[Statement], test: Sequence[Statement]) -> npt.NDArray[np.float64]:
    """VADER's compound score, with its authors' thresholds for positive and negative.

    Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social
    Media Text", ICWSM 2014. It learns nothing and knows no target; its probabilities are 0 and 1.
    """
    analyzer = SentimentIntensityAnalyzer()
    compound = np.array([analyzer.polarity_scores(s.text)["compound"] for s in test])
    label = 1 + (compound >= 0.05).astype(int) - (compound <= -0.05)
    return np.asarray(np.eye(len(LABELS))[label])


BASELINES: Final[dict[str, Baseline]] = {
    "majority": majority,
    "lexicon": lexicon,
    "tfidf": tfidf,
}


def _with_target(statement: Statement) -> str:
    return f"{statement.text} toward {as_target(statement.target)}"
