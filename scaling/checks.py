"""Every check code once: what it says, how severe it is, its thresholds, and what to do about it.

A check is one thing that could be wrong with a plan, a fit or a comparison. Code elsewhere emits it through its
constant, `checks.FEW_STEPS("3 of 12 runs …")`, and reads thresholds from here, `checks.MIN_STEPS.value`. A code never
changes its meaning, because users of `--json` match on it. `python -m scaling.checks > docs/checks.md` writes the
reference page.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal, cast

Severity = Literal["info", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")  # the most severe first


@dataclass(frozen=True)
class Check:
    """What was noticed: a code of this module, its severity and advice, and a sentence about this very case."""

    code: str
    severity: Severity
    message: str
    advice: str = ""  # launches recorded by 0.1 have none

    def to_json(self) -> dict[str, str]:
        """The fields, as every document lists them."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, str]) -> Check:
        """A check as a document or a recorded launch lists it, with the severity it had then."""
        severity = cast(Severity, document["severity"])
        return cls(document["code"], severity, document["message"], document.get("advice", ""))


@dataclass(frozen=True)
class Threshold:
    """A number at which a check begins, in `unit`, and where it comes from."""

    value: float
    unit: str
    source: str


@dataclass(frozen=True)
class CheckCode:
    """One code. Called with a message it gives a `Check`."""

    code: str
    severity: Severity
    meaning: str
    advice: str
    thresholds: tuple[Threshold, ...] = ()

    def __call__(self, message: str) -> Check:
        """The check with a sentence that names the lines, runs or numbers it concerns."""
        return Check(self.code, self.severity, message, self.advice)


def by_severity(checks: Iterable[Check]) -> list[Check]:
    """Each check once, the most severe first."""
    return sorted(dict.fromkeys(checks), key=lambda check: SEVERITIES.index(check.severity))


# Plans

MIN_STEPS = Threshold(
    500,
    "steps of a run",
    "assumption: below it warm-up and decay are most of a run; the largest shapes of the low-rank paper had 234 to 770",
)
MAX_EMBEDDING_SHARE = Threshold(0.5, "of params_total in embedding and head", "assumption")
MIN_LAW_BUDGETS = Threshold(
    3, "compute budgets", "on two isoFLOP budgets N and D move together, so no law is identified"
)
MIN_HOLDOUT_BUDGETS = Threshold(4, "compute budgets", "a law needs three, and a hold-out test one more")
MIN_RATES = Threshold(3, "learning rates per cell", "the best of three can have a worse one on either side")
MIN_STEP_SECONDS = Threshold(
    1e-3,
    "seconds of arithmetic per step",
    "assumption: below about a hundred kernels of 5 to 10 µs, launches and not FLOPs set the time",
)
MAX_EPOCHS = Threshold(
    4, "epochs", "Muennighoff et al. 2023 (arXiv 2305.16264): repeating data up to four times costs little"
)

