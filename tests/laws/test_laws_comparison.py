from laws_cases import codes

from scaling.laws.comparison import axes_checks, word_for


def test_a_word_takes_an_interval_without_zero():
    assert word_for((-0.2, -0.1)) == "better"
    assert word_for((0.1, 0.2)) == "worse"
    assert word_for((-0.1, 0.2)) == word_for(None) == "not resolved"


def test_verdicts_that_disagree_are_checked():
    made = axes_checks({"exact": "better", "device_seconds": "worse"}, ("a", "b"))
    assert codes(made) == {"verdict_depends_on_cost"}
    assert "at equal device seconds worse" in made[0].message
    assert axes_checks({"exact": "better", "device_seconds": "better"}, ("a", "b")) == ()
