"""What writing rollouts while training goes on costs a step, measured in pairs of steps with and without it.

    python benchmarks/dump.py                                              # 64 responses x 512 tokens, steps of 1 s
    python benchmarks/dump.py --responses 32 --tokens 40 --seconds 0.1     # a small model on a CPU
    python benchmarks/dump.py --threads 1                                  # leaves the writer a core of its own

A step is work of PyTorch (a small network is trained), of which half comes before the rollouts are handed over, as
generation and scoring do, and half after, as the update does; at its end the file is waited for. That is what the
adapters for verl and OpenRLHF do, by the same calls; TRL's waits less. The two steps of a pair do the same work, in an
order that is drawn.

Two things are shown. The caller's time is what the thread that trains spends on handing over and on waiting; it is in
the metrics of a training, too. The slowdown is the difference between the two steps of a pair: it has besides what the
writer, a process of its own, takes from the training where PyTorch leaves no core idle. It needs many pairs, as steps
differ by more than what is looked for, most of all where other programs run: it is the median of the pairs, with the
interval of their ranks that holds it 95 times in 100, whatever the steps' spread.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

try:
    import click
    import numpy as np
    import psutil
    import torch
    from numpy.typing import NDArray
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast
except ImportError as error:
    raise SystemExit(f'{error}; pip install "advantage-zoo[cli,transformers]" psutil brings it.') from None

from advantage_zoo import RolloutBatch
from advantage_zoo.progress import bar
from advantage_zoo.rollouts import Tokens
from advantage_zoo.training import Training

VOCABULARY, PROMPT, GROUP, WARM_UP = 32_000, 100, 8, 2
"""Token ids; tokens of a prompt; responses to a prompt; pairs that are not counted."""


def made_tokenizer() -> PreTrainedTokenizerFast:
    """A fast tokenizer of transformers whose tokens are words of one to eight letters, with a space in front or not."""
    rng = np.random.default_rng(0)
    words = {"<pad>": 0, "<eos>": 1}
    while len(words) < VOCABULARY:
        word = bytes(rng.integers(97, 123, rng.integers(1, 9)).tolist()).decode()
        words.setdefault(("Ġ" if rng.random() < 0.5 else "") + word, len(words))
    made = Tokenizer(models.BPE(vocab=words, merges=[]))
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<eos>")


@dataclass(frozen=True)
class Step:
    """Rollouts of a step, as a framework holds them."""

    batch: RolloutBatch
    prompts: Tokens
    responses: Tokens

    @classmethod
    def made(cls, responses: int, tokens: int, seed: int) -> "Step":
        """Responses of half to all of ``tokens``; few token ids are frequent, as in texts; all three signals."""
        rng = np.random.default_rng(seed)

        def ids(*shape: int) -> torch.Tensor:
            return torch.tensor(np.minimum(rng.zipf(1.2, shape).clip(max=VOCABULARY) + 1, VOCABULARY - 1))

        mask = torch.tensor(np.arange(tokens) < rng.integers(tokens // 2, tokens, (responses, 1), endpoint=True))
        signals = torch.tensor(rng.exponential(0.5, (3, responses, tokens)), dtype=torch.float32)
        batch = RolloutBatch(
            rewards=torch.tensor(rng.integers(0, 2, responses), dtype=torch.float32),
            response_mask=mask,
            group_ids=torch.arange(responses) // GROUP,
            logprobs=-signals[0],
            ref_logprobs=-signals[1],
            entropies=signals[2],
        )
        prompts = ids(-(-responses // GROUP), PROMPT).repeat_interleave(GROUP, 0)[:responses]
        return cls(batch, Tokens(prompts, torch.ones_like(prompts)), Tokens(ids(responses, tokens), mask))


def made_work(width: int) -> Callable[[int], None]:
    """A function that trains a small network for so many updates."""
    torch.manual_seed(0)
    layers = [layer for _ in range(4) for layer in (torch.nn.Linear(width, width), torch.nn.GELU())]
    network = torch.nn.Sequential(*layers)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    given = torch.randn(64, width)

    def work(updates: int) -> None:
        for _ in range(updates):
            optimizer.zero_grad()
            network(given).square().mean().backward()
            optimizer.step()

    return work


def calibrated(work: Callable[[int], None], seconds: float) -> int:
    """How many updates take so long."""
    work(20)
    done, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < 1:
        work(5)
        done += 5
    return max(2, round(done * seconds / (time.perf_counter() - begin)))


@dataclass(frozen=True)
class Measured:
    """Seconds of each pair, (pairs,)."""

    plain: NDArray[np.float64]
    dumping: NDArray[np.float64]
    caller: NDArray[np.float64]
    cpu: NDArray[np.float64]
    """What the process that writes took of a core; it counts in hundredths of a second, so the mean is told."""

    def summary(self) -> dict[str, Any]:
        """Numbers for people and for ``--json``; shares are of a step without dumping."""
        step = float(np.median(self.plain))
        differences, shares = np.sort(self.dumping - self.plain) / step, self.caller / self.dumping
        pairs = len(differences)
        rank = max(0, int((pairs - 1.96 * pairs**0.5) / 2))  # of the interval's lower end: binomial, by the normal law
        return {
            "pairs": pairs,
            "step_seconds": step,
            "step_spread": float(np.subtract(*np.percentile(self.plain, [75, 25]))) / step,
            "caller_share": {"median": float(np.median(shares)), "largest": float(shares.max())},
            "caller_seconds": float(np.median(self.caller)),
            "cpu_seconds": float(np.mean(self.cpu)),
            "slowdown": {
                "median": float(np.median(differences)),
                "low": float(differences[rank]),
                "high": float(differences[-1 - rank]),
            },
        }


def measure(
    steps: Sequence[Step],
    work: Callable[[int], None],
    updates: int,
    pairs: int,
    folder: Path,
    *,
    show: bool,
    thread: bool = False,
) -> Measured:
    """Pairs of steps, one of which writes into the folder; in a thread, if no other process can have the tokenizer."""
    training, tokenizer = Training("benchmark", timing="seconds"), made_tokenizer()
    if thread:
        decode = tokenizer.decode
        tokenizer = SimpleNamespace(decode=lambda *args, **options: decode(*args, **options))
    rng = np.random.default_rng(0)

    def processor_time() -> float:
        times = [process.cpu_times() for process in psutil.Process().children()]
        return sum(took.user + took.system for took in times)

    def step(number: int, dump: bool) -> tuple[float, float, float]:
        rollouts, cpu, begin = steps[number % len(steps)], processor_time(), time.perf_counter()
        work(updates // 2)
        if dump:
            with training.timed("_dump"):
                training.dump(folder, tokenizer).write(
                    rollouts.batch, step=number, prompts=rollouts.prompts, responses=rollouts.responses
                )
        work(updates - updates // 2)
        training.flush()
        caller = training.metrics().get("seconds_dump", 0.0)
        return time.perf_counter() - begin, caller if dump else 0.0, processor_time() - cpu

    training.dump(folder, tokenizer).ready()
    rows: list[tuple[float, float, float, float]] = []
    with bar("pairs of steps", WARM_UP + pairs, show) as advance:
        for number in range(WARM_UP + pairs):
            first = bool(rng.integers(2))
            found = {dump: step(number, dump) for dump in (first, not first)}
            rows.append((found[False][0], found[True][0], found[True][1], found[True][2] - found[False][2]))
            advance(1)
    return Measured(*np.array(rows[WARM_UP:]).T)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--responses", default=64, show_default=True, type=click.IntRange(1), help="Responses of a step.")
@click.option("--tokens", default=512, show_default=True, type=click.IntRange(2), help="The longest has so many.")
@click.option("--seconds", default=1.0, show_default=True, type=click.FloatRange(0.01), help="Length of a step.")
@click.option("--pairs", default=60, show_default=True, type=click.IntRange(2), help="With and without, so many times.")
@click.option("--threads", type=click.IntRange(1), help="Of PyTorch.  [default: its own choice, all cores]")
@click.option(
    "--width",
    default=256,
    show_default=True,
    type=click.IntRange(1),
    help="Of the network: a narrow one makes short operations, and needs the interpreter more often.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to write, for instance on the disk of your trainings.  [default: a temporary one]",
)
@click.option("--thread", is_flag=True, help="Write in a thread, as while the process starts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of sentences.")
def main(
    responses: int,
    tokens: int,
    seconds: float,
    pairs: int,
    threads: int | None,
    width: int,
    folder: Path | None,
    thread: bool,
    as_json: bool,
) -> None:
    """What writing rollouts while training goes on costs a step.

    Trains a small network with PyTorch on the CPU, in steps of the given length, and writes rollouts in one step of
    each pair, as the adapters for verl, OpenRLHF and TRL do. Shows the time that the thread which trains spends on it,
    and how much longer the steps are that write. It takes 2 x PAIRS x SECONDS.

    \b
    python benchmarks/dump.py                                            64 responses x 512 tokens, steps of 1 s
    python benchmarks/dump.py --responses 32 --tokens 40 --seconds 0.1   a small model on a CPU
    python benchmarks/dump.py --threads 1                                leaves the writer a core of its own
    """  # noqa: D301 - click wants the character backspace, not a backslash
    if threads is not None:
        torch.set_num_threads(threads)
    work = made_work(width)
    steps = [Step.made(responses, tokens, seed) for seed in range(4)]
    with tempfile.TemporaryDirectory() as temporary:
        updates, into = calibrated(work, seconds), folder or Path(temporary)
        measured = measure(steps, work, updates, pairs, into, show=not as_json, thread=thread)
    found = measured.summary() | {
        "responses": responses,
        "tokens": sum(int(step.responses.present.sum()) for step in steps) / len(steps),
        "threads": torch.get_num_threads(),
    }
    if as_json:
        json.dump(found, sys.stdout, indent=2)
        print()
        return
    print(sentences(found))


def sentences(found: dict[str, Any]) -> str:
    """The summary in words."""
    caller, slowdown = found["caller_share"], found["slowdown"]
    return (
        f"{found['pairs']} pairs of steps of {found['step_seconds']:.2f} s, the middle half of which spans "
        f"{found['step_spread']:.1%}; {found['responses']} responses, {found['tokens']:,.0f} tokens a step; "
        f"PyTorch's threads: {found['threads']}.\n"
        f"Caller's time: {found['caller_seconds'] * 1e3:.2f} ms, {caller['median']:.2%} of a step in the median, "
        f"{caller['largest']:.2%} at most.\n"
        f"Slowdown: {slowdown['median']:.2%} in the median, between {slowdown['low']:.2%} and {slowdown['high']:.2%} "
        "with 95 % confidence.\n"
        f"Processor time of the process that writes: {found['cpu_seconds'] * 1e3:.1f} ms a step."
    )


if __name__ == "__main__":
    main()
