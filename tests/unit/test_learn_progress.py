"""Progress is kept whole: several processes at once, a kill at any moment, a folder that cannot be written."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mambaout_edu.learn import lessons, progress

WRITER = """
import sys
from mambaout_edu.learn import progress
name, count = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for i in range(count):
    assert progress.record("prediction", f"06.{name}", i)
print("done", flush=True)
"""


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("MAMBAOUT_EDU_DATA", str(tmp_path / "data"))
    progress._journal.begin()
    yield tmp_path / "data" / "progress"
    progress._journal.begin()


def writer(name: str, count: int) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, name, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def values_of(key: str) -> list[object]:
    return [entry.value for entry in progress.entries() if entry.key == key]


def test_what_is_recorded_is_read_back_in_order(data):
    assert progress.record("prediction", "06.share", {"answer": 30.0, "outcome": 2.3})
    assert progress.record("exercise", "block.split", {"passed": True, "lesson": "06"})
    kinds = [(entry.kind, entry.key, entry.value) for entry in progress.entries()]
    assert kinds == [
        ("prediction", "06.share", {"answer": 30.0, "outcome": 2.3}),
        ("exercise", "block.split", {"passed": True, "lesson": "06"}),
    ]
    assert len(list(data.glob("*.jsonl"))) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(entries=st.lists(st.tuples(st.text(min_size=1), json_values), max_size=5))
def test_any_json_value_comes_back(data, entries):
    progress.reset()
    for key, value in entries:
        assert progress.record("note", key, value)
    assert [(entry.key, entry.value) for entry in progress.entries()] == entries


@pytest.mark.parametrize(("kind", "key", "value"), [("", "k", 1), ("k", "", 1), (3, "k", 1), ("k", None, 1)])
def test_kind_and_key_must_be_texts(data, kind, key, value):
    with pytest.raises(TypeError, match="expected a text"):
        progress.record(kind, key, value)
    assert progress.entries() == []


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object()], ids=["nan", "set", "object"])
def test_a_value_that_is_no_json_is_refused(data, value):
    with pytest.raises(TypeError, match="cannot be kept as JSON"):
        progress.record("note", "k", value)
    assert progress.entries() == []


def test_processes_at_once_lose_nothing(data):
    count = 60
    processes = [writer(f"w{i}", count) for i in range(4)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        assert process.communicate(timeout=60)[0] == "done\n"
    for i in range(4):
        assert values_of(f"06.w{i}") == list(range(count))


def test_threads_at_once_lose_nothing(data):
    def work(name):
        for i in range(40):
            progress.record("prediction", name, i)

    threads = [threading.Thread(target=work, args=(f"06.t{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        assert values_of(f"06.t{i}") == list(range(40))


def kill_while_writing(delay: float) -> None:
    process = writer("killed", 10**6)
    process.stdin.write("go\n")
    process.stdin.flush()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(delay)
    process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    process.communicate()


def test_a_kill_leaves_every_earlier_entry(data):
    kill_while_writing(0.2)
    values = values_of("06.killed")
    assert len(values) > 3
    assert values == list(range(len(values)))
    assert progress.record("prediction", "06.after", 1)
    assert values_of("06.after") == [1]


@pytest.mark.slow
def test_kills_at_many_moments(data):
    for step in range(20):
        progress.reset()
        kill_while_writing(0.05 + 0.013 * step)
        values = values_of("06.killed")
        assert values == list(range(len(values)))


def test_a_torn_last_line_is_left_out_and_not_glued_to_the_next(data):
    progress.record("prediction", "06.a", 1)
    progress.record("prediction", "06.b", 2)
    (file,) = data.glob("*.jsonl")
    whole = file.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first + 1, len(whole) - 1):  # every place at which the second line can be torn
        file.write_bytes(whole[:cut])
        assert [entry.key for entry in progress.entries()] == ["06.a"]
        assert progress.record("prediction", "06.c", 3)  # this process goes on in the same file
        assert [entry.key for entry in progress.entries()] == ["06.a", "06.c"]


def test_foreign_files_and_lines_are_left_out(data):
    data.mkdir(parents=True)
    (data / "x.jsonl").write_bytes(b'\xff\xfe\n[]\n{"time": 1, "kind": "a", "key": "b", "value": 0}\n\n"text"\n')
    (data / "notes.txt").write_text("mine")
    (data / "folder.jsonl").mkdir()
    progress.record("prediction", "06.a", 1)
    assert [entry.key for entry in progress.entries()] == ["06.a"]


def test_a_folder_that_cannot_be_written_is_said_once_and_stops_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MAMBAOUT_EDU_DATA", str(tmp_path / "file"))
    progress._journal.begin()
    assert progress.record("prediction", "06.a", 1) is False
    assert progress.record("prediction", "06.b", 2) is False
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "MAMBAOUT_EDU_DATA" in said
    assert set(progress.summary().lessons["06"].predictions) == {"06.a", "06.b"}  # in memory, for this session
    assert progress.reset() is None
    assert progress.entries() == []


def test_an_empty_variable_keeps_nothing_on_disk(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MAMBAOUT_EDU_DATA", "")
    monkeypatch.chdir(tmp_path)
    progress._journal.begin()
    assert progress.folder() is None
    assert progress.record("prediction", "06.a", 1) is False
    assert capsys.readouterr().err == ""
    assert list(tmp_path.iterdir()) == []
    progress.reset()


def test_tests_never_write_to_the_readers_folder(monkeypatch):
    monkeypatch.delenv("MAMBAOUT_EDU_DATA", raising=False)
    assert progress.folder() is None
    for name in ("PYTEST_CURRENT_TEST", "PYTEST_VERSION", "CI"):
        monkeypatch.delenv(name, raising=False)
    assert progress.folder().name == "progress"
    assert "mambaout_edu" in str(progress.folder())
    monkeypatch.setenv("CI", "true")
    assert progress.folder() is None


def test_reset_keeps_a_backup_that_can_be_restored(data):
    progress.record("prediction", "06.a", 1)
    backup = progress.reset()
    assert progress.entries() == []
    assert progress.reset() is None
    progress.record("prediction", "06.b", 2)  # this process goes on: its journal has the name of the one moved away
    assert progress.restore(backup) == 2
    assert [entry.key for entry in progress.entries()] == ["06.a", "06.b"]
    with pytest.raises(ValueError, match=r"progress\.reset\(\)"):
        progress.restore(backup)


def test_reset_while_another_process_writes_loses_nothing(data):
    process = writer("busy", 80)
    process.stdin.write("go\n")
    process.stdin.flush()
    backups = []
    while process.poll() is None:
        backups += [progress.reset()]
    assert process.communicate()[0] == "done\n"
    for backup in filter(None, backups):
        progress.restore(backup)
    assert sorted(values_of("06.busy")) == list(range(80))


def test_export_is_whole_json(data, tmp_path):
    progress.record("quiz", "06", {"right": 5, "items": 9})
    target = tmp_path / "copy.json"
    target.write_text("old")
    assert progress.export(target) == target
    content = json.loads(target.read_text(encoding="utf-8"))
    assert [entry["key"] for entry in content["entries"]] == ["06"]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["copy.json"]
    with pytest.raises(OSError, match="absent"):
        progress.export(tmp_path / "absent" / "copy.json")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_writes_a_journal_of_its_own(data):
    script = """
