"""The command line: ``detente predict``, ``read``, ``score``, ``shift`` and ``serve``."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from itertools import repeat
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from detente import __version__, hub, rows
from detente.classifier import Classifier, Prediction
from detente.errors import DetenteError, DetenteWarning, InputError
from detente.labels import LABELS
from detente.runtimes import RuntimeName
from detente.scoring import SHARD_ROWS, Engine, OnError, score_here
from detente.scoring import score as score_files
from detente.shards import beside
from detente.statement import Statement
from detente.states import State, candidates
from detente.summary import summarise

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measures how one state talks about another: critical, neutral or conciliatory.",
)

TableKind = Literal["csv", "jsonl", "parquet"]
EngineName = Literal["local", "ray"]
Text = Annotated[
    str | None,
    typer.Argument(help="The text itself. Leave it out to read FILE, or standard input."),
]
File = Annotated[Path | None, typer.Option("--file", "-f", help="Read the text from a file.")]
Source = Annotated[
    str | None,
    typer.Option(
        "--source", "-s", help="The state whose tone is asked for, if it is not the speaker's."
    ),
]
Model = Annotated[
    str, typer.Option("--model", "-m", help="'default', a model folder, or a hub id OWNER/NAME.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")]


_DAY = ["%Y-%m-%d"]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """Options of the program as a whole; the help text is the app's own."""


@app.command()
def predict(
    text: Text = None,
    target: Annotated[
        str, typer.Option("--target", "-t", help="The state: code, name, alias or capital.")
    ] = "",
    source: Source = None,
    file: File = None,
    model: Model = hub.DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Tell the tone of sentences toward a target state.

    The text is TEXT, or one sentence a line in a .txt file or on standard input.

    A file of statements (.jsonl, .csv, .parquet) has the columns text and target.

    Example: detente predict "We thank Ankara for its mediation." --target Turkey
    """
    carried: Sequence[Mapping[str, Any]] = ()
    if file is not None and text is None and file.suffix.lower() != ".txt":
        if target or source:
            raise InputError(
                "--target and --source do not go with a table",
                got=str(file),
                expected="the columns target and source in the table",
            )
        statements = rows.read_statements(file)
        carried = [statement.to_row() for statement in statements]
    elif not target:
        raise InputError("--target is missing", expected="a state, such as --target USA")
    else:
        found = _text(text, file)
        lines = [found] if text is not None else [x for x in found.split("\n") if x.strip()]
        statements = [Statement(line, target, source) for line in lines or [""]]
    classifier = Classifier.load(model)
    predictions = classifier.predict_batch(statements, progress=sys.stderr.isatty())
    _show(predictions, as_json, classifier.name, carried)


@app.command()
def read(
    text: Text = None,
    source: Source = None,
    file: File = None,
    language: Annotated[
        str | None,
        typer.Option(help="Language of the text, such as 'es'; told by its script otherwise."),
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Add how often each tone is taken toward each state.")
    ] = False,
    model: Model = hub.DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Find every state that a text names, and the tone of each sentence toward it.

    Example: detente read --file speech.txt --source RUS
    """
    classifier = Classifier.load(model)
    predictions = classifier.read(_text(text, file), source, language=language)
    if not predictions and not as_json:
        typer.echo("No state is named in the text.")
        return
    _show(predictions, as_json, classifier.name)
    if summary and not as_json:
        for each in summarise(predictions):
            counts = ", ".join(f"{number} {label}" for label, number in each.counts.items())
            typer.echo(f"{each.target}: {counts}; mean score {each.score:+.2f}")


@app.command()
def score(
    inputs: Annotated[
        list[str], typer.Argument(metavar="IN...", help="Files or patterns, of one kind.")
    ],
    out: Annotated[
        Path, typer.Argument(help="A file by its suffix, or a folder with a file a shard.")
    ],
    text_column: Annotated[str, typer.Option(help="The column with the text.")] = "text",
    target_column: Annotated[
        str | None, typer.Option(help="The column with the target. [default: target, if any]")
    ] = None,
    source_column: Annotated[
        str | None, typer.Option(help="The column with the source. [default: source, if any]")
    ] = None,
    every_state: Annotated[
        bool, typer.Option("--every-state", help="Look for states even if there is a target.")
    ] = False,
    model: Model = hub.DEFAULT,
    runtime: Annotated[
        RuntimeName, typer.Option(help="What computes; torch takes a GPU.")
    ] = "auto",
    kind: Annotated[
        TableKind | None, typer.Option("--format", help="Of OUT, where its suffix does not say.")
    ] = None,
    shard_rows: Annotated[int, typer.Option(help="Rows of input in a shard.")] = SHARD_ROWS,
    on_error: Annotated[
        OnError, typer.Option(help="What to do with a row that cannot be read.")
    ] = "reject",
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away what was made of OUT before.")
    ] = False,
    engine: Annotated[EngineName, typer.Option(help="What runs the shards.")] = "local",
    ray_address: Annotated[str | None, typer.Option(help="A running cluster.")] = None,
    workers: Annotated[int, typer.Option(help="Models at work, with ray.", min=1)] = 1,
    gpus: Annotated[float, typer.Option(help="GPUs for each, with ray.", min=0)] = 0,
) -> None:
    """Score files of any size; started again after a stop, it goes on.

    IN is CSV, JSONL or Parquet, OUT one of them too. With a target column, each row gets a tone;
    without one, the text is a document, and each sentence gets one toward each state it names.

    Rows that cannot be read go to OUT.rejects.jsonl. A quotation mark in CSV that is not closed
    stops the run all the same, since rows may hide behind it: --on-error salvage goes on.

    Example: detente score archive/*.csv scored.parquet --text-column sentence
    """
    run: Engine = score_here
    if engine == "ray":
        from detente.ray_engine import RayEngine

        run = RayEngine(ray_address, workers, gpus)
    counts = score_files(
        inputs,
        out,
        text_column=text_column,
        target_column=target_column,
        source_column=source_column,
        every_state=every_state,
        model=model,
        runtime=runtime,
        kind=kind,
        shard_rows=shard_rows,
        on_error=on_error,
        restart=restart,
        engine=run,
        progress=sys.stderr.isatty(),
    )
    typer.echo(
        f"{counts.read:,} rows read = {counts.scored:,} scored + {counts.rejected:,} rejected + "
        f"{counts.skipped:,} skipped"
    )
    typer.echo(f"{counts.written:,} rows written to {out}")
    if counts.rejected:
        typer.echo(f"Rejected: see {beside(out, 'rejects.jsonl')}")
    if counts.skipped:
        typer.echo("Skipped: texts that name no state.")
    if counts.cut:
        typer.echo(f"{counts.cut:,} sentences were longer than the model reads (tokens_cut).")


