"""Classes by reference: where a class stands in source, so that another process finds the same class without pickling it.

A reference is ``{"file": path or None, "module": name or None, "name": qualified name, "hash": of the source or None}``. A class
that is importable goes by its module; any other, also one of the script that was started, by its file, which is then executed
under a private name, so that what stands under ``if __name__ == "__main__"`` does not run.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import reduce
from hashlib import sha256
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

HASH_DIGITS = 16

# The file that is being executed to find a class in it, else ""; a sweep begun then would begin one in every worker.
being_read: ContextVar[str] = ContextVar("being_read", default="")


def reference(item: Any) -> dict[str, str | None]:
    """Return where a class or function stands, as a dict of texts for ``resolve``.

    ValueError for one that another process cannot find: typed at a prompt, made inside a function, or not what its module calls
    by that name.
    """
    name, module = item.__qualname__, sys.modules.get(item.__module__)
    if "<locals>" in name:
        raise ValueError(f"{name} is made inside a function, where worker processes cannot find it; move it to the top level of its file")
    path = _source_of(module)
    importable = _importable_name(module)
    if path is None and importable is None:
        raise ValueError(f"{name} has no source file (it was typed at a prompt or in a notebook); put it into a .py file and import it")
    if _named(module, name) is not item:
        raise ValueError(f"{item.__module__} holds something else under the name {name}; worker processes would find that instead")
    digest = None if path is None else _hash_of(path)
    return {"file": None if importable else str(path), "module": importable, "name": name, "hash": digest}


def resolve(where: dict[str, Any]) -> Any:
    """Return the class or function that a reference names.

    ValueError where it is not there, or where its source has changed since the reference was made.
    """
    name, file, module_name = where["name"], where.get("file"), where.get("module")
    if module_name:
        module = import_module(module_name)
        path = _source_of(module)
    else:
        path = Path(str(file))
        if not path.is_file():
            raise ValueError(f"there is no file {path}, in which {name} should stand; workers need it under the same path")
        module = _module_of(path)
    if where.get("hash") and (path is None or _hash_of(path) != where["hash"]):
        raise ValueError(f"{path or module_name} has changed since the sweep was planned; begin a new sweep in another folder")
    found = _named(module, name)
    if found is None:
        raise ValueError(f"{path or module_name} has no {name}")
    return found


def function_called(text: str) -> Any:
    """Return the function that ``module:function`` names; ValueError if there is none that workers could import."""
    module_name, colon, name = text.partition(":")
    if not (module_name and colon and name) or module_name == "__main__":
        raise ValueError(f"work is named as 'module:function', of a module that worker processes can import; was {text!r}")
    try:
        found = _named(import_module(module_name), name)
    except ModuleNotFoundError as error:
        raise ValueError(f"work {text!r} cannot be imported: {error}") from error
    if not callable(found):
        raise ValueError(f"work {text!r}: module {module_name} has no function {name}")
    return found


def extend_search_path(folders: tuple[str, ...]) -> None:
    """Append to this process's module search path what it lacks of another process's, for workers that were started elsewhere."""
    sys.path.extend(folder for folder in folders if folder not in sys.path)


def search_path() -> tuple[str, ...]:
    """Return the folders in which this process finds modules, none of them relative."""
    return tuple(str(Path(folder).resolve()) for folder in sys.path if Path(folder).is_dir())


def _named(module: ModuleType | None, name: str) -> Any:
    return reduce(lambda owner, part: getattr(owner, part, None), name.split("."), module)


def _source_of(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    path = Path(file).resolve() if file else None
    return path if path is not None and path.suffix != ".pyc" and path.is_file() else None


def _hash_of(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()[:HASH_DIGITS]


def _importable_name(module: ModuleType | None) -> str | None:
    """Return the name by which a fresh process with our search path would import a module, None if it would not.

    A script that was started as ``python -m package.script`` has such a name, one started by its path has not, nor has a module
    that somebody loaded from a file under a name of their own.
    """
    if module is None:
        return None
    spec = getattr(module, "__spec__", None)
    name = module.__name__ if module.__name__ != "__main__" else getattr(spec, "name", "__main__")
    parent, _, _ = name.rpartition(".")
    places = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    if name == "__main__" or (parent and places is None):
        return None
    found = next((spec for finder in sys.meta_path if (spec := finder.find_spec(name, places)) is not None), None)
    origin = getattr(found, "origin", None)
    if origin in ("built-in", "frozen"):
        return name
    own = _source_of(module)
    return name if own is not None and origin is not None and Path(origin).resolve() == own else None


def _module_of(path: Path) -> ModuleType:
    """Return a file as a module: the running script itself where it is that, else executed once under a private name."""
    main = sys.modules.get("__main__")
    if main is not None and _source_of(main) == path.resolve():
        return main
    name = f"{path.stem}_of_sweep_{_hash_of(path)}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python source file")
    module = module_from_spec(spec)
    sys.modules[name] = module  # Backtrader looks its classes' modules up there
    extend_search_path((str(path.resolve().parent),))  # what lies beside it can be imported
    try:
        with _reading(path):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # half a module
        raise
    return module


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    token = being_read.set(str(path))
    try:
        yield
    finally:
        being_read.reset(token)
