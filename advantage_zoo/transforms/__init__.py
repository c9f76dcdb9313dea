"""What composes with an estimator. To add a transform: write its file, and add its line here and to ``TRANSFORMS``."""

from advantage_zoo.parameters import Schedule as Schedule
from advantage_zoo.transforms.clip import Clip as Clip
from advantage_zoo.transforms.length_cap import LengthCap as LengthCap
from advantage_zoo.transforms.overlong import OverlongPenalty as OverlongPenalty
from advantage_zoo.transforms.pipeline import Mix as Mix
from advantage_zoo.transforms.pipeline import Pipeline as Pipeline
from advantage_zoo.transforms.top_entropy import TopEntropy as TopEntropy
from advantage_zoo.transforms.transform import AdvantageTransform as AdvantageTransform
from advantage_zoo.transforms.transform import RewardTransform as RewardTransform
from advantage_zoo.transforms.transform import Transform as Transform
from advantage_zoo.transforms.whiten import Whiten as Whiten

TRANSFORMS: dict[str, type[Transform]] = {
    cls.name: cls for cls in (Clip, LengthCap, OverlongPenalty, TopEntropy, Whiten)
}
"""The transforms, by what users type."""
