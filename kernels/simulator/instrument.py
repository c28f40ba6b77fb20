"""LLVM's text gets calls into the runtime before each access to memory, and a counter a block.

Pointers of Metal's address spaces say so in their type. A plain pointer is followed to where it
came from; what may be either is looked up by its address when the kernel runs (space 0).
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

DEVICE, CONSTANT, THREADGROUP = 1, 2, 3
UNKNOWN, PRIVATE = 0, 4
# Clang's; in 1 it has what it adds of its own accord, such as the values of an array.
SPACES = {3: THREADGROUP, 5: DEVICE, 6: CONSTANT}
LOAD, STORE = 0, 1  # as in runtime.h
COUNTERS = "__msl_bb"
ENTRY = "@__msl_entry("
LANES = "__lanes_"  # in the names of functions that compute for all lanes of a simdgroup

SIZES = {"half": 2, "bfloat": 2, "float": 4, "double": 8, "ptr": 8}
MIX: dict[str, str] = {
    **dict.fromkeys(("fadd", "fsub", "fmul", "fdiv", "fneg", "frem"), "float"),
    **dict.fromkeys(("add", "sub", "mul", "and", "or", "xor", "shl", "lshr", "ashr"), "integer"),
    **dict.fromkeys(("udiv", "sdiv", "urem", "srem"), "integer"),
    **dict.fromkeys(("fptrunc", "fpext", "sitofp", "uitofp", "fptosi", "fptoui"), "conversion"),
    **dict.fromkeys(("trunc", "zext", "sext"), "conversion"),
    **dict.fromkeys(("fcmp", "icmp", "select"), "comparison"),
}
CALLED: dict[str, str] = {
    **dict.fromkeys(("exp", "log", "sqrt", "sin", "cos", "pow", "exp2", "log2"), "special"),
    **dict.fromkeys(("expf", "logf", "sqrtf", "sinf", "cosf", "powf", "exp2f", "log2f"), "special"),
    **dict.fromkeys(("exp10f", "log10f", "tanf", "tanhf", "sinhf", "coshf"), "special"),
    **dict.fromkeys(("asinf", "acosf", "atanf", "atan2f", "fmodf"), "special"),
    **dict.fromkeys(("fma", "fmuladd"), "fma"),
    **dict.fromkeys(("fabs", "floor", "rint", "round", "trunc", "ceil"), "rounding"),
    **dict.fromkeys(("minnum", "maxnum", "minimum", "maximum", "copysign"), "rounding"),
    **dict.fromkeys(("umin", "umax", "smin", "smax", "abs", "ctpop", "ctlz", "cttz"), "integer"),
}

DEFINED = re.compile(r"^define .*?(@[\w.$-]+|@\"[^\"]+\")\(")
TAKEN = re.compile(r"ptr (?:\w+ )*(@[\w.$-]+|@\"[^\"]+\")[,)]")
POINTER = r"ptr(?: addrspace\((\d+)\))?"
TYPE = r"(<[^>]+>|\[[^\]]+\]|\{[^}]+\}|ptr addrspace\(\d+\)|\S+)"
LOADED = re.compile(rf"^\s+%\S+ = load (?:volatile )?(.+?), {POINTER} (.+), align (\d+)")
STORED = re.compile(rf"^\s+store (?:volatile )?{TYPE} .+, {POINTER} (.+?), align (\d+)")
COPIED = re.compile(r"@llvm\.mem(cpy|move|set)[^(]*\((.*), i1 (?:false|true)\)")
COPY_OPERAND = re.compile(rf"{POINTER}(?= ).* (\S+)$")
OPERATION = re.compile(r"^\s+(?:(%\S+) = )?(?:tail |musttail |notail )?(\w+)\s*(.*)$")
LABEL = re.compile(r'^[\w.\-$"]+:')
FLAGS = re.compile(
    r"(?:(?:fast|nnan|ninf|nsz|arcp|contract|afn|reassoc|nuw|nsw|exact|disjoint|nneg|samesign)\s+)*"
)
ELEMENT = re.compile(r"<(\d+) x (\w+)>|(\w+)")
CALLEE = re.compile(r"@(?:llvm\.)?(\w+)")
VARIABLE = re.compile(r"(%\"[^\"]*\"|[\[<{].*[\]>}]|[%\w.$-]+), align ")
PLAIN = re.compile(r"ptr (%[\w.$-]+|@[\w.$-]+|null)")
MOVED = {"getelementptr": 1, "select": 2, "freeze": 1, "addrspacecast": 1}  # pointers in sight
CAST = re.compile(rf"^{POINTER} (\S+) to ptr")
ATOMIC = re.compile(r"@__msl_atomic\(ptr [^%]*(%[\w.$-]+),")
OVERRUN = re.compile(
    r"call void @__ubsan_handle_out_of_bounds_abort"
    r"\(ptr (?:[\w()]+ )*([@%][^ ,]+), i64 (?:\w+ )*([^ )]+)\)"
)
NODE = re.compile(r"^!(\d+) = (?:distinct )?!(DI\w+)\((.*)\)$", re.M)
FILE = re.compile(r'filename: "([^"]*)"')


# Whether `size` bytes lie in `all` of an array: compiled where it is called.
INSIDE = "__msl_inside"
CHECK_INSIDE = f"""
define internal void @{INSIDE}(ptr %at, i64 %size, ptr %array, i64 %all, i32 %site) alwaysinline {{
  %first = ptrtoint ptr %at to i64
  %base = ptrtoint ptr %array to i64
  %offset = sub i64 %first, %base
  %end = add i64 %offset, %size
  %before = icmp slt i64 %offset, 0
  %after = icmp sgt i64 %end, %all
  %outside = or i1 %before, %after
  br i1 %outside, label %bad, label %good
bad:
  call void @__msl_overrun(ptr null, i64 %offset, i32 %site)
  unreachable
good:
  ret void
}}
"""


@dataclass(frozen=True, slots=True)
class Site:
    """An access in the text; `line` counts from HEADER_LINE in the header."""

    space: int
    kind: int
    file: str
    line: int
    size: int
    align: int = 0  # of its type, where that is more than one number's


@dataclass(frozen=True, slots=True)
class Instrumented:
    text: str
    sites: list[Site]
    blocks: list[dict[str, int]]  # what each block does, by kind of operation


@dataclass(frozen=True, slots=True)
class Location:
    line: int
    scope: str
    caller: str


class Locations:
    """Debug information, which says in which line of the kernel an instruction is."""

    def __init__(self, text: str) -> None:
        self._locations: dict[str, Location] = {}
        self._files: dict[str, str] = {}
        self._scopes: dict[str, str] = {}
        for number, kind, body in NODE.findall(text):
            if kind == "DILocation":
                line = int(_field(body, r"line: (\d+)") or 0)
                scope, caller = _reference(body, "scope"), _reference(body, "inlinedAt")
                self._locations[number] = Location(line, scope, caller)
            elif kind == "DIFile":
                name = FILE.search(body)
                self._files[number] = name[1].rsplit("/", 1)[-1] if name else "?"
            else:
                self._scopes[number] = _reference(body, "file")

    def find(self, line: str) -> tuple[str, int]:
        """Return an instruction's file and line, seen through inlining."""
        at = _reference(line, "dbg", " ")
        file, number = "?", 0
        while at in self._locations:
            location = self._locations[at]
            file = self._files.get(self._scopes.get(location.scope, ""), "?")
            number = location.line
            if file in ("kernel.metal", "header.metal"):
                return file.removesuffix(".metal"), number
            at = location.caller
        return file, number


