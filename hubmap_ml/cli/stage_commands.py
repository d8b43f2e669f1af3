"""The stages of the chain as commands, and the whole chain."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hubmap_ml.cli import ensemble_files
from hubmap_ml.cli.options import (
    AsJson,
    Changes,
    Device,
    ExperimentName,
    Fold,
    Fresh,
    MemberName,
    Nodes,
    Nproc,
    Raw,
    Rdzv,
    WithUpstream,
    Workers,
    whole,
    yes,
)
from hubmap_ml.cli.tables import tell


def register(app: typer.Typer) -> None:
    """Add the commands to the command line, in the chain's order."""
    app.command("main", rich_help_panel="The chain")(main_command)
    for command in (demo, prepare, pretrain, finetune, predict, promote, ensemble, submit, report):
        app.command(rich_help_panel="The chain")(command)


def main_command(
    experiment: ExperimentName = "demo",
    raw: Raw = "",
    set: Changes = "",
    workers: Workers = "-1",
    device: Device = "auto",
    fresh: Fresh = "false",
    as_json: AsJson = False,
) -> None:
    """Run the whole chain of an experiment. Example: hubmap-ml main --experiment demo"""
    _chain(
        as_json=as_json,
        experiment=experiment,
        raw=raw,
        set=set,
        workers=whole(workers, "workers"),
        device=device,
        fresh=yes(fresh, "fresh"),
    )


def demo() -> None:
    """Run the whole chain on generated tissue (ten minutes on two cores). Example: hubmap-ml demo"""
    _chain(as_json=False, experiment="demo")
    typer.echo(f"Look at it: {Path(sys.executable).parent / 'hubmap-ml'} ui")


def prepare(
    experiment: ExperimentName = "demo",
    raw: Raw = "",
    workers: Workers = "-1",
    fresh: Fresh = "false",
    as_json: AsJson = False,
) -> None:
    """Convert raw files and assign folds. Example: hubmap-ml prepare --experiment nuclei --raw FOLDER"""
    from hubmap_ml.stages import prepare as stage

    tell(
        stage.run(
            experiment=experiment, raw=raw, workers=whole(workers, "workers"), fresh=yes(fresh, "fresh")
        ),
        as_json,
    )


def pretrain(
    experiment: ExperimentName = "demo",
    member: MemberName = "",
    fold: Fold = "0",
    raw: Raw = "",
    set: Changes = "",
    workers: Workers = "-1",
    device: Device = "auto",
    with_upstream: WithUpstream = "false",
    fresh: Fresh = "false",
    nproc: Nproc = "1",
    nodes: Nodes = "1",
    rdzv: Rdzv = "",
    as_json: AsJson = False,
) -> None:
    """Train stage 1 of a member. Example: hubmap-ml pretrain --member htc --set runner.max_epochs=2"""
    from hubmap_ml.stages import pretrain as stage

    tell(
        stage.run(
            experiment=experiment,
            member=member,
            fold=whole(fold, "fold"),
            raw=raw,
            set=set,
            workers=whole(workers, "workers"),
            device=device,
            with_upstream=yes(with_upstream, "with-upstream"),
            fresh=yes(fresh, "fresh"),
            nproc=whole(nproc, "nproc"),
            nodes=whole(nodes, "nodes"),
            rdzv=rdzv,
        ),
        as_json,
    )


def finetune(
    experiment: ExperimentName = "demo",
    member: MemberName = "",
    fold: Fold = "0",
    raw: Raw = "",
    set: Changes = "",
    workers: Workers = "-1",
    device: Device = "auto",
    with_upstream: WithUpstream = "false",
    fresh: Fresh = "false",
    nproc: Nproc = "1",
    nodes: Nodes = "1",
    rdzv: Rdzv = "",
    as_json: AsJson = False,
) -> None:
    """Train stage 2 of a member on one fold. Example: hubmap-ml finetune --member htc --fold 1"""
    from hubmap_ml.stages import finetune as stage

    tell(
        stage.run(
            experiment=experiment,
            member=member,
            fold=whole(fold, "fold"),
            raw=raw,
            set=set,
            workers=whole(workers, "workers"),
            device=device,
            with_upstream=yes(with_upstream, "with-upstream"),
            fresh=yes(fresh, "fresh"),
            nproc=whole(nproc, "nproc"),
            nodes=whole(nodes, "nodes"),
            rdzv=rdzv,
        ),
        as_json,
    )


