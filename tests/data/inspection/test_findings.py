from dataclasses import replace

from mwam_det.data.inspection.findings import brief_list, findings_of

SERIOUS_WORDS = ("swapped", "same file", "same picture", "shifted", "left out", "single value", "in both", "no object")


def test_nothing_is_found_in_a_clean_set(demo_inspection):
    assert not [sentence for sentence in demo_inspection.findings if any(word in sentence for word in SERIOUS_WORDS)]
    assert not any(figures.swapped or figures.same_picture for figures in demo_inspection.alignment.values())


def test_a_shift_that_differs_from_pair_to_pair_is_told_as_a_guess(demo_inspection):
    figures = replace(
        demo_inspection.alignment["ir"], sampled=10, edges_agree=10, shifts_agree=2, shift=None, spread=(22.0, 3.0)
    )
    (finding,) = [f for f in findings_of(replace(demo_inspection, alignment={"ir": figures})) if "shifted" in f]
    assert "perhaps" in finding
    assert "±22 px" in finding


def test_long_lists_are_cut():
    assert brief_list(["a", "b"]) == "a, b"
    assert brief_list(map(str, range(80)), most=4) == "0, 1, 2 and 77 more"
