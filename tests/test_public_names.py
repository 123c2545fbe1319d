import mwam_det

PUBLIC = [
    "FRMBank",
    "GradientModulator",
    "MWAM",
    "MWAMConfig",
    "MWAMTrainer",
    "MultimodalYOLO",
    "RobustnessReport",
    "UpdateModulator",
    "allocate_weights",
    "frequency_ratio_metric",
    "performance_collapse_rate",
    "two_stream_cfg",
]


def test_the_public_names_are_these_and_each_can_be_imported():
    assert sorted(mwam_det.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(mwam_det, name).__doc__
        assert name in dir(mwam_det)


def test_any_other_name_is_an_attribute_error():
    assert not hasattr(mwam_det, "UnknownName")
