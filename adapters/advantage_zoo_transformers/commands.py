"""``advantage-zoo collect``: rollouts from a model. ``score``: the signals that rollouts lack, computed by a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advantage_zoo.terminal import fail, or_fail, print_json, sentence, standard_output, warnings_as_notes

if TYPE_CHECKING:
    from advantage_zoo_transformers.files import Scored


@click.command()
@click.option(
    "--model", required=True, metavar="DIR", help="Folder (or name) of the sampling policy and its tokenizer."
)
@click.option("--ref-model", metavar="DIR", help="Folder (or name) of the reference policy.")
@click.option("--prompts", required=True, type=click.Path(path_type=Path), help="Text, a prompt a line, or JSON lines.")
@click.option(
    "--reward", required=True, metavar="MODULE:FUNCTION", help="Or FILE.py:FUNCTION; called with prompt and text."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The Parquet file to write.")
@click.option("--group-size", default=8, show_default=True, help="Responses a prompt.")
@click.option("--max-new-tokens", default=256, show_default=True, help="Longest response.")
@click.option("--temperature", default=1.0, show_default=True, help="Divides the logits.")
@click.option("--top-p", default=1.0, show_default=True, help="Nucleus that is sampled from.")
@click.option("--seed", default=0, show_default=True, help="Of the sampling.")
@click.option("--batch-size", default=64, show_default=True, help="Responses sampled at a time.")
def collect(model: str, prompts: Path, out: Path, **options: Any) -> None:
    """Sample rollouts from a transformers model and score them under policy and reference.

    Needs the extra: pip install "advantage-zoo[transformers]". Log-probabilities and entropies are those of
    softmax(logits / temperature), in nats.

    \b
    advantage-zoo collect --model policy/ --ref-model base/ --prompts p.txt --reward task.py:judge --out my.parquet
    advantage-zoo compare my.parquet
    """  # noqa: D301 - click wants the character backspace, not a backslash
    try:
        from advantage_zoo_transformers.disk import collect_from_disk
    except ImportError as error:
        fail(f'collect needs PyTorch and transformers ({error}): pip install "advantage-zoo[cli,transformers]"')
    try:
        rollouts = collect_from_disk(model=model, prompts=prompts, out=out, **options)
    except (ImportError, ValueError, OSError) as error:
        fail(sentence(error))
    reward = sum(rollouts.rewards) / len(rollouts)
    click.echo(
        f"Wrote {len(rollouts)} responses to {len(set(rollouts.groups))} prompts, mean reward {reward:.3f}, to {out}"
    )
    click.echo(f"Next: advantage-zoo compare {out}")


@click.command()
@click.argument("rollouts", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", metavar="DIR", help="Folder (or name) of the policy that sampled: logprobs, entropies.")
@click.option("--ref-model", metavar="DIR", help="Folder (or name) of the reference: ref_logprobs.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The Parquet file to write.")
@click.option("--temperature", default=1.0, show_default=True, help="What the policy sampled with; divides all logits.")
@click.option("--columns", multiple=True, metavar="NAME=COLUMN[,NAME=COLUMN]", help="As for compare.")
@click.option(
    "--prompts",
    type=click.Choice(["text", "decoded", "message"]),
    help="What a prompt without token ids is: the text that the model saw, special tokens written out; that text "
    "without them, as verl dumps it; or a user's message. Default: decoded for verl's dumps, else text.",
)
@click.option("--rescore", is_flag=True, help="Compute also what ROLLOUTS have, in its place.")
@click.option("--batch-tokens", default=16384, show_default=True, help="Tokens of a forward pass, padding included.")
@click.option("--chunk-tokens", default=1024, show_default=True, help="Tokens whose logits are held at a time.")
@click.option("--device", help="Of the models, such as cuda:1; default: the first GPU, or the CPU.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Of the models; auto is what they were saved in.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def score(rollouts: tuple[Path, ...], columns: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Compute the log-probabilities and entropies that ROLLOUTS lack, so that compare runs every estimator.

    ROLLOUTS is whatever compare reads: rollout files, dumps of verl or TRL, other tables, folders of them. What they
    have is kept to the bit. Numbers are those of softmax(logits / temperature) over the whole vocabulary, in nats.
    Text without token ids is tokenized where that is faithful, and refused by row where not (docs/rollouts.md).

    A run that is killed goes on where it stopped when the same command is given again. Needs the extra:
    pip install "advantage-zoo[cli,transformers]".

    \b
    advantage-zoo score rollout_data/7.jsonl --model step_7/ --ref-model base/ -o scored.parquet
    advantage-zoo compare scored.parquet --report compare.html
    advantage-zoo score mine.parquet --ref-model base/ -o scored.parquet          # has logprobs and entropies
    advantage-zoo score mine.jsonl --columns text=answer,reward=score --prompts message --model m/ -o scored.parquet
    """  # noqa: D301
    from advantage_zoo.rollouts import column_map

    try:
        from advantage_zoo_transformers.files import score_files
    except ImportError as error:
        fail(f'score needs PyTorch and transformers ({error}): pip install "advantage-zoo[cli,transformers]"')
    with warnings_as_notes():
        scored: Scored = or_fail(lambda: score_files(rollouts, columns=column_map(columns), **options))
    for note in scored.notes:
        click.echo(f"Note: {note}", err=True)
    if as_json:
        print_json(scored.to_dict())
    else:
        _print(scored)


def _print(scored: "Scored") -> None:
    from advantage_zoo.printing import new_table, print_table

    table = new_table(f"{scored.responses:,} responses, {scored.tokens:,} tokens, in {scored.out}")
    table.add_column("signal", no_wrap=True)
    for head in ("computed in", "mean, nats"):
        table.add_column(head, justify="right")
    for name, mean in scored.means.items():
        count = scored.computed[name]
        which = "none" if mean is None else "no response" if not count else f"{count:,} responses"
        table.add_row(name, which, "-" if mean is None else f"{mean:.4f}")
    print_table(standard_output(), table)
    click.echo(f"Next: advantage-zoo compare {scored.out}")
