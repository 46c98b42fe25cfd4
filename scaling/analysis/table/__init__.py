"""Reading somebody else's table: every step from bytes to rows, one module each.

| raw        | a table before any meaning: named columns of cells, and where each row stands |
| formats    | CSV, JSON, Parquet, Excel, a folder or glob of files, to a raw table |
| delimited  | text with separators: encoding, separator, header |
| json_tables | JSON arrays, lines and column objects |
| header     | headers of two lines, in comments, with units |
| sheets     | sheets of a spreadsheet |
| exports    | W&B exports, whole configurations in cells, tables on their side, sizes in the names of runs |
| cells      | cells to numbers: suffixes, thousands, decimal commas |
| names      | what the field calls each column |
| columns    | which column is which; ambiguity is asked about |
| units      | units in headers and names, losses to nats, FLOPs against 6·N·D |
| expression | the expressions of --where and --exclude |
| keeping    | which rows are kept, and why the others are not |
| shapes     | shapes of models, for `scaling import` |
| row_kinds  | what a row is: a run, a checkpoint, a tuned setting, a line |
| decisions  | everything that was decided |
"""
