"""A quiz, one item at a time: answer, explanation, next, and the score at the end."""

import threading
from typing import Any

import traitlets

from mambaout_edu import strings
from mambaout_edu.widgets._base import Widget

__all__ = ["Quiz"]


class Quiz(Widget):
    """The quiz of one lesson; `mambaout_edu.learn.quiz` makes it from the lesson's validated file.

    Parameters
    ----------
    lesson, title : str
        The lesson's number and title.
    items : list of dict
        Each with id, question, source and choices (text, explanation, optionally right and
        misconception), as in the lesson's file.
    misconceptions : dict
        The mistaken sentence behind each misconception's id.

    Attributes
    ----------
    answers : dict
        The number of the chosen choice (from 0) by item id. The first answer counts.
    index : int
        The item that is shown; the number of items once the score is.

    Examples
    --------
    >>> choices = [{"text": "4", "right": True}, {"text": "5"}]
    >>> item = {"id": "t.a", "question": "2 + 2?", "source": "", "choices": choices}
    >>> quiz = Quiz(lesson="00", title="Test", items=[item])
    >>> quiz.answer("t.a", 1)
    >>> quiz
    Quiz of lesson 00, Test: 1 items (0 of 1 right)
    """

    strings_part = "quiz"

    lesson = traitlets.Unicode().tag(sync=True)
    title = traitlets.Unicode().tag(sync=True)
    items = traitlets.List(traitlets.Dict()).tag(sync=True)
    misconceptions = traitlets.Dict().tag(sync=True)
    answers = traitlets.Dict().tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)

    def __init__(self, **kwargs: Any) -> None:
        self._lock = threading.RLock()
        self._kept = False
        super().__init__(**kwargs)
        self.observe(self._keep, "answers")

    @classmethod
    def _own_strings(cls) -> dict[str, Any]:
        # The misconceptions travel in a trait of their own, the rest of the table as it is.
        return {key: text for key, text in super()._own_strings().items() if not key.startswith("misconception.")}

    @traitlets.validate("answers")
    def _answers_fit(self, proposal: Any) -> Any:
        choices = {item["id"]: len(item["choices"]) for item in self.items}
        for id, chosen in proposal["value"].items():
            if id not in choices:
                raise traitlets.TraitError(f"there is no item {id!r}; the items are {', '.join(choices)}")
            if isinstance(chosen, bool) or not isinstance(chosen, int) or not 0 <= chosen < choices[id]:
                raise traitlets.TraitError(
                    f"the answer to {id!r} is {chosen!r}; expected a whole number from 0 to {choices[id] - 1}"
                )
        return proposal["value"]

    def answer(self, id: str, chosen: int) -> None:
        """Answer one item from Python, by the number of the choice (from 0).

        Raises traitlets.TraitError for an item or a choice that does not exist.
        """
        self.answers = {**self.answers, id: chosen}

    @property
    def right(self) -> int:
        """How many items are answered rightly."""
        return sum(
            bool(item["choices"][self.answers[item["id"]]].get("right"))
            for item in self.items
            if item["id"] in self.answers
        )

    def text(self) -> str:
        """Return the whole quiz as text, without the answers, for reading where no widget can be shown."""
        lines = []
        for number, item in enumerate(self.items, 1):
            lines.append(f"{number}. {item['question']}")
            lines += [f"   {chr(ord('a') + i)}) {choice['text']}" for i, choice in enumerate(item["choices"])]
        return "\n".join(lines)

    def _keep(self, _change: Any) -> None:
        """Record the score when the last item is answered, once for each time through."""
        with self._lock:
            complete = len(self.answers) == len(self.items)
            if not complete or self._kept:
                self._kept = complete
                return
            self._kept = True
        from mambaout_edu.learn import progress

        value = {"right": self.right, "items": len(self.items), "answers": dict(self.answers)}
        progress.record("quiz", self.lesson, value)

    def __repr__(self) -> str:
        state, words = "repr.open", {}
        if self.answers:
            state, words = "repr.begun", {"answered": len(self.answers)}
        if self.items and len(self.answers) == len(self.items):
            state, words = "repr.done", {"right": self.right, "items": len(self.items)}
        told = strings.text("quiz", state, **words)
        return strings.text("quiz", "repr", lesson=self.lesson, title=self.title, items=len(self.items), state=told)
