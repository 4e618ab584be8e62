"""What all widgets share: files that travel, strings, names, refusals, and the page without a kernel."""

import json
import re
from importlib.resources import files

import pytest

from mambaout_edu import strings, widgets
from mambaout_edu.widgets import BlockDiagram, TrainingCurve, Widget, page

KINDS = (BlockDiagram, TrainingCurve)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


def source(kind) -> str:
    return (files(kind.__module__) / "widget.js").read_text(encoding="utf-8")


def test_the_shared_helpers_stand_in_front(kind):
    widget = kind()
    shared = (files(widgets.__name__) / "_shared" / "widget.js").read_text(encoding="utf-8")
    assert str(widget._esm) == shared + "\n" + source(kind)
    assert ".mambaout-widget" in str(widget._css)


def test_a_class_without_files_of_its_own_keeps_its_parents():
    class Louder(BlockDiagram):
        pass

    assert str(Louder()._esm) == str(BlockDiagram()._esm)


def test_every_string_of_the_page_is_in_the_table(kind):
    """Keys that are written out in the module are there; composed ones begin like one that is."""
    table = kind().strings
    keys = set(re.findall(r"""say\(model, (?:\w+ \? )?"(\w+)\"""", source(kind)))
    composed = re.findall(r'say\(model, "(\w+_)" \+', source(kind))
    assert keys
    assert keys - set(composed) <= set(table)
    assert all(any(key.startswith(start) for key in table) for start in composed)


def test_no_visible_string_is_unused(kind):
    """A string that nobody reads would still have to be translated."""
    text = source(kind)
    parts = set(kind.class_traits()["selected"].values) if kind is BlockDiagram else set()
    made = {"about_" + part for part in parts} | parts | {"running_accuracy", "done_accuracy"}
    unread = [key for key in kind().strings if f'"{key}"' not in text and key not in made]
    assert unread == []


def test_data_never_becomes_markup(kind):
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", str(kind()._esm))


def test_nothing_is_fetched(kind):
    addresses = re.findall(r"https?://[^\s\"']+", str(kind()._esm) + str(kind()._css))
    assert set(addresses) <= {"http://www.w3.org/2000/svg"}


def test_unknown_names_are_refused(kind):
    with pytest.raises(TypeError, match=r"got colour, which it does not have\. It takes .*(dim|total)"):
        kind(colour="red")


def test_the_short_name_is_the_same_in_every_run(kind):
    assert repr(kind()) == repr(kind())
    assert "0x" not in repr(kind())


def test_loading_is_lazy():
    assert set(widgets.__all__) == set(dir(widgets)) == set(widgets._HOMES)
    assert all(getattr(widgets, name).__name__ == name for name in widgets.__all__)
    with pytest.raises(AttributeError, match="it has ArchitectureExplorer"):
        widgets.Nothing  # noqa: B018


def test_page_holds_state_and_escapes():
    curve = TrainingCurve(total=3)
    curve.update(0, 1.5)
    text = page([curve, BlockDiagram()], 'A <b> & "c"')
    assert "<title>A &lt;b&gt; &amp; &quot;c&quot;</title>" in text
    records = [json.loads(found) for found in re.findall(r'<script type="application/json">(.*?)</script>', text)]
    assert [record["state"].get("total") for record in records] == [3, None]
    assert set(records[0]["buffers"]) == {"points", "accuracies"}
    assert records[1]["state"]["strings"] == BlockDiagram().strings
    assert not re.search(r"</script>", records[0]["esm"])


def test_page_is_the_same_in_every_run():
    assert page(BlockDiagram(), "a") == page(BlockDiagram(), "a")


def test_page_refuses_what_it_cannot_show():
    with pytest.raises(TypeError, match="got str"):
        page(["text"], "a")
    with pytest.raises(ValueError, match="theme is 'blue'"):
        page(BlockDiagram(), "a", theme="blue")


def test_every_widget_is_a_widget_of_the_course(kind):
    assert issubclass(kind, Widget)
    prefix = kind.strings_prefix
    assert kind().strings == {
        key.removeprefix(prefix): value for key, value in strings.table("widgets").items() if key.startswith(prefix)
    }
