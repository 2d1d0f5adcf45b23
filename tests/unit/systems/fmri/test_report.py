"""Pictures of the room, counted by hand from small tables."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from neurocli.systems.fmri.report import figures


def _run(folder: Path, subjects: str, objective: str) -> Path:
    part = folder / "evaluations" / "test"
    part.mkdir(parents=True)
    (part / "metrics.json").write_text(json.dumps({"part": "test", "metrics": {}}))
    (part / "per_subject.csv").write_text(subjects)
    (folder / "data.json").write_text(json.dumps({"objective": objective}))
    (folder / "config.yaml").write_text("task:\n  target: age\n")
    return folder


def _texts(image: bytes) -> list[str]:
    nodes = ElementTree.fromstring(image).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(node.itertext()) for node in nodes]


def test_confusion_matrix_counts_people(tmp_path: Path) -> None:
    rows = "a,F,F\nb,F,F\nc,F,M\nd,M,M\ne,M,M\nf,M,M\ng,F,M\n"
    (figure,) = figures(_run(tmp_path, f"participant,target,predicted\n{rows}", "classification"))
    assert figure.title == "Confusion matrix, test"
    assert figure.alt == "5 of 7 participants are predicted right."
    assert "n = 7" in figure.caption
    assert "evaluations/test/per_subject.csv" in figure.caption
    texts = _texts(figure.image)
    # Row by row, the true class F first.
    assert [text for text in texts if text.isdigit()] == ["2", "2", "0", "3"]
    assert {"predicted age", "true age"} <= set(texts)


def test_hostile_class_names_stay_text(tmp_path: Path) -> None:
    name = "<script>$x_{$"
    (figure,) = figures(
        _run(tmp_path, f"participant,target,predicted\na,{name},{name}\n", "classification")
    )
    assert _texts(figure.image).count(name) == 2


def test_predicted_against_true_leaves_out_what_is_no_number(tmp_path: Path) -> None:
    rows = "a,20,22\nb,30,27\nc,40,\nd,nan,3\n"
    (figure,) = figures(_run(tmp_path, f"participant,target,predicted\n{rows}", "regression"))
    # Mean of |20-22| and |30-27|.
    assert figure.alt == "The mean absolute error over 2 participants is 2.5."
    assert "n = 2;" in figure.caption
    assert "true age [unit of the table]" in _texts(figure.image)


def test_skill_by_participant_has_the_line_of_persistence(tmp_path: Path) -> None:
    rows = "a,1,0.5,0.2\nb,1,0.5,-0.1\nc,1,0.5,\n"
    table = f"participant,n_clips,loss,skill_vs_persistence\n{rows}"
    (figure,) = figures(_run(tmp_path, table, "ar"))
    assert figure.alt == "1 of 2 participants are above persistence."
    assert "persistence" in _texts(figure.image)


@pytest.mark.parametrize(
    ("subjects", "objective"),
    [
        ("", "classification"),
        ("participant,target,predicted\n", "classification"),
        ("participant,target,predicted\na,x,y\n", "regression"),
        ("participant,skill_vs_persistence\na,nan\n", "ar"),
        ("participant,other\na,1\n", "ar"),
    ],
)
def test_nothing_to_show_gives_no_picture(tmp_path: Path, subjects: str, objective: str) -> None:
    assert figures(_run(tmp_path, subjects, objective)) == []


def test_too_many_classes_and_an_empty_folder_give_no_picture(tmp_path: Path) -> None:
    rows = "".join(f"s{i},c{i},c{i}\n" for i in range(13))
    assert figures(_run(tmp_path / "a", f"participant,target,predicted\n{rows}", "x")) == []
    (tmp_path / "b").mkdir()
    assert figures(tmp_path / "b") == []


def test_many_points_are_thinned_and_the_caption_says_so(tmp_path: Path) -> None:
    rows = "".join(f"s{i},{i},{i + 1}\n" for i in range(5000))
    (figure,) = figures(_run(tmp_path, f"participant,target,predicted\n{rows}", "regression"))
    assert "n = 5000; 1667 shown" in figure.caption
    assert figure.alt.endswith("is 1.")
