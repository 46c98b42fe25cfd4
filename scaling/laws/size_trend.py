"""A test for a trend in N that the law does not have, and the smallest trend it would detect.

The test adds a slope of log L in log N above the mean size. On 35 points a slope of 1 % moves the loss at the largest
budget by a noise standard deviation and is detected in one study of eight, so a trend that is not detected does not
prove the law: the smallest one that would be, with 80 % power, is printed beside it (benchmarks/verdicts.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.errors import FitError
from scaling.laws.fitting import Fit
from scaling.laws.gls_tests import NestedTest, nested_test, smallest_found
from scaling.laws.noise_parts import NoiseParts

_ALTERNATIVE = 0.01  # of the loss per unit of log N: the trend whose power is shown (assumption)


@dataclass(frozen=True)
class SizeTrend:
    """The test for a slope of log loss in log N above the mean size.

    Attributes:
        test: the law against the law with the slope; its power is against 1 % per unit of log N.
        smallest: the slope found with 80 % power, as a share of the loss per unit of log N.
        reach: log of the largest N over the mean one, where the slope has its full effect.
    """

    test: NestedTest
    smallest: float
    reach: float

    def __str__(self) -> str:
        message = "a trend in N that the law does not have" if self.test.rejected else "no trend in N found"
        return (
            f"{message} (p {self.test.p_value:.3f}); the smallest one found with 80 % power is "
            f"{np.expm1(self.smallest * self.reach):.1%} of the loss at the largest size"
        )


def size_trend(fit: Fit, parts: NoiseParts) -> SizeTrend:
    """Tests `fit` for a trend above its mean size, under the parts of its noise.

    Raises:
        FitError: too few points for one more parameter.
    """
    log_size = np.log(fit.points.params) - np.log(fit.points.params).mean()
    above = np.maximum(log_size, 0.0)
    words = f"{_ALTERNATIVE:.0%} of the loss per unit of log N above the mean size"
    test = nested_test(
        fit, parts, above[:, None], _ALTERNATIVE * above, names=(fit.law, f"{fit.law} with a trend"), alternative=words
    )
    if not test.extra:
        raise FitError("a trend takes one more parameter than the law", got=f"{len(fit.points)} points")
    return SizeTrend(test, smallest_found(parts, fit, above), float(log_size.max()))
