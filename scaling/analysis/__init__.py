"""Analysis of finished runs: from a table of losses to laws, comparisons, predictions and serving costs.

| module            | idea                                                                              |
|-------------------|-----------------------------------------------------------------------------------|
| table_reader      | a table read: our runs.csv, or anyone's, with a report of what was decided         |
| table/            | the steps from a file to rows: formats, columns, units, rows to keep, what a row is |
| foreign_row       | a row of somebody else's table                                                     |
| data_points       | which runs become data points, and why the others do not                          |
| settings          | how a study is made                                                               |
| training_costs    | what one trained token costs at a size N                                          |
| lines, joint_law  | one line with its points, law and frontier; one law over all lines                |
| comparisons       | the loss of a line minus the reference's at equal cost, with a verdict            |
| rates             | losses and stability at each learning rate                                        |
| study_checks      | what could be wrong                                                               |
| study             | all of it: `study_rows(rows, settings=...)`                                       |
| predictions       | the compute-optimal model at a compute, with interval and form range              |
| serving           | inference cost at equal loss                                                      |
"""
