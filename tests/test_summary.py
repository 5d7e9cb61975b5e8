import pytest

from detente import Prediction, resolve, summarise


def prediction(target, label, critical, conciliatory):
    neutral = 1 - critical - conciliatory
    return Prediction(
        label=label,
        probabilities={"critical": critical, "neutral": neutral, "conciliatory": conciliatory},
        target=target,
        sentence="We mention it.",
    )


def test_a_summary_counts_tones_and_averages_scores():
    peru, kenya = resolve("Peru"), resolve("Kenya")
    found = summarise(
        [
            prediction(kenya, "neutral", 0.1, 0.1),
            prediction(peru, "critical", 0.7, 0.1),
            prediction(peru, "conciliatory", 0.1, 0.9),
            prediction("Freedonia", "critical", 0.9, 0.0),
        ]
    )
    assert [summary.target for summary in found] == [peru, kenya, "Freedonia"]
    assert found[0].counts == {"critical": 1, "neutral": 0, "conciliatory": 1}
    assert (found[0].sentences, found[0].score) == (2, pytest.approx(0.1))
    assert found[0].to_row() == {
        "target": "PER", "sentences": 2, "critical": 1, "neutral": 0, "conciliatory": 1,
        "score": 0.1,
    }  # fmt: skip
    assert found[2].to_row()["target"] == "Freedonia"
    assert summarise([]) == []
