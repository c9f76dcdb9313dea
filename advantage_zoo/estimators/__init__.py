"""The built-in estimators. To add one: write its file, and add its line here."""

from collections.abc import Callable
from typing import Any

from advantage_zoo.estimator import Estimator
from advantage_zoo.estimators.dapo import DAPO as DAPO
from advantage_zoo.estimators.dr_grpo import DrGRPO as DrGRPO
from advantage_zoo.estimators.entropy_advantage import EntropyAdvantage as EntropyAdvantage
from advantage_zoo.estimators.ep_grpo import EPGRPO as EPGRPO
from advantage_zoo.estimators.erpo import ERPO as ERPO
from advantage_zoo.estimators.gae import GAE as GAE
from advantage_zoo.estimators.gdpo import GDPO as GDPO
from advantage_zoo.estimators.gpg import GPG as GPG
from advantage_zoo.estimators.grpo import GRPO as GRPO
from advantage_zoo.estimators.grpo_s import GRPOS as GRPOS
from advantage_zoo.estimators.gtpo import GTPO as GTPO
from advantage_zoo.estimators.lite_ppo import LitePPO as LitePPO
from advantage_zoo.estimators.maxrl import MaxRL as MaxRL
from advantage_zoo.estimators.opo import OPO as OPO
from advantage_zoo.estimators.otb import OTB as OTB
from advantage_zoo.estimators.passk import PassK as PassK
from advantage_zoo.estimators.passk_leader import PassKLeader as PassKLeader
from advantage_zoo.estimators.prime import PRIME as PRIME
from advantage_zoo.estimators.qae import QAE as QAE
from advantage_zoo.estimators.reinforce import Reinforce as Reinforce
from advantage_zoo.estimators.reinforce_pp import ReinforcePP as ReinforcePP
from advantage_zoo.estimators.reinforce_pp_baseline import ReinforcePPBaseline as ReinforcePPBaseline
from advantage_zoo.estimators.remax import ReMax as ReMax
from advantage_zoo.estimators.rl_zvp import RLZVP as RLZVP
from advantage_zoo.estimators.rloo import RLOO as RLOO
from advantage_zoo.hookspecs import hookimpl


@hookimpl
def advantage_zoo_register_estimators(register: Callable[[Any], None]) -> None:
    """Register every estimator imported above: built-ins take the way that plugins take."""
    for value in globals().values():
        if isinstance(value, type) and issubclass(value, Estimator) and value is not Estimator:
            register(value)
