import pytest
from torch import nn

from mwam_det.data.names import RESERVED, check_modality_names, class_folders


@pytest.mark.parametrize("name", ["rgb", "IR", "near-infrared", "T_1", "Wärme", "红外", "a" * 64])
def test_a_modality_has_a_letter_then_letters_digits_and_dashes(name):
    check_modality_names([name, "depth"])


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "/abs", "a/b", "a\\b", "C:", "1st", "_ir", "-ir", "a.b", "a+b", "a b", " ir", "ir\n", "a\0",
     "a" * 65, "é"[0] + "\u0301", 0, None, True, ("rgb",)],
)  # fmt: skip
def test_another_name_is_refused_with_what_is_allowed(name):
    with pytest.raises(ValueError, match="a modality may not be called .* use a letter, then up to 63") as caught:
        check_modality_names(["rgb", name])
    assert repr(name) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*RESERVED, "PCR", "Labels"])
def test_a_word_that_means_something_elsewhere_is_refused_with_where(name):
    with pytest.raises(ValueError, match=f"a modality may not be called '{name}': a "):
        check_modality_names(["rgb", name])


@pytest.mark.parametrize("name", ["type", "half", "keys", "training"])
def test_what_pytorch_would_refuse_in_a_model_is_refused_before_there_is_one(name):
    with pytest.raises(KeyError):
        nn.ModuleDict({name: nn.Identity()})
    with pytest.raises(ValueError, match=f"'{name}': every module of PyTorch has an attribute of that name"):
        check_modality_names(["rgb", name])


def test_two_modalities_that_differ_in_case_alone_are_refused_with_both_names():
    with pytest.raises(ValueError, match="'IR' and 'ir' would share folders"):
        check_modality_names(["IR", "rgb", "ir"])


def test_classes_that_people_use_keep_their_names():
    names = dict(enumerate(["freight car", "traffic light", "été", "person?a", "R2-D2", "车"]))
    assert class_folders(names) == {**names, 3: "person-a"}


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("..", "--"),
        (".", "-"),
        ("../../etc", "---..-etc"),
        ("/abs", "-abs"),
        ("a/b\\c:d", "a-b-c-d"),
        (".hidden", "-hidden"),
        ("van. ", "van--"),
        ("a\0b\nc\x9f", "a-b-c-"),
        ("\ud800", "-"),
        ('<"|*?>', "------"),
        (7, "7"),
    ],
)
def test_what_a_system_takes_for_a_place_or_drops_becomes_a_dash(name, folder):
    assert class_folders({0: "x", 5: name}) == {0: "x", 5: folder}


@pytest.mark.parametrize(
    ("first", "second"), [("a/b", "a-b"), ("Car", "car"), ("é", "e\u0301"), ("ß", "SS"), ("..", "/.")]
)
def test_two_classes_that_would_share_a_folder_are_refused_with_both_names(first, second):
    with pytest.raises(ValueError, match="would share the folder") as caught:
        class_folders({0: first, 1: "x", 2: second})
    assert repr(first) in str(caught.value) and repr(second) in str(caught.value)


def test_a_name_that_no_folder_can_have_is_refused():
    with pytest.raises(ValueError, match="the class 1 has an empty name"):
        class_folders({0: "x", 1: ""})
    with pytest.raises(ValueError, match="the class 'éééé.*…' has a name too long for a folder: at most 200 bytes"):
        class_folders({0: "é" * 101})
    assert class_folders({0: "é" * 100})
