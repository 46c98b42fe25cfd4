"""What finished runs mean: from a table of losses to laws, differences, costs, figures and one page.

| module                       | idea                                                                              |
|------------------------------|-----------------------------------------------------------------------------------|
| rows                         | a table read: our runs.csv, or any CSV, JSON lines, Parquet of params, tokens, loss |
| cells                        | which runs become data points, and why the others do not                          |
| settings                     | how a study is made                                                               |
| costs                        | what one trained token costs at a size N                                          |
| lines, together              | one line with its points, law and frontier; one law over all lines                |
| differences                  | the loss of a line minus the reference's at equal cost, with a verdict            |
| suspicions                   | what could be wrong                                                               |
| study                        | all of it: `study_rows(rows, settings=...)`                                       |
| predictions                  | the compute-optimal model at a compute, with interval and form range              |
| serving                      | inference cost at equal loss                                                      |
| documents, text              | the JSON of fit, predict, compare; the same for a terminal                        |
| table, tables                | named tables as CSV, Markdown, LaTeX                                              |
| figure_data, figures, ink    | the numbers of every figure; their drawing; their look                            |
| answer, report               | the study in a few sentences, the first of which answers; report.html             |
"""
