"""Tables of submissions: columns by name in whatever words, and errors that name row and column."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.spec import InputError
from hubmap_ml.submission import read_score_table

PUBLISHED = Path(__file__).with_name("sartorius_submissions.md")


def written(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_published_table_is_read_as_it_stands() -> None:
    found = read_score_table(PUBLISHED)
    assert len(found.submissions) == 20
    assert found.left_out == ()
    by_name = {one.name: one for one in found.submissions}
    assert (by_name["NMW v3"].public, by_name["NMW v3"].private) == (0.306, 0.313)
    trained = by_name["MS R-CNN epoch 6, no thresholds"]
    assert (trained.cv, trained.cv_metric, trained.leaderboard_metric) == (0.2777, "coco_segm", "dsb_map")
    assert by_name["residual attention U-Net"].private is None
    assert sum(one.cv is not None for one in found.submissions) == 4


def test_kaggles_own_list_is_read(tmp_path: Path) -> None:
    text = (
        "fileName,date,description,status,publicScore,privateScore\n"
        'submission.csv,2023-07-30 10:00:00,"five models, WBF",complete,0.581,\n'
        "submission.csv,2023-07-31 10:00:00,,complete,0.574,0.569\n"
    )
    found = read_score_table(written(tmp_path, text))
    assert [(one.date[:10], one.public, one.private, one.note) for one in found.submissions] == [
        ("2023-07-30", 0.581, None, "five models, WBF"),
        ("2023-07-31", 0.574, 0.569, ""),
    ]
    assert found.left_out == ("status",)


names = st.text(
    st.characters(exclude_categories=("C", "Z"), exclude_characters="*`|\\"), min_size=1, max_size=9
)
said = names.filter(lambda name: name.lower() not in ("-", "–", "—", "?", "na", "n/a", "none", "nan", "null"))


@given(
    st.lists(
        st.tuples(said, st.none() | st.floats(-1e6, 1e6)),
        min_size=1,
        max_size=6,
        unique_by=lambda row: row[0],
    )
)
@settings(deadline=None, max_examples=40)
def test_both_forms_say_the_same(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:  # type: ignore[type-arg]
    folder = tmp_path_factory.mktemp("tables")
    quoted = "".join(
        f'"{name.replace(chr(34), chr(34) * 2)}",{"" if x is None else repr(x)}\n' for name, x in rows
    )
    plain = "".join(f"| {name} | {'–' if x is None else repr(x)} |\n" for name, x in rows)
    csv = read_score_table(written(folder, "name,CV score\n" + quoted))
    markdown = read_score_table(written(folder, "words\n\n| Title | local_cv |\n|:--|--:|\n" + plain, "t.md"))
    assert csv == markdown
    assert [(one.name, one.cv) for one in csv.submissions] == rows


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no table"),
        ("name\na\n", "no column of scores"),
        ("public\n0.3\n", "no column 'name'"),
        ("name,lb,public score\na,1,1\n", "columns 'lb' and 'public score' both mean public"),
        ("name,public\na,0.3\nb,0.3x\n", "row 3, column 'public': '0.3x' is no score"),
        ("name,public\na,inf\n", "row 2, column 'public': 'inf' is no score"),
        ("name,public\n\n,0.3\n", "row 3, column 'name': the submission has no name"),
        ("name,public\na,0.3\na,0.4\n", "row 3, column 'name': 'a' is row 2 already"),
        ("name,public\na,0.3,4\n", "row 2: 3 cells, must be 2"),
        ("name,public,sha256\na,0.3,12\n", "row 2: a: digest '12' is no SHA-256"),
        ('name,public\n"a,0.3\n', "cannot be read as csv"),
        ("| name | public |\n|---|---|\n| a | b |\n", "row 3, column 'public': 'b' is no score"),
    ],
)
def test_a_mistake_is_one_line_that_names_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        read_score_table(written(tmp_path, text))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_file_and_no_text_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_score_table(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="cannot be read as text"):
        read_score_table(tmp_path / "binary.csv")
