"""The table of invariants: what is checked, and the user's pain that each one comes from."""

from collections.abc import Callable
from dataclasses import dataclass

from advantage_zoo.testing import always, claims, tracing
from advantage_zoo.testing.trial import Trial


@dataclass(frozen=True)
class Invariant:
    """A law of estimators.

    Args:
        id: What an estimator's ``claims`` calls it.
        always: Whether every estimator keeps it, claimed or not.
        source: Where its absence hurt, or who promises it.
        check: Raises an AssertionError if a trial breaks it.
    """

    id: str
    always: bool
    source: str
    check: Callable[[Trial], None]

    @property
    def law(self) -> str:
        """The law, in a sentence."""
        return (self.check.__doc__ or "").strip()


_ALWAYS: tuple[tuple[Callable[[Trial], None], str], ...] = (
    (always.masked_zero, "NaN on a masked token makes OpenRLHF's loss NaN; verl's GAE leaves -1.15 in padding"),
    (always.masked_blind, "ROLL#447, miles#1827, slime#1372"),
    (always.padding, "verl pads differently in V0 and V1"),
    (always.holes, "verl#7278; SkyRL's REINFORCE++ loses the reward before an observation"),
    (always.permutation, "rLLM#605; verl reorders rows; OpenRLHF reshapes"),
    (always.group_independence, "verl#6452"),
    (always.empty_row, "verl#6452; verl V1 adds padding rows"),
    (always.finite, "NeMo#1518, NeMo#4158"),
    (always.non_finite_input, "TRL#5773, ms-swift#8123"),
    (always.pure, "read-only arrays and replayed batches"),
    (always.kind, "a bfloat16 scatter saturates at 256"),
    (tracing.agree, "the same name means different mathematics in different frameworks"),
    (tracing.no_sync, "a read-back stalls the accelerator"),
    (tracing.no_grad, "an advantage is a constant of the loss"),
)
_CLAIMABLE: tuple[tuple[Callable[[Trial], None], str], ...] = (
    (claims.shift, "group-relative estimators"),
    (claims.scale, "grpo, dapo"),
    (claims.scale_equivariant, "dr_grpo, rloo"),
    (claims.zero_sum, "grpo, dr_grpo, dapo, rloo"),
    (claims.dead_group_zero, "frameworks reach 0.12 (verl) and 119 (OpenRLHF's formula)"),
    (claims.dead_group_alive, "ep_grpo, rl_zvp"),
    (claims.uniform, "sequence-level estimators"),
    (claims.sign, "SkyRL's MaxRL turns signs for negative rewards"),
    (claims.bounded, "grpo, dapo"),
    (claims.monotone, "group-relative estimators"),
    (claims.singleton, "verl#7581"),
    (claims.reduces_to, "ep_grpo without progress and gate is grpo"),
)

INVARIANTS: dict[str, Invariant] = {
    check.__name__.upper(): Invariant(check.__name__.upper(), held, source, check)
    for held, table in ((True, _ALWAYS), (False, _CLAIMABLE))
    for check, source in table
}
"""Every invariant by its id."""


def laws_of(claimed: frozenset[str]) -> tuple[Invariant, ...]:
    """What an estimator with these claims is held to."""
    return tuple(law for law in INVARIANTS.values() if law.always or law.id in claimed)
