"""The S-function around a step in C, with which Simulink runs it."""

from typing import NamedTuple

from .fields import Field
from .wrapped import Wrapped, filled, table

_SFUN = """\
/* NAME_sfun: an S-function of level 2 around NAME.c, made by robustctl. */
#define S_FUNCTION_NAME NAME_sfun
#define S_FUNCTION_LEVEL 2

#include <string.h>

#include "simstruc.h"

#include "NAME.h"

/* The state is stored as doubles, which are aligned for everything in it. */
#define STATE_WIDTH ((int_T)((sizeof(NAME_state) + sizeof(real_T) - 1U) / sizeof(real_T)))

enum { DWORK_NOW, DWORK_NEXT };

static void mdlInitializeSizes(SimStruct *S)
{
    ssSetNumSFcnParams(S, 0);
    if (ssGetNumSFcnParams(S) != ssGetSFcnParamsCount(S)) {
        return;
    }
    ssSetNumContStates(S, 0);
    ssSetNumDiscStates(S, 0);
    if (!ssSetNumInputPorts(S, <NUMBER_OF_INPUTS>)) {
        return;
    }
    <INPUT_PORTS>
    if (!ssSetNumOutputPorts(S, <NUMBER_OF_OUTPUTS>)) {
        return;
    }
    <OUTPUT_PORTS>
    ssSetNumSampleTimes(S, 1);
    ssSetNumDWork(S, 2);
    ssSetDWorkWidth(S, DWORK_NOW, STATE_WIDTH);
    ssSetDWorkDataType(S, DWORK_NOW, SS_DOUBLE);
    ssSetDWorkWidth(S, DWORK_NEXT, STATE_WIDTH);
    ssSetDWorkDataType(S, DWORK_NEXT, SS_DOUBLE);
    ssSetOptions(S, SS_OPTION_EXCEPTION_FREE_CODE);
}

static void mdlInitializeSampleTimes(SimStruct *S)
{
    ssSetSampleTime(S, 0, NAME_UPPER_DT);
    ssSetOffsetTime(S, 0, 0.0);
}

#define MDL_INITIALIZE_CONDITIONS
static void mdlInitializeConditions(SimStruct *S)
{
    NAME_state state;
    NAME_init(&state);
    (void)memcpy(ssGetDWork(S, DWORK_NOW), &state, sizeof(state));
    (void)memcpy(ssGetDWork(S, DWORK_NEXT), &state, sizeof(state));
}

/* May be called several times in a sample: the state moves in mdlUpdate alone. */
static void mdlOutputs(SimStruct *S, int_T tid)
{
    NAME_state state;
    NAME_inputs inputs;
    NAME_outputs outputs;
    <POINTERS>
    (void)tid;
    (void)memcpy(&state, ssGetDWork(S, DWORK_NOW), sizeof(state));
    <READ>
    NAME_step(&state, &inputs, &outputs);
    <WRITE>
    (void)memcpy(ssGetDWork(S, DWORK_NEXT), &state, sizeof(state));
}

#define MDL_UPDATE
static void mdlUpdate(SimStruct *S, int_T tid)
{
    (void)tid;
    (void)memcpy(ssGetDWork(S, DWORK_NOW), ssGetDWork(S, DWORK_NEXT), sizeof(NAME_state));
}

static void mdlTerminate(SimStruct *S)
{
    (void)S;
}

#ifdef MATLAB_MEX_FILE
#include "simulink.c"
#else
#include "cg_sfun.h"
#endif
"""
_BUILD = """\
function NAME_build()
% NAME_build  Compiles the S-function NAME_sfun into the folder of this file.
here = fileparts(mfilename('fullpath'));
mex('-outdir', here, ['-I' here], fullfile(here, 'NAME_sfun.c'), fullfile(here, 'NAME.c'));
end
"""
_README = """\
# NAME in Simulink

*As an S-function.*

1. `addpath` this folder and run `NAME_build` once; it needs the compiler of `mex -setup`.
2. Put the block *S-Function* (library *User-Defined Functions*) into your model, with the S-function name `NAME_sfun` and no parameters.
3. Connect its ports in the order of the table; they are doubles. A vector of several numbers is one port. The block samples each <DT> s and
   passes its inputs on in the same sample, so that a loop around it has to contain a delay or a plant.

<TABLE>

Ports:

<PORTS>

*By the block C Caller.* It calls the step directly, and code generation then uses NAME.c and NAME.h as they are.

1. In the settings of the model, *Simulation Target*, include NAME.h and give the source file NAME.c.
2. `Simulink.importExternalCTypes('NAME.h')` makes the bus types of the three structs.
3. In a *C Caller* choose `NAME_step`; give the argument `state` the scope *InputOutput*, `inputs` *Input* and `outputs` *Output*.
4. Connect the output `state` to the input `state` by a *Unit Delay* of sample time <DT> s. Its initial condition is a struct with the
   values that `NAME_init` sets.

The S-function keeps its own state, so that a model may contain several. All files are compared by `robustctl export FOLDER --check`.
"""