def predict(
    experiment: ExperimentName = "demo",
    member: MemberName = "",
    fold: Fold = "0",
    raw: Raw = "",
    set: Changes = "",
    workers: Workers = "-1",
    device: Device = "auto",
    with_upstream: WithUpstream = "false",
    fresh: Fresh = "false",
    as_json: AsJson = False,
) -> None:
    """Write candidates with one fold's network. Example: hubmap-ml predict --member htc --fold 1"""
    from hubmap_ml.stages import predict as stage

    tell(
        stage.run(
            experiment=experiment,
            member=member,
            fold=whole(fold, "fold"),
            raw=raw,
            set=set,
            workers=whole(workers, "workers"),
            device=device,
            with_upstream=yes(with_upstream, "with-upstream"),
            fresh=yes(fresh, "fresh"),
        ),
        as_json,
    )


def promote(
    experiment: ExperimentName = "demo",
    raw: Raw = "",
    set: Changes = "",
    workers: Workers = "-1",
    device: Device = "auto",
    with_upstream: WithUpstream = "false",
    fresh: Fresh = "false",
    as_json: AsJson = False,
) -> None:
    """Register the members that pass the gate. Example: hubmap-ml promote --experiment demo"""
    from hubmap_ml.stages import promote as stage

    tell(
        stage.run(
            experiment=experiment,
            raw=raw,
            set=set,
            workers=whole(workers, "workers"),
            device=device,
            with_upstream=yes(with_upstream, "with-upstream"),
            fresh=yes(fresh, "fresh"),
        ),
        as_json,
    )


def ensemble(
    experiment: ExperimentName = "demo",
    raw: Raw = "",
    fresh: Fresh = "false",
    truth: ensemble_files.Truth = None,
    predictions: ensemble_files.Predictions = None,
    further: ensemble_files.Further = None,
    report: ensemble_files.Report = Path("ensemble.html"),
    metric: ensemble_files.Metric = "ap60",
    as_json: AsJson = False,
) -> None:
    """Fuse the promoted members and register the result, or compare anyone's files.

    Examples: hubmap-ml ensemble --experiment demo;
    hubmap-ml ensemble --truth coco.json --predictions a.json b.json c.json --report out.html
    """
    files = [*(predictions or []), *(further or [])]
    if truth is not None:
        ensemble_files.compare(truth, files, report, metric, as_json)
        return
    ensemble_files.refuse_without_truth(files)
    from hubmap_ml.stages import ensemble as stage

    tell(stage.run(experiment=experiment, raw=raw, fresh=yes(fresh, "fresh")), as_json)


def submit(
    experiment: ExperimentName = "demo",
    raw: Raw = "",
    model: Annotated[
        str, typer.Option("--model", help="models:/NAME@ALIAS; the champion where none is given.")
    ] = "",
    predictions: Annotated[
        str, typer.Option("--predictions", help="Stored predictions instead of a model.")
    ] = "",
    device: Device = "auto",
    fresh: Fresh = "false",
    as_json: AsJson = False,
) -> None:
    """Write the competition's csv for the test images. Example: hubmap-ml submit --experiment demo"""
    from hubmap_ml.stages import submit as stage

    outcome = stage.run(
        experiment=experiment,
        raw=raw,
        model=model,
        predictions=predictions,
        device=device,
        fresh=yes(fresh, "fresh"),
    )
    tell(outcome, as_json, "file")


def report(
    experiment: ExperimentName = "demo",
    raw: Raw = "",
    member: Annotated[
        str,
        typer.Option("--member", help="One member, or ensemble; the whole experiment where none is given."),
    ] = "",
    run: Annotated[
        str, typer.Option("--run", help="A run's id, or its beginning: a page about that run.")
    ] = "",
    against: Annotated[
        str, typer.Option("--against", help="A second experiment (with --run a second run) to set beside it.")
    ] = "",
    ensemble: Annotated[bool, typer.Option("--ensemble", help="The same as --member ensemble.")] = False,
    fresh: Fresh = "false",
    as_json: AsJson = False,
) -> None:
    """Write one page with scores, pipeline, errors and pictures.

    Examples: hubmap-ml report --experiment demo; hubmap-ml report --member htc; hubmap-ml report --run 3f2a91;
    hubmap-ml report --experiment mine --against demo
    """
    from hubmap_ml.stages import report as stage

    outcome = stage.run(
        experiment=experiment,
        raw=raw,
        member="ensemble" if ensemble else member,
        run=run,
        against=against,
        fresh=yes(fresh, "fresh"),
    )
    tell(outcome, as_json, "page")


def _chain(*, as_json: bool, **parameters: Any) -> None:
    from hubmap_ml.cli.tables import print_chain, step_printer
    from hubmap_ml.stages import main as stage

    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(stage.run(**parameters))))
    else:
        stage.run(**parameters, told=step_printer(), shown=print_chain)
