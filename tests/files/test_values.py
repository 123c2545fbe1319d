import pytest
from ultralytics.cfg import smart_value

from mwam_det.files.values import format_value, parse_text, parse_value


@pytest.mark.parametrize(
    "text",
    [
        "5",
        "-5",
        "0.5",
        ".5",
        "1e-3",
        "1E3",
        "True",
        "FALSE",
        "none",
        "yolov8n.pt",
        "2024-01-05",
        "yes",
        "no",
        "on",
        "010",
    ]
    + ["1:30", "a#b", "a # b", "cuda:0", "~/data", "'quoted'", "0x1f", "-", "...x", "007"],
)
def test_a_value_is_what_ultralytics_makes_of_it(text):
    value = parse_value(text)
    assert value == smart_value(text) and type(value) is type(smart_value(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        ("[0, 2]", [0, 2]),
        ("0,1", [0, 1]),
        ("(320, 256)", [320, 256]),
        ("{gamma: 0.5, mode: observe, a: null}", {"gamma": 0.5, "mode": "observe", "a": None}),
        ("[rgb, no, 2024-01-05, '3', \"x\"]", ["rgb", "no", "2024-01-05", "3", "x"]),
        ("{ir: [[1, 0, 1e1]], 3: yes}", {"ir": [[1, 0, 10.0]], 3: "yes"}),
        ("{}", {}),
        ("b'x'", "b'x'"),
        ("1+2j", "1+2j"),
        ("(" * 2000, "(" * 2000),
    ],
)
def test_brackets_hold_values_of_the_same_rule(text, value):
    assert parse_value(text) == value


@pytest.mark.parametrize("text", ["[a", "{a: 1, a: 2}", "{a: &x [*x]}", "[" * 50 + "]" * 50])
def test_brackets_that_are_no_yaml_are_refused_in_a_line(text):
    with pytest.raises(ValueError) as caught:
        parse_value(text)
    assert "\n" not in str(caught.value)


def test_a_text_that_no_file_can_hold_is_refused():
    for read in (parse_value, parse_text):
        with pytest.raises(ValueError, match="a character that no file can hold"):
            read("a\udcff")


@pytest.mark.parametrize("text", ["5", "true", " x ", "[a", "{a: b}", "'a'", "nullo"])
def test_a_text_is_what_was_typed(text):
    assert parse_text(text) == text
    assert parse_text("Null") is None


def test_a_text_may_also_be_several_or_a_switch():
    assert parse_text("[no, 1]", brackets=True) == ["no", "1"]
    assert parse_text("{0: no, a: {1: 2}}", brackets=True) == {0: "no", "a": {1: "2"}}
    assert parse_text("True", switch=True) is True


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        ({"views": 2, "level": "input"}, "{views: 2, level: input}"),
        (["a", 0.1], "[a, 0.1]"),
        ("5", '"5"'),
        ("none", '"none"'),
        ("it's", '"it\'s"'),
        ("two words", "two words"),
        ("a: b", '"a: b"'),
    ],
)
def test_a_value_that_is_written_is_read_back(value, text):
    assert format_value(value) == text
    assert parse_value(text) == value
    assert parse_value(format_value([value])) == [value]