@app.command()
def shift(
    path: Annotated[
        Path, typer.Argument(metavar="IN", help="Dated statements: .jsonl, .csv or .parquet.")
    ],
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            "-s",
            help="The state that speaks. Rows without a column source are taken for its own.",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="The state that is talked about.")
    ] = None,
    start: Annotated[
        datetime | None, typer.Option("--from", formats=_DAY, help="The first day.")
    ] = None,
    end: Annotated[
        datetime | None, typer.Option("--to", formats=_DAY, help="The last day.")
    ] = None,
    period: Annotated[
        str, typer.Option(help="Of the series: auto, week, month, quarter or year.")
    ] = "auto",
    trends: Annotated[
        bool,
        typer.Option(
            help="A step must also be told from a gradual trend. Without, a drift is a shift."
        ),
    ] = True,
    report: Annotated[
        Path | None, typer.Option(help="Write the report there: .md, or .json for programs.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the series: .png or .svg.")] = None,
    event: Annotated[
        list[str] | None, typer.Option(help="Mark a day in the plot: '1979-12-27 Kabul'.")
    ] = None,
    model: Model = hub.DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Tell whether a source's rhetoric toward a target shifted, when, how far, and how surely.

    IN has the columns date and target, and text or label; better also source, speaker, doc_id.
    Rows without labels are scored first; `detente score` does that once for all.

    Example: detente shift scored.jsonl --source RUS --target USA --plot shift.png
    """
    from detente.shifts import shift as find

    events = dict(_event(each) for each in event or ())
    found = find(
        path,
        source=source,
        target=target,
        start=start.date() if start else None,
        end=end.date() if end else None,
        period=period,  # type: ignore[arg-type]  # it is checked there
        trends=trends,
        model=model,
        progress=sys.stderr.isatty(),
    )
    if plot is not None:
        found.plot(str(plot), events=events)
    if report is not None:
        if report.suffix == ".json":
            rows.write_json(report, found.to_dict())
        else:
            with rows.whole_file(report) as file:
                file.write(found.to_markdown())
    if as_json:
        typer.echo(json.dumps(found.to_dict(), ensure_ascii=False))
        return
    typer.echo(found.verdict)
    for change in found.changes:
        first, last = change.interval
        typer.echo(
            f"  {change.date} ({first} to {last}): toward {change.direction}, tone "
            f"{change.effect}, probability of the direction {change.probability:.3f}"
        )
    if found.before and found.after:
        typer.echo(f"  tone before {found.before.tone}, after {found.after.tone}")
    for note in found.notes:
        typer.echo(f"  {note}")


@app.command()
def serve(
    model: Model = hub.DEFAULT,
    runtime: Annotated[
        RuntimeName, typer.Option(help="What computes; torch takes a GPU.")
    ] = "auto",
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.", max=65535)] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(help="Clients have to send the token in it; or in $DETENTE_TOKEN."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Batches at a time. Default: one a core; with torch one.")
    ] = None,
    waiting: Annotated[int, typer.Option(help="Sentences in the queue; more get 503.")] = 512,
    together: Annotated[int, typer.Option(help="Sentences of a batch.")] = 64,
    linger_ms: Annotated[
        float, typer.Option(help="How long an idle model waits for more.", min=0)
    ] = 2.0,
    timeout: Annotated[float, typer.Option(help="Seconds of a request; then 504.")] = 30.0,
    statements: Annotated[int, typer.Option(help="Sentences of a request; more get 422.")] = 256,
    text_characters: Annotated[
        int, typer.Option(help="Characters of a sentence; more get 422.")
    ] = 5_000,
    document_characters: Annotated[
        int, typer.Option(help="Of a document; more get 422.")
    ] = 100_000,
    body_bytes: Annotated[int, typer.Option(help="Bytes of a body; more get 413.")] = 1 << 20,
    connections: Annotated[int, typer.Option(help="Connections at a time.")] = 960,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="Web pages that may call: https://example.org")
    ] = None,
    log_texts: Annotated[bool, typer.Option("--log-texts", help="Log the texts too.")] = False,
) -> None:
    """Serve the classifier over HTTP: POST /predict and /read; GET /docs says the rest.

    Stops on SIGTERM when it has answered what it has begun. Logs are JSON lines on standard error.

    Example: detente serve --port 8000
    """
    from detente import server
    from detente.wire import Limits

    settings = server.Settings(
        limits=Limits(body_bytes, statements, text_characters, document_characters),
        threads=threads,
        waiting=waiting,
        together=together,
        linger=linger_ms / 1000,
        timeout=timeout,
        connections=connections,
        token=server.read_token(token_file),
        cors_origins=tuple(cors_origin or ()),
        log_texts=log_texts,
    )
    server.serve(model, settings, runtime=runtime, host=host, port=port)


def _event(text: str) -> tuple[date, str]:
    day, _, name = text.partition(" ")
    try:
        return date.fromisoformat(day), name
    except ValueError:
        raise InputError(
            "an event has no date", got=text, expected="a date and a name: '1979-12-27 Kabul'"
        ) from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; errors of ours end it with one line on stderr and status 2.

    Warnings of ours are a line, too, without the place in the code that they come from.
    """
    plain = warnings.formatwarning
    warnings.formatwarning = lambda message, category, *place: (
        f"detente: {message}\n"
        if issubclass(category, DetenteWarning)
        else plain(message, category, *place)
    )
    try:
        app(arguments, standalone_mode=True)
    except DetenteError as error:
        typer.secho(f"detente: {error}", err=True, fg=typer.colors.RED)
        sys.exit(2)
    finally:
        warnings.formatwarning = plain


