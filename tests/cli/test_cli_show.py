"""One run and one folder on the screen: `show`, `logs`, `list`."""

from __future__ import annotations

import math

from scaling.cli._curve_plot import curve_plot

SWEEP = "sweeps/micro.yaml"
LABEL = "low_rank@0.25/2.8e+08/d8L1"
PLOT = """\
   3.000 │•
         │
         │               •
         │                              •
         │
         │                                            •
         │
   2.000 │                                                           •
         └────────────────────────────────────────────────────────────
          1                                                      10000"""


def test_show_has_settings_attempts_and_curve_of_a_labelled_run(launched) -> None:
    shown = launched("show", SWEEP, LABEL).stdout
    document = launched.json("show", SWEEP, LABEL)
    run, curve = document["run"], document["curve"]
    assert (run["cell"], run["status"], run["seed"], run["lr"]) == (LABEL, "completed", 0, 0.05)
    assert f"run {run['id']}  {LABEL}, seed 0, lr 0.05" in shown
    assert "optimizer.name" in shown
    assert "attempt 1 on" in shown
    assert document["settings"]["shape"]["width"] == 8
    assert [attempt["error"] for attempt in document["attempts"]] == [None]
    assert [point["step"] for point in curve] == sorted(point["step"] for point in curve)
    assert all(0 < point["loss"] < 2 * math.log(256) for point in curve)
    assert "attempt 1 on" in launched("logs", SWEEP, LABEL).stdout


def test_a_label_that_names_two_runs_is_refused_with_their_names(launched) -> None:
    runs = launched.json("status", SWEEP)["runs"]
    cell = next(run["cell"] for run in runs if run["seed"] == 1)
    refused = launched("show", SWEEP, cell, status=1)
    assert refused.stdout == ""
    assert f"{cell}/lr=0.02/seed=1" in refused.stderr
    assert launched.json("show", SWEEP, f"{cell}/seed=1")["run"]["seed"] == 1


def test_list_says_what_was_launched_finished_and_spent(launched) -> None:
    micro = next(one for one in launched.json("list")["sweeps"] if one["sweep"] == "micro")
    assert (micro["launch"], micro["finished"], micro["runs"], micro["problem"]) == (1, 26, 26, None)
    assert micro["device_hours"] > 0
    line = next(line for line in launched("list").stdout.splitlines() if line.startswith("micro"))
    assert {"sweeps/micro.yaml", "26/26"} <= set(line.split())


def test_a_folder_without_sweeps_says_how_to_begin(scaling) -> None:
    scaling.sweep.unlink()
    assert "scaling init NAME" in scaling("list").stderr


def test_a_curve_is_drawn_over_the_logarithm_of_the_step() -> None:
    assert curve_plot([(10**power, 3 - power / 4) for power in range(5)]) == PLOT
    assert curve_plot([(1, 3.0), (2, 3.0)]).count("•") == 2
