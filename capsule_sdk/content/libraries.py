"""Values of well-known libraries that are inert: arrays and tables in memory, rows that have been fetched.

Each is known by the full name of its exact class, never by how it behaves, so that a subclass, a proxy or a
lazy relative (``polars.LazyFrame``, a memory map) is not taken for one. No library is imported: whoever has
such a value has imported it. Arrays are sealed with their head, tables by their shape and columns; the rows
of a table are sealed where the user's code hands over plain ones (``frame.to_dict("records")``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .fields import Entries
from .inert import class_attribute, class_name, derives, held, module_of, true_bases, type_name

__all__ = ["of_library"]


def of_library(cls: type, mark: Callable[[str], Any]) -> tuple[str, Callable[..., Any]] | None:
    """Return what reads the values of a known library's class; ``None`` for all others.

    Args:
        cls: the class.
        mark: makes a text that is no content: the name of a type.

    Returns:
        ``"object"``, ``"array"`` or ``"instead"``, and a reader as `capsule_sdk.content.readers` has them.

    """
    name, root = class_name(cls), module_of(cls).partition(".")[0]
    if name == "numpy.ndarray":
        return "object", lambda value, room: _array(value, room, mark)
    if root == "numpy" and any(class_name(base) == "numpy.generic" for base in true_bases(cls)):
        return "instead", lambda value: _scalar(value, mark)
    if root == "pandas" and type_name(cls) in {"DataFrame", "Series"}:
        return "object", lambda value, _: _pandas(value, name, mark)
    if name in _ROWS:
        return _ROWS[name]
    shown = _SHOWN.get(name)
    if shown is not None:
        return "object", lambda value, _: _attributes(value, name, shown, mark)
    return None


def _cells(value: Any) -> Any:
    return class_attribute(type(value), "_data").__get__(value)


def _named_cells(value: Any, _: int) -> Entries:
    return list(zip(value.keys(), tuple(value), strict=True)), len(value)


#: Rows that were fetched before anybody could hold them.
_ROWS: Final[dict[str, tuple[str, Callable[..., Any]]]] = {
    "sqlalchemy.engine.row.Row": ("instead", _cells),
    "sqlite3.Row": ("object", _named_cells),
}

#: The attributes of other libraries' exact classes that describe what is in memory already.
_SHOWN: Final = {
    "polars.dataframe.frame.DataFrame": ("shape", "columns"),
    "polars.series.series.Series": ("shape", "dtype"),
    "pyarrow.lib.Table": ("num_rows", "column_names"),
    "torch.Tensor": ("dtype", "shape"),
}


def _described(name: str, entries: list[tuple[str, Any]], mark: Callable[[str], Any]) -> Entries:
    return [("type", mark(name)), *entries], 1 + len(entries)


def _array(value: Any, room: int, mark: Callable[[str], Any]) -> Entries:
    size: int = value.size
    if size <= room:
        values = value.tolist()
    else:  # through `flat`, which copies no more than is kept
        kept = value.flat[: max(room - 1, 0)].tolist()
        values = [*kept, mark(f"[cut: {len(kept)} of {size} entries kept]")]
    entries = [("dtype", mark(value.dtype.name)), ("shape", value.shape), ("values", values)]
    return _described("numpy.ndarray", entries, mark)


def _scalar(value: Any, mark: Callable[[str], Any]) -> Any:
    plain = value.item()
    if type(plain) is type(value):  # longdouble has no plain twin
        return mark(str(value))
    return plain


def _pandas(value: Any, name: str, mark: Callable[[str], Any]) -> Entries:
    """Describe a frame or series whose axes are pandas' own; an extension's may do anything when asked."""
    axes = held(value, "_mgr").axes
    for axis in axes:
        for part in (type(axis), type(held(axis, "_data"))):
            if module_of(part).partition(".")[0] not in {"pandas", "numpy", "builtins"}:
                return _described(name, [], mark)
    entries = [("shape", [len(axis) for axis in reversed(axes)])]
    if len(axes) > 1:
        entries.append(("columns", list(axes[0])))
    return _described(name, entries, mark)


def _attributes(
    value: Any, name: str, names: tuple[str, ...], mark: Callable[[str], Any]
) -> Entries:
    entries = []
    for attribute in names:
        found = getattr(value, attribute)
        plain = type(found) in {int, list} or derives(type(found), tuple)
        entries.append((attribute, found if plain else mark(str(found))))
    return _described(name, entries, mark)
