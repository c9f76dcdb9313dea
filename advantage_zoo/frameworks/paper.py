"""Papers taken literally, where our own default departs from the letter."""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.estimator import param
from advantage_zoo.estimators.ep_grpo import EPGRPO
from advantage_zoo.frameworks.preset import Preset


@dataclass(frozen=True)
class LiteralEPGRPO(EPGRPO, Preset):
    """EP-GRPO with the literal z-score of Eq. 25: no floor under a bucket's standard deviation."""

    name: ClassVar[str] = "ep_grpo@literal"
    framework: ClassVar[str] = "arXiv:2605.04960"
    source: ClassVar[str] = "Eq. 18-26"
    differs: ClassVar[str] = (
        "Ours puts a floor of 1 nat under a bucket's deviation; without, an arbitrarily small divergence from the "
        "reference becomes a pull of unit size back to it, and a start where most responses fail may never learn."
    )

    progress_floor: float = param(0.0, ge=0, le=0, doc="None: that is the preset.")
