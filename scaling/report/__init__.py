"""The output of a study: figures, tables, sentences, JSON documents, the terminal and one page.

| module               | idea                                                             |
|----------------------|------------------------------------------------------------------|
| figures/             | one file per figure: its numbers, its drawing, its caption       |
| table                | one table as CSV, Markdown, LaTeX                                |
| tables               | every table of a study, by name                                  |
| law_tables           | minima, parameters, exponents, predictions, hold-out validation  |
| rate_tables          | the tables of a sweep that tuned its rates                       |
| run_tables           | data points, tuned cells, dropped runs                           |
| run_list             | every run for the page, with its training curve                  |
| decision_tables      | the serving decision in words and tables                         |
| ranks                | what depends on the rank ratio                                   |
| grouped_checks       | one item per check code, naming its lines                        |
| checklist            | a reporting checklist, filled in                                 |
| summary              | the study in a few sentences, the first of which answers         |
| documents            | the JSON of `fit`, `predict` and `compare`                       |
| serving_document     | the JSON of serving costs                                        |
| terminal             | `fit` and `compare` for a terminal                               |
| attempts             | what fails is named, everything else is written                  |
| html                 | report.html                                                      |
"""
