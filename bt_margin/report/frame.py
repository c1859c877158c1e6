"""The frame of a report page: one HTML file with its styles, its script, its numbers and plotly's JavaScript inside.

Nothing in it is fetched: its content security policy forbids every address. All text given to it is escaped. The same page
gives the same bytes.
"""

import base64
import gzip
import json
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ..result import version_of

if TYPE_CHECKING:
    import numpy as np

EXTRA = "pip install 'bt_margin[report]'"
LIBRARIES = ("numpy", "pandas", "matplotlib", "plotly", "jinja2")  # beside those whose versions a run names itself
PACKED_LEVEL = 9
KINDS = {"u": "<u4", "f": "<f4", "d": "<f8"}  # whole seconds, single and double precision


class MissingExtraError(ValueError):
    """The packages that a report page is made with are not installed."""


class Numbers:
    """The arrays of a page by name, each kept once however often it is used."""

    def __init__(self) -> None:
        self.arrays: dict[str, dict[str, str]] = {}
        self._names: dict[bytes, str] = {}

    def add(self, values: "np.ndarray", kind: str) -> str:
        """Return the name under which the page has these values; ``kind`` is of KINDS."""
        import numpy as np

        raw = np.ascontiguousarray(np.rint(values) if kind == "u" else values).astype(KINDS[kind]).tobytes()
        key = kind.encode() + sha256(raw).digest()
        if key not in self._names:
            self._names[key] = name = f"a{len(self._names)}"
            self.arrays[name] = {"type": kind, "data": base64.b64encode(raw).decode("ascii")}
        return self._names[key]


def packed(text: str) -> str:
    """Return a file of the page: gzip without a time, base64."""
    return base64.b64encode(gzip.compress(text.encode("utf-8"), compresslevel=PACKED_LEVEL, mtime=0)).decode("ascii")


def document(template: str, *, data: dict[str, Any], **context: Any) -> str:
    """Return a page: a template of this folder filled with ``context``, and ``data`` for its script, which is called as the template.

    MissingExtraError, which says what to install, without jinja2 or plotly.
    """
    from markupsafe import Markup

    return (
        _environment()
        .get_template(template)
        .render(
            **context,
            css=Markup(_own("page.css")),
            js=Markup(_own("page.js") + _own(template.replace(".html.j2", ".js"))),
            plotly=Markup(_plotly()),
            data=Markup(script_json(data)),
        )
    )


def library_versions() -> dict[str, str]:
    """Return the versions of what computes and draws a page beside bt_margin, Backtrader and Python."""
    return {name: version_of(name) for name in LIBRARIES}


def check_extra() -> None:
    """Raise MissingExtraError where a report page cannot be made."""
    _environment()
    _plotly()


def script_json(value: Any) -> str:
    """Return JSON that can stand inside a script element: nothing in it can end the element or begin a comment.

    >>> script_json({"name": "</script>"})
    '{"name":"\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _own(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


@cache
def _environment() -> Any:
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise MissingExtraError(_missing("jinja2")) from error
    return Environment(loader=FunctionLoader(_own), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@cache
def _plotly() -> str:
    """Return plotly's JavaScript as its installed package has it."""
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise MissingExtraError(_missing("plotly")) from error
    source: str = get_plotlyjs()
    if "</script" in source.lower():
        raise ValueError("the installed plotly cannot stand inside a page: its JavaScript holds an end of script; install another version")
    return source


def _missing(package: str) -> str:
    return f"a report page needs {package}, which is not installed: {EXTRA}; still pictures need nothing more, see bt_margin.plots"
