"""Every notebook: its anatomy, what it stores, and that a fresh run gives the same again, in time."""

import pytest
from comparing import MOST_CHANGED, nbval, pictures, share_changed
from notebook_lint import ANATOMY, LEARNING, STORED, check, read

BUDGET_SECONDS = 90
ALL_SECONDS = 720
# Pictures that may look different in every run, by notebook and cell id, with the reason.
VARYING: dict[tuple[str, str], str] = {
    ("02_selective_scan", "costs"): "of times measured in the lesson",
    ("02_selective_scan", "errors"): "of rounding errors, which differ between processors",
    ("02_selective_scan", "roofline"): "of times measured in the lesson",
    ("03_one_state_or_a_bank", "forgetting"): "of networks trained in the lesson: rounding differs between processors",
    ("03_one_state_or_a_bank", "roofline"): "of times measured in the lesson",
    ("03_one_state_or_a_bank", "steps"): "of times measured in the lesson",
    ("06_take_the_ssm_out", "accuracies"): "of networks trained in the lesson: rounding differs between processors",
    ("06_take_the_ssm_out", "mistakes"): "of networks trained in the lesson: rounding differs between processors",
    ("07_the_zoo", "costs"): "of times measured in the lesson",
}


@pytest.mark.parametrize("rules", [ANATOMY, LEARNING, STORED], ids=["anatomy", "learning", "stored"])
def test_keeps_the_rules(notebook, rules):
    findings = check(read(notebook), rules)
    assert not findings, "\n" + "\n".join(findings)


@pytest.mark.timeout(700)
def test_texts_come_out_as_stored(notebook):
    result = nbval(notebook)
    assert result.returncode == 0, f"\n{result.stdout[-6000:]}\n{result.stderr[-2000:]}"


@pytest.mark.timeout(700)
def test_pictures_come_out_as_stored(notebook, rerun):
    import nbformat

    stored = nbformat.read(notebook, as_version=4)
    before, after = pictures(stored), pictures(rerun(notebook).book)
    assert [i for i, _ in before] == [i for i, _ in after], "the cells with pictures are not the same"
    for (i, old), (_, new) in zip(before, after, strict=True):
        if (notebook.stem, stored.cells[i]["id"]) not in VARYING:
            assert share_changed(old, new) <= MOST_CHANGED, f"the picture of cell {i} has changed"


@pytest.mark.timeout(700)
def test_stays_within_its_time(notebook, rerun):
    seconds = rerun(notebook).seconds
    assert seconds <= BUDGET_SECONDS, f"{notebook.stem} took {seconds:.0f} s, expected at most {BUDGET_SECONDS}"