import os
from mambaout_edu.learn import progress
progress.record("prediction", "06.parent", 0)
child = os.fork()
progress.record("prediction", "06.child" if child == 0 else "06.parent", 1)
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert len(list(data.glob("*.jsonl"))) == 2
    assert values_of("06.parent") == [0, 1]
    assert values_of("06.child") == [1]


def test_summary_counts_by_lesson(data):
    assert repr(progress.summary()) == "Nothing done yet."
    progress.record("prediction", "06.share", {"answer": 1})
    progress.record("prediction", "06.share", {"answer": 1, "outcome": 2})  # once more, with the outcome
    exercise, lesson = next(item for item in lessons.exercise_lessons().items() if item[1] == "06")
    progress.record("exercise", exercise)  # the registry tells the lesson
    progress.record("exercise", "other", {"passed": False, "lesson": lesson})
    for right in (3, 7, 5):
        progress.record("quiz", "06", {"right": right, "items": 9})
    progress.record("exercise", "of no lesson", {"passed": True})
    found = progress.summary().lessons
    assert set(found) == {"06"}
    assert found["06"] == progress.LessonProgress({"06.share"}, {exercise}, (7, 9))
    assert repr(progress.summary()) == "Lesson 06: predictions 1, exercises passed 1, quiz 7 of 9"


def test_the_panel_exports_resets_and_takes_it_back(data):
    pytest.importorskip("anywidget", reason="the widgets are not installed (extra `lab`)")
    progress.record("quiz", "06", {"right": 5, "items": 9})
    progress.record("quiz", "77", {"right": 5, "items": 9})  # of a lesson that this version does not have
    panel = progress.panel()
    rows = panel.rows
    assert rows == [["06 Take the SSM out", "predictions 0, exercises passed 0, quiz 5 of 9"]]
    panel.request = {"action": "export", "count": 1}
    assert [entry["key"] for entry in json.loads(panel.copy)["entries"]] == ["06", "77"]
    panel.request = {"action": "restore", "count": 2}  # nothing to take back: told, not raised
    assert panel.message.startswith("That did not work")
    panel.request = {"action": "reset", "count": 3}
    assert (panel.rows, progress.entries()) == ([], [])
    panel.request = {"action": "restore", "count": 4}
    assert (panel.rows, panel.backup) == (rows, "")
    panel.request = {"action": "unknown", "count": 5}
    assert panel.rows == rows


LIGHT = """
import sys, time
start = time.perf_counter()
import mambaout_edu.learn
from mambaout_edu.learn import claims, lesson_map_view, lessons, objectives, predictions, progress, quiz_items
taken = time.perf_counter() - start
heavy = {"torch", "numpy", "timm", "anywidget", "ipywidgets", "IPython", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
print(taken)
"""


def test_learn_loads_nothing_heavy_and_within_a_fifth_of_a_second():
    runs = [
        subprocess.run([sys.executable, "-c", LIGHT], check=True, timeout=60, capture_output=True) for _ in range(5)
    ]
    assert min(float(run.stdout) for run in runs) < 0.2
