"""A process that dies behind a call to the model registry."""

from typing import Any

import pytest
from mlflow import MlflowClient

REGISTRY_CALLS = (
    "create_registered_model",
    "create_model_version",
    "set_model_version_tag",
    "set_registered_model_alias",
    "delete_registered_model_alias",
    "set_logged_model_tags",
)


class Crash(BaseException):
    """The process dies here."""


def crash_after(patch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Let the registry's calls through, and die after the call of this number; returns the calls made."""
    made: list[str] = []
    for name in REGISTRY_CALLS:
        real = getattr(MlflowClient, name)

        def call(self: Any, *args: Any, _real: Any = real, _name: str = name, **kwargs: Any) -> Any:
            try:
                return _real(self, *args, **kwargs)
            finally:
                made.append(_name)
                if len(made) == number:
                    raise Crash

        patch.setattr(MlflowClient, name, call)
    return made
