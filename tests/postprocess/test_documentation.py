"""docs/postprocessing.md says every step and key, and its examples are read."""

import re
from dataclasses import fields
from pathlib import Path

import yaml

from hubmap_ml.postprocess import STEPS, parse_steps

PAGE = (Path(__file__).parents[2] / "docs" / "postprocessing.md").read_text(encoding="utf-8")
CALLED = {"region": "class", "threshold": None, "pixels": None}
"""Fields that are written otherwise, or are the step's value itself."""


def test_every_step_has_a_row_that_names_its_keys():
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| `")]
    said = {name: row[2] for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    assert set(said) == set(STEPS)
    for name, step in STEPS.items():
        for field in fields(step):
            key = CALLED.get(field.name, field.name)
            if key is not None:
                assert key.replace("_", " ") in said[name].replace("_", " "), (name, key)


def test_the_examples_are_read():
    examples = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(examples) == 3
    for text in examples:
        assert parse_steps(yaml.safe_load(text)["postprocess"])
