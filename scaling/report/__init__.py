"""The output of a study: figures, tables, sentences, JSON documents, the terminal and one page.

| module               | idea                                                             |
|----------------------|------------------------------------------------------------------|
| figures/             | one file per figure: its numbers, its drawing, its caption       |
| table                | one table as CSV, Markdown, LaTeX                                |
| tables               | every table of a study, by name                                  |
| law_tables           | minima, parameters, exponents, predictions, hold-out validation  |
| rate_tables          | the tables of a sweep that tuned its rates                       |
| run_tables           | data points, tuned cells, dropped runs                           |
| summary              | the study in a few sentences, the first of which answers         |
| documents            | the JSON of `fit`, `predict` and `compare`                       |
| serving_document     | the JSON of serving costs                                        |
| terminal             | `fit` and `compare` for a terminal                               |
| attempts             | what fails is named, everything else is written                  |
| html                 | report.html                                                      |
"""
