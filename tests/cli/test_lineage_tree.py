import io

from rich.console import Console

from hubmap_ml.cli.lineage_tree import tree_of
from hubmap_ml.tracking import Lineage, Node


def test_what_was_shown_above_is_named_again_in_one_line() -> None:
    ties = (("a" * 32, "registered by"), ("p" * 32, "thresholds"))
    nodes = [
        Node("models:/x/1", "version", "models:/x/1", {"headline": "0.25", "generation": "2"}, ties),
        Node("a" * 32, "run", "ensemble", {"commit": "c" * 40, "code_dirty": "true"}, (("p" * 32, "from"),)),
        Node("p" * 32, "run", "prepare", {"status": "FAILED"}, (("d" * 64, "reads"), ("gone", "from"))),
        Node("d" * 64, "raw data", "raw data dddd", {"data_digest": "d" * 64}),
        Node("gone", "missing", "run gone: no longer in the store"),
    ]  # fmt: skip
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(tree_of(Lineage("models:/x/1", {node.id: node for node in nodes})))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert lines == [
        "models:/x/1 score 0.2500 pseudo-label generation 2",
        "├── registered by: ensemble aaaaaaaaaaaa code cccccccccc + uncommitted changes",
        "│   └── from: prepare pppppppppppp FAILED",
        "│       ├── reads: raw data dddd",
        "│       └── from: run gone: no longer in the store",
        "└── thresholds: prepare pppppppppppp (above)",
    ]
