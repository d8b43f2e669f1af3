"""Watching a process: nothing that an artifact holds is unpickled or executed in it.

An audit hook (PEP 578) cannot be taken away again: it belongs into a process that is started for it.
"""

import os
import sys
from pathlib import Path
from types import FrameType
from typing import Any

DATA_SUFFIXES = (".json", ".safetensors", ".parquet")
"""What a predictor folder holds; none of it is code."""

_COMPILERS = ("numba/", "llvmlite/")
_COMPILE_FREELY = (
    *_COMPILERS,
    "torch/",
    "importlib",
    "dataclasses.py",
    "collections/",
    "enum.py",
    "typing.py",
)


class ForbiddenError(Exception):
    """Something was about to be unpickled or executed."""


_NAMES_ONLY = "mmcv/ops/nms.py"
"""Evaluates the name of a suppression; `spec.member_config` says which there may be."""


def forbid_code_from(folder: Path) -> None:
    """From now on this process refuses to take code out of a folder, and to unpickle anything at all.

    Refused are: unpickling a class or function (but numba's own cache of compiled kernels, which lies elsewhere); any
    file in the folder that is no JSON, safetensors or Parquet being opened for reading; a module or shared library
    loaded from it; and code compiled or executed under the name of a file in it, or from text by anyone but numba,
    torch and the standard library. Modules should be imported before: importing mmdet, say, unpickles and compiles.

    Args:
        folder: the artifact.

    Raises:
        ForbiddenError: later, where the forbidden is tried.
    """
    root = os.path.realpath(folder) + os.sep

    def inside(path: object) -> bool:
        return isinstance(path, str | bytes) and os.path.realpath(_text(path)).startswith(root)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "pickle.find_class":
            if not _called_by(*_COMPILERS):
                raise ForbiddenError(f"unpickling {arguments[0]}.{arguments[1]}")
        elif event == "open":
            path, mode = arguments[0], arguments[1]
            reads = mode is None or "r" in mode or "+" in mode
            if (
                reads
                and inside(path)
                and not _text(path).endswith(DATA_SUFFIXES)
                and not Path(_text(path)).is_dir()
            ):
                raise ForbiddenError(f"reading {_text(path)}, which is no JSON, safetensors or Parquet")
        elif event == "import":
            if inside(arguments[1]):
                raise ForbiddenError(f"importing {arguments[1]}")
        elif event == "ctypes.dlopen":
            if inside(arguments[0]):
                raise ForbiddenError(f"loading the library {arguments[0]}")
        elif event == "compile":
            source, name = arguments
            if inside(name) or not (
                source is None or _is_name_of_nms(source) or _called_by(*_COMPILE_FREELY)
            ):
                raise ForbiddenError(f"compiling {_text(source)[:60]!r} of {_text(name)}")
        elif event == "exec" and inside(getattr(arguments[0], "co_filename", None)):
            raise ForbiddenError(f"executing {arguments[0].co_filename}")

    sys.addaudithook(hook)


def _text(path: Any) -> str:
    return path.decode("utf-8", "replace") if isinstance(path, bytes) else str(path)


def _is_name_of_nms(source: Any) -> bool:
    return _text(source).isidentifier() and _called_by(_NAMES_ONLY)


def _called_by(*places: str) -> bool:
    """Whether one of the frames that led here lies in a file whose path holds one of some parts."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if any(place in frame.f_code.co_filename for place in places):
            return True
        frame = frame.f_back
    return False
