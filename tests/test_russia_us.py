"""The worked example, on a made-up series in the place of the real one."""

import datetime as dt

import pytest

from detente import DataError, LanguageWarning
from detente.rows import read_rows, write_jsonl
from detente.statement import text_hash
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


def test_readers_stand_beside_the_model(root, tmp_path):
    page, read = tmp_path / "page.md", tmp_path / "read.csv"
    (tmp_path / "images").mkdir()
    russian = [row for _, row in read_rows(root / "series" / "kremlin_ru_2025.jsonl")]
    labels = [("neutral", "neutral", "neutral")] * 13
    labels += [("critical", "neutral", "neutral"), ("conciliatory",) * 3]
    lines = [
        ",".join((row["id"], text_hash(row["text"]), *three))
        for row, three in zip(russian, labels, strict=True)
    ]
    elsewhere = f"elsewhere,{'0' * 12},critical,critical,critical"
    read.write_text("\n".join(["id,text_hash,first,second,label", *lines, elsewhere]))
    with pytest.warns(LanguageWarning):
        main(root=root, model="default", page=page, labels=read, rows=tmp_path / "rows.jsonl")
    found = {row["id"]: row["label"] for _, row in read_rows(tmp_path / "rows.jsonl")}
    right = sum(found[row["id"]] == three[2] for row, three in zip(russian, labels, strict=True))
    text = page.read_text("utf-8").partition("## What readers say")[2]
    assert "they agreed on 93.3%" in text
    assert f"gives {right / 15:.1%} of the statements" in " ".join(text.split())
    assert "| one reader | 7% | 87% | 7% |" in text and "| settled | 0% | 93% | 7% |" in text
    counts = [line for line in text.splitlines() if line.startswith("| neutral |")]
    assert sum(map(int, counts[0].split("|")[2:5])) == 14

    for wrong, says in (
        (lines[0].replace("neutral", "hostile"), "hostile"),
        (f"{russian[0]['id']},{'0' * 12},neutral,neutral,neutral", "another text than was read"),
    ):
        read.write_text(f"id,text_hash,first,second,label\n{wrong}\n")
        with (
            pytest.raises(DataError, match=rf"read\.csv, row .*{says}"),
            pytest.warns(LanguageWarning),
        ):
            main(root=root, model="default", page=page, labels=read, rows=tmp_path / "r")


def test_a_model_that_knows_nothing_gives_no_page(root, tiny_model, tmp_path):
    with pytest.raises(DataError, match="nothing can be said of these rows; got 'not enough data"):
        main(root=root, model=str(tiny_model), page=tmp_path / "p.md", rows=tmp_path / "r")
    assert not (tmp_path / "p.md").exists()


def test_a_missing_series_is_named(tmp_path, tiny_model):
    with pytest.raises(DataError, match=r"kremlin_en\.jsonl: no such corpus file"):
        main(root=tmp_path, model=str(tiny_model), page=tmp_path / "p.md", rows=tmp_path / "r")
    assert not (tmp_path / "p.md").exists()
