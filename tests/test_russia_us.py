"""The worked example, on a made-up series in the place of the real one."""

import datetime as dt

import pytest

from detente import DataError, LanguageWarning
from detente.rows import read_rows, write_jsonl
from scripts.russia_us import main

ENGLISH = ("We condemn the United States.", "We thank Washington.", "The American envoy arrived.")
RUSSIAN = ("Мы благодарим Вашингтон.", "Делегация США прибыла.")


def rows(name, texts, first, days, count):
    for n in range(count):
        day = first + dt.timedelta(days=n * days // count)
        yield {
            "id": f"{name}:{n}", "date": day.isoformat(), "speaker": "Somebody", "source": "RUS",
            "target": "USA", "text": f"{texts[n % len(texts)]} {name} {n}.", "doc_id": f"{name}{n}",
        }  # fmt: skip


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "corpora" / "series"
    folder.mkdir(parents=True)
    early = list(rows("early", ENGLISH, dt.date(2001, 1, 1), 300, 5))
    english = list(rows("en", ENGLISH, dt.date(2012, 1, 1), 3800, 60))
    others = [row | {"id": f"x{i}", "target": "CHN"} for i, row in enumerate(english[:9])]
    write_jsonl(folder / "kremlin_en.jsonl", early + english + others)
    russian = rows("ru", RUSSIAN, dt.date(2025, 2, 1), 90, 15)
    write_jsonl(folder / "kremlin_ru_2025.jsonl", russian)
    return folder.parent


def test_the_page_says_what_was_found_and_quotes_nobody(root, tmp_path):
    page, scored = tmp_path / "docs" / "page.md", tmp_path / "scored.jsonl"
    page.parent.mkdir()
    # The model in the package reads English alone, and errs in a way that is known.
    with pytest.warns(LanguageWarning):
        main(root=root, model="default", page=page, rows=scored)
    text = page.read_text("utf-8")
    assert (page.parent / "images" / "russia-us.png").stat().st_size > 10_000
    assert "60 sentences in 60 documents" in text and "15 sentences in 15 documents" in text
    years = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| 20")]
    assert years[:14] == [f"| {year}" for year in range(2012, 2026)]
    assert "| 2023 | nothing |" in text
    assert "| 2025 | 15 |" in text.partition("As predicted")[2]
    found = [row for _, row in read_rows(scored)]
    assert len(found) == 75 and not any("text" in row for row in found)
    assert all(row["target"] == "USA" and row["date"] >= "2012" for row in found)
    assert not any(sentence in text for sentence in (*ENGLISH, *RUSSIAN))


def test_a_model_that_knows_nothing_gives_no_page(root, tiny_model, tmp_path):
    with pytest.raises(DataError, match="nothing can be said of these rows; got 'not enough data"):
        main(root=root, model=str(tiny_model), page=tmp_path / "p.md", rows=tmp_path / "r")
    assert not (tmp_path / "p.md").exists()


def test_a_missing_series_is_named(tmp_path, tiny_model):
    with pytest.raises(DataError, match=r"kremlin_en\.jsonl: no such corpus file"):
        main(root=tmp_path, model=str(tiny_model), page=tmp_path / "p.md", rows=tmp_path / "r")
    assert not (tmp_path / "p.md").exists()
