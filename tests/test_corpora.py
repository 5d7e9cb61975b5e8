import pytest
from conftest import tiny_rows

from detente import DataError
from detente.rows import write_jsonl
from train.config import Corpus, HoldOut
from train.corpora import load_corpus
from train.splits import SPLITS


def official_rows():
    return [
        {
            "id": f"kremlin_en:kr{i}:{j}", "doc_id": f"kr{i}", "date": "2011-11-25",
            "speaker": "The President", "source": "RUS", "target": "NOR", "target_name": "Norway",
            "text": f"We value talk number {i} of day {j}.", "label": "conciliatory",
            "confidence": 0.5, "agreed": True,
        }
        for i in range(50) for j in range(3)
    ]  # fmt: skip


def write_official(tmp_path, rows):
    path = tmp_path / "official" / "annotated.jsonl"
    write_jsonl(path, rows)
    return tmp_path


def test_official_is_split_by_document_and_without_tweets(tmp_path):
    rows = official_rows()
    rows += [rows[0] | {"id": f"trump_tweets:x{i}:0", "text": f"Tweet {i}!"} for i in range(4)]
    corpus = load_corpus(Corpus(name="official"), write_official(tmp_path, rows))
    assert corpus.dropped == {"tweet without a stated licence": 4}
    documents = [{s.doc_id for s in corpus.splits[split]} for split in SPLITS]
    assert sum(map(len, documents)) == 50 and len(set.union(*documents)) == 50
    assert all(s.extra == {"cluster": s.doc_id}
               for split in SPLITS for s in corpus.splits[split])  # fmt: skip
    assert corpus.splits["test"]


@pytest.mark.parametrize(
    ("hold_out", "name", "rows"),
    [
        ({"period": (2012, 2014)}, "official-period-2012-2014", 90),
        ({"source": "Kenya"}, "official-source-KEN", 30),
    ],
)
def test_official_holds_out_a_period_or_a_source(tmp_path, hold_out, name, rows):
    table = [
        row | {"date": f"{2011 + i // 3 % 5}-11-25", "source": ("KEN" if i < 30 else "RUS")}
        for i, row in enumerate(official_rows())
    ]
    spec = Corpus(name="official", hold_out=HoldOut(**hold_out))
    corpus = load_corpus(spec, write_official(tmp_path, table))
    assert corpus.info.name == name
    assert len(corpus.splits["test"]) == rows
    documents = [{s.doc_id for s in corpus.splits[split]} for split in SPLITS]
    assert sum(map(len, documents)) == 50 == len(set.union(*documents))


def test_a_wrong_label_in_official_is_named(tmp_path):
    rows = official_rows()
    rows[7]["label"] = "hostile"
    with pytest.raises(DataError, match=r"annotated\.jsonl, row 8: unknown label; got 'hostile'"):
        load_corpus(Corpus(name="official"), write_official(tmp_path, rows))


@pytest.mark.parametrize("key", ["doc_id", "group", None])
def test_a_table_without_splits_is_split_by_what_it_has(tmp_path, key):
    rows = [{k: v for k, v in row.items() if k != "split"} for row in tiny_rows(2)]
    for i, row in enumerate(rows):
        if key:
            row[key] = f"d{i // 3}"
    write_jsonl(tmp_path / "t.jsonl", rows)
    corpus = load_corpus(Corpus(name="file", path=tmp_path / "t.jsonl"), None)
    assert corpus.info.name == "t"
    assert sum(map(len, corpus.splits.values())) == len(rows)
    if key:
        clusters = [{s.extra["cluster"] for s in corpus.splits[split]} for split in SPLITS]
        assert sum(map(len, clusters)) == len(set.union(*clusters))


def test_a_split_must_be_known_and_in_every_row(tmp_path):
    rows = tiny_rows()
    rows[2]["split"] = "dev"
    write_jsonl(tmp_path / "t.jsonl", rows)
    with pytest.raises(DataError, match="row 3: unknown split; got 'dev'"):
        load_corpus(Corpus(name="file", path=tmp_path / "t.jsonl"), None)
    del rows[2]["split"]
    write_jsonl(tmp_path / "t.jsonl", rows)
    with pytest.raises(DataError, match="row 3: unknown split.*in every row or in none"):
        load_corpus(Corpus(name="file", path=tmp_path / "t.jsonl"), None)


def news_row(article, *targets):
    text = f"In story {article} Ada Smith praised the senator and mocked Bo Jones."
    return {
        "primary_gid": f"site_{article}_1_name_0_3", "sentence_normalized": text,
        "targets": [
            {"Input.gid": f"site_{article}_1_{m}", "mention": m, "polarity": p, "from": 0, "to": 1}
            for m, p in targets
        ],
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore::detente.errors.OtherFileWarning")
def test_newsmtsc_gives_a_row_a_named_target(tmp_path):
    rows = [
        news_row(i, ("Bo Jones", 2.0), ("the senator", 6.0), ("She", 4.0), ("Ada Smith", 4.0))
        for i in range(40)
    ]
    write_jsonl(tmp_path / "newsmtsc" / "train.jsonl", rows[:30])
    write_jsonl(tmp_path / "newsmtsc" / "devtest_mt.jsonl", rows[30:])
    corpus = load_corpus(Corpus(name="newsmtsc"), tmp_path)
    assert corpus.dropped == {"target is a pronoun": 40}
    assert [(s.target, s.label) for s in corpus.splits["test"][:3]] == [
        ("Bo Jones", "critical"), ("the senator", "conciliatory"), ("Ada Smith", "neutral"),
    ]  # fmt: skip
    assert len(corpus.splits["train"]) + len(corpus.splits["validation"]) == 90
    articles = [{s.extra["cluster"] for s in corpus.splits[split]} for split in SPLITS]
    assert not articles[0] & articles[1]


@pytest.mark.filterwarnings("ignore::detente.errors.OtherFileWarning")
def test_a_changed_format_of_newsmtsc_is_named(tmp_path):
    rows = [news_row(1, ("Bo Jones", 2.0)), news_row(2, ("Bo Jones", 3.0))]
    for name in ("train.jsonl", "devtest_mt.jsonl"):
        write_jsonl(tmp_path / "newsmtsc" / name, rows)
    with pytest.raises(DataError, match=r"train\.jsonl, row 2: not a row of NewsMTSC"):
        load_corpus(Corpus(name="newsmtsc"), tmp_path)
