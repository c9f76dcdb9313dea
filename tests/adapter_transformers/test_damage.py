"""score_files() and bits that flip on the disk."""

import pyarrow.parquet as pq
import pytest
from adapter_transformers.made import our_file, run
from adapter_transformers.test_resuming import Killed, killed_after
from advantage_zoo_transformers import files
from advantage_zoo_transformers.disk import read_prompts
from flipping import flip, read, readings

from advantage_zoo.rollouts import RolloutFileError, read_rollouts

CHECKED = "CRC checksum verification failed"


def flip_a_reward(path):
    with pq.ParquetFile(path) as file:
        group = file.metadata.row_group(0)
    (rewards,) = (c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == "reward")
    flip(path, rewards.data_page_offset + rewards.total_compressed_size - 1)


def test_the_scored_file_is_never_read_as_other_numbers(place):
    run(place, our_file(place / "in.parquet"))
    whole, found = read(place / "out.parquet"), list(readings(place / "out.parquet", every=11))
    assert set(found) == {None, whole}
    assert found.count(None) > len(found) / 2 > 50


def test_no_row_of_a_damaged_file_is_scored(place, monkeypatch):
    scored = killed_after(monkeypatch, 1)
    source = our_file(place / "in.parquet")
    flip_a_reward(source)
    with pytest.raises(RolloutFileError, match=rf"in.parquet is damaged \(.*{CHECKED}.*\); write it anew"):
        run(place, source)
    with pytest.raises(ValueError, match=rf"in.parquet is not a readable Parquet file \(.*{CHECKED}"):
        read_prompts(source)
    assert not scored


def test_a_damaged_shard_is_named_and_its_rows_are_scored_anew_once_it_is_gone(place, monkeypatch):
    monkeypatch.setattr(files, "SHARD_ROWS", 2)
    source = our_file(place / "in.parquet")
    with pytest.MonkeyPatch.context() as patch:
        killed_after(patch, 4)
        with pytest.raises(Killed):
            run(place, source)
    shard = place / "out.parquet.parts" / "000000.parquet"
    flip_a_reward(shard)
    with pytest.raises(ValueError, match=rf"000000.parquet, rows that were scored, is damaged \(.*{CHECKED}.*remove"):
        run(place, source)
    shard.unlink()
    run(place, source)
    assert read_rollouts(place / "out.parquet").rewards == read_rollouts(source).rewards
