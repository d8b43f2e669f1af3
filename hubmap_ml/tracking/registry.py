"""The model registry: versions of members and ensembles, and the aliases that point at the best of them.

Aliases are pure functions of version tags, recomputed at every call; what an alias says can be recomputed from the tags
alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from hubmap_ml.spec import InputError, without_credentials
from hubmap_ml.tracking.fetching import local_copy
from hubmap_ml.tracking.store import CACHE, work_folder

PROMOTED = "promoted"
CHAMPION = "champion"
CHALLENGER = "challenger"


@dataclass(frozen=True)
class Version:
    """A registered version: its model's name, number, tags and the folder that it was made of."""

    name: str
    number: int
    run_id: str
    source: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """``models:/NAME/NUMBER``."""
        return f"models:/{self.name}/{self.number}"


def register_folder(
    client: MlflowClient,
    *,
    name: str,
    run_id: str,
    artifact: str,
    tags: Mapping[str, object],
    description: str,
) -> Version:
    """Register an artifact folder of a run as a new version of the model ``name``."""
    ensure_model(client, name)
    uri = client.get_run(run_id).info.artifact_uri
    made = client.create_model_version(
        name,
        source=f"{uri}/{artifact}",
        run_id=run_id,
        tags={key: without_credentials(str(value)) for key, value in tags.items()},
        description=without_credentials(description),
    )
    return _version(made)


def ensure_model(client: MlflowClient, name: str, description: str = "") -> None:
    """Create the registered model where it is missing."""
    try:
        client.create_registered_model(name, description=description or None)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def versions(client: MlflowClient, name: str) -> list[Version]:
    """Return all versions of a model, oldest first; none for an unknown model."""
    found = client.search_model_versions(f"name = '{name}'", max_results=1000)
    return sorted((_version(item) for item in found), key=lambda version: version.number)


def point_alias(client: MlflowClient, name: str, alias: str, version: Version | None) -> None:
    """Let ``alias`` of a model point at a version, or nowhere."""
    if version is None:
        try:
            client.delete_registered_model_alias(name, alias)
        except MlflowException:
            return
    else:
        client.set_registered_model_alias(name, alias, str(version.number))


def tag_version(client: MlflowClient, version: Version, tags: Mapping[str, object]) -> None:
    """Set tags of a version, one call each."""
    for key, value in tags.items():
        client.set_model_version_tag(version.name, str(version.number), key, without_credentials(str(value)))


def by_alias(client: MlflowClient, name: str, alias: str) -> Version:
    """Return the version that an alias points at.

    Raises:
        InputError: no such model or alias.
    """
    try:
        return _version(client.get_model_version_by_alias(name, alias))
    except MlflowException:
        raise InputError(
            f"no registered model {name!r} with alias {alias!r} in this store; run the stage that makes it first"
        ) from None


def by_uri(client: MlflowClient, uri: str) -> Version:
    """Return the version that ``models:/NAME@ALIAS`` or ``models:/NAME/NUMBER`` means.

    Raises:
        InputError: another form, or nothing of that name in the store.
    """
    name, at, alias = uri.removeprefix("models:/").rpartition("@")
    if uri.startswith("models:/") and at:
        return by_alias(client, name, alias)
    name, slash, number = uri.removeprefix("models:/").rpartition("/")
    if not uri.startswith("models:/") or not slash or not number.isdigit():
        raise InputError(f"{uri!r} names no registered model; use models:/NAME@ALIAS or models:/NAME/NUMBER")
    try:
        return _version(client.get_model_version(name, number))
    except MlflowException:
        raise InputError(f"{uri}: no such version in this store") from None


def folder_of(version: Version) -> Path:
    """Return the folder that a version was registered from, as a local path."""
    return local_copy(version.source, work_folder() / CACHE)


def _version(item: object) -> Version:
    return Version(
        name=str(item.name),  # type: ignore[attr-defined]
        number=int(item.version),  # type: ignore[attr-defined]
        run_id=str(item.run_id or ""),  # type: ignore[attr-defined]
        source=str(item.source),  # type: ignore[attr-defined]
        tags=dict(item.tags),  # type: ignore[attr-defined]
    )
