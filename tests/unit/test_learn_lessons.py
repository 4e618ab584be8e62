"""The course as data: lessons, objectives, claims, and the tables and the map made from them."""

import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest

from mambaout_edu import strings
from mambaout_edu.learn import lessons, objectives, progress
from mambaout_edu.learn.claims import claims_table
from mambaout_edu.learn.lesson_map_view import _PLACES, lesson_map
from mambaout_edu.learn.objectives import objectives_table

ROOT = Path(__file__).parents[2]
HOME = files("mambaout_edu.learn")


@pytest.fixture
def course():
    return json.loads((HOME / "lessons.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def _scratch_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("MAMBAOUT_EDU_DATA", str(tmp_path))


def test_nothing_is_missing_between_objectives_exercises_and_claims():
    assert lessons.gaps() == []


def test_gaps_tells_what_is_missing(course):
    known = [objective.id for lesson in lessons.registry() for objective in lesson.objectives]
    assert lessons.gaps(trained=[id for id in known if id != "06.count"]) == ["objective 06.count has no exercise"]
    assert lessons.gaps(known=[*lessons.claims(), "C16"], trained=known) == ["claim C16 has no lesson"]
    course["lessons"][6]["objectives"].pop("06.stages")
    changed, _ = lessons.parse(course, "lessons.json")
    assert lessons.gaps(changed, trained=known) == ["claim C13 is examined in lesson 06, which has no objective for it"]


def test_exercises_name_objectives_that_exist():
    known = {objective.id for lesson in lessons.registry() for objective in lesson.objectives}
    trained = {id for id, _, _ in lessons._exercises()}
    assert trained
    for id, objective, lesson in lessons._exercises():
        assert objective in known, f"exercise {id} trains {objective}, which no lesson has"
        assert objective.startswith(f"{lesson}."), id


def set_field(number, key, value):
    return lambda course: course["lessons"][number].__setitem__(key, value)


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (set_field(3, "number", "02"), "lesson 02: the number 02 is used twice"),
        (set_field(3, "slug", "3_state"), "lesson 03: slug '3_state' does not begin"),
        (set_field(3, "needs", ["07"]), "lesson 03: it needs 07, which is no earlier lesson"),
        (set_field(3, "claims", ["C99"]), "lesson 03: it names claim C99"),
        (lambda course: course["lessons"][3].pop("objectives"), "lesson 03: it is written but has no objectives"),
        (set_field(6, "objectives", {"07.x": []}), "lesson 06: objective '07.x' does not begin with 06"),
        (set_field(3, "colour", "red"), "lesson 03: the fields colour are missing or unknown"),
        (lambda course: course["lessons"][3].pop("minutes"), "lesson 03: the fields minutes are missing or unknown"),
    ],
)
def test_a_broken_course_is_refused_with_the_lesson_and_the_reason(course, breaking, message):
    breaking(course)
    with pytest.raises(ValueError, match=re.escape(message)):
        lessons.parse(course, "lessons.json")


def test_an_unknown_lesson_lists_the_known_ones():
    assert lessons.get(6) is lessons.get("06")
    with pytest.raises(ValueError, match=r"no lesson '11'; the lessons are 00, 01"):
        lessons.get("11")


def test_every_lesson_objective_and_claim_has_words():
    table = strings.table("lessons")
    for lesson in lessons.registry():
        assert lesson.title
        assert lesson.summary.endswith(".")
        assert f"part.{lesson.part}" in table
        for objective in lesson.objectives:
            assert objective.text.endswith(".")
    assert all(table[claim].endswith(".") for claim in lessons.claims())


def test_written_lessons_have_their_notebooks():
    notebooks = ROOT / "notebooks"
    if not notebooks.is_dir():
        pytest.skip("the notebooks are not installed with the package")
    found = {path.stem for path in notebooks.glob("*.ipynb")}
    assert {lesson.slug for lesson in lessons.registry() if lesson.written} == found


def test_the_readme_holds_the_table_as_it_is_made():
    readme = ROOT / "README.md"
    if not readme.is_file():
        pytest.skip("the README is not installed with the package")
    made = objectives_table().markdown(folder="notebooks/")
    held = objectives.in_readme(readme.read_text(encoding="utf-8"))
    assert held == made, "run objectives.put_in_readme('README.md')"


def test_the_table_is_put_between_the_markers_and_nowhere_else(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- objectives: begin -->\nold\n<!-- objectives: end -->\nafter\n", encoding="utf-8")
    assert objectives.put_in_readme(readme) is True
    assert objectives.put_in_readme(readme) is False
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- objectives: begin -->\n| objective |")
    assert text.endswith("\n<!-- objectives: end -->\nafter\n")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    readme.write_text("no markers", encoding="utf-8")
    with pytest.raises(ValueError, match="put the two markers"):
        objectives.put_in_readme(readme)


class Reader(HTMLParser):
    """Collect the text and the links of an HTML fragment, and check that its elements are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.links, self.words, self.tags = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name == "href"]
        self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_tables_hold_every_claim_and_every_objective():
    claims, trained = Reader(claims_table()._repr_html_()), Reader(objectives_table()._repr_html_())
    assert claims.tags.count("tr") == len(lessons.claims()) + 1
    written = [lesson for lesson in lessons.registry() if lesson.written]
    ids = [objective.id for lesson in written for objective in lesson.objectives]
    assert trained.tags.count("tr") == len(ids) + 1
    assert set(trained.links) == {lesson.notebook for lesson in written}
    for id in ids:
        assert id in trained.words
        assert all(exercise in "".join(trained.words) for exercise in lessons.exercises_of(id))
    assert repr(objectives_table()) == f"Table of {len(ids)} objectives"
    markdown = claims_table().markdown().splitlines()
    assert len(markdown) == len(lessons.claims()) + 2
    assert len({line.count("|") for line in markdown}) == 1


def test_markup_in_a_cell_stays_text():
    table = objectives.Table("<b>", ("a|b",), ((("<script>|", 'x"y'),),), "t")
    assert "<script>" not in table._repr_html_()
    assert 'href="x&quot;y"' in table._repr_html_()
    assert table.markdown().splitlines()[-1] == '| [<script>\\|](x"y) |'


def test_the_map_links_written_lessons_only_and_shows_all():
    page = Reader(lesson_map()._repr_html_())
    course = lessons.registry()
    assert page.links == [lesson.notebook for lesson in course if lesson.written]
    assert page.tags.count("li") == len(course) == page.tags.count("circle")
    assert set(_PLACES) == {lesson.number for lesson in course}
    words = " ".join(page.words)
    assert all(lesson.title in words for lesson in course)
    assert "learn.progress.panel()" in words
    assert "learn.progress.reset()" in words
    assert "«" not in words
    assert 'learn.progress.export("~/progress.json")' in words
    assert repr(lesson_map()) == f"Map of {len(course)} lessons, {sum(each.written for each in course)} of them written"


def test_the_map_marks_what_was_done_and_nothing_else():
    empty = lesson_map()._repr_html_()
    assert not {"✓", "◐"} & set(empty)
    progress.record("prediction", "06.share", {"answer": 1})
    assert lesson_map()._repr_html_().count("◐") == 2  # on the card and in the drawing
    for id, number in lessons.exercise_lessons().items():
        progress.record("exercise", id, {"passed": True, "lesson": number})
    progress.record("quiz", "06", {"right": 5, "items": 9})
    done = lesson_map()._repr_html_()
    assert done.count("✓") == 2
    assert "quiz 5 of 9" in done
    progress.reset()
    assert lesson_map()._repr_html_() == empty
