"""What score_files() holds of its input: not more of a larger one."""

import gc
import tracemalloc

from adapter_transformers.made import ROW, jsonl
from advantage_zoo_transformers.sources import parts_of
from advantage_zoo_transformers.tokenising import Tokeniser
from large import arrow_holds, many_row_groups
from tiny_models import tokenizer


def test_of_a_rollout_file_a_row_group_is_held(tmp_path):
    path = many_row_groups(tmp_path / "many.parquet")
    (part,) = parts_of([path], {})
    assert arrow_holds(part.chunks(Tokeniser(tokenizer()), 64)) < path.stat().st_size / 5


def test_of_the_prompts_of_a_dump_a_few_bytes_are_held(tmp_path):
    rows = [{**ROW, "prompt": f"{i} {'p' * 20_000}", "prompt_ids": [5], "step": 1} for i in range(300)]
    (part,) = parts_of([jsonl(tmp_path / "long.jsonl", rows)], {})
    tokeniser = Tokeniser(tokenizer())
    tracemalloc.start()
    try:
        groups = {i for chunk in part.chunks(tokeniser, 4) for i in chunk.table.column("group").to_pylist()}
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(groups) == 300
    assert held < 1_000_000  # of 6 MB
