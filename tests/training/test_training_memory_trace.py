"""The memory function against two traces of the real step; `benchmarks/memory_trace.py` makes the whole table."""

import platform
import sys
from pathlib import Path

import pytest

from scaling.run import Shape
from scaling.sweeps.memory import training_memory

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from memory_trace import a_run, measured_peak, small_run, traced_peak


@pytest.mark.parametrize(
    ("name", "ratio", "precision", "vocabulary", "sequences", "length", "peak_in_update"),
    [
        ("muon", None, "bfloat16", 32000, 4, 1024, False),
        ("spectron", 0.25, "float32", 512, 1, 16, True),
        ("adamw", None, "bfloat16", 512, 1, 16, True),
    ],
)
def test_the_peak_is_that_of_a_traced_step(name, ratio, precision, vocabulary, sequences, length, peak_in_update):
    shape = Shape(layers=2, width=256, heads=4, ff_width=688, vocab_size=vocabulary)
    run = a_run(shape, name, ratio, precision=precision, sequences=sequences, length=length)
    predicted = training_memory(run, sequences=sequences)
    assert (predicted.update + predicted.measuring > predicted.activations + predicted.logits) == peak_in_update
    assert predicted.peak == pytest.approx(traced_peak(run), rel=0.1)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="freed blocks are given back by a setting of glibc")
def test_the_peak_is_that_of_a_measured_process():
    run = small_run("d128L4")
    assert training_memory(run, sequences=32).peak == pytest.approx(measured_peak(run), rel=0.15)