def instrument(text: str, private: bool) -> Instrumented:
    """Instrument LLVM's text; `private` adds checks of the bounds of threads' private arrays."""
    # Metal has no pointers to functions: one whose address is taken serves a whole simdgroup.
    writer = Instrumenter(Locations(text), frozenset(TAKEN.findall(text)), private)
    function: list[str] = []
    for line in text.split("\n"):
        if line.startswith("define ") or function:
            function.append(line)
            if line.startswith("}"):
                writer.function(function)
                function = []
        else:
            writer.lines.append(line)
    size = max(1, len(writer.blocks))
    writer.lines += [
        f"@{COUNTERS} = global [{size} x i64] zeroinitializer",
        "declare void @__msl_ld(ptr, i32, i32)",
        "declare void @__msl_st(ptr, i32, i32)",
        "declare void @__msl_overrun(ptr, i64, i32)",
        CHECK_INSIDE,
    ]
    return Instrumented("\n".join(writer.lines), writer.sites, [dict(b) for b in writer.blocks])


class Instrumenter:
    def __init__(self, locations: Locations, unchecked: frozenset[str], private: bool) -> None:
        self._private_bounds = private
        self._locations = locations
        self._unchecked = unchecked
        self._accesses_seen = 0
        self.lines: list[str] = []
        self.sites: list[Site] = []
        self.blocks: list[Counter[str]] = []

    def function(self, lines: Sequence[str]) -> None:
        defined = DEFINED.match(lines[0])
        if defined and (defined[1] in self._unchecked or LANES in defined[1]):
            self.lines += [self._overrun(line) or line for line in lines]
            return
        roots = Roots(lines)
        begins = True
        for line in lines:
            operation, comment = OPERATION.match(line), line.strip().startswith((";", "#dbg"))
            if begins and operation and operation[2] != "phi" and not comment:
                self._block()
                begins = False
            if operation and operation[2] != "phi":
                self._count(operation[2], operation[3])
                self._accesses(line, operation[2], roots)
            self.lines.append(self._overrun(line) or line)
            begins = begins or bool(LABEL.match(line))

    def _block(self) -> None:
        number = len(self.blocks)
        self.blocks.append(Counter())
        counter = f"ptr getelementptr (i64, ptr @{COUNTERS}, i64 {number}), align 8"
        self.lines += [
            f"  %mslc{number} = load i64, {counter}",
            f"  %mslk{number} = add i64 %mslc{number}, 1",
            f"  store i64 %mslk{number}, {counter}",
        ]

    def _count(self, operation: str, rest: str) -> None:
        if not self.blocks:
            return
        if (kind := MIX.get(operation)) is not None:
            lanes, element = _lanes(rest)
            self.blocks[-1][f"{kind}_{element}" if kind == "float" else kind] += lanes
        elif operation == "br" and rest.startswith("i1"):
            self.blocks[-1]["branch"] += 1
        elif operation == "call" and (callee := CALLEE.search(rest)) and callee[1] in CALLED:
            self.blocks[-1][CALLED[callee[1]]] += 1

    def _accesses(self, line: str, operation: str, roots: "Roots") -> None:
        if operation == "load" and (match := LOADED.match(line)):
            self._access(LOAD, match[2], match[3], _size(match[1]), line, roots, int(match[4]))
        elif operation == "store" and (match := STORED.match(line)):
            self._access(STORE, match[2], match[3], _size(match[1]), line, roots, int(match[4]))
        elif operation == "call" and (match := COPIED.search(line)):
            operands = match[2].split(", ")
            size = operands[2].removeprefix("i64 ")
            kinds = (STORE,) if match[1] == "set" else (STORE, LOAD)
            for kind, operand in zip(kinds, operands, strict=False):
                if pointer := COPY_OPERAND.match(operand):
                    known = int(size) if size.isdigit() else size
                    self._access(kind, pointer[1], pointer[2], known, line, roots)

    def _access(
        self,
        kind: int,
        space: str | None,
        at: str,
        size: int | str,
        line: str,
        roots: "Roots",
        align: int = 0,
    ) -> None:
        """Add a call before an access; `size` is a number, or the value that holds it."""
        where = SPACES.get(int(space), PRIVATE) if space else roots.space(at)
        if where == PRIVATE:
            if not space:
                self._inside(kind, at, size, line, roots)
            return
        number = self._accesses_seen
        self._accesses_seen += 1
        if space:
            self.lines.append(f"  %mslp{number} = addrspacecast ptr addrspace({space}) {at} to ptr")
            at = f"%mslp{number}"
        if isinstance(size, str):
            self.lines.append(f"  %msls{number} = trunc i64 {size} to i32")
        amount = f"%msls{number}" if isinstance(size, str) else str(size)
        name = ("__msl_ld", "__msl_st")[kind]
        site = self._site(where, kind, line, size if isinstance(size, int) else 0, align)
        self.lines.append(f"  call void @{name}(ptr {at}, i32 {amount}, i32 {site})")

    def _inside(self, kind: int, at: str, size: int | str, line: str, roots: "Roots") -> None:
        """Check that an access by a pointer into one private array is inside of it."""
        array, type_name = roots.array(at) if self._private_bounds else ("", "")
        if not array or array == at:
            return
        site = self._site(PRIVATE, kind, line, size if isinstance(size, int) else 0)
        length = f"ptrtoint (ptr getelementptr ({type_name}, ptr null, i64 1) to i64)"
        self.lines.append(
            f"  call void @{INSIDE}(ptr {at}, i64 {size}, ptr {array}, i64 {length}, i32 {site})"
        )

    def _site(self, space: int, kind: int, line: str, size: int, align: int = 0) -> int:
        file, number = self._locations.find(line)
        self.sites.append(Site(space, kind, file, number, size, align))
        return len(self.sites) - 1

    def _overrun(self, line: str) -> str:
        """Return a call of the runtime's for one of clang's handler of bounds, else nothing."""
        call = OVERRUN.search(line)
        if not call:
            return ""
        site = self._site(PRIVATE, LOAD, line, 0)
        return f"  call void @__msl_overrun(ptr {call[1]}, i64 {call[2]}, i32 {site})"


