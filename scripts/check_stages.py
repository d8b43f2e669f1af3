"""Say whether a stage's code changed although its number in ``STAGE_VERSION`` did not.

A stage's number is part of its key: who changes what a stage computes must raise it, or old results are reused. What
a stage runs is compared, as syntax trees without comments and docstrings, with what ``stages.lock`` remembers:

* ``python scripts/check_stages.py`` prints each stage that differs, with the files, and exits with 1;
* ``python scripts/check_stages.py --unchanged STAGE …`` states that the stage computes what it did before;
* ``python scripts/check_stages.py --raised`` remembers the stages whose number was raised.

A stage's code is its ``work`` and all that it leads to inside ``hubmap_ml``: whole modules of the rooms, and of
``stages/`` the single definitions, because its modules serve several stages. Imports inside functions count, and so do
modules named by a text (``TRAINERS``). Three things are left out: another stage's ``work``, whose own key comes in from
upstream; ``tracking``, which keeps what was computed; and ``STAGE_VERSION`` itself.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeGuard

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "hubmap_ml"
LOCK = "stages.lock"
VERSIONS = "STAGE_VERSION"
ENTRIES = ("work", "run")
LEFT_OUT = (f"{PACKAGE}.tracking",)

Part = tuple[str, str]
"""A module and a definition in it; an empty definition is the whole module."""


@dataclass(frozen=True)
class Stage:
    """A stage's number, and a digest of each part of its code."""

    version: int
    parts: dict[str, str]

    @property
    def digest(self) -> str:
        """One digest of all parts."""
        return _digest(json.dumps(self.parts, sort_keys=True))


def read_stages(root: Path = ROOT) -> dict[str, Stage]:
    """Return every stage as its code is now."""
    code = _Code(root)
    return {stage: Stage(version, code.parts_of(stage)) for stage, version in code.versions().items()}


