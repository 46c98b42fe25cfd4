from __future__ import annotations

import csv
from dataclasses import replace

from scaling.analysis.settings import Settings
from scaling.analysis.study import study_rows
from scaling.report.law_tables import minima_table
from scaling.report.table import Table, compute_text
from scaling.report.tables import TABLES, serving_table, study_tables
from scaling.report.terminal import compare_text, fit_text, serving_extract, table_text

settings = Settings(params_column="params_matmul", convention="exact", bootstrap=200, predict=(1e12,), devices=("cpu",))

MINIMA = """\
**IsoFLOP minima (approach 2)**

| line  | budget | points | N_opt | 95 % | D_opt |  D/N |  loss | 95 % | bracketed |
| ----- | -----: | -----: | ----: | ---: | ----: | ---: | ----: | ---: | --------- |
| dense | 2.0e10 |      7 | 6.97k |    – |  358k | 51.4 | 2.192 |    – | yes       |
"""


def test_the_minima_are_golden(simulate, settings):
    """Without noise and draws: the numbers are the law's own."""
    made = study_rows(simulate(noise=0.0), settings=replace(settings, bootstrap=0))
    rows = tuple((*row[:4], None, *row[5:8], None, *row[9:]) for row in minima_table(made).rows)
    table = Table("minima", "IsoFLOP minima (approach 2)", minima_table(made).columns, rows[:1])
    assert table.markdown() == MINIMA


TABLES_OF_A_SWEEP = "multipliers differences nested_tests kappa minima fits exponents predictions serving cells"


def test_every_table_has_rows_and_three_files(study, tmp_path):
    written = [path for table in study_tables(study) for path in table.write(tmp_path)]
    names = [table.name for table in study_tables(study)]
    assert names == TABLES_OF_A_SWEEP.split()
    assert sorted(path.name for path in written) == sorted(
        f"{n}.{kind}" for n in names for kind in ("csv", "md", "tex")
    )
    for path in tmp_path.glob("*.csv"):
        header, *rows = csv.reader(path.read_text().splitlines())
        assert len(set(header)) == len(header)
        assert all(len(row) == len(header) for row in rows)


def test_the_same_table_of_runs_gives_the_same_bytes(study, simulate, tmp_path, settings):
    first = {table.name: (table.csv(), table.markdown(), table.latex()) for table in study_tables(study)}
    # Serving cost is the slow part, and a function of the laws alone.
    again = study_rows(simulate(), settings=replace(settings, devices=()))
    second = {table.name: (table.csv(), table.markdown(), table.latex()) for table in study_tables(again)}
    assert second.keys() == first.keys() - {"serving"}
    assert all(first[name] == text for name, text in second.items())


def test_no_table_shows_a_number_that_is_not_finite(study):
    for make in TABLES.values():
        assert "nan" not in make(study).csv()
        assert "inf" not in make(study).csv()


def test_compute_is_written_as_in_the_field():
    assert compute_text(2e11) == "2.0e11"
    assert compute_text(16.6) == "16.6"


def test_text_for_a_terminal(study):
    text = fit_text(study)
    assert "low_rank@0.5: no law." in text
    assert "dense, approach 2 (parabola): N ∝ C^" in text
    assert "[optimizer_differs]" in text
    only = fit_text(study, approach=2)
    assert "Law chinchilla" not in only
    assert "IsoFLOP minima" in only
    told = compare_text(study)
    assert "Inference cost at equal loss" in told
    lowest = min(row[0] for row in serving_table(study).rows)
    extract = serving_extract(study)
    assert f"{lowest:.3f} nats/token" in extract.title
    assert len(extract.rows) == sum(row[0] == lowest for row in serving_table(study).rows)
    assert max(map(len, table_text(extract).splitlines()[:-1])) < 160
