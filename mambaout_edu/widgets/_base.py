"""What every widget shares: its files, its strings, its short name in text.

anywidget runs a widget's ES module from a blob, where a relative import finds nothing. So the
shared helpers (`_shared/widget.js`, `_shared/widget.css`) are put in front of each widget's own
files here, once, when its class is made.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, ClassVar

from mambaout_edu.strings import table

try:
    import anywidget
    import traitlets
except ImportError as error:  # pragma: no cover - only without the extra
    raise ImportError(
        f"the widgets need {error.name}, which is not installed. Install the course's notebook parts: "
        f"pip install 'mambaout-edu[lab]'"
    ) from error

__all__ = ["Widget"]


class Widget(anywidget.AnyWidget):
    """A widget of the course: subclass it in `<folder>/__init__.py`, beside `widget.js` and `widget.css`.

    A subclass names the table its strings come from (`strings_part`, and `strings_prefix` for its
    own keys in it) and the traits that tell its state in text (`repr_traits`). The page finds the
    strings in the trait `strings`, without the prefix.

    A long `widget.js` may leave parts to other files of its folder, named in `modules`: they are put
    in front of it, in that sequence.

    `widget.js` starts from `open_root(model, el, name)` of `_shared/widget.js`, which keeps typed
    keys away from JupyterLab, gives a live region for screen readers, and removes every listener
    when the view goes.
    """

    strings_part: ClassVar[str] = "widgets"
    strings_prefix: ClassVar[str] = ""
    repr_traits: ClassVar[tuple[str, ...]] = ()
    modules: ClassVar[tuple[str, ...]] = ()

    strings = traitlets.Dict().tag(sync=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # traitlets makes a subclass of its own for traits that are added later: that one has its files already.
        folder = None if "_esm" in cls.__dict__ else _folder(cls.__module__)
        if folder is not None and (folder / "widget.js").is_file():
            cls._esm = _with_shared(folder, *cls.modules, "widget.js")
            cls._css = _with_shared(folder, "widget.css")
        super().__init_subclass__(**kwargs)

    def __init__(self, **kwargs: Any) -> None:
        unknown = sorted(name for name in kwargs if not self.has_trait(name))
        if unknown:
            known = sorted(self._own_traits())
            raise TypeError(
                f"{type(self).__name__} got {', '.join(unknown)}, which it does not have. It takes {', '.join(known)}."
            )
        super().__init__(strings=self._own_strings(), **kwargs)

    def __repr__(self) -> str:
        state = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.repr_traits)
        return f"{type(self).__name__}({state})"

    @classmethod
    def _own_traits(cls) -> list[str]:
        """Return the names of the traits that the course declared, without ipywidgets' own and the strings."""
        traits = cls.class_traits(sync=True).items()
        return [name for name, trait in traits if issubclass(trait.this_class, Widget) and name != "strings"]

    @classmethod
    def _own_strings(cls) -> dict[str, Any]:
        prefix = cls.strings_prefix
        strings = table(cls.strings_part).items()
        return {key.removeprefix(prefix): value for key, value in strings if key.startswith(prefix)}


def _folder(module: str) -> Traversable | None:
    """Return the folder of a widget's package; None where a class is made in a notebook or a plain module."""
    try:
        return files(module)
    except (TypeError, ModuleNotFoundError, ValueError):
        return None


def _with_shared(folder: Traversable, *names: str) -> str:
    """Return the shared file of the last name, then the folder's own files, in one text."""
    shared = files("mambaout_edu.widgets") / "_shared" / names[-1]
    parts = (shared, *(folder / name for name in names))
    return "\n".join(part.read_text(encoding="utf-8") for part in parts if part.is_file())
