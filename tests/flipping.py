"""Files of which a bit flips on the disk."""

import dataclasses

import numpy as np

from advantage_zoo.rollouts import RolloutFileError, read_rollouts


def flip(path, at):
    """Flip a bit of the byte there, or flip it back."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << at % 8
    path.write_bytes(content)


def readings(path, every):
    """What :func:`read` gives for each of so many flips, all over the pages."""
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for at in range(4, footer, every):
        flip(path, at)
        yield read(path)
        path.write_bytes(whole)


def read(path):
    """All that is in the file, to the bit, or ``None`` where it is refused."""
    try:
        columns = dataclasses.asdict(read_rollouts(path))
    except RolloutFileError:
        return None
    with np.printoptions(floatmode="unique", threshold=10**9):
        return repr(columns)
