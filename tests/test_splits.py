import pytest
from hypothesis import given
from hypothesis import strategies as st

from detente import ConfigError, DataError, Statement
from train.config import HoldOut
from train.splits import SPLITS, normalised, split_by_group, split_held_out


def statement(text, cluster):
    return Statement(text, "FRA", label="neutral", extra={"cluster": cluster})


rows = st.lists(
    st.tuples(st.integers(0, 30).map("Sentence {}.".format), st.integers(0, 15).map(str)),
    max_size=60,
).map(lambda pairs: [statement(*pair) for pair in pairs])


@given(rows)
def test_no_cluster_and_no_sentence_stands_in_two_splits(statements):
    splits = split_by_group(statements, shares=(0.5, 0.2, 0.3))
    assert sum(map(len, splits.values())) == len(statements)
    for key in (lambda s: s.extra["cluster"], lambda s: normalised(s.text)):
        seen = [{key(s) for s in splits[split]} for split in SPLITS]
        assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


def test_shares_are_met_and_other_groups_stay_when_rows_are_added():
    statements = [statement(f"Sentence number {i}.", f"document {i}") for i in range(3000)]
    splits = split_by_group(statements, shares=(0.6, 0.15, 0.25))
    shares = [len(splits[split]) / 3000 for split in SPLITS]
    assert all(abs(a - b) < 0.03 for a, b in zip(shares, (0.6, 0.15, 0.25), strict=True))
    fewer = split_by_group(statements[:1000], shares=(0.6, 0.15, 0.25))
    for split in SPLITS:
        assert set(fewer[split]) <= set(splits[split])


def test_normalised_ignores_case_blanks_and_signs():
    assert normalised("“We  regret it!”") == normalised("we regret it") == "weregretit"
    assert normalised("Мы сожалеем.") == "мысожалеем"
    assert normalised("😀!") == "😀!" != normalised("…")


def dated(year, source, document):
    return Statement(
        f"On page {document} of {year} we spoke of {source}.", "FRA", source=source,
        date=f"{year}-03-01", doc_id=document, extra={"cluster": document},
    )  # fmt: skip


archive = [
    dated(2000 + i % 20, ("RUS", "Soviet Union", "KEN")[i % 3], f"d{i % 90}") for i in range(300)
]


@pytest.mark.parametrize(
    ("hold_out", "is_held"),
    [
        (HoldOut(period=(2003, 2005)), lambda s: 2003 <= s.date.year <= 2005),
        (HoldOut(period=(2019, 2019)), lambda s: s.date.year == 2019),
        (HoldOut(source="Russia"), lambda s: s.source == "RUS"),
        (HoldOut(source="USSR"), lambda s: s.source == "Soviet Union"),
    ],
)
def test_a_period_or_a_source_is_held_out_whole(hold_out, is_held):
    splits, left_out = split_held_out(archive, hold_out, validation=0.2)
    assert splits["test"] == [s for s in archive if is_held(s)]
    documents = [{s.doc_id for s in splits[split]} for split in SPLITS]
    assert not documents[0] & documents[1] and not (documents[0] | documents[1]) & documents[2]
    assert splits["train"] and splits["validation"]
    assert not any(is_held(s) for s in splits["train"] + splits["validation"])
    assert sum(map(len, splits.values())) + left_out == len(archive)


def test_other_rows_of_a_held_out_document_are_left_out():
    rows = [*archive, dated(2004, "KEN", "both"), dated(2012, "KEN", "both")]
    splits, left_out = split_held_out(rows, HoldOut(period=(2004, 2004)), validation=0.2)
    before = split_held_out(archive, HoldOut(period=(2004, 2004)), validation=0.2)[1]
    assert rows[-2] in splits["test"] and left_out == before + 1
    assert rows[-1] not in splits["train"] + splits["validation"]


@pytest.mark.parametrize(
    ("hold_out", "says"),
    [
        (HoldOut(period=(1950, 1960)), "period-1950-1960: no row is held out.*2000 to 2019"),
        (HoldOut(source="Peru"), "source-PER: no row is held out.*RUS, Soviet Union, KEN"),
        (HoldOut(period=(1990, 2020)), "no row is left to train on"),
    ],
)
def test_what_cannot_be_held_out_is_named(hold_out, says):
    with pytest.raises(ConfigError, match=says):
        split_held_out(archive, hold_out, validation=0.2)


def test_a_row_that_cannot_be_placed_is_named():
    row = Statement("We agree.", "FRA", id="r7", extra={"cluster": "d"})
    with pytest.raises(DataError, match="r7: the row has no date"):
        split_held_out([*archive, row], HoldOut(period=(2003, 2005)), validation=0.2)
    with pytest.raises(DataError, match="r7: the row has no source"):
        split_held_out([*archive, row], HoldOut(source="KEN"), validation=0.2)
