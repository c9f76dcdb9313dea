"""Takes the README's picture, docs/compare.png, of the report on the rollouts in the package.

    python docs/picture.py

Needs Chromium (Debian's package chromium) on the path.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ESTIMATORS = "grpo,dr_grpo,gtpo,rl_zvp,ep_grpo"
VIEW = "responses?row=311&token=7&sort=disagreement&between=gtpo&between=ep_grpo"
SIZE = "1240,890"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=10000",
)


def main() -> None:
    """Write the report to a folder of its own and photograph one of its views."""
    picture = Path(__file__).resolve().parent / "compare.png"
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "compare.html"
        command = Path(sys.executable).parent / "advantage-zoo"
        arguments = ("compare", "-e", ESTIMATORS, "--report", report)
        subprocess.run([command, *arguments], check=True, stdout=subprocess.DEVNULL)
        options = (*FLAGS, f"--user-data-dir={folder}/profile", f"--window-size={SIZE}", f"--screenshot={picture}")
        subprocess.run(["chromium", *options, f"{report.as_uri()}#{VIEW}"], check=True, stderr=subprocess.DEVNULL)
    print(f"Wrote {picture.relative_to(Path.cwd())}.")


if __name__ == "__main__":
    main()
