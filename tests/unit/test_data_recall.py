"""Recall tasks: what is asked can be found in the sequence by the rule, chance is chance, and poems are whole."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mambaout_edu.data import Characters, TextWindows, poems, verse
from mambaout_edu.data.recall import (
    IGNORED,
    TASKS,
    AssociativeRecall,
    Copying,
    InductionHeads,
    Needle,
    SelectiveCopying,
    recall_task,
)

SMALL = [
    Copying(symbols=5, items=4, delay=6),
    Copying(symbols=3, items=1, delay=0),
    SelectiveCopying(symbols=5, items=4, blanks=9),
    InductionHeads(symbols=5, size=3),
    InductionHeads(symbols=6, size=20),
    AssociativeRecall(symbols=6, pairs=6),
    AssociativeRecall(symbols=9, pairs=2),
    Needle(symbols=5, distance=1),
    Needle(symbols=5, distance=30),
]


def solve(task, tokens):
    """Answer one sequence by the task's rule, written from its description; return the answers in order."""
    tokens = tokens.tolist()
    if isinstance(task, Copying | SelectiveCopying):
        return [token for token in tokens if token < task.symbols]
    if isinstance(task, InductionHeads):
        return [tokens[tokens.index(task.symbols) + 1]]
    if isinstance(task, Needle):
        return [tokens[tokens.index(task.symbols) + 1]]
    known = dict(zip(tokens[0 : 2 * task.pairs : 2], tokens[1 : 2 * task.pairs : 2], strict=True))
    return [known[key] for key in tokens[2 * task.pairs :]]


@pytest.mark.parametrize("task", SMALL, ids=repr)
def test_the_rule_gives_every_answer(task):
    tokens, targets = task.draw(64, torch.Generator().manual_seed(0))
    assert tokens.shape == targets.shape == (64, task.length)
    assert 0 <= tokens.min() <= tokens.max() < task.vocab_size
    for row, asked in zip(tokens, targets, strict=True):
        assert solve(task, row) == asked[asked != IGNORED].tolist()


@pytest.mark.parametrize("task", SMALL, ids=repr)
def test_answers_come_at_the_end_and_are_nowhere_in_the_question(task):
    tokens, targets = task.draw(32, torch.Generator().manual_seed(1))
    asked = targets != IGNORED
    assert (asked == asked[0]).all()
    places = asked[0].nonzero().flatten().tolist()
    assert places == list(range(task.length - len(places), task.length))
    assert not (tokens[asked] == targets[asked]).any()  # what is read there is a question, not the answer


@pytest.mark.parametrize("task", [t for t in SMALL if t.length > 3], ids=repr)
def test_a_blind_guess_is_right_by_chance(task):
    _, targets = task.draw(6000, torch.Generator().manual_seed(2))
    answers = targets[targets != IGNORED]
    shares = answers.bincount(minlength=task.vocab_size) / len(answers)
    assert shares.max().item() == pytest.approx(task.chance, abs=0.03)
    assert int((shares > 0).sum()) == task.symbols


def test_one_who_knows_the_set_of_values_is_right_as_often_as_it_is_said():
    task = AssociativeRecall(symbols=32, pairs=4)
    tokens, targets = task.draw(4000, torch.Generator().manual_seed(3))
    first_value = tokens[:, 1:2]
    right = (targets[:, -4:] == first_value).float().mean().item()
    assert right == pytest.approx(task.bag, abs=0.02)
    assert task.chance < task.bag


@given(seed=st.integers(0, 1000), pairs=st.integers(1, 12))
@settings(max_examples=20)
def test_keys_and_values_differ_within_a_sequence(seed, pairs):
    tokens, _ = AssociativeRecall(symbols=12, pairs=pairs).draw(8, torch.Generator().manual_seed(seed))
    for row in tokens:
        assert len(set(row[: 2 * pairs].tolist())) == 2 * pairs
        assert set(row[2 * pairs :].tolist()) == set(row[0 : 2 * pairs : 2].tolist())


