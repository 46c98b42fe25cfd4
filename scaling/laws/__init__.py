"""Scaling laws: points in, a law with its uncertainty out. A small numerical library: no torch, no pandas, no files.

`line_study.study_line(points)` answers for one line at once. Underneath, one idea per module:

    points              the arrays a law is fitted to
    forms               laws as data: chinchilla, kaplan, skaling, power, rank, rank_power, joint, data_constrained
    objectives          what is minimised: log_huber (summed), log_mse, mse, huber
    fitting             `fit`: approach 3, the global optimum with its status
    repeated_tokens     compute-optimal parameters of distinct tokens, for data_constrained
    determination       what the points do not determine, as a value with a reason
    budget_groups       budgets recognised where FLOPs cluster
    isoflop             approach 2: the minimum of each compute budget
    optima              power laws through a table of optima
    envelope            approach 1: the lower envelope of all runs
    draws               uncertainty by resampling: cases, residuals, clusters
    profile_likelihood  likelihood intervals under log_mse
    seed_noise          the scatter between seeds of one cell
    noise_groups        which runs share which part of their noise, and the covariance that follows
    noise_parts         seed, scatter, budget and line × budget with their uncertainty; draws that carry them
    law_intervals       intervals of E below the lowest loss, frontier bands that fall with compute
    tuning_bias         tuned cells: the chosen setting and its selection bias
    holdout             prediction of the largest budget from the others
    frontier            compute-optimal N, D and loss
    form_prediction     predictions of one form with their variance
    rolling_holdouts    hold-outs of several budgets: weights and calibration of forms
    extrapolation       predictions of stacked forms with calibrated intervals
    sensitivity         exponents under other objectives; the form range
    comparison          is one line better than another
    joint_models        M0 to M3: nested laws over several lines
    line_frontiers      loss at a cost and cost of a loss, for one line of a joint law
    compute_multiplier  how much less compute a line needs for a loss
    line_comparison     one line against a reference: multiplier, band over budgets, verdict
    joint_comparison    `compare_lines`: all lines against a reference in one joint law
    simultaneous        sup-t bands and the verdicts they support
    gls_tests           a law inside a larger one, tested under the parts of the noise, with power
    rank_comparison     kappa, tested against a data term per line
    size_trend          a trend in N that the law does not have
    paired_seeds        the difference of two lines over matched runs
    resolving           which further runs would resolve a verdict
    fit_checks          what could be wrong with a law
    published           the catalogue of published laws
    fit_text            a fit as text for a paper
    solver/             the numerics: parameters and constraints, objective terms, start grid, Newton, identifiability

Laws of one budget, two budgets, one rank ratio … are refused with a reason (`FitError`).
"""
