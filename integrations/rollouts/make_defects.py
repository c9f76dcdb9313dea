"""Writes the rollouts on which formulas stumble: `python integrations/rollouts/make_defects.py --out FILE.parquet`.

Made by hand, not sampled: eight responses that are all rewarded 1.2 (1 for the answer, 0.2 for its format), whose mean
in float32 is not 1.2; a response that is alone with its prompt, rewarded 0.3; and an ordinary group of four.
"""

import argparse
from pathlib import Path

from advantage_zoo.rollouts import Rollouts, write_rollouts

GROUPS = {
    "All eight answers are right and well formed.": [1.2] * 8,
    "One answer was sampled.": [0.3],
    "One answer of four is right.": [1.0, 0.0, 0.0, 0.0],
}


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the Parquet file to write")
    out = parser.parse_args().out
    rows = [(prompt, g, reward) for g, (prompt, rewards) in enumerate(GROUPS.items()) for reward in rewards]
    tokens = ["the", " answer", "."]
    rollouts = Rollouts(
        prompts=[prompt for prompt, _, _ in rows],
        texts=["".join(tokens)] * len(rows),
        tokens=[tokens] * len(rows),
        token_ids=[[0, 1, 2]] * len(rows),
        rewards=[reward for _, _, reward in rows],
        groups=[g for _, g, _ in rows],
        metadata={"made": "by hand, integrations/rollouts/make_defects.py"},
    )
    write_rollouts(rollouts, out)
    print(f"Wrote {len(rows)} responses to {len(GROUPS)} prompts to {out}")


if __name__ == "__main__":
    main()
