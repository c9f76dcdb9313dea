"""OpenRLHF with every estimator of advantage-zoo, no fork: its own flag takes their names.

    python -m advantage_zoo_openrlhf train_ppo_ray --algo.advantage.estimator ep_grpo ...

The points of OpenRLHF that this relies on are the table in :mod:`advantage_zoo_openrlhf.patching`. What is changed, is
changed in memory, after OpenRLHF's own modules have been imported. Importing this package imports nothing heavy: with
``advantage-zoo openrlhf enable`` every Python process of the environment does.
"""

from advantage_zoo_openrlhf.patching import install

__all__ = ["install"]
