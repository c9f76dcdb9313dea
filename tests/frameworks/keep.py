"""Keeps what a framework wrote in a test: ADVANTAGE_ZOO_KEEP_DUMPS=tests/dumps makes the files that are committed."""

import os
import shutil
from importlib.metadata import version
from pathlib import Path


def keep(folder, framework, pattern):
    """Copy the folder's files, if the variable says so."""
    to = os.environ.get("ADVANTAGE_ZOO_KEEP_DUMPS")
    if to:
        place = Path(to) / f"{framework}-{version(framework)}"
        place.mkdir(parents=True, exist_ok=True)
        for file in folder.glob(pattern):
            shutil.copy(file, place / file.name)
