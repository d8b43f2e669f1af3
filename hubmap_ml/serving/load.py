"""Opening a registered predictor as data: what our own commands do, where others load the pyfunc.

Nothing of the model is executed, and MLflow's loading code is not involved: its files are fetched if they are
not on this machine's disk, and ``predictor.json`` is opened.
"""

import shutil
import tempfile
import weakref
from pathlib import Path

from hubmap_ml.predictor import Predictor, open_predictor
from hubmap_ml.predictor.folder import MANIFEST
from hubmap_ml.serving.fetching import fetch, local_folder
from hubmap_ml.serving.references import completed, refers
from hubmap_ml.serving.register import predictor_in


def load_predictor(uri: str | Path, *, device: str = "cpu") -> Predictor:
    """Open a predictor by its address.

    Args:
        uri: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, ``models:/m-ID``, ``runs:/RUN/PATH``, or a local
            folder; a model that holds a predictor, or a predictor folder itself.
        device: as for ``open_predictor``.

    Returns:
        The predictor. What had to be fetched lies in a temporary folder that goes when the predictor goes.

    Raises:
        InputError: nothing is registered there, or it is no predictor.
    """
    local = local_folder(str(uri))
    if local is not None:
        return open_whole(_predictor_folder(local), device)
    folder = Path(tempfile.mkdtemp(prefix="hubmap_ml_"))
    try:
        predictor = open_whole(_predictor_folder(fetch(str(uri), folder)), device)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(predictor, shutil.rmtree, folder, ignore_errors=True)
    return predictor


def open_whole(folder: Path, device: str = "cpu") -> Predictor:
    """Open a predictor folder; one that names other versions is put together first, in a temporary folder.

    Raises:
        InputError: as ``open_predictor``, or a version that it names is not what it was.
    """
    if not refers(folder):
        return open_predictor(folder, device)
    place = Path(tempfile.mkdtemp(prefix="hubmap_ml_"))
    try:
        predictor = open_predictor(completed(folder, place), device)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    weakref.finalize(predictor, shutil.rmtree, place, ignore_errors=True)
    return predictor


def _predictor_folder(folder: Path) -> Path:
    return folder if (folder / MANIFEST).is_file() else predictor_in(folder)
