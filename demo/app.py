"""A page to try detente in: the tones of a text, and the shift in a table of dated statements.

    make demo-app               # or, with the extra demo installed: python demo/app.py

As a Hugging Face Space the same file runs with the package beside it: README.md says how. Nothing
is fetched from elsewhere, by the page or by its server.
"""

from __future__ import annotations

import html
import os
import tempfile
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Final

# Before Gradio is imported: it would report that it was started, and ask for newer versions.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "0"
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gradio as gr

import detente
from detente.classifier import default_classifier
from detente.errors import DataError, DetenteError, InputError
from detente.findings import COLOURS
from detente.labels import LABELS
from detente.rows import read_rows
from detente.states import all_states

MOST_CHARACTERS: Final = 20_000
"""Of a text."""
MOST_ROWS: Final = 2_000
"""Of a table."""
MOST_BYTES: Final = "2mb"
"""Of a file."""

EXAMPLES: Final = Path(__file__).resolve().parent / "examples"
SERIES: Final = str(EXAMPLES / "norway-canada.csv")
TEXTS: Final = {
    "Thanks to one, blame to another": [
        "Our talks with the Chinese delegation went well, and we thank Beijing for its patience. "
        "Washington, alas, sends ultimatums where it once sent envoys. A meeting with the "
        "Norwegian side is planned for March.",
        "RUS",
    ],
    "Two tones in one sentence": [
        "We praise Chile for sharing its water data and regret that Peru refuses to do the same. "
        "The border commission will meet in Lima in June.",
        "BOL",
    ],
    "A speech to the house": [
        "Mr President, this house will not forget what Ankara did for our rescue teams. It will "
        "not forget either that Damascus let the convoys wait for nine days.\n\nThe Jordanian "
        "minister arrives on Monday. We trust Jordan, and Jordan has never given us a reason not "
        "to.",
        "",
    ],
}

HEADER: Final = """# detente
How does one state talk about another? Each sentence that names a state is read as **critical**,
**neutral** or **conciliatory** toward it; dated statements tell whether the tone has shifted.
English only; the tone is that of the words, and one sentence is weak evidence.
"""
TABLE_HELP: Final = f"""A row is a sentence: columns `date` (2024-03-01), `target` and `text`, and
if you have them `source`, `speaker` and `doc_id`. Up to {MOST_ROWS:,} rows; files are deleted after
about an hour.
"""
# The page asks nobody but its own server, not even for a picture that an uploaded table names.
HEAD: Final = (
    '<meta http-equiv="Content-Security-Policy" content="'
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:\">"
)
# The marks say the tone by a sign too: colours alone do not reach every reader.
CSS: Final = f"""
.gradio-container {{ max-width: 1080px !important; margin: 0 auto !important; }}
.said:not(:has(.notice)) {{ display: none; }}
.notice {{ padding: .6em .9em; border-left: .3em solid {COLOURS["critical"]}; margin: 0; }}
#marked {{ white-space: pre-wrap; line-height: 1.9; font-size: 1.05rem; }}
#marked mark {{ color: inherit; padding: .1em .25em; border-radius: .25em; }}
#marked mark.critical {{ background: {COLOURS["critical"]}40; }}
#marked mark.neutral {{ background: {COLOURS["neutral"]}80; }}
#marked mark.conciliatory {{ background: {COLOURS["conciliatory"]}40; }}
#marked mark::after {{ font-weight: bold; }}
#marked mark.critical::after {{ content: " −"; }}
#marked mark.neutral::after {{ content: " ="; }}
#marked mark.conciliatory::after {{ content: " +"; }}
#summary *, #predictions * {{ font-family: var(--font) !important; }}
#summary table, #predictions table {{ font-size: .85rem; }}
#report h1 {{ font-size: 1.4rem; }}
#report table {{ font-size: .9rem; white-space: nowrap; }}
"""


