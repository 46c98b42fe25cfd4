import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.quantity import format_duration, format_number, parse_duration, parse_number, round_significant


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1e18", 1e18),
        ("2.20e18", 2.2e18),
        ("128k", 128_000),
        ("128K", 128_000),
        ("1.3B", 1_300_000_000),
        ("28M", 28_000_000),
        ("4T", 4 * 10**12),
        ("1_000", 1000),
        ("-3", -3),
        (".5", 0.5),
        (7, 7),
        (0.02, 0.02),
    ],
)
def test_numbers_as_people_write_them(text: object, number: float) -> None:
    assert parse_number(text) == number
    assert isinstance(parse_number(text), int) == isinstance(number, int)


@pytest.mark.parametrize(
    "text",
    ["", "k", "1e400", "nan", "inf", "1.2.3", "1 0", "12:30", "1kk", "0x10", "1" * 65, None, True, [1], math.nan],
)
def test_what_is_not_a_number_is_refused(text: object) -> None:
    with pytest.raises(ValueError):
        parse_number(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("90m", 5400), ("12h", 43200), ("2d", 172800), ("1h30m", 5400), ("1.5h", 5400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "90", 90, "12:30:00", "1x", "h", "-1h", "1h-", None])
def test_what_is_not_a_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_survives_its_own_spelling(number: float) -> None:
    assert parse_number(repr(number)) == number


@given(st.floats(min_value=1e-300, max_value=1e300), st.integers(1, 12))
def test_rounding_keeps_the_digits_asked_for(number: float, digits: int) -> None:
    rounded = round_significant(number, digits)
    assert abs(rounded / number - 1) <= 0.5000001 * 10 ** (1 - digits)
    assert round_significant(rounded, digits) == rounded


@given(st.floats(min_value=1e-30, max_value=1e30))
def test_short_forms_say_the_number_to_three_digits(number: float) -> None:
    assert abs(parse_number(format_number(number)) / number - 1) <= 0.005001


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.25, "4.2s"), (42, "42s"), (200, "3m 20s"), (18_600, "5h 10m"), (273_600, "3d 4h"), (math.inf, "–")],
)
def test_short_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
