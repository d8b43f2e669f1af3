"""The drawn pipeline: a column a stage, a lane a member, lines from what a step comes from."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.viz import GraphStep, grouped
from hubmap_ml.viz.pipeline_graph import pipeline_graph


def chain() -> list[GraphStep]:
    return [
        GraphStep("p", "prepare", seconds=1.0),
        GraphStep("f0", "finetune", "htc", 0.8, 60.0, comes_from=("p",)),
        GraphStep("f1", "finetune", "htc", 0.9, 30.0, comes_from=("p",)),
        GraphStep("d0", "predict", "htc", 0.7, comes_from=("p", "f0")),
        GraphStep("d1", "predict", "htc", None, comes_from=("p", "f1"), status="failed"),
        GraphStep("t", "tune", "htc", 0.91, comes_from=("d0", "d1")),
    ]


def columns_of(text: str) -> list[str]:
    return re.findall(r'class="column"[^>]*>([^<]+)<', text)


def test_stages_stand_in_the_order_in_which_they_come_from_each_other() -> None:
    assert columns_of(pipeline_graph(chain()[::-1])) == ["prepare", "finetune", "predict", "tune"]


def test_an_unknown_stage_stands_behind_what_it_comes_from() -> None:
    steps = [
        *chain(),
        GraphStep("x", "pseudo-label", comes_from=("d0",)),
        GraphStep("y", "tune", comes_from=("x",)),
    ]
    assert columns_of(pipeline_graph(steps)) == ["prepare", "finetune", "predict", "pseudo-label", "tune"]


def test_runs_of_one_stage_and_member_become_one_box() -> None:
    steps = grouped(chain())
    by_stage = {step.stage: step for step in steps}
    assert len(steps) == 4
    assert (by_stage["finetune"].score, by_stage["finetune"].seconds, by_stage["finetune"].runs) == (
        (0.8 + 0.9) / 2,
        90.0,
        2,
    )
    assert by_stage["predict"].score == 0.7
    assert by_stage["predict"].status == "failed"
    assert by_stage["tune"].comes_from == ("predict/htc",)
    text = pipeline_graph(steps)
    assert "0.8500" in text
    assert "2 runs · 1 min 30 s" in text
    assert "failed" in text


def test_a_line_that_a_detour_says_too_is_not_drawn() -> None:
    text = pipeline_graph(grouped(chain()))
    assert text.count('class="edge"') == 3  # prepare to finetune, to predict, to tune


def test_everything_is_escaped_and_said_to_those_who_cannot_see_it() -> None:
    text = pipeline_graph([GraphStep("a", "<b>", '"lane"', 0.5, words="<i>")])
    assert "<b>" not in text
    assert "<i>" not in text
    assert 'role="img" aria-label="Pipeline of 1 steps' in text.replace("\n", "")


def test_nothing_is_drawn_of_nothing() -> None:
    assert pipeline_graph([]) == ""


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcdef"),
            st.sampled_from(["", "m", "n"]),
            st.lists(st.integers(0, 9), max_size=3),
        ),
        min_size=1,
        max_size=10,
    )
)
def test_any_graph_is_drawn_even_one_with_circles(parts: list[tuple[str, str, list[int]]]) -> None:
    steps = [
        GraphStep(str(k), stage, lane, comes_from=tuple(map(str, origins)))
        for k, (stage, lane, origins) in enumerate(parts)
    ]
    text = pipeline_graph(steps)
    assert text.count('class="step ') == len(steps)
    assert sorted(columns_of(text)) == sorted({stage for stage, _, _ in parts})
    assert len(pipeline_graph(grouped(steps))) > 0
