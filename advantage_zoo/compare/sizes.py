"""How large a table is before it is read."""

# pyarrow comes without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from pathlib import Path

from advantage_zoo.rollouts.rows import BATCH_ROWS


def text_size(file: Path, enough: float) -> float:
    """Bytes of the table without compression.

    Parquet holds a text that repeats once, and does not say how often it is there. So its rows are unpacked and
    counted, a few at a time, until they have more than ``enough`` bytes; the others are taken to be like these.
    """
    if file.suffix != ".parquet":
        return file.stat().st_size
    import pyarrow as pa
    import pyarrow.parquet as pq

    size, rows = 0, 0
    try:
        with pq.ParquetFile(file, pre_buffer=False) as parquet:
            for batch in parquet.iter_batches(BATCH_ROWS):
                for column in batch.columns:
                    whole = column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column
                    size += whole.nbytes
                rows += len(batch)
                if size > enough:
                    return size / rows * parquet.metadata.num_rows
    except (pa.ArrowException, OSError, ValueError):
        return max(size, file.stat().st_size)  # who reads it says what is wrong
    return size
