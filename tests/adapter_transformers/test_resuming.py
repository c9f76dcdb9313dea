"""score_files() that was killed, and is given the same again."""

import pyarrow.parquet as pq
import pytest
from adapter_transformers.made import our_file, run
from advantage_zoo_transformers import files


class Killed(BaseException):
    pass


def killed_after(monkeypatch, rows):
    """The process ends as if by a signal once so many rows were scored; gives how many were."""
    scored = []
    real = files.score_one

    def score_one(model, pairs, **options):
        if len(scored) >= rows:
            raise Killed
        scored.extend(options["places"])
        return real(model, pairs, **options)

    monkeypatch.setattr(files, "score_one", score_one)
    return scored


def test_a_run_that_was_killed_goes_on_and_scores_nothing_twice(place, monkeypatch):
    monkeypatch.setattr(files, "SHARD_ROWS", 2)
    source = our_file(place / "in.parquet")
    run(place, source)
    whole = (place / "out.parquet").rename(place / "whole.parquet")
    first = killed_after(monkeypatch, 8)  # two shards under two models
    with pytest.raises(Killed):
        run(place, source)
    assert not (place / "out.parquet").exists()
    parts = sorted((place / "out.parquet.parts").iterdir())
    assert [part.name for part in parts] == ["000000.parquet", "000001.parquet"]
    (place / "out.parquet.parts" / ".000002.parquet.77.part").write_text("half")
    monkeypatch.undo()
    monkeypatch.chdir(place)
    monkeypatch.setattr(files, "SHARD_ROWS", 2)
    rest = killed_after(monkeypatch, 1000)
    run(place, source)
    assert not set(first) & set(rest)
    assert len(first) + len(rest) == 18
    assert pq.read_table("out.parquet") == pq.read_table(whole)
    assert not (place / "out.parquet.parts").exists()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"temperature": 0.7}, r"another temperature \(1.0, now 0.7\)"),
        ({"model": "base"}, "another model "),
        ({"dtype": "bfloat16"}, r"another dtype \('auto', now 'bfloat16'\)"),
    ],
)
def test_rows_that_were_scored_otherwise_are_not_taken(place, monkeypatch, changes, what):
    monkeypatch.setattr(files, "SHARD_ROWS", 2)
    source = our_file(place / "in.parquet")
    killed_after(monkeypatch, 8)
    with pytest.raises(Killed):
        run(place, source)
    with pytest.raises(ValueError, match=rf"out.parquet.parts holds rows that were scored with {what}"):
        run(place, source, **changes)
    our_file(source, rewards=[0.0] * 9)
    with pytest.raises(ValueError, match="scored with another rollouts"):
        run(place, source)
