"""The two files of an exported step in C99: structs and functions, and what they compute."""

import json
from collections.abc import Sequence

from ..runtime.program import Program, Signals, State, Value
from . import c_kinds, c_more  # noqa: F401  # registers what they print
from .c_print import Printer
from .c_refs import Ref, Scalar, place
from .c_text import comment, identifiers
from .fields import limit_macros
from .limits import Known


def files(
    program: Program, more: Sequence[str] = (), known: Known | None = None, *, own_functions: bool = True
) -> dict[str, str]:
    """Return the text of each file of a program by its name; arguments are those of `header` and `source`."""
    name = program.name
    return {
        f"{name}.h": header(program, more, known or Known()),
        f"{name}.c": source(program, own_functions=own_functions),
    }


def header(program: Program, more: Sequence[str], known: Known) -> str:
    """Return the header: the structs, with names, units and known ranges of the signals, more lines, and the two functions."""
    p, name = Printer(program), program.name
    guard = f"{name.upper()}_H"
    time = (
        []
        if program.dt is None
        else [f"{comment('Seconds between two samples.')}", f"#define {name.upper()}_DT {program.dt!r}"]
    )
    ints = {v.value.dtype for v in (*program.state, *program.inputs, *program.outputs)}
    includes = [
        text for kind, text in (("bool", "#include <stdbool.h>"), ("int", "#include <stdint.h>"))
        if any(dtype.startswith(kind) for dtype in ints)
    ]  # fmt: skip
    lines = [
        comment(f"{name}: one step of a discrete-time system, made by robustctl {_version()}."),
        f"#ifndef {guard}", f"#define {guard}", "", *includes, "#ifdef __cplusplus", 'extern "C" {', "#endif", "",
        *time, "",
        *_struct(p, "state", [_field(p, s.name, s.value) for s in program.state]),
        *_struct(p, "inputs", [line for s in program.inputs for line in _signal_fields(p, s, known)]),
        *_struct(p, "outputs", [line for s in program.outputs for line in _signal_fields(p, s, known)]),
        *limit_macros(program, known, "" if p.double else "f"), *more,
        comment("Sets the initial state."),
        f"void {name}_init({name}_state *state);", "",
        comment("Computes the outputs of one sample and moves the state to the next. Inputs must be finite."),
        f"void {name}_step({name}_state *state, const {name}_inputs *inputs, {name}_outputs *outputs);",
        "", "#ifdef __cplusplus", "}", "#endif", "", "#endif", "",
    ]  # fmt: skip
    return "\n".join(lines)


def source(program: Program, *, own_functions: bool = True) -> str:
    """Return the source file, with its own `exp` and `tanh` or without."""
    name, p = program.name, Printer(program, own_functions)
    step = _step(p, program)
    tables = [_table(p, table, value) for value, table in p.tables.items()]
    init = _init(p, program)
    body = "\n\n".join([*tables, *p.helpers.values(), init, step])
    words = _INCLUDES | {"math": (*_INCLUDES["math"], *(f"{function}(" for function in p.libm))}
    includes = [f"#include <{file}.h>" for file, each in words.items() if any(word in body for word in each)]
    top = [
        comment(f"{name}: made by robustctl {_version()}. Sums run from the first term to the last, one product after the other."),
        comment(f"Calls of math.h: {', '.join(sorted(p.libm)) or 'none'}."),
        f'#include "{name}.h"', "", *includes, "",
        comment("A product and a sum that were contracted to one operation would round otherwise."),
        "#if defined(__GNUC__) && !defined(__clang__)", '#pragma GCC optimize("fp-contract=off")', "#else",
        "#pragma STDC FP_CONTRACT OFF", "#endif",
    ]  # fmt: skip
    return "\n".join(top) + "\n\n" + body + "\n"


_INCLUDES = {
    "math": ("HUGE_VAL", "NAN"),
    "stdbool": ("bool", "true", "false"),
    "stdint": ("int32_t", "int64_t"),
}


def _version() -> str:
    import robustctl

    return robustctl.__version__


def _struct(p: Printer, what: str, fields: list[str]) -> list[str]:
    # C has no empty struct.
    fields = fields or [f"char nothing; {comment('There are none.')}"]
    return ["typedef struct {", *(f"    {field}" for field in fields), f"}} {p.prefix}_{what};", ""]


def _field(p: Printer, name: str, value: Value, notes: Sequence[str] = ()) -> str:
    kind = p.types[value.dtype]
    shape = (
        []
        if len(value.shape) < 2 or value.size == 1
        else [f"{' by '.join(map(str, value.shape))}, row after row"]
    )
    size = "" if value.size == 1 else f"[{value.size}]"
    return f"{kind} {name}{size};" + _comment([*shape, *notes])


def _comment(notes: Sequence[str]) -> str:
    return f" {comment(', '.join(notes))}" if notes else ""


