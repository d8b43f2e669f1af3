"""A lineage as a tree to print: what was shown above is named again in one line."""

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from hubmap_ml.tracking import Lineage, Node

WIDTH_OF_A_FILE = 240
_COLOURS = {"version": "magenta", "run": "cyan", "missing": "red"}


def print_tree(found: Lineage) -> None:
    """Print a lineage; in full where the output is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH_OF_A_FILE)
    console.print(tree_of(found))


def tree_of(found: Lineage) -> Tree:
    """Return a lineage as Rich's tree."""
    root = found.nodes[found.root]
    tree = Tree(_line(root, ""))
    _grow(tree, root, found, set())
    return tree


def _grow(branch: Tree, node: Node, found: Lineage, shown: set[str]) -> None:
    shown.add(node.id)
    for name, tie in node.comes_from:
        origin = found.nodes[name]
        if name in shown and origin.comes_from:
            branch.add(f"{_line(origin, tie, short=True)} [dim](above)[/]")
        else:
            _grow(branch.add(_line(origin, tie)), origin, found, shown)


def _line(node: Node, tie: str, *, short: bool = False) -> str:
    words = [f"[dim]{escape(tie)}:[/]"] if tie else []
    words.append(f"[{_COLOURS.get(node.kind, 'green')}]{escape(node.title)}[/]")
    if node.kind == "run":
        words.append(f"[dim]{node.id[:12]}[/]")
    if short:
        return " ".join(words)
    facts = node.facts
    if "headline" in facts:
        words.append(f"score {float(facts['headline']):.4f}")
    if "generation" in facts:
        words.append(f"pseudo-label generation {facts['generation']}")
    if facts.get("status", "FINISHED") != "FINISHED":
        words.append(f"[red]{facts['status']}[/]")
    if node.kind in ("run", "version") and "data_digest" in facts:
        words.append(f"[dim]data {facts['data_digest'][:12]}[/]")
    if "commit" in facts:
        changed = " + uncommitted changes" if facts.get("code_dirty") == "true" else ""
        words.append(f"[dim]code {facts['commit'][:10]}{changed}[/]")
    return " ".join(words)
