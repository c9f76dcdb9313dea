"""score_files() that was killed, and is given the same again."""

import pyarrow.parquet as pq
import pytest
from adapter_transformers.made import ROW, jsonl, our_file, run
from advantage_zoo_transformers import files, score_files

from advantage_zoo.rollouts import read_rollouts


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


@pytest.fixture
def killed(place, monkeypatch):
    """Scores sources two rows at a time until a shard is there, and ends."""
    monkeypatch.setattr(files, "SHARD_ROWS", 2)

    def run_until_a_shard(*sources):
        with pytest.MonkeyPatch.context() as patch:
            killed_after(patch, 2)
            with pytest.raises(Killed):
                score(*sources)
        assert len(list((place / "out.parquet.parts").iterdir())) == 1

    return run_until_a_shard


def score(*sources):
    return score_files(sources, "out.parquet", model="policy", progress=False)


def refuses(*sources):
    with pytest.raises(ValueError, match=r"out.parquet.parts holds rows that were scored with another rollouts \("):
        score(*sources)


def test_shards_are_of_sources_in_their_order(place, killed):
    first = our_file(place / "first.parquet")
    second = our_file(place / "second.parquet", rewards=[float(row) for row in range(9)])
    killed(first, second)
    refuses(second, first)
    score(first, second)
    rollouts = read_rollouts("out.parquet")
    assert rollouts.rewards == [*read_rollouts(first).rewards, *map(float, range(9))]
    names = [[name for name, _ in source] for source in rollouts.metadata["scored"]["rollouts"]]
    assert names == [["first.parquet"], ["second.parquet"]]


def test_files_of_one_name_in_several_folders_are_told_apart(place, killed):
    for folder in ("p1", "p2"):
        (place / folder).mkdir()
        jsonl(place / folder / "1.jsonl", [ROW] * 3)
    killed("p1", "p2")
    jsonl(place / "p1" / "1.jsonl", [ROW | {"text": "4", "reward": 0.0}] * 3)
    refuses("p1", "p2")


def test_a_folder_is_another_source_than_its_files(place, killed):
    """Its shards run on over the end of a file."""
    (place / "steps").mkdir()
    a, b = (jsonl(place / "steps" / name, [ROW] * 3) for name in ("1.jsonl", "2.jsonl"))
    killed("steps")
    refuses(a, b)
    assert score("steps").responses == 6