BATCH_NOT_EVEN = CheckCode(
    "batch_not_even",
    "error",
    "A batch cannot be cut into equal parts for the ranks and the micro-batch of its resource rule.",
    "Change gpus, nodes or micro_batch of the rule, or batch_tokens of the sweep, so that one divides the other.",
)
DOES_NOT_FIT = CheckCode(
    "does_not_fit",
    "error",
    "A run needs more memory than a device has: with the micro-batch of its resource rule, or even with one sequence.",
    "Name a runner with a larger device or more of them (strategy: fsdp), a smaller micro_batch, or smaller shapes.",
)
EMBEDDING_SHARE = CheckCode(
    "embedding_share",
    "info",
    "Embedding and head are a large share of all parameters, which tilts exponents in params_total.",
    "Fit with params_non_embedding too and compare the exponents, or use a smaller vocabulary or wider models.",
    (MAX_EMBEDDING_SHARE,),
)
FEW_BUDGETS = CheckCode(
    "few_budgets",
    "warning",
    "There are too few compute budgets to hold one out, or to identify a law at all.",
    "Add budgets to the grid, best at both ends of its range.",
    (MIN_LAW_BUDGETS, MIN_HOLDOUT_BUDGETS),
)
FEW_STEPS = CheckCode(
    "few_steps",
    "warning",
    "Runs have so few steps that warm-up and decay make up most of them.",
    "Use smaller batches or larger budgets, or drop these cells with the filter min_steps.",
    (MIN_STEPS,),
)
MANY_EPOCHS = CheckCode(
    "many_epochs",
    "warning",
    "Runs read their data so often that repeated tokens are worth less than fresh ones.",
    "Use a larger corpus or smaller budgets, or fit the law data_constrained.",
    (MAX_EPOCHS,),
)
OPTIMIZER_DIFFERS = CheckCode(
    "optimizer_differs",
    "info",
    "Lines differ in optimizer as well as in parameterization, so a difference belongs to both.",
    "Add a family that changes only one of the two if you want to know which of them matters.",
)
PRECISION_NOT_ON_DEVICE = CheckCode(
    "precision_not_on_device",
    "error",
    "A run asks for a precision for which the device's row has no rate.",
    "Set training.precision to one that the device has, or name a runner with another device.",
)
RANK_SAVES_NOTHING = CheckCode(
    "rank_saves_nothing",
    "warning",
    "Factors have at least as many parameters as the dense matrix they replace.",
    "Lower rank_ratio; `scaling plan --ranks` shows the share of parameters that each matrix keeps.",
)
RATE_AT_EDGE = CheckCode(
    "rate_at_edge",
    "warning",
    "The best of the tuned settings is the first or the last one tried, so better ones may lie beyond.",
    "Extend the list on that side and launch again.",
)
RATE_DOES_NOT_TRANSFER = CheckCode(
    "rate_does_not_transfer",
    "warning",
    "The setting tuned at the smallest budget is beaten by a neighbour at the largest.",
    "Tune in all cells (tune.cells: all), or use a recipe that scales the learning rate with the shape.",
)
SHORT_STEPS = CheckCode(
    "short_steps",
    "warning",
    "Steps are so short that kernel launches set their time, so the planned time is a lower bound.",
    "Expect longer runs; once some have finished, `scaling plan` uses their measured speed.",
    (MIN_STEP_SECONDS,),
)
TRUNK_NOT_SHARED = CheckCode(
    "trunk_not_shared",
    "info",
    "Runs of one model that differ in length share no trunk, although the schedule would allow it.",
    "Set the named key to one value for all lengths, or accept that every length is trained from its first step.",
)
UNEQUAL_TUNING = CheckCode(
    "unequal_tuning",
    "warning",
    "Families are tuned over different numbers of settings per cell, which favours the one with more.",
    "Give every family the same number of settings.",
)
UNTUNED_RATE = CheckCode(
    "untuned_rate",
    "info",
    "There are too few learning rates per cell to bracket the best one.",
    "List at least three rates per family, a factor of two apart.",
    (MIN_RATES,),
)

# Points and laws

MAX_LOST_DRAWS = Threshold(0.05, "of the draws failed or at a bound", "assumption")
MIN_STARTS_AGREEMENT = Threshold(
    0.25, "of the starts at the best optimum", "assumption: below it the objective is rough enough to doubt the optimum"
)
MIN_POINTS_PER_PARAMETER = Threshold(
    5,
    "points per parameter",
    "results/benchmarks/laws_coverage.md: below it some 95 % intervals covered the truth in less than 93 % of cases",
)
MAX_E_WIDTH = Threshold(
    0.5, "of E, width of its interval", "assumption: a wider interval says no more than that E is positive"
)
MAX_UNEXPLAINED = Threshold(
    0.5,
    "of the median deviation of log loss left by the law",
    "assumption: a law that leaves more explains too little",
)
MAX_RESIDUAL = Threshold(12, "median |residuals|", "8 standard deviations for normal residuals")
MAX_EXPONENT_DIFFERENCE = Threshold(
    0.02, "difference of two exponents", "assumption: smaller differences are of no consequence"
)
MAX_NOISE_RATIO = Threshold(2, "times the seed noise, for the residuals of one line", "assumption")
MIN_NOISE_FREEDOM = Threshold(
    10, "degrees of freedom", "the χ² interval: below it the seed noise is known to a factor of 1.6 at best"
)
MIN_HOLDOUT_SHARE = Threshold(0.85, "of held-out runs inside their 95 % intervals", "assumption")
MAX_DECADES = Threshold(2, "decades of compute beyond the data", "assumption")

