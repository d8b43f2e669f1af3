"""The command `tune`: a member's thresholds in an experiment, or with --truth anyone's predictions in files."""

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(tune)


def tune(
    experiment: Annotated[
        str, typer.Option("--experiment", help="A file, a folder, or a name in experiments/.")
    ] = "demo",
    member: Annotated[
        str, typer.Option("--member", help="Member of the experiment; the first where none is given.")
    ] = "",
    raw: Annotated[
        str, typer.Option("--raw", help="Folder of raw files, in place of the experiment's own.")
    ] = "",
    set: Annotated[
        str, typer.Option("--set", help="Changes to members' configurations: 'optimizer.lr=0.02;...'.")
    ] = "",
    workers: Annotated[
        str, typer.Option("--workers", help="Processes that load data; -1 chooses by the cores.")
    ] = "-1",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    with_upstream: Annotated[
        str, typer.Option("--with-upstream", help="true: run a missing training stage first.")
    ] = "false",
    fresh: Annotated[
        str,
        typer.Option("--fresh", help="true: do the work again though a finished run has the same inputs."),
    ] = "false",
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
    json: Annotated[bool, typer.Option("--json", help="With --truth: end with one JSON line.")] = False,
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
        tune_files.show(found, as_json=json)
        return
    from hubmap_ml.cli.main import _tell, _whole, _yes
    from hubmap_ml.stages import tune as stage

    _tell(
        stage.run(
            experiment=experiment,
            member=member,
            raw=raw,
            set=set,
            workers=_whole(workers, "workers"),
            device=device,
            with_upstream=_yes(with_upstream, "with-upstream"),
            fresh=_yes(fresh, "fresh"),
        )
    )
