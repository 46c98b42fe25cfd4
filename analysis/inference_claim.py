"""How much does "half the inference FLOPs at 1e26" depend on one exponent?

    .venv/bin/python analysis/inference_claim.py

The low-rank paper (Janson et al. 2026, arXiv 2602.12429) compares N_opt ∝ C^0.479 of its factorized models with a dense
law and extrapolates about half of the dense inference FLOPs (2·N a token) at 1e26 training FLOPs. Two laws that agree
where the data are differ at C by a factor (C / C_data)^(difference of exponents): over 6.5 decades a difference of .03,
less than the interval of either exponent in most studies, moves the answer from a third to four fifths.
"""

from __future__ import annotations

import math

import scaling

COMPUTE = 1e26
DECADES = 6.5  # from the paper's data to 1e26: its four full budgets, 2.2e18 to 3.57e19 FLOPs, end there
CLAIMED = 0.5
UNCERTAINTIES = (-0.03, -0.02, -0.01, 0.0, 0.01, 0.02, 0.03)


def inference_ratio(difference: float, decades: float = DECADES) -> float:
    """Inference FLOPs per token of low rank over dense, for N_opt equal at the data and exponents that differ so."""
    return 10.0 ** (difference * decades)


def main() -> None:
    low_rank = scaling.published("low-rank-2026").exponents["N"]
    needed = math.log10(CLAIMED) / DECADES
    print(f"half at {COMPUTE:.0e} takes exponents that differ by {needed:+.3f} over {DECADES} decades:")
    print(f"low rank C^{low_rank:.3f} (published) against dense C^{low_rank - needed:.3f}")
    for error in UNCERTAINTIES:
        ratio = inference_ratio(needed + error)
        print(f"  difference {needed + error:+.3f} ({error:+.2f}): {ratio:.2f} of the inference FLOPs of dense")
    for name in ("hoffmann-2022-1", "hoffmann-2022-2", "hoffmann-2022-3", "replication-2024", "llama-3"):
        dense = scaling.published(name).exponents["N"]
        print(f"  against {name} (C^{dense:.3f}): {inference_ratio(low_rank - dense):.2f}")


if __name__ == "__main__":
    main()
