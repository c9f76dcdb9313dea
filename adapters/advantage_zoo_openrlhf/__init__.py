"""OpenRLHF with every estimator of advantage-zoo, no fork: its own flag takes their names.

    python -m advantage_zoo_openrlhf train_ppo_ray --algo.advantage.estimator ep_grpo ...

What is changed, is changed in memory; :mod:`advantage_zoo_openrlhf.points` lists it.
"""


def install() -> None:
    """Bind what OpenRLHF has imported, and the rest as soon as it has been."""
    from advantage_zoo_openrlhf.points import BINDING

    BINDING.bind()
