"""The sketch around a step in C: an Arduino loop at a fixed rate."""

from pathlib import Path

from ..errors import InvalidModelError
from .c_text import comment
from .fields import Field
from .wrapped import Wrapped, filled, table

_SKETCH = """\
/* NAME: one step each <PERIOD>, made by robustctl. Your own code belongs into NAME_io.h. */
#include <Arduino.h>

#include "NAME.h"

#include "NAME_io.h"

static NAME_state state;
static NAME_inputs inputs;
static NAME_outputs outputs;

/* Counts of the clock between two samples. */
static const uint32_t period = PERIODUL;
static uint32_t due;
/* Samples that were left out, because those before them took too long. */
static uint32_t missed;

void setup()
{
    NAME_begin();
    NAME_init(&state);
    due = (uint32_t)CLOCK();
}

void loop()
{
    /* Differences of unsigned numbers are right when the clock starts again from 0 as well. */
    const uint32_t late = (uint32_t)CLOCK() - due;
    if (late >= 0x80000000UL) {
        return;
    }
    missed += late / period;
    due += (late / period + 1UL) * period;
    NAME_read(&inputs);
    NAME_step(&state, &inputs, &outputs);
    NAME_write(&outputs, missed);
}
"""
_IO = """\
/* Yours to change: where the inputs come from and where the outputs go. The check of the folder does not compare this file. */
#ifndef NAME_UPPER_IO_H
#define NAME_UPPER_IO_H

/* Called once, before the first sample. */
static void NAME_begin()
{
    Serial.begin(115200);
}

/* Reads one sample, finite numbers in the units of the comments: 5.0 * analogRead(A0) / 1023.0 are volts, for example. */
static void NAME_read(NAME_inputs *inputs)
{
    <INPUTS>
}

/* Writes the outputs of a sample; missed counts the samples that were left out. */
static void NAME_write(const NAME_outputs *outputs, uint32_t missed)
{
    <OUTPUTS>
    Serial.println(missed);
}

#endif
"""
_README = """\
# NAME on an Arduino

Open NAME.ino in the Arduino IDE, or run `arduino-cli compile` in this folder. NAME_io.h is yours: read your sensors into `inputs` and write
`outputs` to your actuators there; as it is, it has inputs of 0 and prints the outputs. All other files are compared by
`robustctl export FOLDER --check`.

<TABLE>

The loop takes a sample each <PERIOD> by `CLOCK()`, as long as nothing else in the sketch waits longer. A sample that comes late by whole
periods leaves those out and counts them in `missed`: the step expects its sample time. On boards without a unit for floating point take
`--dtype q15` where the model has a form in fixed point, else `--dtype float32`; `double` is `float` on 8-bit boards.
"""


def check_arduino(folder: Path, name: str) -> None:
    """Raise `InvalidModelError` unless the folder has the name of the sketch in it."""
    if folder.resolve().name != name:
        raise InvalidModelError(
            f"the folder of a sketch must have the sketch's name, {name}, got {folder}; give a folder of that name, or another name="
        )


def arduino(w: Wrapped) -> tuple[dict[str, str], dict[str, str]]:
    """Return the files of a sketch by name, and those that its user changes.

    **Raises:** `InvalidModelError` for a sample time that the clocks of the board do not measure.
    """
    clock, period = _clock(w.dt)
    inputs = [f"{w.assigned(f, 'inputs->', '0.0')} {comment(f.about)}" for f in w.inputs]
    outputs = [line for f in w.outputs for line in _printed(w, f)]
    words = {"CLOCK": clock, "PERIODUL": f"{period}UL", "<PERIOD>": f"{w.dt:.9g} s"}

    def of(template: str, **lines) -> str:
        for word, text in words.items():
            template = template.replace(word, text)
        return filled(template, w, **lines)

    own = {f"{w.name}_io.h": of(_IO, INPUTS=inputs or ["(void)inputs;"], OUTPUTS=outputs)}
    return {f"{w.name}.ino": of(_SKETCH), "README.md": of(_README, TABLE=table(w))}, own


def _printed(w: Wrapped, field: Field) -> list[str]:
    return [
        f'Serial.print("{field.name} ");',
        f"Serial.print({w.number(field, 'outputs->')}, 6); {comment(field.about)}",
        "Serial.print(' ');",
    ]


def _clock(dt: float) -> tuple[str, int]:
    """Return the clock that measures a sample time, and the sample time in its counts."""
    for clock, unit in (("micros", 1e-6), ("millis", 1e-3)):
        period = round(dt / unit)
        if 10 <= period < 2**30 and abs(period * unit - dt) <= 1e-3 * dt:
            return clock, period
    raise InvalidModelError(
        f"the sample time of a sketch must be 10 us to 10^6 s, by its clocks to 0.1 %, got {dt:g} s; call the step from your own loop"
    )
