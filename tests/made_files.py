"""Rollout files that pyarrow alone makes, as other people's tools do."""

import pyarrow as pa
import pyarrow.parquet as pq

from advantage_zoo.rollouts.parquet import schema


def columns(**changes):
    """Three responses to two prompts, the second one empty."""
    made = {
        "prompt": ["1+2=", "1+2=", "4+4="],
        "text": ["3;", "", "7;"],
        "tokens": [["3", ";"], [], ["7", ";"]],
        "token_ids": [[5, 1], [], [9, 1]],
        "reward": [1.0, 0.0, 0.0],
        "group": [7, 7, 3],
        "logprobs": [[-0.5, -0.1], [], [-1.5, 0.0]],
        "ref_logprobs": [[-0.6, -0.1], [], [-1.0, 0.0]],
        "entropies": [[0.9, 0.2], [], [1.1, 0.0]],
        "response_mask": [[True, True], [], [True, False]],
        "step_index": [[0, -1], [], [0, -1]],
        "step_correct": [[True], [], [None]],
    }
    return {**made, **changes}


def write(path, *, types=None, metadata=None, **changes):
    """A file made by pyarrow alone; ``types`` replaces a column's type, a column that is None is left out."""
    made = {name: column for name, column in columns(**changes).items() if column is not None}
    kinds = {f.name: f.type for f in schema()} | (types or {})
    table = pa.table({name: pa.array(column, type=kinds.get(name)) for name, column in made.items()})
    pq.write_table(table.replace_schema_metadata(metadata or {}), path)
    return path


def plain(**changes):
    """Keyword arguments of Rollouts."""
    made = {
        "prompts": ["a", "a"],
        "texts": ["x", ""],
        "tokens": [["x"], []],
        "token_ids": [[1], []],
        "rewards": [1.0, 0.0],
        "groups": [0, 0],
    }
    return {**made, **changes}
