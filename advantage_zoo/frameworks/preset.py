"""What a preset is: an estimator as a framework computes it."""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.estimator import Estimator


@dataclass(frozen=True)
class Preset(Estimator):
    """An estimator called ``name@framework``, which gives the framework's values, quirks included.

    What a framework leaves at masked tokens is not reproduced: 0 stands there, as everywhere in the house. Neither is a
    NaN: where the framework's formula has none but NaN to give, the advantage is 0, and ``differs`` says so.
    """

    framework: ClassVar[str]
    """Name and version of the framework."""
    source: ClassVar[str]
    """Where in the framework's released source the formula stands: file and lines."""
    differs: ClassVar[str]
    """One sentence: how it differs from our estimator of the same name, and what a user may run into."""
