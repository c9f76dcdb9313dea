"""Dumps of verl and TRL, of four rows."""

import json

import pyarrow as pa
import pyarrow.parquet as pq


def verl(step=1, outputs=("a b", "c", "d", "e f g"), scores=(1.0, 0.0, 0.5, 1.0), **more):
    """Lines of verl: two prompts, two responses each."""
    inputs = ["p", "p", "q", "q"]
    rows = zip(inputs, outputs, scores, strict=True)
    return [
        {"input": p, "output": o, "gts": "4", "score": s, "step": step, **{k: v[i] for k, v in more.items()}}
        for i, (p, o, s) in enumerate(rows)
    ]


def lines(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def trl(rewards, advantages, step=3, completions=("a b", "c", "d", "e f g"), **extras):
    """Columns of TRL's log."""
    prompts = ["p", "p", "q", "q"]
    columns = {"step": [step] * 4, "prompt": prompts, "completion": list(completions)}
    return {**columns, **rewards, **extras, "advantage": advantages}


def parquet(path, columns):
    pq.write_table(pa.table(columns), path)
    return path
