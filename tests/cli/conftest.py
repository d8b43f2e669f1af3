"""The empty store of the tests of tracking serves the command line's too."""

from tests.tracking.conftest import empty_store, store

__all__ = ["empty_store", "store"]
