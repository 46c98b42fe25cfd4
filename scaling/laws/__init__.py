"""Scaling laws: points in, a law with honest uncertainty out. A small numerical library: no torch, no pandas, no files.

`study.study_line(points)` answers for one line at once. Underneath, one idea per module:

    points        the arrays a law is fitted to
    forms         laws as data: chinchilla, kaplan, power, rank, rank_power, joint, data_constrained
    objectives    what is minimised: log_huber (summed), log_mse, mse, huber
    identify      which laws some points can determine at all
    layout        the parameter vector: names, bounds, the way to the reported numbers
    system        a form laid over points, with its derivatives
    project       a grid over the non-linear parameters: where to start
    newton        second-order descent, all bootstrap draws in one batch
    solve         `fit`: approach 3, the global optimum with its status
    repeats       compute-optimal parameters of distinct tokens, for data_constrained
    isoflop       approach 2: the minimum of each compute budget
    envelope      approach 1: the lower envelope of all runs
    bootstrap     uncertainty by resampling: cases, residuals, clusters
    profile       likelihood intervals under log_mse
    noise         what one seed is worth
    selection     tuned cells: the chosen setting and the bias of choosing
    audit         prediction of the largest budget from the others
    frontier      compute-optimal N, D and loss
    sensitivity   exponents under other objectives; the form range
    verdict       is one line better than another
    checks        what could be wrong with a law
    published     the catalogue of published laws
    text          a fit as a scientist would paste it

Laws of one budget, two budgets, one rank ratio … are refused in words (`FitError`), never fitted as if they were good.
"""
