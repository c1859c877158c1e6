"""Reading one field of a parsed file, or saying in one sentence where the file is wrong and what was expected."""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from math import inf, isfinite
from pathlib import Path


def content(path: str | Path) -> tuple[str, str]:
    """Return the text of a file, and its name."""
    file = Path(path)
    try:
        return file.read_text("utf-8"), file.name
    except FileNotFoundError:
        raise ValueError(f"there is no file {file}") from None
    except IsADirectoryError:
        raise ValueError(f"{file} is a folder; name a file in it") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{file.name} is no text in UTF-8, by its byte {error.start}; name a text file") from None


def parsed(source: object) -> tuple[object, str]:
    """Return what a JSON file holds, and its name; anything but a path is returned as it is."""
    if not isinstance(source, str | Path):
        return source, ""
    written, name = content(source)
    try:
        return json.loads(written), name
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is not JSON: {error}") from None


def check_keys(entry: Mapping[str, object], required: frozenset[str], optional: frozenset[str], where: str) -> None:
    """Raise ValueError where an entry lacks a required field or has one that nobody reads."""
    missing, unknown = required - set(entry), set(entry) - required - optional
    if missing or unknown:
        wrong = [f"without {name}" for name in sorted(missing)] + [f"with unknown {name}" for name in sorted(unknown)]
        raise ValueError(f"{where} is {', '.join(wrong)}; expected {', '.join(sorted(required | optional))}")


def mapping(value: object, where: str) -> Mapping[str, object]:
    """Return an object, its names as texts."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} must be an object, was {_short(value)}")
    return {str(key): item for key, item in value.items()}


def sequence(value: object, where: str) -> Sequence[object]:
    """Return a list that holds something."""
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"{where} must be a list with at least one item, was {_short(value)}")
    return list(value)


def text(value: object, where: str) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where} must be a text, was {_short(value)}")
    return value


def one_of(value: object, choices: Sequence[str], where: str) -> str:
    """Return a text that is one of the choices."""
    if value not in choices:
        raise ValueError(f"{where} must be one of {', '.join(map(repr, choices))}, was {_short(value)}")
    return str(value)


def texts(value: object, where: str) -> dict[str, str]:
    """Return an object of texts."""
    return {name: text(item, f"{where}, {name}") for name, item in mapping(value, where).items()}


def flag(value: object, where: str) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{where} must be true or false, was {_short(value)}")
    return value


def number(value: object, where: str) -> float:
    """Return a number that is written as one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where} must be a number, was {_short(value)}")
    return float(value)


def whole(value: object, where: str) -> int:
    """Return a whole number."""
    found = number(value, where)
    if not found.is_integer():
        raise ValueError(f"{where} must be a whole number, was {_short(value)}")
    return int(found)


def optional_number(value: object, where: str) -> float | None:
    """Return a number, or None where none is given."""
    return None if value is None else number(value, where)


def figure(value: object, where: str) -> float:
    """Return a finite number that may be written as a text, as the answers of venues are."""
    found = optional_figure(value, where)
    if found is None:
        raise ValueError(f"{where} must be a number, was {_short(value)}")
    return found


def optional_figure(value: object, where: str) -> float | None:
    """Return a finite number that may be written as a text; None and empty texts are None."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            found = float(value)
        except ValueError:
            raise ValueError(f"{where} must be a number, was {value!r}") from None
    else:
        found = number(value, where)
    if not isfinite(found):
        raise ValueError(f"{where} must be a finite number, was {_short(value)}")
    return found


def cap(value: object, where: str) -> float:
    """Return the upper edge of a tier; None, an empty text, 'inf' and the largest 64-bit integer are no edge."""
    if value in (None, "", "inf", inf):
        return inf
    found = figure(value, where)
    return inf if found >= 2**62 else found


def day(value: object, where: str) -> date:
    """Return a day, written 2024-03-31 or given as one."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(text(value, where))
    except ValueError as error:
        raise ValueError(f"{where} must be a day such as 2024-03-31, was {_short(value)}") from error


def _short(value: object) -> str:
    said = repr(value)
    return said if len(said) <= 80 else f"{said[:77]}..."
