"""Small faults of meaning that can be planted in a Python module, found by its syntax tree."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

OPPOSITES: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OTHER: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
CLOCKS = {"time", "monotonic", "perf_counter"}
LARGE = 1000  # of which one more is none that anybody could tell
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
# What these are given has no order.
UNORDERED = {"eval", "async_eval", "array_equal", "compare_digest", "maximum", "minimum"}
LOGGERS = {"log", "logger", "logging", "warnings", "print"}
QUIET = {"__repr__", "__str__"}  # functions that only say something


@dataclass(frozen=True, slots=True)
class Fault:
    """A part of a file's source, and what stands there instead; `scope` is the function around."""

    file: str
    line: int
    scope: str
    operator: str
    start: int  # of the part, in bytes
    before: str
    after: str

    @property
    def key(self) -> str:
        """Return a name that stays while the code does, wherever in the file it stands."""
        return " | ".join(
            (self.file, self.scope, self.operator, _line(self.before), _line(self.after))
        )

    def planted(self, source: bytes) -> bytes:
        before = self.before.encode()
        end = self.start + len(before)
        assert source[self.start : end] == before
        return source[: self.start] + self.after.encode() + source[end:]

    def shown(self) -> str:
        before, after = _line(self.before), _line(self.after)
        return f"{self.file}:{self.line}: {self.operator}\n    - {before}\n    + {after}"


def _line(text: str) -> str:
    return " ".join(text.split())


Changes = Iterator[tuple[str, ast.AST, str]]  # the operator, what goes, what comes


def _compare(node: ast.Compare) -> Changes:
    timed = any(_reads_clock(each) for each in ast.walk(node))
    for place, op in enumerate(node.ops):
        others = OPPOSITES[type(op)]
        for other in others[-1:] if timed else others:  # no two instants are the same
            ops = [*node.ops[:place], other(), *node.ops[place + 1 :]]
            new = ast.Compare(node.left, ops, node.comparators)
            yield "another comparison", node, f"({ast.unparse(new)})"


