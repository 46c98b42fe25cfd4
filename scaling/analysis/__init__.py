"""What finished runs mean: from a table of losses to laws, differences, costs, figures and one page.

rows          a table read: our runs.csv, or any CSV, JSON lines or Parquet of params, tokens, loss
cells         which runs become data points, and why the others do not
settings      how a study is made
lines         one (family, rank ratio) with its points, law and frontier
differences   the loss of a line minus the reference's at equal cost, with a verdict
study         all of it: `study_rows(rows, settings=...)`
predictions   the compute-optimal model at a compute, with interval and form range
serving       inference cost at equal loss
documents     the JSON of fit, predict, compare
table, tables named tables, as CSV, Markdown, LaTeX
figure_data, figures, ink
answer        the study in a few sentences, the first of which answers the question
report        report.html
"""
