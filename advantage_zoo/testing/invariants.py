"""The table of invariants: what is checked, on which libraries, and where each law comes from."""

from collections.abc import Callable
from dataclasses import dataclass

from advantage_zoo.testing import always, claims, tracing
from advantage_zoo.testing.backends import TRACING
from advantage_zoo.testing.trial import Trial

Check = Callable[[Trial], None]


@dataclass(frozen=True)
class Invariant:
    """A law of estimators.

    Args:
        id: What an estimator's ``claims`` calls it.
        always: Whether every estimator keeps it, claimed or not.
        source: Where its absence has hurt somebody, with the issue or release, or what it follows from.
        check: Raises an AssertionError if a trial breaks it.
        once: A slow part of the check, tried on one batch only.
        traced_only: Whether it says something only where a library has devices, gradients and a compiler.
    """

    id: str
    always: bool
    source: str
    check: Check
    once: Check | None = None
    traced_only: bool = False

    @property
    def law(self) -> str:
        """The law, in a sentence."""
        return " ".join((self.check.__doc__ or "").split())

    def applies(self, library: str) -> bool:
        """Whether there is something to check on a library."""
        return not self.traced_only or library in TRACING


_ALWAYS: tuple[tuple[Check, str], ...] = (
    (
        always.masked_zero,
        "a NaN advantage on a masked token makes OpenRLHF 0.11.2's loss NaN; verl 0.9.1's GAE leaves -1.15 in padding",
    ),
    (always.masked_blind, "alibaba/ROLL#447, radixark/miles#1827, THUDM/slime#1372"),
    (always.padding, "verl's two trainers pad differently (0.9.1: V0 to max_response_length, V1 to the longest)"),
    (
        always.holes,
        "verl-project/verl#7278; SkyRL 0.4.0's REINFORCE++ loses the reward that stands before an observation",
    ),
    (always.permutation, "rllm-org/rllm#605; verl reorders rows, OpenRLHF reshapes them"),
    (always.group_independence, "verl-project/verl#6452"),
    (always.empty_row, "verl-project/verl#6452; verl's V1 trainer adds padding rows"),
    (always.finite, "NVIDIA-NeMo/RL#1518, NVIDIA-NeMo/RL#4158"),
    (always.non_finite_input, "huggingface/trl#5773, modelscope/ms-swift#8123"),
    (always.pure, "trainers compute advantages more than once, and replay batches"),
    (always.kind, "a bfloat16 sum of 4,096 ones is 256"),
    (
        tracing.agree,
        "the same name means different mathematics in different frameworks: r = [1, 0, 0, 0] gives 1.0 to 1.73",
    ),
    (tracing.no_sync, "a value that is read stalls the accelerator's queue"),
    (tracing.no_grad, "the policy gradient theorem: an advantage is a constant of the loss"),
)
_CLAIMABLE: tuple[tuple[Check, str], ...] = (
    (claims.shift, "a baseline is subtracted: REINFORCE with baseline, Williams 1992"),
    (claims.scale, "division by the standard deviation: GRPO, arXiv:2402.03300"),
    (claims.scale_equivariant, "no such division: Dr. GRPO, arXiv:2503.20783"),
    (claims.zero_sum, "the baseline is the mean of the group itself: arXiv:2402.03300, arXiv:2503.20783"),
    (
        claims.dead_group_zero,
        "formulas of frameworks reach 0.106 (verl 0.9.1) and 119 (OpenRLHF 0.11.2's eps of 1e-9) where it is 0",
    ),
    (
        claims.dead_group_alive,
        "EP-GRPO, arXiv:2605.04960, Fig. 2: in 58.77 % of GRPO's training steps there is no signal",
    ),
    (claims.uniform, "one number a response, as an outcome reward is: arXiv:2402.03300"),
    (claims.sign, "SkyRL 0.4.0's MaxRL turns signs where rewards are negative"),
    (claims.bounded, "NVIDIA-NeMo/RL#4158: an advantage of 3,993"),
    (claims.monotone, "a baseline and a scale that a group shares keep its order"),
    (claims.singleton, "verl-project/verl#7581: two implementations of RLOO differ"),
    (claims.reduces_to, "the papers' own special cases, for instance RLOO = n/(n-1) Dr. GRPO: arXiv:2503.20783"),
)

INVARIANTS: dict[str, Invariant] = {
    check.__name__.upper(): Invariant(
        check.__name__.upper(),
        held,
        source,
        check,
        once=tracing.agree_when_compiled if check is tracing.agree else None,
        traced_only=check in (tracing.no_sync, tracing.no_grad),
    )
    for held, table in ((True, _ALWAYS), (False, _CLAIMABLE))
    for check, source in table
}
"""Every invariant by its id."""


def laws_of(claimed: frozenset[str]) -> tuple[Invariant, ...]:
    """What an estimator with these claims is held to."""
    return tuple(law for law in INVARIANTS.values() if law.always or law.id in claimed)
