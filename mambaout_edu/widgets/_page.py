"""A page on which widgets live without a kernel: their modules, their traits, and a small model."""

import base64
import html
import json
from collections.abc import Sequence
from importlib.resources import files

from mambaout_edu.strings import language
from mambaout_edu.widgets._base import Widget

__all__ = ["page"]


def page(widget: Widget | Sequence[Widget], title: str, theme: str = "auto") -> str:
    """Write one self-contained HTML page that shows a widget, or several, without a kernel.

    Nothing is fetched: modules, styles and state are inside. What a widget computes in the page
    goes on working; a callback in Python does not, as there is nobody to run it.

    Parameters
    ----------
    widget
        One widget, or several in the order in which they shall stand.
    title
        The page's title and its only level-1 heading.
    theme
        "light", "dark", or "auto" for what the reader's system prefers.

    Raises
    ------
    TypeError
        For what is no widget of the course.
    ValueError
        For an unknown theme.

    Examples
    --------
    >>> from mambaout_edu import widgets
    >>> text = widgets.page(widgets.BlockDiagram(dim=48), "Two blocks")
    >>> text.startswith("<!doctype html>"), "http://" in text.replace("http://www.w3.org/2000/svg", "")
    (True, False)
    """
    schemes = {"auto": "light dark", "light": "light", "dark": "dark"}
    if theme not in schemes:
        raise ValueError(f"theme is {theme!r}, expected one of {', '.join(schemes)}")
    widgets = [widget] if isinstance(widget, Widget) else list(widget)
    for each in widgets:
        if not isinstance(each, Widget):
            raise TypeError(f"page shows widgets of mambaout_edu.widgets, got {type(each).__name__}")
    shared = files("mambaout_edu.widgets") / "_shared"
    shim, style = ((shared / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    heading = html.escape(title)
    # A page with a chosen theme says so as JupyterLab does, so that one set of colours serves both.
    attribute = "" if theme == "auto" else f' data-jp-theme-light="{"true" if theme == "light" else "false"}"'
    return (
        f'<!doctype html>\n<html lang="{html.escape(language())}" style="color-scheme: {schemes[theme]}">\n'
        f'<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">\n'
        f"<title>{heading}</title>\n<style>{style}</style>\n"
        f"<body{attribute}>\n<h1>{heading}</h1>\n{''.join(map(_section, widgets))}"
        f'<script type="module">{shim}</script>\n</body>\n</html>\n'
    )


def _section(widget: Widget) -> str:
    state, buffers = {}, {}
    for name in sorted([*widget._own_traits(), "strings"]):
        value = getattr(widget, name)
        if isinstance(value, bytes | bytearray | memoryview):
            buffers[name] = base64.b64encode(bytes(value)).decode("ascii")
        else:
            state[name] = value
    record = {"state": state, "buffers": buffers, "esm": str(widget._esm), "css": str(widget._css)}
    # "</script>" inside the record would end the element that holds it.
    text = json.dumps(record).replace("<", "\\u003c")
    return f'<section><script type="application/json">{text}</script><div></div></section>\n'
