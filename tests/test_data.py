"""Our own sentences: what the dataset card and the codebook promise of them."""

import re
from collections import Counter, defaultdict

import pytest
from conftest import ROOT
from sklearn.feature_extraction.text import TfidfVectorizer

from detente import LABELS, resolve
from detente.rows import read_statements
from detente.states import state
from train.config import Corpus
from train.corpora import load_corpus
from train.splits import SPLITS, normalised

PHENOMENA = {
    "negation", "quotation", "reported_speech", "irony", "mixed_clauses", "conditional_offer",
    "euphemism", "history", "third_party_praise", "bare_mention",
}  # fmt: skip


@pytest.fixture(scope="module")
def statements():
    return read_statements(ROOT / "data" / "statements.jsonl", labelled=True)


def test_schema(statements):
    assert len(statements) >= 1600
    for s in statements:
        assert set(s.extra) == {"group", "phenomena", "split"}
        assert s.id and s.source and s.extra["group"]
        assert set(s.extra["phenomena"]) <= PHENOMENA
        assert 20 <= len(s.text) <= 300 and s.text == s.text.strip()
        assert str(state(s.target).code) == s.target and str(state(s.source).code) == s.source
        assert s.source != s.target


def test_labels_and_splits_are_balanced(statements):
    labels = Counter(s.label for s in statements)
    assert all(0.28 <= labels[label] / len(statements) <= 0.40 for label in LABELS)
    splits = Counter(s.extra["split"] for s in statements)
    for split, share in zip(SPLITS, (0.6, 0.15, 0.25), strict=True):
        assert splits[split] / len(statements) == pytest.approx(share, abs=0.03)


def test_there_are_many_states_and_enough_of_each_phenomenon(statements):
    assert len({s.target for s in statements}) >= 60
    counts = Counter(p for s in statements for p in s.extra["phenomena"])
    assert all(counts[p] >= 40 for p in PHENOMENA)


def test_contrast_groups(statements):
    groups = defaultdict(list)
    for s in statements:
        groups[s.extra["group"]].append(s)
    assert max(map(len, groups.values())) <= 4
    assert sum(len(g) for g in groups.values() if len(g) > 1) >= 500
    two_targets = 0
    for group in groups.values():
        by_text = defaultdict(list)
        for s in group:
            by_text[s.text].append(s)
        two_targets += sum(len(r) for r in by_text.values() if len({s.label for s in r}) > 1)
    assert two_targets >= 300


def test_groups_and_sentences_stay_in_one_split(statements):
    for key in (lambda s: s.extra["group"], lambda s: normalised(s.text)):
        splits = defaultdict(set)
        for s in statements:
            splits[key(s)].add(s.extra["split"])
        assert all(len(found) == 1 for found in splits.values())


def test_no_near_duplicates_across_splits(statements):
    split_of = {s.text: s.extra["split"] for s in statements}
    texts = list(split_of)
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(5, 5)).fit_transform(texts)
    close = (vectors @ vectors.T).tocoo()
    for i, j, similarity in zip(close.row, close.col, close.data, strict=True):
        if i < j and similarity > 0.8:
            assert split_of[texts[i]] == split_of[texts[j]], (texts[i], texts[j])


def test_no_template_runs_through_them(statements):
    sequences = Counter()
    texts = {s.text for s in statements}
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        sequences.update({tuple(words[i : i + 5]) for i in range(len(words) - 4)})
    assert max(sequences.values()) <= 0.01 * len(texts)


def test_the_adapter_keeps_the_splits(statements):
    corpus = load_corpus(Corpus(name="own"), None)
    assert sum(map(len, corpus.splits.values())) == len(statements)
    assert all(s.extra["cluster"] for s in corpus.splits["train"])


def test_the_dataset_card_counts_right(statements):
    card = (ROOT / "data" / "README.md").read_text("utf-8")
    assert f"{len(statements):,} labelled rows" in card
    assert f"({len({s.text for s in statements}):,} different sentences)" in card
    counts = Counter(p for s in statements for p in s.extra["phenomena"])
    for phenomenon, n in counts.items():
        assert f"| {phenomenon.replace('_', ' ')} | {n} |" in card


def test_names_in_the_codebook_are_the_labels():
    text = (ROOT / "data" / "CODEBOOK.md").read_text("utf-8")
    assert [m for m in re.findall(r"\| `(\w+)` \| \d", text)] == list(LABELS)
    assert resolve("Freedonia") is None