def _text(text: str | None, file: Path | None) -> str:
    if text is not None and file is not None:
        raise InputError("both TEXT and --file are given", expected="one of them")
    if text is not None:
        return text
    if file is None and sys.stdin.isatty():
        raise InputError("there is no text", expected="TEXT, --file, or text on standard input")
    try:
        content = sys.stdin.buffer.read() if file is None else file.read_bytes()
        return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        where = str(file or "standard input")
        raise InputError(f"cannot be read ({error})", where=where) from error


def _show(
    predictions: Sequence[Prediction],
    as_json: bool,
    model: str,
    carried: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Prints predictions as a table, or as JSON lines with the columns of the input rows."""
    if as_json:
        for row, prediction in zip(carried or repeat({}), predictions, strict=False):
            scored = {**row, **prediction.to_row(), "model": model}
            typer.echo(json.dumps(scored, ensure_ascii=False, default=str))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("target")
    table.add_column("tone", no_wrap=True)
    for heading in ("score", *(f"P({label})" for label in LABELS)):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("sentence", min_width=30)
    for prediction in predictions:
        probabilities = (f"{p:.2f}" for p in prediction.probabilities.values())
        table.add_row(
            str(prediction.target),
            prediction.label,
            f"{prediction.score:+.2f}",
            *probabilities,
            prediction.sentence,
        )
    # A pipe has no width of its own: wide enough there to keep each row on few lines.
    console = Console(emoji=False, markup=False, width=None if sys.stdout.isatty() else 160)
    console.print(table)
    for target in dict.fromkeys(p.target for p in predictions if not isinstance(p.target, State)):
        near = ", ".join(state.name for state in candidates(target))
        hint = f" (did you mean {near}?)" if near else ""
        typer.echo(f"Note: {target!r} is no state known to detente; used as given{hint}.", err=True)


if __name__ == "__main__":
    main()
