"""The command that compares files of predictions, and what it prints."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hubmap_ml.cli.options import AsJson

if TYPE_CHECKING:
    from rich.console import Console

    from hubmap_ml.metrics import ErrorAnatomy
    from hubmap_ml.stages.compare import Compared

SHOWN = 5
"""Worst images and slides of each set on the screen; the page and --json have all."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(rich_help_panel="Predictions in files")(compare)


def compare(
    truth: Annotated[Path, typer.Option("--truth", help="COCO json, or a folder of our Parquet.")],
    predictions: Annotated[
        list[Path],
        typer.Option(
            "--predictions",
            help="COCO results json, a folder of our Parquet, or a submission csv; further files may follow.",
        ),
    ],
    more: Annotated[
        list[Path] | None, typer.Argument(help="Further predictions.", show_default=False)
    ] = None,
    metric: Annotated[str, typer.Option("--metric", help="ap60, coco_segm, dice or dsb_map.")] = "ap60",
    report: Annotated[Path | None, typer.Option("--report", help="Write a page (html) here.")] = None,
    resamples: Annotated[int, typer.Option("--resamples", help="Draws of each bootstrap.")] = 2000,
    as_json: AsJson = False,
) -> None:
    """Compare predictions. Example: hubmap-ml compare --truth t.json --predictions a.json b.json --report out.html"""
    from hubmap_ml.stages import compare as stage

    found = stage.run(truth, [*predictions, *(more or [])], metric, resamples=resamples)
    if report is not None:
        from hubmap_ml.viz import write_comparison

        write_comparison(
            report,
            found.comparison,
            found.anatomies,
            found.worst,
            title=f"{truth.name}: {' and '.join(score.name for score in found.comparison.scores)}",
            verdict=found.verdict,
            notes=found.notes,
        )
    if as_json:
        typer.echo(json.dumps(found.to_data()))
        return
    _show(found)
    if report is not None:
        typer.echo(f"page: {report}")


def _show(found: "Compared") -> None:
    from rich.table import Table

    from hubmap_ml.cli.tables import wide_console

    console, comparison = wide_console(), found.comparison
    console.print(f"[bold]{found.verdict}[/]", soft_wrap=True)
    folds = f"{comparison.n_folds} folds" if comparison.n_folds > 1 else "one fold"
    table = Table(
        title=f"{comparison.metric} on {comparison.n_images} images with {comparison.n_truths} truths, {folds}",
        title_justify="left",
    )
    for name in ("", "score", "pooled", "95 % on these slides", "95 % on new slides", "worst slide"):
        table.add_column(name, justify="left" if name in ("", "95 % on new slides") else "right")
    for score in comparison.scores:
        table.add_row(
            score.name, f"{score.value:.4f}", f"{score.pooled:.4f}", score.on_these.in_words(".4f"),
            score.on_new.in_words(".4f"), f"{score.worst_slide} {_number(score.worst_value)}".strip(),
        )  # fmt: skip
    for gain in comparison.gains:
        table.add_row(
            f"{gain.after} − {gain.before}", f"{gain.value:+.4f}", "", gain.on_these.in_words("+.4f"),
            gain.on_new.in_words("+.4f"), f"{gain.worst_slide} {_number(gain.worst_value, '+.4f')}".strip(),
        )  # fmt: skip
    console.print(table)
    console.print(f"[dim]on these slides: {comparison.scores[0].on_these.words}[/]")
    for score, anatomy, worst in zip(comparison.scores, found.anatomies, found.worst, strict=True):
        _show_errors(console, score.name, anatomy)
        names = ", ".join(f"{image.id} ({image.pull:+.4f})" for image in worst[:SHOWN])
        console.print(f"[dim]worst images of {score.name}:[/] {names or 'none costs score'}", soft_wrap=True)
    for note in found.notes:
        console.print(f"[yellow]note:[/] {note}", soft_wrap=True)


def _show_errors(console: "Console", name: str, anatomy: "ErrorAnatomy") -> None:
    from rich.table import Table

    from hubmap_ml.metrics.error_anatomy import SIZES

    found, truths = sum(anatomy.found_by_size), sum(anatomy.truths_by_size)
    above = f"at score ≥ {anatomy.score_threshold:.3f}" if math.isfinite(anatomy.score_threshold) else ""
    table = Table(
        title=f"Errors of {name}: AP {_number(anatomy.value)} at IoU {anatomy.iou_threshold:g}; {found} of {truths} "
        f"found {above} (best F1 {anatomy.f1:.3f})",
        title_justify="left",
    )
    table.add_column("")
    several = len(anatomy.categories) > 1
    columns = ("costs AP", "95 %", "count", *SIZES, *(anatomy.categories if several else ()), "at any score")
    for column in columns:
        table.add_column(column, justify="right")
    for kind in anatomy.kinds:
        if not several and kind.kind in ("classification", "both"):
            continue
        counts = [*kind.by_size, *(kind.by_class if several else ())]
        table.add_row(
            kind.kind, _number(kind.cost), kind.interval.in_words(".4f"), str(kind.count), *map(str, counts),
            str(kind.count_in_all),
        )  # fmt: skip
    console.print(table)


def _number(value: float, form: str = ".4f") -> str:
    return f"{value:{form}}" if math.isfinite(value) else "–"
