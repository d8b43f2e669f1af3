"""The project's own wheel, which travels inside registered models.

From a source tree (an editable installation) hatchling builds it, in this process and without a network; from
an ordinary installation its files are packed again, as their RECORD lists them.
"""

import base64
import hashlib
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path, PurePosixPath

import hubmap_ml
from hubmap_ml.spec import InputError

DISTRIBUTION = "hubmap-ml"
EPOCH = (2020, 1, 1, 0, 0, 0)
LEFT_OUT = frozenset(
    {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_build.json", "uv_cache.json"}
)


def build_wheel(folder: Path) -> Path:
    """Write the wheel of the hubmap_ml that runs into ``folder`` (made if missing) and return its path.

    Raises:
        InputError: neither a source tree nor an installed distribution of it is to be found.
    """
    folder.mkdir(parents=True, exist_ok=True)
    root = source_tree()
    return _from_sources(root, folder) if root is not None else _from_installation(folder)


def source_tree() -> Path | None:
    """The folder with this package's ``pyproject.toml``, or None where it was installed as a wheel."""
    root = Path(hubmap_ml.__file__).resolve().parent.parent
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return None
    return root if project.get("project", {}).get("name") == DISTRIBUTION else None


def _from_sources(root: Path, folder: Path) -> Path:
    from hatchling.builders.wheel import WheelBuilder

    try:
        return Path(next(iter(WheelBuilder(str(root)).build(directory=str(folder), versions=["standard"]))))
    except OSError as error:
        raise InputError(f"the project's wheel cannot be built from {root}: {error}") from error


def _from_installation(folder: Path) -> Path:
    try:
        distribution = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        raise InputError(
            f"{DISTRIBUTION} is not installed here: install it, or run it from its source tree"
        ) from None
    lines = (distribution.read_text("WHEEL") or "").splitlines()
    tag = next(
        (line.removeprefix("Tag:").strip() for line in lines if line.startswith("Tag:")), "py3-none-any"
    )
    path = folder / f"{DISTRIBUTION.replace('-', '_')}-{distribution.version}-{tag}.whl"
    info = ""
    record = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for file in sorted(distribution.files or [], key=str):
            name = PurePosixPath(file)
            if not _belongs(name):
                continue
            content = Path(str(distribution.locate_file(file))).read_bytes()
            if name.parts[0].endswith(".dist-info"):
                info = name.parts[0]
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode("ascii")
            record.append(f"{name},sha256={digest},{len(content)}")
            wheel.writestr(zipfile.ZipInfo(str(name), EPOCH), content)
        record.append(f"{info}/RECORD,,")
        wheel.writestr(zipfile.ZipInfo(f"{info}/RECORD", EPOCH), "\n".join(record) + "\n")
    return path


def _belongs(name: PurePosixPath) -> bool:
    """Whether an installed file came out of the wheel; scripts in bin/ are made by whoever installs it."""
    outside = name.is_absolute() or ".." in name.parts
    return not outside and "__pycache__" not in name.parts and name.name not in LEFT_OUT
