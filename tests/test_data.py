"""Our own sentences: what the dataset card and the codebook promise of them."""

import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from conftest import ROOT
from sklearn.feature_extraction.text import TfidfVectorizer

from detente import LABELS, ConfigError, DataError, resolve
from detente.languages import language_of
from detente.rows import read_statements
from detente.statement import text_hash
from detente.states import state
from train.config import Config, Corpus
from train.corpora import load_corpus
from train.corpora.series import read_soft_labels
from train.data import load_data
from train.distill import write_soft_labels
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


LANGUAGES = {"ru": 400, "zh": 400, "es": 150, "fr": 150, "ar": 150, "uk": 150, "fa": 150}
"""The least rows of each."""


@pytest.fixture(scope="module")
def versions():
    return read_statements(ROOT / "data" / "multilingual.jsonl", labelled=True)


def test_a_version_is_labelled_and_split_as_its_english_counterpart(statements, versions):
    english = {s.id: s for s in statements}
    for s in versions:
        counterpart = english[s.id.removesuffix(f"-{s.extra['lang']}")]
        same = ("label", "source", "target")
        assert all(getattr(s, name) == getattr(counterpart, name) for name in same)
        for name in ("group", "phenomena", "split"):
            assert s.extra[name] == counterpart.extra[name]
        assert s.text != counterpart.text and 8 <= len(s.text) <= 330
    assert len({s.id for s in versions}) == len(versions)


def test_there_are_enough_versions_of_each_label_in_each_language(versions):
    counts = Counter((s.extra["lang"], s.label) for s in versions)
    for language, least in LANGUAGES.items():
        of_labels = [counts[language, label] for label in LABELS]
        assert sum(of_labels) >= least and min(of_labels) >= 0.28 * sum(of_labels)
    assert {s.extra["lang"] for s in versions} == set(LANGUAGES)


def test_a_version_is_in_the_letters_of_its_language(versions):
    latin = {s.id for s in versions if language_of(s.text) == "en"}
    assert latin == {s.id for s in versions if s.extra["lang"] in ("es", "fr")}
    assert all(language_of(s.text) == "zh" for s in versions if s.extra["lang"] == "zh")


def test_the_dataset_card_counts_the_versions(versions):
    card = (ROOT / "data" / "README.md").read_text("utf-8")
    assert f"{len(versions):,} rows" in card
    for language in LANGUAGES:
        rows = [s for s in versions if s.extra["lang"] == language]
        assert f"| {language} | {len(rows)} | {len({s.text for s in rows})} |" in card


def load_plain(name):
    return load_corpus(Corpus(name=name), None)


def a_config(corpora):
    return Config(run={"name": "x", "dir": "x"}, data={"corpora": corpora}, base={"name": "x"})


def test_the_adapter_of_versions_softens_training_rows_alone(versions, tmp_path):
    table = tmp_path / "soft.parquet"
    thirds = np.full((len(versions), 3), 1 / 3)
    write_soft_labels(table, versions, thirds)
    corpus = load_corpus(Corpus(name="multilingual", path=table), None)
    for s in corpus.splits["train"]:
        soft = dict(zip(LABELS, s.extra["soft_label"], strict=True))
        assert soft[s.label] == pytest.approx(2 / 3, abs=1e-3)
    assert all("soft_label" not in s.extra for s in corpus.splits["test"])
    assert all("soft_label" not in s.extra for s in load_plain("multilingual").splits["train"])
    held_out = [s for s in versions if s.extra["split"] != "train"]
    write_soft_labels(table, held_out, thirds[: len(held_out)])
    with pytest.raises(DataError, match="no soft label"):
        load_corpus(Corpus(name="multilingual", path=table), None)


def test_the_soft_labels_in_the_project_are_of_these_sentences(versions):
    table = ROOT / "data" / "annotations" / "multilingual_soft_labels.parquet"
    found = read_soft_labels(table, made_by="train.counterparts")
    assert {s.id: text_hash(s.text) for s in versions} == {k: v[0] for k, v in found.items()}


def test_only_some_rows_of_a_corpus():
    corpora = [Corpus(name="own"), Corpus(name="multilingual", only={"lang": "ru"})]
    data = load_data(a_config(corpora))
    assert {s.extra["lang"] for s in data.splits["multilingual"]["train"]} == {"ru"}
    others = sum(
        s.extra["lang"] != "ru" for rows in load_plain("multilingual").splits.values() for s in rows
    )
    assert data.summary()["multilingual"]["dropped"] == {"not asked for (only)": others}
    with pytest.raises(ConfigError, match="no row of the corpus is like that"):
        load_data(a_config([Corpus(name="multilingual", only={"lang": "xx"})]))


def test_names_in_the_codebook_are_the_labels():
    text = (ROOT / "data" / "CODEBOOK.md").read_text("utf-8")
    assert [m for m in re.findall(r"\| `(\w+)` \| \d", text)] == list(LABELS)
    assert resolve("Freedonia") is None