APPROACHES_DISAGREE = CheckCode(
    "approaches_disagree",
    "warning",
    "Approach 2 (isoFLOP minima) and approach 3 (the law) give exponents that differ by more than their errors.",
    "Look at the isoFLOP curves for minima at the edge, and do not rely on either exponent beyond the data.",
    (MAX_EXPONENT_DIFFERENCE,),
)
AUDIT_FAILED = CheckCode(
    "audit_failed",
    "warning",
    "Without the largest budget the law predicts it no better than a straight line in log-log.",
    "Do not extrapolate with this law; try another form (--law) or add budgets.",
)
DUPLICATE_POINTS = CheckCode(
    "duplicate_points",
    "warning",
    "Points repeat others exactly and count twice.",
    "Remove the repeated rows unless they are separate runs.",
)
E_NOT_IDENTIFIED = CheckCode(
    "e_not_identified",
    "warning",
    "The irreducible loss E is zero or has a wide interval, so these points do not determine it.",
    "Do not read E as a limit of the data; larger budgets would determine it.",
    (MAX_E_WIDTH,),
)
EXPLAINS_LITTLE = CheckCode(
    "explains_little",
    "warning",
    "The law leaves most of the spread of the losses unexplained.",
    "Check the columns of N, D and loss, and whether the points belong to one line.",
    (MAX_UNEXPLAINED,),
)
FEW_POINTS = CheckCode(
    "few_points",
    "warning",
    "There are so few points per parameter that the intervals are too narrow.",
    "Add cells, or fit a law with fewer parameters.",
    (MIN_POINTS_PER_PARAMETER,),
)
FIT_AT_BOUND = CheckCode(
    "fit_at_bound",
    "warning",
    "A parameter of the law ended at its bound, so its interval is one-sided at best.",
    "Fit a law without that term, or add points that vary N and D apart.",
)
FIT_DEGENERATE = CheckCode(
    "fit_degenerate",
    "error",
    "The points do not determine the parameters of the law.",
    "Add points that vary N and D apart, or fit a law with fewer parameters.",
)
FIT_NOT_CONVERGED = CheckCode(
    "fit_not_converged",
    "error",
    "The solver stopped before the gradient vanished, so the parameters are not an optimum.",
    "Try another objective (--objective), and look for outliers or wrong units in the table.",
)
INTERVAL_UNRELIABLE = CheckCode(
    "interval_unreliable",
    "warning",
    "Many draws of the bootstrap failed or ended at a bound of a parameter.",
    "Do not rely on the intervals; add points or fit a law with fewer parameters.",
    (MAX_LOST_DRAWS,),
)
MINIMUM_AT_EDGE = CheckCode(
    "minimum_at_edge",
    "warning",
    "The sizes tried at a budget do not bracket its optimum.",
    "Train smaller or larger models at that budget.",
)
N_CONVENTION = CheckCode(
    "n_convention",
    "warning",
    "The exponent of N moves out of its interval when parameters are counted in another way.",
    "Name the count of N beside every exponent, and compare lines only on the same one.",
    (MAX_EXPONENT_DIFFERENCE,),
)
NO_LAW = CheckCode(
    "no_law",
    "warning",
    "No parametric law is determined by the points of a line, or by those of all lines together.",
    "Add budgets and sizes to these lines, or fit a law with fewer parameters.",
)
NOT_AUDITED = CheckCode(
    "not_audited",
    "info",
    "The law was not tested on a held-out budget.",
    "Add a budget, so that the largest one can be held out.",
)
OBJECTIVE_SENSITIVE = CheckCode(
    "objective_sensitive",
    "warning",
    "The exponent of N moves out of its interval under other objectives and values of δ.",
    "Report the range over objectives beside the exponent, and look for outliers.",
    (MAX_EXPONENT_DIFFERENCE,),
)
OUTLIERS = CheckCode(
    "outliers",
    "warning",
    "Some points lie very far from the law.",
    "Look at these runs; remove one only for a reason that its loss did not give you.",
    (MAX_RESIDUAL,),
)
RESIDUALS_EXCEED_NOISE = CheckCode(
    "residuals_exceed_noise",
    "warning",
    "The law misses its points by more than seed noise explains, so its form does not fit.",
    "Try another form (--law), or restrict the range of the data.",
    (MAX_NOISE_RATIO,),
)
SEED_NOISE_UNCERTAIN = CheckCode(
    "seed_noise_uncertain",
    "info",
    "The seed noise rests on few degrees of freedom, so it is known only within a wide interval.",
    "Train more cells with several seeds.",
    (MIN_NOISE_FREEDOM,),
)
SEED_NOISE_UNKNOWN = CheckCode(
    "seed_noise_unknown",
    "warning",
    "No cell has several seeds, so seed noise and the scatter of cells cannot be told apart.",
    "Train at least a few cells with two or more seeds (training.seeds or training.replicates).",
)
SELECTION_BIAS = CheckCode(
    "selection_bias",
    "info",
    "Keeping the best of several settings lowered the losses by a known amount (winner's curse).",
    "Compare only lines that were tuned over equally many settings; confirm winners with fresh seeds (tune.confirm).",
)
SELECTION_BIAS_UNKNOWN = CheckCode(
    "selection_bias_unknown",
    "warning",
    "Keeping the best of several settings lowered the losses by an unknown amount.",
    "Train several seeds of one setting, or confirm winners with fresh seeds (tune.confirm).",
)
SIZE_TREND = CheckCode(
    "size_trend",
    "warning",
    "Losses follow a trend in N that the law does not have.",
    "Try another form (--law), and look at how the recipe changes with size (rates, batch, warm-up).",
)
SIZE_TREND_POWER = CheckCode(
    "size_trend_power",
    "info",
    "No trend in N beyond the law is found; smaller ones than the one named would be missed.",
    "Add sizes or seeds to find smaller ones.",
)
STARTS_DISAGREE = CheckCode(
    "starts_disagree",
    "info",
    "Few starts of the solver reach the best optimum.",
    "Compare with another objective (--objective) before you rely on the parameters.",
    (MIN_STARTS_AGREEMENT,),
)

