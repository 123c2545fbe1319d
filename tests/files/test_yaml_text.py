import os

import pytest

from mwam_det.files.yaml_text import LARGEST_FILE, parse_yaml, read_yaml


def refusal(text):
    with pytest.raises(ValueError) as caught:
        parse_yaml(text)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 300
    return message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# nothing but words", None),
        ("a: 1\nb: [x, {c: null}]", {"a": 1, "b": ["x", {"c": None}]}),
        ("\ufeffa: 1", {"a": 1}),
        ("a: &x {b: 1, c: 2}\nd: *x", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 2}}),
        ("a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}", {"a": {"b": 1, "c": 2}, "d": {"b": 3, "c": 2}}),
        ("z: {a: &x {b: 1}, c: &y {<<: *x, b: 2}}\nd: [*y]", {"z": {"a": {"b": 1}, "c": {"b": 2}}, "d": [{"b": 2}]}),
        ("- &x\n- *x", [None, None]),
    ],
)
def test_what_people_write_is_read_as_yaml_has_it(text, value):
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{epochs: 3, epochs: 7}", "the key 'epochs' is given twice, in line 1"),
        ("a: 1\nb:\n  c: 1\n  'c': 2", "the key 'c' is given twice, in lines 3 and 4"),
        ("names: {1: a, 1.0: b}", "the key 1.0 is given twice"),
        ("names: {1: a, true: b}", "the key True is given twice"),
        ("x: &x {a: 1}\ny: {<<: *x, <<: *x}", "the key '<<' is given twice"),
    ],
)
def test_a_key_that_is_given_twice_is_refused_with_both_lines(text, words):
    assert words in refusal(text)


@pytest.mark.parametrize(
    "text", ["a: 1\nzz: &x [*x]", "b: 1\n&x a: {c: 1}\nd: &y {e: [*y]}", "a: 1\n? b\n: &x {<<: *x}"]
)
def test_an_alias_for_what_contains_it_is_refused(text):
    assert "an alias refers to what contains it, line " in refusal(text)


def test_aliases_that_multiply_are_refused_without_being_expanded():
    lines = ["a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefghi", "bcdefghij", strict=True)]
    assert "it has more than 100,000 values" in refusal("\n".join(lines))


@pytest.mark.parametrize("text", ["[" * 50 + "]" * 50, "[" * 3000 + "]" * 3000, "{a: " * 5000, "- " * 5000])
def test_deep_nesting_is_refused(text):
    assert "it is nested more than 32 levels deep" in refusal(text)


def test_a_chain_of_aliases_is_as_deep_as_what_it_stands_for():
    chain = "\n".join(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 60))
    assert "nested more than 32 levels deep" in refusal(f"a0: &a0 [1]\n{chain}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 2024-99-99", "'2024-99-99' is not a valid timestamp, line 1"),
        ("b: 1\na: !!int ''", "'' is not a valid int, line 2"),
        ("a: !!bool maybe", "'maybe' is not a valid bool"),
        ("a: " + "9" * 5000, "is not a valid int"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor for the tag"),
        ('a: "\\UFFFFFFFF"', ""),
        ('a: "x\\0"', "a text has a character that no file can hold, line 1"),
        ('a: "\\ud800"', "a text has a character that no file can hold, line 1"),
        ("\x01", "unacceptable character"),
        ("? [a]\n: b", "unhashable key"),
        ("a: [", "line 1"),
        ("*a", "undefined alias 'a', line 1"),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_in_a_line(text, words):
    assert words in refusal(text)


def test_a_file_is_named_where_it_is_refused(tmp_path):
    file = tmp_path / "night.yaml"
    file.write_text("a: 1\na: 2")
    with pytest.raises(ValueError, match="night.yaml is not valid YAML: the key 'a' is given twice, in lines 1 and 2"):
        read_yaml(file)
    file.write_bytes(b"\xff\xfe\xba\xad")
    with pytest.raises(ValueError, match="night.yaml is not valid YAML: 'utf-8' codec"):
        read_yaml(file)
    file.write_bytes(b" " * (LARGEST_FILE + 1))
    with pytest.raises(ValueError, match="night.yaml has more than 1,048,576 bytes"):
        read_yaml(file)
    file.write_text("a: 1\r\nb: é\r\n", encoding="utf-8")
    assert read_yaml(file) == {"a": 1, "b": "é"}


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for name in ("pipe.yaml", "none.yaml", "."):
        with pytest.raises(FileNotFoundError, match="no regular file"):
            read_yaml(tmp_path / name)
