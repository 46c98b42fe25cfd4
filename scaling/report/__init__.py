"""What a person sees of a study: figures, tables, sentences, JSON documents, the terminal and one page.

| module               | idea                                                             |
|----------------------|------------------------------------------------------------------|
| figures/             | every figure: its numbers, its drawing, its look                 |
| table, tables        | named tables as CSV, Markdown, LaTeX                             |
| rate_tables          | the tables of a sweep that tuned its rates                       |
| summary              | the study in a few sentences, the first of which answers         |
| documents, terminal  | the JSON of fit, predict, compare; the same for a terminal       |
| html                 | report.html                                                      |
"""
