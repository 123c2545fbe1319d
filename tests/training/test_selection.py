import pytest

from mwam_det.training.selection import Selection, selected_fitness, selection_of


def test_the_mean_and_the_worst_of_all_combinations_decide_as_their_names_say():
    assert selected_fitness([0.2, 0.4, 0.9], "mean") == pytest.approx(0.5)
    assert selected_fitness([0.2, 0.4, 0.9], "worst") == pytest.approx(0.2, abs=0.001)


def test_of_two_epochs_with_the_same_worst_combination_the_one_with_the_better_mean_wins():
    assert selected_fitness([0.0, 0.4, 0.9], "worst") > selected_fitness([0.0, 0.3, 0.8], "worst")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"select": "best"}, "select='best' must be one of full, mean, worst"),
        ({"every": 0}, "every=0 must be"),
        ({"evry": 2}, "did you mean 'every'"),
    ],
)
def test_what_cannot_decide_is_refused(values, words):
    with pytest.raises(ValueError, match=words):
        Selection.from_dict(values)


def test_a_recipe_names_what_decides_alone_or_with_how_often():
    assert selection_of(None) == Selection() and selection_of("mean") == Selection("mean")
    assert selection_of({"by": "worst", "every": 5}) == Selection("worst", 5)
    for value, words in ((True, "select=True must be full, mean, worst, or"), ({"on": "mean"}, "unknown key 'on'")):
        with pytest.raises(ValueError, match=words):
            selection_of(value)
