import pytest

from mwam_det.data.inspection.sizes import other_shapes, unlike_others

USUAL = [((480, 640), (240, 320))] * 20


def test_partners_of_another_shape_are_told_whatever_their_size():
    sizes = [*USUAL, ((480, 640), (480, 480)), ((480, 640), (484, 640)), ((480, 640), (500, 640))]
    assert other_shapes(sizes, 1) == [20, 22]  # 0.8 % is rounding
    assert other_shapes(sizes, 0) == []


@pytest.mark.parametrize(
    ("pair", "place"),
    [
        (((480, 640), (100, 77)), 1),
        (((480, 640), (240, 280)), 1),
        (((480, 640), (60, 80)), 1),
        (((480, 640), (960, 1280)), 1),
        (((60, 80), (30, 40)), 0),
    ],
)
def test_a_file_unlike_the_others_is_told(pair, place):
    assert unlike_others([*USUAL, pair], place) == [20]


@pytest.mark.parametrize("pair", [((480, 640), (240, 320)), ((960, 1280), (480, 640)), ((482, 640), (240, 320))])
def test_a_file_that_goes_with_its_partner_is_not(pair):
    assert unlike_others([*USUAL, pair], 0) == unlike_others([*USUAL, pair], 1) == []


def test_where_all_differ_none_is_unlike_the_others():
    sizes = [((480, 640), (height, 320)) for height in range(100, 400, 20)]
    assert unlike_others(sizes, 1) == []
    alone = [((height, height), (height, height)) for height in (20, 40, 80, 160, 320, 640, 1280)]
    assert unlike_others(alone, 0) == []


def test_all_of_another_shape_are_the_usual():
    sizes = [((1080, 1920), (512, 640))] * 10
    assert other_shapes(sizes, 1) == list(range(10))
    assert unlike_others(sizes, 1) == []
    assert unlike_others([*sizes, ((1080, 1920), (360, 640))], 1) == [10]
