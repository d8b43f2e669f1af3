"""The command `pseudo-label`: trained members or a registered version label a pool for others to learn from."""

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("pseudo-label")(pseudo_label)


def pseudo_label(
    experiment: Annotated[
        str, typer.Option("--experiment", help="A file, a folder, or a name in experiments/.")
    ] = "demo",
    labels: Annotated[
        str, typer.Option("--labels", help="Name in pseudo_label; the first where none is given.")
    ] = "",
    fold: Annotated[
        str, typer.Option("--fold", help="Fold whose students learn from them; -1 for students of all data.")
    ] = "0",
    model: Annotated[
        str,
        typer.Option(
            "--model", help="Labels in place of the declared teachers: champion, or models:/NAME/NUMBER."
        ),
    ] = "",
    raw: Annotated[
        str, typer.Option("--raw", help="Folder of raw files, in place of the experiment's own.")
    ] = "",
    set: Annotated[
        str, typer.Option("--set", help="Changes to members' configurations: 'optimizer.lr=0.02;...'.")
    ] = "",
    workers: Annotated[
        str, typer.Option("--workers", help="Processes that load data; -1 chooses by the number of cores.")
    ] = "-1",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    with_upstream: Annotated[
        str, typer.Option("--with-upstream", help="true: run a missing training stage first.")
    ] = "false",
    fresh: Annotated[
        str,
        typer.Option("--fresh", help="true: do the work again though a finished run has the same inputs."),
    ] = "false",
) -> None:
    """Label a pool of images with trained members. Example: hubmap-ml pseudo-label --labels round1 --fold 1"""
    from hubmap_ml.cli.main import _tell, _whole, _yes
    from hubmap_ml.stages import pseudo_label as stage

    _tell(
        stage.run(
            experiment=experiment,
            labels=labels,
            fold=_whole(fold, "fold"),
            model=model,
            raw=raw,
            set=set,
            workers=_whole(workers, "workers"),
            device=device,
            with_upstream=_yes(with_upstream, "with-upstream"),
            fresh=_yes(fresh, "fresh"),
        )
    )