def _signal_fields(p: Printer, signals: Signals, known: Known) -> list[str]:
    """Return a field for each named signal, or one for the whole array."""
    if signals.labels is None:
        each = [", ".join(known.notes(signals, k)) for k in range(signals.value.size)]
        alike = each[:1] if len(set(each)) == 1 else [f"[{k}] {note}" for k, note in enumerate(each) if note]
        return [_field(p, signals.name, signals.value, [note for note in alike if note])]
    units = signals.units or ("",) * len(signals.labels)
    kind = p.types[signals.value.dtype]
    lines = []
    for k, (name, label, unit) in enumerate(
        zip(identifiers(signals.labels), signals.labels, units, strict=True)
    ):
        notes = [label] if label != name else []
        notes += [f"[{unit}]"] if unit else []
        notes += ["1 where measured, else 0"] if k in signals.flags else []
        ranges = known.notes(signals, k)
        lines.append(f"{kind} {name};" + _comment([*([" ".join(notes)] if notes else []), *ranges]))
    return lines


def _table(p: Printer, name: str, value: Value) -> str:
    """Return a constant array; a matrix that multiplies a vector column after column."""
    assert value.data is not None
    data = value.data.T if value in p.by_columns else value.data
    numbers = [p.constant(x, value.dtype) for x in data.ravel().tolist()]
    rows = [", ".join(numbers[k : k + 4]) for k in range(0, len(numbers), 4)]
    shape = " by ".join(map(str, value.shape)) + (", column after column" if value in p.by_columns else "")
    body = ",\n".join(f"    {row}" for row in rows)
    return f"{comment(shape)}\nstatic const {p.types[value.dtype]} {name}[{value.size}] = {{\n{body}\n}};"


def _init(p: Printer, program: Program) -> str:
    lines = [f"void {program.name}_init({program.name}_state *state)", "{"]
    for s in program.state:
        lines += _start(p, s)
    return "\n".join([*lines, *([] if program.state else ["    state->nothing = 0;"]), "}"])


def _start(p: Printer, s: State) -> list[str]:
    flat, kind = s.start.ravel().tolist(), s.value.dtype
    if s.value.size == 1:
        return [f"    state->{s.name} = {p.constant(flat[0], kind)};"]
    if len(set(map(json.dumps, flat))) == 1:
        loop = f"    for (int i = 0; i < {s.value.size}; i++) {{"
        return [loop, f"        state->{s.name}[i] = {p.constant(flat[0], kind)};", "    }"]
    return [f"    state->{s.name}[{k}] = {p.constant(x, kind)};" for k, x in enumerate(flat)]


def _step(p: Printer, program: Program) -> str:
    name = program.name
    for s in program.state:
        p.refs[s.value] = _member("state", s.name, s.value)
    for signals in program.inputs:
        p.refs[signals.value] = _input(p, signals)
    p.operations(program.operations)
    for signals in program.outputs:
        _output(p, signals)
    _next_state(p, program)
    unused = [
        f"    (void){what};" for what, used in (("inputs", "inputs->"), ("state", "state->"), ("outputs", "outputs->"))
        if not any(used in line for line in p.lines)
    ]  # fmt: skip
    head = f"void {name}_step({name}_state *state, const {name}_inputs *inputs, {name}_outputs *outputs)"
    return "\n".join([head, "{", *unused, *p.lines, "}"])


def _member(struct: str, name: str, value: Value) -> Ref:
    return Scalar(f"{struct}->{name}") if value.size == 1 else place(f"{struct}->{name}", value.shape)


def _input(p: Printer, signals: Signals) -> Ref:
    """Return an array of the inputs; named signals are gathered into one."""
    value = signals.value
    if signals.labels is None:
        return _member("inputs", signals.name, value)
    fields = [f"inputs->{field}" for field in identifiers(signals.labels)]
    if value.size == 1:
        return Scalar(fields[0])
    name = p.name("u")
    p.line(f"const {p.types[value.dtype]} {name}[{value.size}] = {{{', '.join(fields)}}};")
    return place(name, value.shape)


def _output(p: Printer, signals: Signals) -> None:
    value, source = signals.value, p.ref(signals.value)
    if signals.labels is None:
        p.fill(_member("outputs", signals.name, value), value.shape, source.read)
        return
    for k, field in enumerate(identifiers(signals.labels)):
        p.fill(Scalar(f"outputs->{field}"), (), lambda _, k=k: source.read([k]))


def _next_state(p: Printer, program: Program) -> None:
    """Write the next state; first all that reads the old one, then the new one."""
    moving = [s for s in program.state if s.after is not s.value]
    for s in moving:
        ref = p.ref(s.after)
        own = s.after.data is None and (not ref.array or ref.array.startswith("state->"))
        if own:
            p.write_out(s.after)
    for s in moving:
        p.fill(_member("state", s.name, s.value), s.value.shape, p.ref(s.after).read)
