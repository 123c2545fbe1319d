from pathlib import Path

import pytest

from mwam_det.data.conversion.model import Label, Report
from mwam_det.data.formats import voc
from mwam_det.data.formats.voc import bndbox, boxes, objects, read_xml, size

BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"

BOMB = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY lol "lol">
<!ENTITY lol2 "&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;">
<!ENTITY lol3 "&lol2;&lol2;&lol2;&lol2;&lol2;&lol2;&lol2;&lol2;&lol2;&lol2;">]>
<annotation><object><name>&lol3;</name></object></annotation>"""

EXTERNAL = """<?xml version="1.0"?>
<!DOCTYPE foo [<!ENTITY secret SYSTEM "file://{}">]>
<annotation><object><name>&secret;</name></object></annotation>"""


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "7.xml"


def parsed(file: Path, content: str):
    file.write_text(content, encoding="utf-8")
    return read_xml(file)


def obj(name: str, *corners) -> str:
    return f"<object><name>{name}</name>{BOX.format(*corners) if corners else ''}</object>"


def test_objects_and_boxes_are_read(file):
    root = parsed(
        file, f"<annotation>{obj(' car ', 1, 2, 3.5, 4)}<object>{BOX.format(5, 6, 7, 8)}</object></annotation>"
    )
    found = [(name, bndbox(element)) for name, element in objects(root)]
    assert found == [("car", ((1, 2), (3.5, 4))), ("", ((5, 6), (7, 8)))]


def test_an_entity_bomb_is_refused_with_a_sentence(file):
    with pytest.raises(ValueError, match="is refused: DTDForbidden, an annotation needs no document type") as caught:
        parsed(file, BOMB)
    assert str(file) in str(caught.value)


def test_an_external_entity_is_refused_and_its_file_is_not_read(file, tmp_path):
    (tmp_path / "secret").write_text("a password")
    with pytest.raises(ValueError, match="is refused: DTDForbidden") as caught:
        parsed(file, EXTERNAL.format(tmp_path / "secret"))
    assert "a password" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<annotation><object></annotation>",
        b"<annotation>\xff</annotation>",
        b'<?xml version="1.0" encoding="no-such-code"?><annotation/>',
        b'<?xml version="1.0" encoding="big5"?><annotation/>',
        b"\x00" * 100,
        b"no xml",
    ],
)
def test_a_damaged_file_is_refused_by_name(file, content):
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"7\.xml cannot be read \("):
        read_xml(file)


def test_a_missing_file_is_refused_by_name(file):
    with pytest.raises(ValueError, match=r"7\.xml cannot be read \("):
        read_xml(file)


def test_an_absurdly_large_file_is_refused_unread(file, monkeypatch):
    monkeypatch.setattr(voc, "LARGEST_XML", 50)
    with pytest.raises(ValueError, match="cannot be read .60 bytes, an annotation has at most 50"):
        parsed(file, "<annotation>" + " " * 35 + "</annotation>")
    assert parsed(file, "<annotation>" + " " * 25 + "</annotation>").tag == "annotation"


def test_deep_nesting_does_no_harm(file):
    root = parsed(file, "<a>" * 100_000 + "</a>" * 100_000)
    assert list(objects(root)) == []


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("<size><width>640</width><height>512</height><depth>3</depth></size>", (512, 640)),
        ("<size><width>640.0</width><height>512.0</height></size>", (512, 640)),
        ("<size><width>0</width><height>0</height></size>", None),
        ("<size><width>-4</width><height>512</height></size>", None),
        ("<size><width>wide</width><height>512</height></size>", None),
        ("<size><width>nan</width><height>512</height></size>", None),
        ("<size><width>0.4</width><height>512</height></size>", None),
        (f"<size><width>1{'0' * 400}</width><height>512</height></size>", None),
        (f"<size><width>{'9' * 5000}</width><height>512</height></size>", None),
        ("<size/>", None),
        ("", None),
    ],
)
def test_the_size_is_what_the_annotation_states_if_it_is_one(file, stated, expected):
    assert size(parsed(file, f"<annotation>{stated}</annotation>")) == expected


def test_boxes_are_those_of_known_classes_and_the_others_are_reported(file):
    bad = [obj("car", *corners) for corners in ((1, 2, "nan", 4), (1, 2, "1e9", 4), (1, 2, "x", 4), ())]
    text = "".join([obj("Car", 1, 2, 3, 4), obj("PERSON", 5, 6, 7, 8), obj("dog", 1, 2, 3, 4), *bad])
    report = Report()
    labels = boxes(parsed(file, f"<annotation>{text}</annotation>"), ("person", "car"), file, report)
    assert labels == [Label(1, ((1, 2), (3, 4))), Label(0, ((5, 6), (7, 8)))]
    reasons = {reason: entry["count"] for reason, entry in report.left_out.items()}
    assert reasons == {"box: no usable coordinates": 4, "box: class 'dog'": 1}
    assert f"{file}: xmax is 'nan', not a" not in report.left_out["box: no usable coordinates"]["examples"]
    assert f"{file}: xmax is 'nan', not a place in an image" in str(report.left_out)
    assert f"{file}: an object has no bndbox" in str(report.left_out)