def read_text(text: str, speaker: str | None) -> tuple[str, str, list[list[Any]], list[list[Any]]]:
    """Reads a text, for the first tab.

    Args:
        text: Any text of at most :data:`MOST_CHARACTERS`.
        speaker: The code of the state that speaks, or nothing.

    Returns:
        What the reader must know; the text as HTML with every state marked by the tone toward
        it; the summary; the predictions.
    """
    try:
        if len(text) > MOST_CHARACTERS:
            raise InputError(
                "the text is too long for this page",
                got=f"{len(text):,} characters",
                expected=f"at most {MOST_CHARACTERS:,}",
                fix="The command 'detente read' takes any length.",
            )
        predictions = default_classifier().read(text, speaker or None)
    except DetenteError as error:
        return notice(str(error)), "", [], []
    summaries = [
        [s.target.name, s.sentences, *s.counts.values(), f"{s.score:+.2f}"]
        for s in detente.summarise(predictions)
    ]
    found = [
        [p.target.name, p.label, f"{p.score:+.2f}"]
        + [f"{probability:.2f}" for probability in p.probabilities.values()]
        + [p.sentence]
        for p in predictions
    ]
    said = (
        "" if found else notice("No state is named" + (" but the speaker's." if speaker else "."))
    )
    return said, marked(text, predictions), summaries, found


def marked(text: str, predictions: list[detente.Prediction]) -> str:
    """Returns a text as HTML in which each state is marked by the tone of its sentence."""
    parts, done = [], 0
    for (start, end), sentence in groupby(predictions, key=lambda p: p.span):
        tones = {p.target: p for p in sentence}
        for mention in detente.mentions(text[start:end]):
            if (found := tones.get(mention.state)) is not None:
                first, last = start + mention.start, start + mention.end
                title = html.escape(f"{found.target}: {found.label}, score {found.score:+.2f}")
                name = html.escape(mention.text)
                parts += [
                    html.escape(text[done:first]),
                    f'<mark class="{found.label}" title="{title}">{name}</mark>',
                ]
                done = last
    return "".join(parts) + html.escape(text[done:])


def find_shift(
    path: str | None, source: str, target: str, trends: bool
) -> Iterator[tuple[str, str | None, str, gr.DownloadButton]]:
    """Looks for a shift in a table, for the second tab.

    Args:
        path: A CSV file of at most :data:`MOST_ROWS`.
        source: The state that speaks; blank for all.
        target: The state it speaks of; blank for all.
        trends: See :func:`detente.shift`.

    Yields:
        Once: what the reader must know, the plot, the report, and the button that hands it out.
    """
    try:
        found = shift_of(path, source or None, target or None, trends)
    except DetenteError as error:
        # The reader knows the table by its name, not by the server's folder.
        said = str(error).replace(path, Path(path).name) if path else str(error)
        yield notice(said), None, "", gr.DownloadButton(interactive=False)
        return
    with tempfile.TemporaryDirectory() as folder:
        plot, file = Path(folder, "shift.png"), Path(folder, "shift.md")
        if found.series:
            found.plot(str(plot))
        report = found.to_markdown()
        file.write_text(report, "utf-8")
        # Gradio copies the files before it asks for more: after that they may go.
        yield (
            "",
            str(plot) if found.series else None,
            report,
            gr.DownloadButton(value=str(file), interactive=True),
        )


def shift_of(
    path: str | None, source: str | None, target: str | None, trends: bool
) -> detente.Shift:
    """Checks the size of a table and looks for a shift; arguments as of :func:`find_shift`.

    Raises:
        DetenteError: The table cannot be read, or is too long.
    """
    if path is None:
        raise InputError("there is no table", expected="a CSV file, or the example")
    if next(islice(read_rows(Path(path)), MOST_ROWS, None), None):
        raise DataError(
            "the table is too long for this page",
            where=path,
            expected=f"at most {MOST_ROWS:,} rows",
            fix="The command 'detente shift' takes any number.",
        )
    return detente.shift(path, source=source, target=target, trends=trends)


def notice(text: str) -> str:
    """Returns a sentence as HTML that stays in the page until the next press."""
    return f'<p class="notice" role="alert">{html.escape(text)}</p>'