class Port(NamedTuple):
    """A port of the block, and the fields that it has, a number each."""

    label: str
    fields: list[Field]


def simulink(w: Wrapped) -> tuple[dict[str, str], dict[str, str]]:
    """Return the files around a step for Simulink by name, and those that its user changes: none."""
    inputs, outputs = _ports(w.inputs), _ports(w.outputs)
    code = _SFUN.replace("<NUMBER_OF_INPUTS>", str(len(inputs))).replace(
        "<NUMBER_OF_OUTPUTS>", str(len(outputs))
    )
    listed = [
        f"- {what} {k}: {port.label}" + (f", {len(port.fields)} numbers" if len(port.fields) > 1 else "")
        for what, ports in (("input", inputs), ("output", outputs))
        for k, port in enumerate(ports, 1)
    ]
    files = {
        f"{w.name}_sfun.c": filled(code, w, **_body(w, inputs, outputs)), f"{w.name}_build.m": filled(_BUILD, w),
        "README.md": filled(_README.replace("<DT>", f"{w.dt:.9g}"), w, TABLE=table(w), PORTS=listed),
    }  # fmt: skip
    return files, {}


def _ports(fields: list[Field]) -> list[Port]:
    """Return a port for each named signal, and one for each array without names."""
    found: list[Port] = []
    for field in fields:
        whole = "[" in field.place
        if whole and found and found[-1].label == field.array:
            found[-1].fields.append(field)
        else:
            found.append(Port(field.array if whole else field.about, [field]))
    return found


def _body(w: Wrapped, inputs: list[Port], outputs: list[Port]) -> dict[str, list[str]]:
    return {
        "INPUT_PORTS": [
            line
            for k, port in enumerate(inputs)
            for line in (
                f"ssSetInputPortWidth(S, {k}, {len(port.fields)});",
                f"ssSetInputPortDataType(S, {k}, SS_DOUBLE);",
                f"ssSetInputPortRequiredContiguous(S, {k}, 1);",
                f"ssSetInputPortDirectFeedThrough(S, {k}, 1);",
            )
        ],
        "OUTPUT_PORTS": [
            line
            for k, port in enumerate(outputs)
            for line in (
                f"ssSetOutputPortWidth(S, {k}, {len(port.fields)});",
                f"ssSetOutputPortDataType(S, {k}, SS_DOUBLE);",
            )
        ],
        "POINTERS": [
            *(f"const real_T *u{k} = (const real_T *)ssGetInputPortSignal(S, {k});" for k in range(len(inputs))),
            *(f"real_T *y{k} = (real_T *)ssGetOutputPortSignal(S, {k});" for k in range(len(outputs))),
        ],
        "READ": [
            w.assigned(field, "inputs.", f"u{k}[{i}]") for k, port in enumerate(inputs) for i, field in enumerate(port.fields)
        ] or ["inputs.nothing = 0;"],
        "WRITE": [
            f"y{k}[{i}] = {w.number(field, 'outputs.')};" for k, port in enumerate(outputs) for i, field in enumerate(port.fields)
        ],
    }  # fmt: skip
