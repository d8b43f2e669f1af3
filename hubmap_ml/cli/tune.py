"""The command `tune`: a member's thresholds in an experiment, or with --truth anyone's predictions in files."""

from pathlib import Path
from typing import Annotated

import typer

from hubmap_ml.cli.options import (
    AsJson,
    Changes,
    Device,
    ExperimentName,
    Fresh,
    MemberName,
    Raw,
    WithUpstream,
    Workers,
    whole,
    yes,
)
from hubmap_ml.cli.tables import tell


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(rich_help_panel="The chain")(tune)


def tune(
    experiment: ExperimentName = "demo",
    member: MemberName = "",
    raw: Raw = "",
    set: Changes = "",
    workers: Workers = "-1",
    device: Device = "auto",
    with_upstream: WithUpstream = "false",
    fresh: Fresh = "false",
    truth: Annotated[
        Path | None, typer.Option("--truth", help="COCO json: tune files, without experiment and store.")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", help="With --truth: COCO results json, Parquet folder, or csv."),
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option("--space", help="With --truth: yaml with 'space' and perhaps 'postprocess'."),
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="With --truth: the page to write.")] = None,
    metric: Annotated[
        str, typer.Option("--metric", help="With --truth: ap60, coco_segm or dsb_map.")
    ] = "ap60",
    trials: Annotated[
        int, typer.Option("--trials", help="With --truth: settings that a choice is made of.")
    ] = 300,
    sampler: Annotated[
        str, typer.Option("--sampler", help="With --truth: tpe, random, qmc, grid or cmaes.")
    ] = "tpe",
    per_class: Annotated[
        bool, typer.Option("--per-class", help="With --truth: values of each class's own.")
    ] = False,
    folds: Annotated[
        int, typer.Option("--folds", help="With --truth: folds to cross-fit, where the truth names none.")
    ] = 5,
    seed: Annotated[int, typer.Option("--seed", help="With --truth: same seed, same study.")] = 0,
    storage: Annotated[
        str, typer.Option("--storage", help="With --truth: Optuna storage that several workers share.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Tune thresholds on out-of-fold candidates. Example: hubmap-ml tune --member htc

    Without experiment and store: hubmap-ml tune --truth t.json --predictions p.json --report r.html
    """
    if truth is not None or predictions is not None:
        from hubmap_ml.spec.errors import InputError
        from hubmap_ml.stages import tune_files

        if truth is None or predictions is None:
            raise InputError(
                "--truth and --predictions belong together; give both, or neither to tune a member"
            )
        found = tune_files.run(
            truth,
            predictions,
            space=space,
            report=report,
            metric=metric,
            trials=trials,
            sampler=sampler,
            per_class=per_class,
            folds=folds,
            seed=seed,
            storage=storage or None,
        )
        tune_files.show(found, as_json=as_json)
        return
    from hubmap_ml.stages import tune as stage

    tell(
        stage.run(
            experiment=experiment,
            member=member,
            raw=raw,
            set=set,
            workers=whole(workers, "workers"),
            device=device,
            with_upstream=yes(with_upstream, "with-upstream"),
            fresh=yes(fresh, "fresh"),
        ),
        as_json,
    )
