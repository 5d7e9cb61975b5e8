from hypothesis import given
from hypothesis import strategies as st

from detente import Statement
from train.splits import SPLITS, normalised, remove_leaks, split_by_group


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


def test_leaks_are_removed_from_the_earlier_split_across_corpora():
    a = {
        "train": [statement("Shared.", "1"), statement("Own.", "2")],
        "validation": [statement("Both!", "3")],
        "test": [],
    }
    b = {"train": [], "validation": [], "test": [statement("shared", "9"), statement("BOTH", "8")]}
    clean, report = remove_leaks({"a": a, "b": b})
    assert [s.text for s in clean["a"]["train"]] == ["Own."]
    assert clean["a"]["validation"] == [] and len(clean["b"]["test"]) == 2
    assert report.removed == {"a": 2, "b": 0} and report.checked == 5
    assert "2 of 5 rows" in str(report)
