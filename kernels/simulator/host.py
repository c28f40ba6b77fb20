"""Metal text is rewritten so that clang compiles it for a CPU, with the entry of each thread."""

import re

from .limits import check_limits
from .options import Language
from .signature import ATTRIBUTES, Argument, Definition, Signature
from .words import check_words

HEADER_LINE = 1 << 20  # lines of the header are numbered from here (runtime.h)
PREAMBLE = '#include "msl_preamble.h"\n'
ENTRY = "__msl_entry"

# Where a thread finds its attributes in its context (struct __msl_ctx of msl_runtime.h).
FIELDS = {
    "dispatch_quadgroups_per_threadgroup": "c->dnsimd * 8",
    "dispatch_simdgroups_per_threadgroup": "c->dnsimd",
    "dispatch_threads_per_threadgroup": "dtptg",
    "grid_origin": "",
    "grid_size": "tpg",
    "quadgroup_index_in_threadgroup": "c->tindex / 4",
    "quadgroups_per_threadgroup": "(c->tptg[0] * c->tptg[1] * c->tptg[2] + 3) / 4",
    "simdgroup_index_in_threadgroup": "c->simd",
    "simdgroups_per_threadgroup": "c->nsimd",
    "thread_execution_width": "32u",
    "thread_index_in_quadgroup": "c->lane % 4",
    "thread_index_in_simdgroup": "c->lane",
    "thread_index_in_threadgroup": "c->tindex",
    "thread_position_in_grid": "tpig",
    "thread_position_in_threadgroup": "tpit",
    "threadgroup_position_in_grid": "tgpig",
    "threadgroups_per_grid": "tgpg",
    "threads_per_grid": "tpg",
    "threads_per_simdgroup": "32u",
    "threads_per_threadgroup": "tptg",
}

COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|//(?:\\\n|[^\n])*|/\*.*?\*/', re.S)  # or a string
# `threadgroup T a[N], b;` as a statement: no parameter, pointer, reference or cast.
VARIABLES = re.compile(
    r"(?<![\w(,<])threadgroup\s+"
    r"((?:(?!\bthreadgroup\b)[^;*&()=\[\]{}])+?[\s>])"
    r"(\w+\s*(?:\[[^;\]]*\]\s*)*(?:,\s*\w+\s*(?:\[[^;\]]*\]\s*)*)*);"
)
DECLARATOR = re.compile(r"\s*(\w+)\s*((?:\[[^\]]*\]\s*)*)")
# `f() const device {`: what kind of object a method is for.
QUALIFIER = re.compile(
    r"(\)\s*(?:const\s*)?)\b(?:device|constant|threadgroup)\b(?=\s*(?:\{|;|:[^:]))"
)
# clang takes no array as a parameter in a space, and no `short2 at(x, y);`.
ARRAY_PARAMETER = re.compile(
    r"(\b(?:device|constant|threadgroup)\b[\w\s:<>]*?\s)(\w+)\s*\[[^\]]*\](?=\s*[,)])"
)
DECLARED = re.compile(
    r"\b((?:bool|u?char|u?short|u?int|u?long|half|bfloat|float)[234]|vec\s*<[^<>();]+>)\s+(\w+)\s*"
    r"\((?!\s*(?:const|device|constant|thread|threadgroup)\b|\s*\)|\s*\w+\s+\w+\s*[,)])"
    r"([^;{}]*)\)\s*;"
)
CONSTRUCTOR = re.compile(r"\b(vec\s*<[^<>();]+>)\s*\(")


def host_text(definition: Definition, signature: Signature, version: Language = "3.1") -> str:
    """Return a kernel's whole text for clang. Raises MetalCompileError for what is not Metal."""
    header, body = map(without_comments, (definition.header, definition.source))
    check_words(header, "header")
    check_words(body, "kernel")
    check_limits(header, "header", version)
    check_limits(f"{{{body}}}", "kernel", version)  # a function's, not the program's
    return "\n".join(
        (
            f'{PREAMBLE}#line {HEADER_LINE + 1} "header.metal"',
            with_constructors(header),
            f'#line 1 "signature.metal"\n{signature.opening}#line 1 "kernel.metal"',
            with_constructors(with_arena(body)),
            f'#line 1 "entry"\n}}\n{_entry(signature)}',
        )
    )


def without_comments(text: str) -> str:
    """Blank comments, whose words are no code to be rewritten; all else keeps its place."""
    return COMMENT.sub(
        lambda at: at[0] if at[0].startswith('"') else re.sub(r"[^\n]", " ", at[0]), text
    )


def with_constructors(text: str) -> str:
    """Turn `vec<T, N>(...)`, a cast to clang, into the call of a function."""
    text = ARRAY_PARAMETER.sub(r"\1*\2", text)
    text = DECLARED.sub(r"\1 \2 = metal::__mk<\1>(\3);", text)
    return QUALIFIER.sub(r"\1", CONSTRUCTOR.sub(r"metal::__mk<\1>(", text))


def with_arena(text: str) -> str:
    """Turn threadgroup variables into numbered references into the runtime's arena."""
    number = 0

    def rewrite(match: re.Match[str]) -> str:
        nonlocal number
        pieces: list[str] = []
        for declarator in re.split(r",(?![^\[]*\])", match[2]):
            number += 1
            pieces.append(_reference(match[1].strip(), declarator, number))
        return " ".join(pieces) + "\n" * match[0].count("\n")

    return VARIABLES.sub(rewrite, text)


def _reference(type_name: str, declarator: str, number: int) -> str:
    match = DECLARATOR.match(declarator)
    assert match is not None
    name, extent = match[1], match[2].strip()
    reference = f"(&{name}){extent}" if extent else f"&{name}"
    pointer = f"(*){extent}" if extent else "*"
    array = f"{type_name} {extent}"
    memory = f'__msl_tg_alloc({number}u, sizeof({array}), alignof({type_name}), "{name}")'
    kind = f"__msl_same<{type_name}>" if type_name[-1].isdigit() else type_name  # no `float2 (`
    return (
        f"threadgroup {kind} {reference} = *(threadgroup {kind} {pointer})(unsigned long){memory};"
    )


def _entry(signature: Signature) -> str:
    values = [_buffer(number, each) for number, each in enumerate(signature.arguments)]
    values += [_attribute(name) for name in signature.attributes]
    return (
        f'extern "C" [[clang::sycl_external]] __attribute__((visibility("default"))) '
        f"void {ENTRY}(void** b, const __msl_ctx* c) {{\n"
        f"  {signature.function}{signature.template}({', '.join(values)});\n}}\n"
    )


def _buffer(number: int, argument: Argument) -> str:
    by_reference = argument.type.endswith("&")
    pointer = f"({argument.type[:-1]}*)(unsigned long)b[{number}]"
    return f"*{pointer}" if by_reference else pointer


def _attribute(name: str) -> str:
    field = FIELDS[name]
    if ATTRIBUTES[name] == "uint":
        return f"uint({field})"
    return (
        ", ".join(f"c->{field}[{i}]" for i in range(3)).join(("uint3{", "}"))
        if field
        else "uint3{0, 0, 0}"
    )