class _Code:
    """The modules of the package, read once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.tree = cache(self._tree)
        self.definitions = cache(self._definitions)
        self.names = cache(self._names)
        self.part = cache(self._part)

    def versions(self) -> dict[str, int]:
        """Return ``STAGE_VERSION``."""
        for statement in self.tree(f"{PACKAGE}.spec.identity").body:
            if _assigned(statement) == VERSIONS and isinstance(statement, ast.Assign | ast.AnnAssign):
                assert statement.value is not None
                return dict(ast.literal_eval(statement.value))
        raise ValueError(f"{PACKAGE}/spec/identity.py: there is no {VERSIONS}")

    def parts_of(self, stage: str) -> dict[str, str]:
        """Return the digest of every part of a stage's code, by its place."""
        home = f"{PACKAGE}.stages.{stage}"
        others = {f"{PACKAGE}.stages.{name}" for name in self.versions()} - {home}
        found: dict[Part, str] = {}
        waiting: list[Part] = [(home, "work")]
        while waiting:
            part = waiting.pop()
            module, name = part
            cut = module in others and (name in ENTRIES or not name)
            if part in found or cut or module.startswith(LEFT_OUT):
                continue
            found[part], ahead = self.part(part)
            waiting += ahead
        return {
            f"{module.replace('.', '/')}.py" + (f":{name}" if name else ""): digest
            for (module, name), digest in sorted(found.items())
            if digest != _digest("")
        }

    def _part(self, part: Part) -> tuple[str, tuple[Part, ...]]:
        """Return the digest of a part, and the parts that it uses."""
        module = part[0]
        nodes = self._nodes(part)
        ahead = {used for node in nodes for used in self._leads_to(module, node)}
        if nodes and not module.startswith(f"{PACKAGE}.stages."):  # what is imported may register itself
            ahead |= {used for node in self.tree(module).body for used in self._imported(node)}
        return _digest("\n".join(_dumped(node) for node in nodes)), tuple(ahead)

    def _tree(self, module: str) -> ast.Module:
        path = self._file(module)
        assert path is not None
        return _parsed(path.read_text())

    def _file(self, module: str) -> Path | None:
        if module.partition(".")[0] != PACKAGE:
            return None
        base = self._root.joinpath(*module.split("."))
        return next(
            (path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None
        )

    def _is_package(self, module: str) -> bool:
        path = self._file(module)
        return path is not None and path.name == "__init__.py"

    def _definitions(self, module: str) -> dict[str, list[ast.stmt]]:
        """Return the statements that define each name at a module's top, imports apart."""
        found: dict[str, list[ast.stmt]] = {}
        for statement in self.tree(module).body:
            if not isinstance(statement, ast.Import | ast.ImportFrom) and (name := _assigned(statement)):
                found.setdefault(name, []).append(statement)
        return found

    def _names(self, module: str) -> dict[str, Part]:
        """Return what the names that a module imports anywhere stand for; without names from outside the package."""
        found: dict[str, Part] = {}
        for node in ast.walk(self.tree(module)):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    part = self._resolve(node.module, alias.name)
                    if part is not None:
                        found[alias.asname or alias.name] = part
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if self._file(alias.name):
                        found[alias.asname or alias.name] = (alias.name, "")
        return found

    def _resolve(self, module: str, name: str) -> Part | None:
        """Return what ``from module import name`` means: a module, or a definition where it is written."""
        if self._file(f"{module}.{name}"):
            return f"{module}.{name}", ""
        if self._file(module) is None:
            return None
        if name not in self.definitions(module) and name in self.names(module):
            return self.names(module)[name]  # handed on by an __init__
        return module, name

    def _nodes(self, part: Part) -> list[ast.stmt]:
        """Return the statements of a part: of ``stages/`` the definition, of other rooms the whole module."""
        module, name = part
        if module.startswith(f"{PACKAGE}.stages."):
            return self.definitions(module).get(name, [])
        if self._is_package(module) and name not in self.definitions(module):
            return []  # a package by itself: what is used of it is named
        if module == PACKAGE:
            return []  # the release's number
        imports = ast.Import | ast.ImportFrom
        body = self.tree(module).body
        return [item for item in body if not isinstance(item, imports) and _assigned(item) != VERSIONS]

    def _leads_to(self, module: str, node: ast.AST) -> Iterator[Part]:
        """Return the parts that a statement of a module uses."""
        in_stages = module.startswith(f"{PACKAGE}.stages.")
        known = self.names(module)
        for item in ast.walk(node):
            if isinstance(item, ast.Name) and item.id in known:
                yield from self._whole(known[item.id])
            elif isinstance(item, ast.Name) and in_stages and item.id in self.definitions(module):
                yield module, item.id
            elif isinstance(item, ast.Attribute) and isinstance(item.value, ast.Name):
                target, name = known.get(item.value.id, ("", "?"))
                if target and not name:  # module.attribute
                    yield from self._whole(self._resolve(target, item.attr))
            elif isinstance(item, ast.Import | ast.ImportFrom):
                yield from self._imported(item)
            elif isinstance(item, ast.Constant) and _is_module_name(item.value) and self._file(item.value):
                yield from self._all_of(item.value)

    def _imported(self, statement: ast.AST) -> Iterator[Part]:
        """Return what an import brings, whether a name of it is used or not; nothing for other statements."""
        if isinstance(statement, ast.ImportFrom) and statement.module:
            for alias in statement.names:
                yield from self._whole(self._resolve(statement.module, alias.name))
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                if self._file(alias.name):
                    yield from self._whole((alias.name, ""))

    def _whole(self, part: Part | None) -> Iterator[Part]:
        """Return a part as it is followed: in the rooms by module, in ``stages/`` by definition."""
        if part is not None:
            module, name = part
            single = module.startswith(f"{PACKAGE}.stages.") or self._is_package(module)
            yield (module, name) if single else (module, "")

    def _all_of(self, module: str) -> Iterator[Part]:
        """Return everything that a module named by a text can give."""
        if self._is_package(module):
            for part in self.names(module).values():
                yield from self._whole(part)
        yield module, ""


def _assigned(statement: ast.stmt) -> str:
    """Return the name that a top-level statement defines; empty for other statements."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return statement.name
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id
    return ""


@cache
def _parsed(text: str) -> ast.Module:
    """Return a module's syntax tree without docstrings and other texts that stand alone."""
    tree = ast.parse(text)
    for item in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            body = getattr(item, field, None)
            if isinstance(body, list):
                kept = [line for line in body if not _is_text(line)]
                setattr(item, field, kept or ([ast.Pass()] if body else []))
    return tree


@cache
def _dumped(node: ast.stmt) -> str:
    return ast.dump(node)


def _is_module_name(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and "." in value and value.replace(".", "").isidentifier()


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_lock(root: Path = ROOT) -> dict[str, Stage]:
    """Return what ``stages.lock`` remembers; nothing where there is none.

    Raises:
        ValueError: it is damaged.
    """
    path = root / LOCK
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text())
        stages = {name: Stage(int(version), {}) for name, version in data["versions"].items()}
        for place, digests in data["parts"].items():
            for digest, names in digests.items():
                for name in names.split():
                    stages[name].parts[place] = digest
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{LOCK}: damaged ({error!r}); take it from the last commit") from error
    return stages


def write_lock(stages: dict[str, Stage], root: Path = ROOT) -> None:
    """Write ``stages.lock``: each part once, with its digest and the stages that it had this digest for."""
    parts: dict[str, dict[str, str]] = {}
    for name, stage in sorted(stages.items()):
        for place, digest in stage.parts.items():
            known = parts.setdefault(place, {})
            known[digest] = f"{known[digest]} {name}" if digest in known else name
    versions = {name: stage.version for name, stage in sorted(stages.items())}
    lines = [f"  {json.dumps(place)}: {json.dumps(parts[place])}" for place in sorted(parts)]
    text = '{\n "versions": ' + json.dumps(versions) + ',\n "parts": {\n' + ",\n".join(lines) + "\n }\n}\n"
    (root / LOCK).write_text(text)


def differences(root: Path = ROOT) -> dict[str, str]:
    """Return what is wrong with each stage, in a line; empty where code, numbers and the lock agree."""
    now, before = read_stages(root), read_lock(root)
    found = dict.fromkeys(before.keys() - now.keys(), "it is gone: --raised takes it out")
    for name, stage in now.items():
        old = before.get(name)
        if old is None:
            found[name] = "it is new: --raised remembers it"
        elif stage.version < old.version:
            found[name] = f"its number went back from {old.version} to {stage.version}: numbers only rise"
        elif stage.version > old.version:
            found[name] = f"its number rose from {old.version} to {stage.version}: --raised remembers it"
        elif stage.parts != old.parts:
            found[name] = f"it stands at {stage.version}, and its code changed: {_changes(old, stage)}"
    return dict(sorted(found.items()))


def _changes(old: Stage, new: Stage) -> str:
    places = sorted({place for place, _ in old.parts.items() ^ new.parts.items()})
    shown = [place.removeprefix(f"{PACKAGE}/") for place in places[:6]]
    return ", ".join(shown) + (f" and {len(places) - 6} more" if len(places) > 6 else "")


def accept(names: list[str], root: Path = ROOT) -> list[str]:
    """Remember the code of stages whose number stayed, as computing what it did before; return their names.

    Args:
        names: stages, or ``all`` for those that differ.

    Raises:
        ValueError: an unknown stage, or one whose number moved.
    """
    now, before = read_stages(root), read_lock(root)
    wanted = list(differences(root)) if names == ["all"] else names
    for name in wanted:
        if name not in now or name not in before:
            raise ValueError(f"{name!r} is no stage of {LOCK}; stages: {', '.join(before)}")
        if now[name].version != before[name].version:
            raise ValueError(
                f"{name}: its number is {now[name].version} and {LOCK} has {before[name].version}: use --raised"
            )
    write_lock({**before, **{name: now[name] for name in wanted}}, root)
    return wanted


def remember_raised(root: Path = ROOT) -> list[str]:
    """Remember stages that are new or whose number rose, and forget those that are gone; return their names."""
    now, before = read_stages(root), read_lock(root)
    raised = [
        name for name, stage in now.items() if name not in before or stage.version > before[name].version
    ]
    kept = {name: stage for name, stage in before.items() if name in now}
    write_lock({**kept, **{name: now[name] for name in raised}}, root)
    return raised


def main(words: list[str] | None = None, root: Path = ROOT) -> int:
    """Run the command line; 1 if a stage needs a decision."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--unchanged", nargs="+", metavar="STAGE", help="these compute what they did ('all')")
    parser.add_argument("--raised", action="store_true", help="remember stages whose number was raised")
    given = parser.parse_args(words)
    try:
        if given.raised:
            print(f"remembered: {', '.join(remember_raised(root)) or 'nothing was raised'}")
        if given.unchanged:
            print(f"unchanged: {', '.join(accept(given.unchanged, root)) or 'nothing differed'}")
        found = differences(root)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for name, problem in found.items():
        print(f"{name}: {problem}", file=sys.stderr)
    if found:
        print(
            f"Can a result differ? Raise the stage's number in {PACKAGE}/spec/identity.py, then\n"
            "  python scripts/check_stages.py --raised\n"
            "It computes what it did before? Say so:\n"
            f"  python scripts/check_stages.py --unchanged {' '.join(found)}",
            file=sys.stderr,
        )
        return 1
    print(f"{LOCK} is in step")
    return 0


if __name__ == "__main__":
    sys.exit(main())
