"""``advantage-zoo openrlhf enable|disable|status``: whether OpenRLHF's plain command takes the zoo's estimators.

A .pth file in the environment's site-packages has a Python process that is started with OpenRLHF's command bind it;
other processes import nothing of ours, and those of Ray bind where the run's arguments arrive. The line does nothing
where this package is gone.
"""

import sysconfig
from pathlib import Path

import click

from advantage_zoo.terminal import or_fail

LINE = (
    'import sys, importlib.util; "train_ppo_ray" in str(sys.orig_argv) '
    'and importlib.util.find_spec("advantage_zoo_openrlhf") and __import__("advantage_zoo_openrlhf").install()\n'
)
PLAIN = "python -m openrlhf.cli.train_ppo_ray"
PTH = Path(sysconfig.get_path("purelib"), "advantage_zoo_openrlhf.pth")


@click.group()
def openrlhf() -> None:
    """Let OpenRLHF's plain command take the zoo's estimators, or not."""


@openrlhf.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def enable(yes: bool) -> None:
    """Show the line for site-packages, and write it."""
    click.echo(f"{PTH} gets this line, which every Python process of the environment runs when it starts:\n\n{LINE}")
    if not yes:
        click.confirm("Write it?", abort=True)
    or_fail(lambda: PTH.write_text(LINE, encoding="utf-8"))
    click.echo(f"Enabled: {PLAIN} takes the zoo's estimators here; advantage-zoo openrlhf disable undoes it.")


@openrlhf.command()
def disable() -> None:
    """Remove the line."""
    there = PTH.exists()
    or_fail(lambda: PTH.unlink(missing_ok=True))
    click.echo(f"Removed {PTH}; OpenRLHF is as it was." if there else f"Not enabled; there is no {PTH}.")


@openrlhf.command()
def status() -> None:
    """Say whether the line is there."""
    enabled = PTH.exists()
    click.echo(f"Enabled by {PTH}." if enabled else "Not enabled; python -m advantage_zoo_openrlhf is the other way.")
