"""The commands `score add`, `list`, `import` and `page`: submissions and what they scored."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hubmap_ml.cli.options import AsJson

if TYPE_CHECKING:
    from hubmap_ml.metrics import ScoreLogFindings
    from hubmap_ml.tracking import LogEntry

score = typer.Typer(
    help="Log of submissions and their scores. Example: hubmap-ml score add submission.csv --public 0.581",
)

Experiment = Annotated[
    str, typer.Option("--experiment", help="Whose submissions: a plain name, or a file or folder.")
]
CvMetric = Annotated[str, typer.Option("--metric", help="What the CV score is measured by: ap60, …")]
Folds = Annotated[str, typer.Option("--folds", help="How the folds of the CV score were made.")]
BoardMetric = Annotated[str, typer.Option("--leaderboard-metric", help="What the leaderboard measures.")]
Correct = Annotated[bool, typer.Option("--correct", help="Replace what the log has, where it differs.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(score, name="score", rich_help_panel="Records")


@score.command()
def add(
    file: Annotated[Path | None, typer.Argument(help="What was handed in.", show_default=False)] = None,
    name: Annotated[str, typer.Option("--name", help="What to call it; needed without a file.")] = "",
    public: Annotated[float | None, typer.Option("--public", help="Public leaderboard score.")] = None,
    private: Annotated[float | None, typer.Option("--private", help="Private leaderboard score.")] = None,
    cv: Annotated[float | None, typer.Option("--cv", help="Score of cross-validation.")] = None,
    metric: CvMetric = "",
    folds: Folds = "",
    leaderboard_metric: BoardMetric = "",
    model: Annotated[str, typer.Option("--model", help="What predicted it: models:/NAME/N, …")] = "",
    date: Annotated[str, typer.Option("--date", help="When it was handed in.")] = "",
    note: Annotated[str, typer.Option("--note", help="Anything worth remembering.")] = "",
    experiment: Experiment = "demo",
    correct: Correct = False,
    as_json: AsJson = False,
) -> None:
    """Log a submission, or complete it. Example: hubmap-ml score add submission.csv --public 0.581 --note "wider NMS"

    The same file is the same submission: `submit` logs what it writes, and its leaderboard score is added later.
    """
    from hubmap_ml.stages import score_log

    entry = score_log.add(
        file,
        experiment=experiment,
        name=name,
        correct=correct,
        public=public,
        private=private,
        cv=cv,
        cv_metric=metric,
        folds=folds,
        leaderboard_metric=leaderboard_metric,
        model=model,
        date=date,
        note=note,
    )
    if as_json:
        typer.echo(json.dumps(score_log.to_data([entry])[0]))
    else:
        typer.echo(
            f"{entry.change}: {entry.submission.name}: {entry.submission.in_words()} (run {entry.run_id})"
        )


@score.command("import")
def import_(
    table: Annotated[Path, typer.Argument(help="csv (also Kaggle's own list) or Markdown table.")],
    experiment: Experiment = "demo",
    metric: CvMetric = "",
    folds: Folds = "",
    leaderboard_metric: BoardMetric = "",
    correct: Correct = False,
    as_json: AsJson = False,
) -> None:
    """Log every row of a table. Example: hubmap-ml score import submissions.csv --experiment hubmap2023

    Columns go by name: submission, public, private, cv, metric, folds, leaderboard metric, model, date, note, digest.
    """
    from hubmap_ml.stages import score_log

    found = score_log.import_table(
        table,
        experiment=experiment,
        correct=correct,
        cv_metric=metric,
        folds=folds,
        leaderboard_metric=leaderboard_metric,
    )
    if as_json:
        data = score_log.to_data(found.entries)
        typer.echo(json.dumps({"submissions": data, "left_out": found.left_out}))
        return
    counts = ", ".join(f"{found.count(change)} {change}" for change in ("added", "completed", "known"))
    typer.echo(f"{len(found.entries)} submissions: {counts}")
    if found.left_out:
        typer.echo(f"columns that mean nothing here: {', '.join(found.left_out)}")


@score.command("list")
def list_(experiment: Experiment = "demo", as_json: AsJson = False) -> None:
    """Show the submissions of an experiment. Example: hubmap-ml score list --experiment hubmap2023 --json"""
    from hubmap_ml.stages import score_log

    entries = score_log.entries_of(experiment)
    if as_json:
        typer.echo(json.dumps(score_log.to_data(entries)))
    elif not entries:
        typer.echo(f"no submission of {score_log.log_name(experiment)} is in the log")
    else:
        _show(entries)


@score.command()
def page(
    out: Annotated[Path, typer.Option("--out", help="Page (html) to write.")] = Path("scores.html"),
    experiment: Experiment = "demo",
    as_json: AsJson = False,
) -> None:
    """Write a page: does CV deserve trust, and which two to keep? Example: hubmap-ml score page --out scores.html"""
    from hubmap_ml.stages import score_log

    found = score_log.page(out, experiment=experiment)
    if as_json:
        typer.echo(json.dumps(_to_data(found, out)))
        return
    typer.echo(found.verdict)
    for one in found.keep:
        typer.echo(f"keep {one.name}: {one.in_words()}")
    typer.echo(f"page: {out}")


def _show(entries: "list[LogEntry]") -> None:
    from rich.markup import escape
    from rich.table import Table

    from hubmap_ml.cli.tables import wide_console

    table = Table()
    table.add_column("submission", overflow="fold")
    for name in ("public", "private", "CV"):
        table.add_column(name, justify="right")
    for name in ("CV is", "model", "date", "note"):
        table.add_column(name, overflow="fold")
    for entry in entries:
        one = entry.submission
        scores = ("–" if value is None else f"{value:.4f}" for value in (one.public, one.private, one.cv))
        how = ", ".join(filter(None, (one.cv_metric, one.folds)))
        table.add_row(escape(one.name), *scores, *map(escape, (how, one.model, one.date, one.note)))
    wide_console().print(table)


def _to_data(found: "ScoreLogFindings", out: Path) -> dict[str, object]:
    groups = [
        {
            "cv_metric": group.cv_metric,
            "folds": group.folds,
            "trust": group.trust,
            "words": group.words,
            "submissions": group.public.n,
            "spearman": _finite(group.public.spearman),
            "spearman_low": group.public.spearman_interval.low,
            "spearman_high": group.public.spearman_interval.high,
            "kendall": _finite(group.public.kendall),
            "kendall_low": group.public.kendall_interval.low,
            "kendall_high": group.public.kendall_interval.high,
            "missing": group.public.missing,
            "inversions": len(group.inversions),
        }
        for group in found.groups
    ]
    return {
        "verdict": found.verdict,
        "trust": found.trust,
        "keep": [one.name for one in found.keep],
        "why": found.keep_words,
        "groups": groups,
        "page": str(out),
    }


def _finite(value: float) -> float | None:
    return value if value == value else None
