"""The front door: one module per entry point, each with ``run(...)``; see MLproject."""
