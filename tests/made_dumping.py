"""Rollouts of a training step, and a dump of them; processes of the tests import it, too."""

import gc
import os
import signal

import numpy as np

import advantage_zoo as az
from advantage_zoo.rollouts import RolloutDump, Tokens

PROMPTS = ["one", "one", "two", "two", "two"]
LENGTHS = [3, 2, 4, 0, 1]
"""With a row of padding."""


class Letters:
    """A tokenizer of letters, 0 the end of a text."""

    def decode(self, ids, skip_special_tokens=False):
        return "".join("" if i == 0 and skip_special_tokens else "$abcdefghij"[i] for i in ids)


class Gated(Letters):
    """Decodes once the gate, a FIFO that it makes, has been opened for writing and closed."""

    def __init__(self, folder):
        self.gate, self.waits = folder / "gate", True
        os.mkfifo(self.gate)

    def decode(self, ids, **options):
        if self.waits:
            self.gate.read_text()
            self.waits = False
        return super().decode(ids, **options)

    def open(self):
        self.gate.write_text("")


class Slow(Letters):
    """Arrives in another process once its gate, a FIFO that it makes, is opened for writing and closed."""

    def __init__(self, folder):
        self.gate = folder / "gate"
        os.mkfifo(self.gate)

    def __reduce__(self):
        return late, (self.gate,)

    def __deepcopy__(self, memo):
        return self


def late(gate):
    gate.read_text()
    return Pid()


class Pid(Letters):
    """All texts are the number of the process."""

    def decode(self, ids, **options):
        return str(os.getpid())


class Killer(Letters):
    """Kills the process that made it, from another one."""

    def __init__(self):
        self.home = os.getpid()

    def decode(self, ids, **options):
        if os.getppid() == self.home:
            os.kill(self.home, signal.SIGKILL)
        return super().decode(ids, **options)


class Collecting(Letters):
    """Collects garbage."""

    def decode(self, ids, **options):
        gc.collect()
        return super().decode(ids, **options)


class Failing(Letters):
    """Fails as nobody thought of."""

    def decode(self, ids, **options):
        return self.the_place_that_fails()

    def the_place_that_fails(self):
        raise KeyError(7)


def unpicklable(cls, *args):
    """A tokenizer of the class that cannot be handed to another process."""

    class Here(cls):
        pass

    return Here(*args)


def batch_of(step=0):
    """Five rows, padded on the right; the third has tool output in its second slot."""
    rng = np.random.default_rng(step)
    present = np.arange(5) < np.array(LENGTHS)[:, None]
    mask = present.copy()
    mask[2, 1] = False
    signals = {
        name: np.where(present, rng.uniform(0, 1, (5, 5)) * sign, np.nan).astype(np.float32)
        for name, sign in (("logprobs", -1), ("ref_logprobs", -1), ("entropies", 1))
    }
    batch = az.RolloutBatch(
        rewards=rng.permutation([1.0, 0.5, 0.0, 0.0, 0.25]),
        response_mask=mask,
        group_ids=np.array([0, 0, 1, 1, 1]),
        **signals,
    )
    ids = np.where(present, rng.integers(0, 9, (5, 5)), 10)
    return batch, Tokens(ids, present)


def write(folder, *steps, part=0, tokenizer=None):
    dump = RolloutDump(folder, tokenizer or Letters(), source="tests")
    dump.ready()
    for step in steps:
        batch, tokens = batch_of(step)
        dump.write(batch, step=step, part=part, prompts=PROMPTS, responses=tokens)
    dump.flush()
    return dump
