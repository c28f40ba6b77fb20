"""Writes the lists of ignored fields into http/README.md, from the types that decode requests.

python -m tests.http.readme_fields
"""

from pathlib import Path

from bessemer.http.backends import Backends
from bessemer.http.endpoints import endpoints

README = Path(__file__).parents[2] / "http" / "README.md"
BEGIN, END = "| endpoints | ignored |\n|---|---|\n", "\n\n"


def lists() -> str:
    """Return the rows: the endpoints that ignore the same fields, and these."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for (_, path), route in endpoints(Backends({})).items():
        request = route.operation and route.operation.request
        if request and request.ignored:
            rows.setdefault(request.ignored, []).append(f"`{path}`")
    lines = (f"| {' '.join(at)} | {' '.join(map(_code, names))} |" for names, at in rows.items())
    return "\n".join(lines)


def written(page: str) -> str:
    """Return the page with these rows in place of its own."""
    before, begin, rest = page.partition(BEGIN)
    assert begin, "the table is gone"
    return before + begin + lists() + END + rest.partition(END)[2]


def _code(name: str) -> str:
    return f"`{name}`"


if __name__ == "__main__":
    README.write_text(written(README.read_text()))
