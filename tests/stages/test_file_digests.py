from pathlib import Path

from hubmap_ml.stages.file_digests import digest_of_files
from hubmap_ml.stages.prepare import plain_names


def test_one_byte_a_name_or_a_linked_file_changes_the_digest(tmp_path: Path) -> None:
    raw, elsewhere = tmp_path / "raw", tmp_path / "elsewhere"
    raw.mkdir()
    elsewhere.mkdir()
    (elsewhere / "tile.tif").write_bytes(b"pixels")
    (raw / "table.csv").write_bytes(b"id")
    (raw / "train").symlink_to(elsewhere)
    first = digest_of_files(raw)
    assert digest_of_files(raw) == first
    (elsewhere / "tile.tif").write_bytes(b"pixelS")
    second = digest_of_files(raw)
    (raw / "table.csv").rename(raw / "other.csv")
    assert len({first, second, digest_of_files(raw)}) == 3


def test_counts_get_names_that_a_store_takes() -> None:
    counts = plain_names({"type blood vessel": 2, "type a/ü?": 1, "type a*": 4, "x" * 300: 5})
    assert counts == {"type_blood_vessel": 2, "type_a_": 5, "x" * 100: 5}
