"""What a visitor does: type, press, read; upload, press, download. Run by `make test-browser`."""

import csv
import time

from conftest import SPACE
from playwright.sync_api import expect

SERIES = SPACE / "examples" / "norway-canada.csv"

LIMIT = 3.0
"""Seconds from the press to the answer in the page, on two cores with nothing else to do."""


def open_shift(page):
    page.get_by_role("tab", name="Find a shift").click()
    expect(page.locator("#find")).to_be_visible()


def upload(page, path, rows=None):
    if rows is not None:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("date", "target", "text"), *rows])
    page.locator("#table input[type=file]").set_input_files(path)
    expect(page.locator("#table")).to_contain_text(path.stem)


def mark(page, text):
    return page.locator("#marked mark", has_text=text)


def test_a_typed_text_is_marked_and_counted(page):
    page.locator("#text textarea").fill(
        "We thank Canada for its help. Canada is a friend.\n\nMoscow broke its word <again>."
    )
    page.locator("#read").click()
    marks = page.locator("#marked mark")
    expect(marks).to_have_text(["Canada", "Canada", "Moscow"])
    assert [each.get_attribute("class") for each in marks.all()] == [
        "conciliatory", "conciliatory", "critical",
    ]  # fmt: skip
    assert marks.last.get_attribute("title").startswith("Russia: critical, score -")
    expect(page.locator("#marked")).to_contain_text("broke its word <again>.")
    expect(page.locator("#summary")).to_contain_text("Russia")
    expect(page.locator("#predictions")).to_contain_text("We thank Canada for its help.")


def test_the_speaker_is_not_scored(page):
    page.locator("#text textarea").fill("Russia thanks Peru. Moscow will not forget it.")
    page.locator("#speaker input").click()
    page.keyboard.type("Russia")
    page.keyboard.press("Enter")
    page.locator("#read").click()
    expect(page.locator("#marked mark")).to_have_text(["Peru"])


def test_what_is_wrong_is_said_in_the_page_until_the_next_press(page):
    notice = page.locator(".notice:visible")
    page.locator("#read").click()
    expect(notice).to_contain_text("document is empty")
    page.locator("#text textarea").fill("Nobody came.")
    page.locator("#read").click()
    expect(notice).to_have_text("No state is named.")
    page.get_by_role("button", name="Thanks to one").click()
    expect(page.locator("#text textarea")).not_to_have_value("Nobody came.")
    page.locator("#read").click()
    expect(mark(page, "Washington")).to_be_visible()
    expect(notice).to_have_count(0)


def test_an_uploaded_table_becomes_plot_and_report(page, tmp_path, picture):
    open_shift(page)
    upload(page, SERIES)
    page.locator("#source textarea").fill("Norway")
    page.locator("#target textarea").fill("Canada")
    page.locator("#find").click()
    expect(page.locator("#plot img")).to_be_visible(timeout=60_000)
    expect(page.locator("#report h1")).to_have_text("Norway toward Canada")
    expect(page.locator("#report")).to_contain_text("Shift toward conciliatory")
    picture("demo-shift")
    with page.expect_download() as download:
        page.locator("#report-file").click()
    download.value.save_as(tmp_path / "report.md")
    report = (tmp_path / "report.md").read_text("utf-8")
    assert report.startswith("# Norway toward Canada\n\n**Shift toward conciliatory")
    assert "## Evidence" in report


def test_a_row_that_cannot_be_read_is_named(page, tmp_path):
    open_shift(page)
    upload(page, tmp_path / "talks.csv", [("2020-01-01", "PER", "They met."), ("2020", "PER", "")])
    page.locator("#find").click()
    notice = page.locator(".notice:visible")
    expect(notice).to_contain_text("talks.csv, row 2: date is missing or not an ISO date")
    assert "/" not in notice.inner_text()


def test_a_table_has_its_limits(page, tmp_path):
    open_shift(page)
    row = ("2020-01-01", "PER", "They met.")
    upload(page, tmp_path / "long.csv", [row] * 2001)
    page.locator("#find").click()
    expect(page.locator(".notice:visible")).to_contain_text("at most 2,000 rows")
    page.reload()
    open_shift(page)
    (tmp_path / "large.csv").write_text("x" * 2_200_000)
    page.locator("#table input[type=file]").set_input_files(tmp_path / "large.csv")
    expect(page.get_by_text("exceed the maximum allowed size")).to_be_visible()


def test_pictures_that_a_table_names_are_not_fetched(page, tmp_path):
    open_shift(page)
    with SERIES.open(newline="") as file:
        rows = [(row["date"], row["target"], row["text"]) for row in csv.DictReader(file)]
    named = "![x](http://127.0.0.2:9/a.png) <img src='http://127.0.0.2:9/b.png'>"
    upload(page, tmp_path / "named.csv", [(day, to, f"{text} {named}") for day, to, text in rows])
    with page.expect_event("requestfailed", timeout=60_000) as refused:
        page.locator("#find").click()
    assert refused.value.failure == "csp"


def test_answers_within_three_seconds(page, picture, capsys):
    texts, tables = [], []
    for _ in range(3):
        page.reload()
        page.get_by_role("button", name="Thanks to one").click()
        expect(page.locator("#text textarea")).not_to_have_value("")
        texts.append(seconds_to(page, "#read", mark(page, "Washington")))
    expect(page.locator("#predictions")).to_contain_text("ultimatums")
    picture("demo-read")
    for _ in range(3):
        page.reload()
        open_shift(page)
        upload(page, SERIES)
        tables.append(seconds_to(page, "#find", page.locator("#plot img")))
    with capsys.disabled():
        for name, times in (("a text", texts), ("155 dated sentences", tables)):
            print(f"\nfrom press to answer, {name}:", ", ".join(f"{t:.2f} s" for t in times))
    assert min(texts) < LIMIT and min(tables) < LIMIT


def seconds_to(page, button, answer):
    """Presses, waits for the answer, and returns how long that took."""
    start = time.perf_counter()
    page.locator(button).click()
    answer.wait_for(timeout=60_000)
    return time.perf_counter() - start