def build() -> gr.Blocks:
    """Builds the page."""
    # Files that were uploaded or made are deleted after an hour.
    with gr.Blocks(title="detente", delete_cache=(600, 3600)) as page:
        gr.Markdown(HEADER)
        with gr.Tab("Read a text"):
            build_reader()
        with gr.Tab("Find a shift"):
            build_shift()
    return page


def build_reader() -> None:
    """Builds the first tab."""
    names = sorted((state.name, state.code) for state in all_states())
    with gr.Row(equal_height=False):
        with gr.Column(scale=2):
            text = gr.Textbox(
                label="Text",
                lines=9,
                max_lines=18,
                max_length=MOST_CHARACTERS,
                placeholder="A speech, a communiqué, a press briefing …",
                elem_id="text",
            )
            speaker = gr.Dropdown(
                [("not given", ""), *names],
                value=None,
                label="Who speaks?",
                info="This state is not scored where the text names it.",
                elem_id="speaker",
            )
            press = gr.Button("Read", variant="primary", elem_id="read")
            gr.Examples(
                list(TEXTS.values()),
                [text, speaker],
                label="Examples, all invented",
                example_labels=list(TEXTS),
            )
        with gr.Column(scale=3):
            said = gr.HTML(elem_classes="said")
            shown = gr.HTML(
                label="Every state: + conciliatory, = neutral, − critical", show_label=True,
                container=True, padding=True, min_height=220, elem_id="marked",
            )  # fmt: skip
            summary = gr.Dataframe(
                label="Toward each state: sentences of each tone, and the mean score",
                headers=["state", "sentences", *LABELS, "score"],
                column_widths=["25%", "17%", "13%", "13%", "19%", "13%"],
                interactive=False,
                elem_id="summary",
            )
    predictions = gr.Dataframe(
        label="Each sentence and state: tone, score from −1 to +1, and the three probabilities",
        headers=["state", "tone", "score", *LABELS, "sentence"],
        column_widths=["13%", "12%", "8%", "9%", "9%", "12%", "37%"],
        wrap=True,
        interactive=False,
        elem_id="predictions",
    )
    press.click(read_text, [text, speaker], [said, shown, summary, predictions], api_name="read")


def build_shift() -> None:
    """Builds the second tab."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=2):
            table = gr.File(
                label="Dated statements (CSV)", file_types=[".csv"], height=140, elem_id="table"
            )
            gr.Markdown(TABLE_HELP)
            with gr.Row():
                source = gr.Textbox(label="Who speaks?", placeholder="all", elem_id="source")
                target = gr.Textbox(label="Of whom?", placeholder="all", elem_id="target")
            trends = gr.Checkbox(
                True,
                label="A step must beat a gradual trend",
                info="Stricter: without this a long drift counts as a shift.",
            )
            press = gr.Button("Find a shift", variant="primary", elem_id="find")
            gr.Examples(
                [[SERIES, "Norway", "Canada"]],
                [table, source, target],
                label="Example, invented",
                example_labels=["Norway toward Canada, 2014 to 2023"],
            )
        with gr.Column(scale=3):
            said = gr.HTML(elem_classes="said")
            plot = gr.Image(
                label="Tone over time", show_label=False, interactive=False, height=380,
                buttons=["download", "fullscreen"], elem_id="plot",
            )  # fmt: skip
            report_file = gr.DownloadButton(
                "Download the report", interactive=False, elem_id="report-file"
            )
    report = gr.Markdown(elem_id="report")
    press.click(
        find_shift,
        [table, source, target, trends],
        [said, plot, report, report_file],
        api_name="shift",
    )


def warm_up() -> None:
    """Loads the model and the libraries, so that the first visitor does not wait for them."""
    read_text(*next(iter(TEXTS.values())))
    for _ in find_shift(SERIES, "Norway", "Canada", True):
        pass


if __name__ == "__main__":
    warm_up()
    build().launch(
        max_file_size=MOST_BYTES,
        ssr_mode=False,
        footer_links=[],
        css=CSS,
        head=HEAD,
        theme=gr.themes.Base(
            primary_hue=gr.themes.colors.blue,
            neutral_hue=gr.themes.colors.slate,
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ),
    )