# Runs of a study, and differences between its lines

DIFFERENCE_CHANGES_SIGN = CheckCode(
    "difference_changes_sign",
    "info",
    "Two lines change places between the budgets.",
    "State the budget beside every difference.",
)
DIVERGED_ONE_SIDE = CheckCode(
    "diverged_one_side",
    "warning",
    "Runs of only some lines diverged, so the losses that remain are not comparable.",
    "Lower the learning rate of the lines that diverged and train these cells again.",
)
EXPONENTS_NOT_SEPARATED = CheckCode(
    "exponents_not_separated",
    "info",
    "The interval of the difference of two exponents contains zero.",
    "Do not claim that one line scales differently; a wider range of budgets would separate them.",
)
MIXED_COMPILED = CheckCode(
    "mixed_compiled",
    "warning",
    "Some runs of the sweep were compiled and some were not, so their seconds and last digits are not comparable.",
    "Compare at equal FLOPs, or train the runs again that ran eagerly; their logs say why.",
)
IMPORTED_RUNS = CheckCode(
    "imported_runs",
    "warning",
    "Runs that were trained elsewhere stand beside runs of another corpus, or of one that is not known to be the same.",
    "Compare losses of one corpus, tokenizer and validation set only; where they are, give the imported table a "
    "column corpus_hash with the hash of runs.csv.",
)
KAPPA_CONFOUNDED = CheckCode(
    "kappa_confounded",
    "warning",
    "The law rank is rejected against rank with a B per line: kappa also holds what the data terms differ by.",
    "Read the compute multiplier, which assumes no such law, and kappa beside a data term per line.",
)
LINES_NOT_COMPARED = CheckCode(
    "lines_not_compared",
    "warning",
    "A line is not compared with the reference, for the reason given.",
    "Train the line at budgets that the reference has.",
)
LINES_SHARE_EXPONENTS = CheckCode(
    "lines_share_exponents",
    "info",
    "A line has too few budgets for a law of its own: it is assumed to differ by a constant factor on N alone.",
    "Train the line at further budgets.",
)
MIXED_CORPUS_HASH = CheckCode(
    "mixed_corpus_hash",
    "error",
    "Runs were trained on several corpora, so their losses are not comparable.",
    "Train the runs of the other corpora again, or split the table by corpus_hash.",
)
MIXED_DEVICE = CheckCode(
    "mixed_device",
    "info",
    "Runs come from several kinds of device, so their seconds are not comparable.",
    "Compare at equal FLOPs, or train every line on one kind of device.",
)
MIXED_TORCH_VERSION = CheckCode(
    "mixed_torch_version",
    "info",
    "Runs come from several versions of torch, which may move losses and speeds a little.",
    "Train a few cells with both versions if the difference you look for is small.",
)
RUNS_MISSING = CheckCode(
    "runs_missing",
    "warning",
    "Some planned runs have no result and are no data points.",
    "`scaling status` shows why; `scaling launch` trains them.",
)
VERDICT_DEPENDS_ON_COST = CheckCode(
    "verdict_depends_on_cost",
    "warning",
    "Which line is better depends on what is held equal: exact FLOPs, 6ND or device seconds.",
    "Name the cost axis beside the verdict.",
)

# Predictions, published laws and serving

