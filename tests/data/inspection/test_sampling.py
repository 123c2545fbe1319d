from mwam_det.data.inspection.sampling import divide_sample, evenly


def test_a_sample_is_spread_evenly_and_divided_among_the_splits():
    assert evenly(10, 4) == [0, 3, 6, 9]
    assert evenly(3, 10) == [0, 1, 2]
    assert divide_sample({"train": 900, "val": 100, "test": 2}, 100) == {"train": 90, "val": 10, "test": 1}