def test_items_of_selective_copying_stand_anywhere():
    task = SelectiveCopying(symbols=4, items=2, blanks=8)
    tokens, _ = task.draw(4000, torch.Generator().manual_seed(0))
    share = (tokens[:, :10] < 4).float().mean(0)
    assert share.tolist() == pytest.approx([0.2] * 10, abs=0.03)


def test_the_mark_of_induction_heads_stands_anywhere_and_twice():
    task = InductionHeads(symbols=4, size=8)
    tokens, _ = task.draw(4000, torch.Generator().manual_seed(0))
    marks = tokens == 4
    assert (marks.sum(1) == 2).all()
    assert marks[:, :6].float().mean(0).tolist() == pytest.approx([1 / 6] * 6, abs=0.03)


@pytest.mark.parametrize("name", TASKS)
def test_the_dial_makes_sequences_longer(name):
    task = recall_task(name)
    dialled = [task.with_dial(value) for value in (10, 20, 40)]
    lengths = [one.length for one in dialled]
    assert lengths == sorted(set(lengths))
    assert all(type(one) is type(task) and one.symbols == task.symbols for one in dialled)


@pytest.mark.parametrize("name", TASKS)
def test_draws_follow_their_generator(name):
    task = recall_task(name)
    one, same, other = (task.draw(2, torch.Generator().manual_seed(seed)).tokens for seed in (5, 5, 6))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: recall_task("adding"), ValueError, "no task is named 'adding'; expected one of copying"),
        (lambda: recall_task("needle", size=3), TypeError, "needle has no size; it has symbols, distance"),
        (lambda: Needle(symbols=1), ValueError, "symbols of Needle must be at least 2"),
        (lambda: Needle(distance=0), ValueError, "distance of Needle must be at least 1"),
        (lambda: InductionHeads(size=2), ValueError, "at least 3"),
        (lambda: AssociativeRecall(symbols=4, pairs=5), ValueError, "5 pairs need as many different keys"),
        (lambda: Needle().draw(0, torch.Generator()), ValueError, "batch must be at least 1"),
        (lambda: poems("de"), ValueError, "there are poems in en and zh"),
        (lambda: Characters(""), ValueError, "the text is empty"),
        (lambda: Characters("ab").encode("abc"), ValueError, "no token for 'c'"),
        (lambda: Characters("ab").decode([0, 2]), ValueError, r"from 0 to 1; got \[2\]"),
        (lambda: TextWindows.of("abc", length=3), ValueError, "from 1 to 2 for a text of 3"),
    ],
)
def test_wrong_arguments_are_refused_in_words(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_poems_are_whole():
    english, chinese = poems("en"), poems("zh")
    lines = {poem.title: [line for line in poem.text.splitlines() if line] for poem in english}
    assert len(lines["Sonnet 18"]) == len(lines["Ozymandias"]) == 14
    assert len(lines["The Tyger"]) == len(lines["I Wandered Lonely as a Cloud"]) == 24
    assert all(poem.year < 1900 and poem.author for poem in english)
    for poem in chinese:  # regulated verse: lines of five or of seven characters, four or eight of them
        halves = poem.text.replace("，", "\n").replace("。", "\n").replace("？", "\n").split()
        assert len(halves) in (4, 8), poem.title
        assert {len(half) for half in halves} in ({5}, {7}), poem.title
    assert len({poem.text for poem in chinese}) == len(chinese) >= 20


def test_text_becomes_tokens_and_text_again():
    for language in ("en", "zh"):
        text = verse(language)
        characters = Characters(text)
        assert characters.decode(characters.encode(text)) == text
        windows = TextWindows.of(text, length=20)
        assert windows.vocab_size == len(characters)
        tokens, targets = windows.draw(50, torch.Generator().manual_seed(0))
        assert torch.equal(tokens[:, 1:], targets[:, :-1])
        assert all(characters.decode(row) in text for row in torch.cat((tokens, targets[:, -1:]), 1))
