"""Typed reading of a config.json: every mistake is refused by name, and so is what nobody read."""

from collections.abc import Iterable, Mapping
from typing import Any

from .config import ConfigError
from .neutral import is_neutral


class Fields:
    """The fields of a JSON object; an absent or null one gives the default, if any.

    What is read, by whatever method, counts as understood; `leave` refuses the rest.
    """

    def __init__(self, raw: Mapping[str, Any], within: str = "") -> None:
        self.raw = raw
        self.within = within
        self._read: set[str] = set()
        self._assumed: dict[str, Any] = {}
        self._tables: dict[str, Fields] = {}

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def assume(self, **values: Any) -> None:
        """Give absent fields these values, unless they have one by now; a null stays one."""
        self._assumed = values | self._assumed

    def get(self, name: str) -> Any:
        self._read.add(name)
        return self.raw.get(name, self._assumed.get(name))

    def refuse(self, name: str, expected: str) -> ConfigError:
        """Return an error to raise, which names the field, its value and what is expected."""
        if self.raw.get(name) is None:
            return ConfigError(f"config.json: {self.within}{name} is missing, expected {expected}")
        value = repr(self.raw[name])
        value = value if len(value) <= 80 else value[:77] + "..."
        return ConfigError(f"config.json: {self.within}{name} is {value}, expected {expected}")

    def integer(
        self, name: str, default: int | None = None, minimum: int = 1, maximum: int = 2**31 - 1
    ) -> int:
        value = self.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise self.refuse(name, f"a whole number from {minimum} to {maximum}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Read a number above 0."""
        value = self.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.refuse(name, "a positive number")
        if not 0 < value < 1e30:
            raise self.refuse(name, "a positive number")
        return float(value)

    def optional(self, name: str) -> float | None:
        """Read a number that is off when it is null or 0."""
        return self.number(name) if self.get(name) else None

    def flag(self, name: str, default: bool) -> bool:
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refuse(name, "true or false")
        return value

    def choice(self, name: str, allowed: Iterable[str], default: str) -> str:
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, str) or value not in allowed:
            raise self.refuse(name, "one of " + ", ".join(allowed))
        return value

    def kinds(self, name: str, count: int, allowed: Iterable[str]) -> list[str]:
        """Read a list of `count` of the `allowed` strings."""
        value = self.get(name)
        allowed = list(allowed)
        known = isinstance(value, list) and all(kind in allowed for kind in value)
        if not known or len(value) != count:
            raise self.refuse(name, f"{count} of " + " or ".join(allowed))
        return list(value)

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        """Read a list of `count` positive numbers."""
        value = self.get(name)
        if not isinstance(value, list) or len(value) != count:
            raise self.refuse(name, f"{count} positive numbers")
        within = Fields({str(i): each for i, each in enumerate(value)}, f"{self.within}{name}.")
        return tuple(within.number(str(i)) for i in range(count))

    def indices(self, name: str) -> frozenset[int]:
        """Read a list of whole numbers; an absent one is empty."""
        value = self.get(name) or []
        if not isinstance(value, list) or not all(type(each) is int for each in value):
            raise self.refuse(name, "a list of whole numbers")
        return frozenset(value)

    def expect(self, name: str, value: Any) -> None:
        """Refuse any other value than this one, which is the only one that is built."""
        if self.get(name) not in (None, value):
            raise self.refuse(name, repr(value) if value is not False else "false")

    def ignore(self, *names: str) -> None:
        """Count these as read: they make no difference here."""
        self._read.update(names)

    def table(self, name: str) -> "Fields":
        value = self.get(name)
        if name in self._tables:
            return self._tables[name]
        if value is not None and not isinstance(value, dict):
            raise self.refuse(name, "an object")
        table = self._tables[name] = Fields(value or {}, f"{self.within}{name}.")
        return table

    def leave(self) -> None:
        """Refuse what is set, was not read, and might change what the model computes."""
        for name, value in self.raw.items():
            off = self.raw.get(f"use_{name}") is False
            if name not in self._read and not off and not is_neutral(name, value):
                raise self.refuse(name, "nothing of that name: it may change what is computed")
        for table in self._tables.values():
            table.leave()
