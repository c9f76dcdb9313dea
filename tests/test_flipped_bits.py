"""Bits of a rollout file that flip on the disk: what is read is what was written, or an error."""

import pytest

pytest.importorskip("pyarrow")

from flipping import read, readings
from made_rollouts import rollout_file

from advantage_zoo.rollouts import RolloutFileError, read_rollouts
from advantage_zoo.rollouts.parquet import is_rollout_file


def test_flipped_bits_are_refused_and_never_read_as_other_numbers(tmp_path):
    path = rollout_file(tmp_path / "rollouts.parquet")
    whole, found = read(path), list(readings(path, every=5))
    assert set(found) == {None, whole}
    assert found.count(None) > len(found) / 2 > 150


@pytest.mark.parametrize("name", [b"element", b"tokens", b"reward"])
def test_a_name_that_is_no_text_any_more_is_an_error_in_one_sentence(tmp_path, name):
    path = rollout_file(tmp_path / "rollouts.parquet")
    path.write_bytes(path.read_bytes().replace(name, b"\xe5" + name[1:]))
    assert is_rollout_file(path)
    with pytest.raises(RolloutFileError, match=r"rollouts.parquet is not a readable Parquet file"):
        read_rollouts(path)