def _reads_clock(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return getattr(node.func, "attr", getattr(node.func, "id", "")) in CLOCKS
    return isinstance(node, ast.Name) and node.id == "now"


def _bool_op(node: ast.BoolOp) -> Changes:
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield "and for or", node, f"({ast.unparse(ast.BoolOp(other, node.values))})"
    for place in range(len(node.values)):
        rest = node.values[:place] + node.values[place + 1 :]
        yield "a condition less", node, f"({ast.unparse(ast.BoolOp(node.op, rest))})"


def _unary(node: ast.UnaryOp) -> Changes:
    if isinstance(node.op, ast.Not):
        yield "not dropped", node, f"bool({ast.unparse(node.operand)})"


def _bin_op(node: ast.BinOp) -> Changes:
    text = any(isinstance(n, ast.JoinedStr) or _is_text(n) for n in (node.left, node.right))
    if type(node.op) in OTHER and not text:
        new = ast.BinOp(node.left, OTHER[type(node.op)](), node.right)
        yield "another operator", node, f"({ast.unparse(new)})"


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def _constant(node: ast.Constant) -> Changes:
    if isinstance(node.value, bool):
        yield "another constant", node, str(not node.value)
    elif isinstance(node.value, int | float):
        large = node.value >= LARGE
        yield "another constant", node, f"({node.value * 2 if large else node.value + 1})"


def _condition(node: ast.If | ast.IfExp) -> Changes:
    if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    yield "always true", node.test, "True"
    yield "always false", node.test, "False"


def _loop(node: ast.While) -> Changes:
    yield "a loop that never runs", node.test, "False"


def _comprehension(node: ast.AST) -> Changes:
    for each in getattr(node, "generators", ()):
        for test in each.ifs:
            yield "a filter less", test, "True"


def _statement(node: ast.Expr) -> Changes:
    if isinstance(node.value, ast.Call) and not _says(node.value):
        yield "a call dropped", node, "pass"


def _says(call: ast.Call) -> bool:
    function = call.func
    while isinstance(function, ast.Attribute):
        if function.attr.lstrip("_") in LOGGERS:
            return True
        function = function.value
    return isinstance(function, ast.Name) and function.id.lstrip("_") in LOGGERS


def _assign(node: ast.Assign) -> Changes:
    if not isinstance(node.targets[0], ast.Name | ast.Tuple):
        yield "an assignment dropped", node, "pass"


def _aug_assign(node: ast.AugAssign) -> Changes:
    yield "an assignment dropped", node, "pass"


def _return(node: ast.Return) -> Changes:
    if node.value is not None and not isinstance(node.value, ast.Constant):
        yield "nothing returned", node.value, "None"


def _raise(node: ast.Raise) -> Changes:
    yield "an error dropped", node, "pass"


def _break(node: ast.Break) -> Changes:
    yield "break dropped", node, "pass"


def _continue(node: ast.Continue) -> Changes:
    yield "continue dropped", node, "pass"
    yield "break for continue", node, "break"


def _call(node: ast.Call) -> Changes:
    if isinstance(node.func, ast.Name) and node.func.id in NAMES:
        yield "min, max, any, all", node.func, NAMES[node.func.id]
        return  # their arguments have no order
    if isinstance(node.func, ast.Attribute) and node.func.attr in UNORDERED:
        return
    plain = not any(isinstance(each, ast.Starred) for each in node.args)
    if plain and len(node.args) > 1 and ast.dump(node.args[0]) != ast.dump(node.args[1]):
        args = [node.args[1], node.args[0], *node.args[2:]]
        yield "swapped arguments", node, ast.unparse(ast.Call(node.func, args, node.keywords))


OPERATORS: dict[type[ast.AST], Callable[..., Changes]] = {
    ast.Compare: _compare,
    ast.BoolOp: _bool_op,
    ast.UnaryOp: _unary,
    ast.BinOp: _bin_op,
    ast.Constant: _constant,
    ast.If: _condition,
    ast.IfExp: _condition,
    ast.While: _loop,
    ast.ListComp: _comprehension,
    ast.SetComp: _comprehension,
    ast.DictComp: _comprehension,
    ast.GeneratorExp: _comprehension,
    ast.Expr: _statement,
    ast.Assign: _assign,
    ast.AugAssign: _aug_assign,
    ast.Return: _return,
    ast.Raise: _raise,
    ast.Break: _break,
    ast.Continue: _continue,
    ast.Call: _call,
}


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what a fault may change: no annotation, decorator, import, or text of an error.

    Nor what only asserts: zip's `strict` is for those who change the code.
    """
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Assert | ast.JoinedStr):
        return
    if isinstance(node, ast.keyword) and node.arg == "strict":
        return
    skipped = {"annotation", "returns", "decorator_list", "bases", "type_params"}
    if isinstance(node, ast.ClassDef):
        skipped |= {"keywords"}  # as of a decorator: frozen=True
    if isinstance(node, ast.Raise):
        skipped |= {"exc", "cause"}
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _says(node.value):
        return
    for name, value in ast.iter_fields(node):
        if name not in skipped:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield child


def line_starts(source: bytes) -> list[int]:
    """Return where each line begins, and the end."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def faults(root: Path, path: Path) -> list[Fault]:
    """Return all faults of a module, in the order of its syntax tree."""
    source = path.read_bytes()
    starts = line_starts(source)
    found: list[Fault] = []

    def visit(node: ast.AST, scope: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name in QUIET:
                return
            scope = f"{scope}.{node.name}".lstrip(".")
        operator = OPERATORS.get(type(node))
        for name, part, after in operator(node) if operator else ():
            start = starts[part.lineno - 1] + part.col_offset  # type: ignore[attr-defined]
            end = starts[part.end_lineno - 1] + part.end_col_offset  # type: ignore[attr-defined]
            before = source[start:end].decode()
            file = path.relative_to(root).as_posix()
            found.append(Fault(file, part.lineno, scope, name, start, before, after))  # type: ignore[attr-defined]
        for child in _children(node):
            visit(child, scope)

    visit(ast.parse(source), "")
    return found
