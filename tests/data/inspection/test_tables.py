from dataclasses import replace

from inspections import render


def test_the_tables_show_the_most_frequent_of_many_classes_and_take_names_as_they_are(demo_inspection):
    names = {f"[red]class {number}[/red]": number for number in range(80)}
    splits = {name: replace(split, boxes=names, images_with=names) for name, split in demo_inspection.splits.items()}
    text = render(replace(demo_inspection, splits=splits))
    assert "25 most frequent of 80 classes" in text
    assert "[red]class 79[/red]" in text
    assert "class 54[/red]" not in text
    assert "128×96 px" in text
