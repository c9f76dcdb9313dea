"""Takes the README's picture, docs/compare.png, of the report on the rollouts in the package.

    python docs/picture.py

Needs Chromium (Debian's package chromium) on the path.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ESTIMATORS = "dapo,dr_grpo,ep_grpo,grpo"
SIZE = "1180,575"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def main() -> None:
    """Write the report to a folder of its own and photograph its top."""
    picture = Path(__file__).resolve().parent / "compare.png"
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "compare.html"
        command = Path(sys.executable).parent / "advantage-zoo"
        arguments = ("compare", "-e", ESTIMATORS, "--report", report)
        subprocess.run([command, *arguments], check=True, stdout=subprocess.DEVNULL)
        options = (*FLAGS, f"--user-data-dir={folder}/profile", f"--window-size={SIZE}", f"--screenshot={picture}")
        subprocess.run(["chromium", *options, report.as_uri()], check=True, stderr=subprocess.DEVNULL)
    print(f"Wrote {picture.relative_to(Path.cwd())}.")


if __name__ == "__main__":
    main()