ANCHORED_LAW = CheckCode(
    "anchored_law",
    "info",
    "The law was published as exponents alone, and its prefactors are anchored at one published row.",
    "Use its exponents; take its N and D as rough values.",
)
CONTEXT_BEYOND_TRAINING = CheckCode(
    "context_beyond_training",
    "info",
    "Models are priced at a longer context than they were trained with, at which their loss was not measured.",
    "Train with that sequence length, or read the costs beside the loss at the trained one.",
)
EXTRAPOLATION = CheckCode(
    "extrapolation",
    "warning",
    "A prediction lies far above the largest compute of the data.",
    "Read the range over forms beside the interval, and add a larger budget before you rely on the number.",
    (MAX_DECADES,),
)
FLOPS_6ND_ASSUMED = CheckCode(
    "flops_6nd_assumed",
    "info",
    "The table has no shapes, so training FLOPs are counted as 6·N·D.",
    "Add the columns of the shape to the table for exact FLOPs.",
)
LOSS_NOT_REACHED = CheckCode(
    "loss_not_reached",
    "warning",
    "By its law a line never reaches the target loss.",
    "Choose a higher target loss to compare this line.",
)
NOT_PRICED = CheckCode(
    "not_priced",
    "info",
    "A line has no law or no known shapes, so its serving cost at equal loss is not computed.",
    "Add budgets where there is no law, or the columns of the shape where there are none.",
)
HOLDOUT_COVERAGE = CheckCode(
    "holdout_coverage",
    "warning",
    "Fewer of the held-out runs lie inside their 95 % prediction intervals than there should.",
    "Do not rely on intervals beyond the data; add budgets, or try another form (--law).",
    (MIN_HOLDOUT_SHARE,),
)
NOT_CALIBRATED = CheckCode(
    "not_calibrated",
    "info",
    "Too few budgets to hold one out: prediction intervals are calibrated on public tables, not on these data.",
    "Add budgets: four allow one to be held out.",
)
NOT_DETERMINED = CheckCode(
    "not_determined",
    "warning",
    "The points do not determine what was asked, so no number is given.",
    "Vary N and D/N more widely, or ask within the range of the data.",
)
OPTIMUM_AT_EDGE = CheckCode(
    "optimum_at_edge",
    "error",
    "The law has no optimum among the sizes searched.",
    "Do not use this prediction; ask for a compute nearer to the data or fit another form.",
)
OUTSIDE_PUBLISHED_RANGE = CheckCode(
    "outside_published_range",
    "info",
    "The compute lies outside the range on which a published law was fitted, but not far above it.",
    "Read the prediction as an extrapolation.",
)
SIZE_EXTRAPOLATED = CheckCode(
    "size_extrapolated",
    "info",
    "A model size lies outside the shapes of its line, so depth, width and FLOPs per token are extrapolated.",
    "Extend the ladder of the sweep to that size for exact counts.",
)
TOKENS_NOT_REPEATED = CheckCode(
    "tokens_not_repeated",
    "info",
    "The optimum of a data-constrained law is that of fresh tokens: none is seen twice.",
    "Check that your corpus has as many tokens as the prediction asks for.",
)
TOO_LARGE_TO_SERVE = CheckCode(
    "too_large_to_serve",
    "warning",
    "Weights and cache of a model are larger than the memory of the device it is served on.",
    "Choose a larger device, a smaller batch or a shorter context.",
)
TOO_SMALL_TO_TIME = CheckCode(
    "too_small_to_time",
    "info",
    "The models are so small that their seconds would be of kernel launches alone, so costs are counted in FLOPs.",
    "Ask at a larger compute or a lower loss for device time and money.",
)
UNCALIBRATED = CheckCode(
    "uncalibrated",
    "warning",
    "A device was not measured, so its seconds rest on typical shares of its data sheet and have a range.",
    "Run `scaling doctor --calibrate` on that device.",
)

CODES: tuple[CheckCode, ...] = tuple(one for one in list(globals().values()) if isinstance(one, CheckCode))

_HEADER = """\
# Check codes

<!-- Generated from scaling/checks.py by: python -m scaling.checks > docs/checks.md -->

A check is one thing that could be wrong with a plan, a fit or a comparison. `scaling plan`, `fit`, `predict`, `compare`
and the report list them, errors first; `--json` gives `code`, `severity`, `message` and `advice`. An *error* says
that a number must not be used (`launch` refuses a plan with one), a *warning* that a conclusion may change, an *info*
what a number rests on.
"""


def markdown() -> str:
    """The reference page of all codes, by name."""
    return "\n".join([_HEADER, *map(_entry, sorted(CODES, key=lambda code: code.code))])


def _entry(code: CheckCode) -> str:
    limits = [f"- Threshold: {one.value:g} {one.unit} ({one.source}).\n" for one in code.thresholds]
    return f"## `{code.code}` ({code.severity})\n\n{code.meaning}\n\n{''.join(limits)}- What to do: {code.advice}\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