class Roots:
    """The origins of one function's plain pointers."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._private_arguments = ENTRY in lines[0]
        self._defined = {
            match[1]: (match[2], match[3])
            for line in lines[1:]
            if (match := OPERATION.match(line)) and match[1]
        }
        # What atomics do by plain pointers they have told the runtime already.
        atomics = (ATOMIC.search(line) for line in lines)
        self._atomics = frozenset(match[1] for match in atomics if match)
        self._spaces: dict[str, int] = {}

    def space(self, value: str) -> int:
        if value not in self._spaces:
            self._spaces[value] = _joined(self._space(each) for each in self._origins(value))
        return self._spaces[value]

    def array(self, value: str) -> tuple[str, str]:
        """Return the one variable that a pointer leads into, and its type; or nothing."""
        origins = self._origins(value)
        variable = origins.pop() if len(origins) == 1 else ""
        operation, rest = self._defined.get(variable, ("", ""))
        match = VARIABLE.match(rest) if operation == "alloca" else None
        return (variable, match[1]) if match else ("", "")

    def _origins(self, value: str) -> set[str]:
        """Follow a pointer back through what only moves it, to all that it may come from."""
        seen, origins, waiting = {value}, set[str](), [value]
        while waiting:
            each = waiting.pop()
            operation, rest = self._defined.get(each, ("", ""))
            sources = [] if each in self._atomics else _sources(operation, rest)
            if not sources:
                origins.add(each)
            waiting += [source for source in sources if source not in seen]
            seen.update(sources)
        return origins

    def _space(self, value: str) -> int:
        if value in self._atomics or not value.startswith("%"):
            return PRIVATE  # or a variable of the program, or null
        if value not in self._defined:
            return PRIVATE if self._private_arguments else UNKNOWN
        operation, rest = self._defined[value]
        if operation in ("alloca", "inttoptr"):  # only atomics make a plain pointer of an integer
            return PRIVATE
        cast = CAST.match(rest) if operation == "addrspacecast" else None
        return SPACES.get(int(cast[1]), PRIVATE) if cast and cast[1] else UNKNOWN


def _joined(spaces: Iterator[int]) -> int:
    distinct = set(spaces)
    if len(distinct) == 1:
        return distinct.pop()
    return UNKNOWN if distinct - {PRIVATE} else PRIVATE


def _sources(operation: str, rest: str) -> list[str]:
    """List the plain pointers that a pointer is computed from."""
    if operation == "phi":
        return re.findall(r"\[ ([^,\]]+), %", rest)
    return PLAIN.findall(rest)[: MOVED.get(operation, 0)]


def _field(body: str, pattern: str) -> str | None:
    match = re.search(pattern, body)
    return match[1] if match else None


def _reference(body: str, name: str, separator: str = ": ") -> str:
    return _field(body, rf"{name}{separator}!(\d+)") or ""


def _lanes(rest: str) -> tuple[int, str]:
    match = ELEMENT.match(rest, FLAGS.match(rest).end())  # type: ignore[union-attr]
    if match is None:
        return 1, ""
    return (int(match[1]), match[2]) if match[1] else (1, match[3])


def _size(type_name: str) -> int:
    type_name = type_name.strip()
    if type_name in SIZES:
        return SIZES[type_name]
    if match := re.fullmatch(r"i(\d+)", type_name):
        return (int(match[1]) + 7) // 8
    if match := re.fullmatch(r"[<\[](\d+) x (.+)[>\]]", type_name):
        return int(match[1]) * _size(match[2])
    if type_name.startswith("{"):
        return sum(_size(part) for part in type_name.strip("{} ").split(","))
    return SIZES["ptr"]
