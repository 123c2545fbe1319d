import pytest

from mwam_det.data.naming import NamesByEnd, without_image_suffix

NAMES = ["night/0001", "day/0001", "0002", "train/0003", "a.rf.1", "day/train/0005", "day/0006"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("night/0001.jpg", "night/0001"),
        ("./night/0001", "night/0001"),
        ("/home/ann/set/rgb/day/0001.PNG", "day/0001"),
        ("C:\\set\\rgb\\day\\0001.png", "day/0001"),
        ("../rgb/day/0001.png", "day/0001"),
        ("x/0002.png", "0002"),
        ("a.rf.1", "a.rf.1"),
        ("a.rf.1.jpg", "a.rf.1"),
        ("0003.jpg", "train/0003"),
        ("elsewhere/0003.jpg", "train/0003"),
        ("training/0003.jpg", "train/0003"),
        ("valid/0003.jpg", None),
        ("0005.jpg", "day/train/0005"),
        ("Day/Training/0005.jpg", "day/train/0005"),
        ("night/train/0005.jpg", None),
        ("train/0005.jpg", "day/train/0005"),
        ("/set/day/rgb/0005.jpg", "day/train/0005"),
        ("C:\\set\\0005.jpg", None),
        ("night/0006.jpg", None),
        ("DAY/0006.jpg", "day/0006"),
        ("0001.jpg", None),
        ("elsewhere/0001.jpg", None),
        ("0004.jpg", None),
        ("", None),
        ("..", None),
    ],
)
def test_a_path_of_another_place_means_the_name_at_its_end_or_none(path, name):
    assert NamesByEnd(NAMES).find(path) == name


@pytest.mark.parametrize(
    ("path", "stem"), [("a\\b.JPG", "a/b"), ("a.rf.0", "a.rf.0"), ("b", "b"), ("c.txt", "c.txt"), ("x.v2.tif", "x.v2")]
)
def test_the_extension_of_an_image_is_taken_off_and_no_other(path, stem):
    assert without_image_suffix(path) == stem
