"""Why versions stand where they stand, in words, from their tags."""

import json

from hubmap_ml.ensembling import AGAINST_TAG, FORCED_TAG
from hubmap_ml.stages.report_standing import cost_in_words, why_it_leads
from hubmap_ml.tracking import Version


def version(**tags: str) -> Version:
    return Version("demo.ensemble", 11, "run", "somewhere", tags)


def test_an_ensemble_leads_as_the_first_by_force_or_by_its_newest_comparison() -> None:
    assert "nobody to beat" in why_it_leads(version())
    assert why_it_leads(version(**{FORCED_TAG: "true"})) == "by force, not by its score"
    found = version(**{f"{AGAINST_TAG}{k}": json.dumps({"words": f"better than {k}"}) for k in (9, 10, 2)})
    assert why_it_leads(found) == "compared with version 10: better than 10"
    assert why_it_leads(version(**{f"{AGAINST_TAG}1": "no json"})) == ""


def test_what_nobody_measured_costs_no_words() -> None:
    assert cost_in_words({}) == ""
    assert cost_in_words({"hubmap.s_per_image": "0.4", "hubmap.device_kind": "cpu"}) == "0.40 s/image on cpu"
    assert cost_in_words({"hubmap.s_per_image": "1", "hubmap.parameters": "24769196"}) == (
        "1.00 s/image, 24.8 M parameters"
    )
