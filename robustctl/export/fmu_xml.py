"""The XML files of a functional mock-up unit."""

import math
from collections.abc import Sequence
from xml.etree import ElementTree

from .fmu_variables import Variable

Element = ElementTree.Element
_ABILITIES = {
    "canHandleVariableCommunicationStepSize": "true",
    "canSerializeFMUState": "true",
    "canGetAndSetFMUState": "true",
}
_TYPES = {
    "3.0": {"float": "Float64", "int32": "Int32", "int64": "Int64", "bool": "Boolean"},
    "2.0": {"float": "Real", "int32": "Integer", "int64": "Integer", "bool": "Boolean"},
}


def description(name: str, version: str, token: str, dt: float, found: Sequence[Variable]) -> str:
    """Return modelDescription.xml.

    **Arguments:**

    - `name`: of the model, an identifier.
    - `version`: of the standard, `3.0` or `2.0`.
    - `token`: what distinguishes this unit from others.
    - `dt`: sample time in seconds.
    - `found`: the variables; value references count them from 0.
    """
    three = version == "3.0"
    root = Element("fmiModelDescription", fmiVersion=version, modelName=name, generationTool="robustctl")
    root.set("instantiationToken" if three else "guid", token)
    root.set("variableNamingConvention", "flat")
    root.append(_co_simulation(name, three, dt))
    units = sorted({v.unit for v in found if v.unit and v.kind == "float"})
    if units:
        definitions = ElementTree.SubElement(root, "UnitDefinitions")
        for unit in units:
            ElementTree.SubElement(definitions, "Unit", name=unit)
    stop = repr(1000 * dt)
    ElementTree.SubElement(root, "DefaultExperiment", startTime="0", stopTime=stop, stepSize=repr(dt))
    listed = ElementTree.SubElement(root, "ModelVariables")
    for reference, v in enumerate(found):
        listed.append(_variable_3(v, reference) if three else _variable_2(v, reference))
    root.append(_structure(found, three))
    return _text(root)


def _co_simulation(name: str, three: bool, dt: float) -> Element:
    element = Element("CoSimulation", modelIdentifier=name)
    for ability, value in _ABILITIES.items():
        element.set(ability if three else ability.replace("FMUState", "FMUstate"), value)
    if three:
        element.set("fixedInternalStepSize", repr(dt))
    else:
        files = ElementTree.SubElement(element, "SourceFiles")
        for file in sources(name):
            ElementTree.SubElement(files, "File", name=file)
    return element


def sources(name: str) -> tuple[str, str]:
    """Return the names of the source files."""
    return f"{name}.c", f"{name}_fmu.c"


def build_description(name: str) -> str:
    """Return sources/buildDescription.xml, which version 3.0 has."""
    root = Element("fmiBuildDescription", fmiVersion="3.0")
    configuration = ElementTree.SubElement(root, "BuildConfiguration", modelIdentifier=name)
    files = ElementTree.SubElement(configuration, "SourceFileSet", language="C99")
    for file in sources(name):
        ElementTree.SubElement(files, "SourceFile", name=file)
    return _text(root)


def _about(v: Variable) -> dict[str, str]:
    """Return causality, variability and what fixes the first value."""
    if v.role == "time":
        return {"causality": "independent", "variability": "continuous"}
    if v.role == "input":
        return {"causality": "input", "variability": "continuous" if v.kind == "float" and not v.flag else "discrete"}  # fmt: skip
    if v.role == "output":
        return {"causality": "output", "variability": "discrete", "initial": "calculated"}
    return {"causality": "local", "variability": "discrete", "initial": "exact"}


def _values(v: Variable) -> dict[str, str]:
    """Return start, limits and unit."""
    found = {} if v.start is None else {"start": _number(v.start)}
    if v.flag:
        found |= {"min": "0", "max": "1"}
    elif v.kind == "float":
        found |= {key: repr(x) for key, x in (("min", v.low), ("max", v.high)) if math.isfinite(x)}
    if v.unit and v.kind == "float":
        found["unit"] = v.unit
    return found


def _variable_3(v: Variable, reference: int) -> Element:
    about = {"name": v.name, "valueReference": str(reference), "description": v.text}
    return Element(_TYPES["3.0"][v.kind], about | _about(v) | _values(v))


def _variable_2(v: Variable, reference: int) -> Element:
    about = {"name": v.name, "valueReference": str(reference), "description": v.text}
    element = Element("ScalarVariable", about | _about(v))
    ElementTree.SubElement(element, _TYPES["2.0"][v.kind], _values(v))
    return element


def _structure(found: Sequence[Variable], three: bool) -> Element:
    """Return the list of outputs, which the initialization computes."""
    root = Element("ModelStructure")
    outputs = [k for k, v in enumerate(found) if v.role == "output"]
    if three:
        for kind in ("Output", "InitialUnknown"):
            for k in outputs:
                ElementTree.SubElement(root, kind, valueReference=str(k))
        return root
    for kind in ("Outputs", "InitialUnknowns"):
        if outputs:
            part = ElementTree.SubElement(root, kind)
            for k in outputs:
                ElementTree.SubElement(part, "Unknown", index=str(k + 1))
    return root


def _number(x: float | int | bool) -> str:
    if isinstance(x, bool):
        return str(x).lower()
    if math.isinf(x):
        return "INF" if x > 0 else "-INF"
    return "NaN" if math.isnan(x) else repr(x)


def _text(root: Element) -> str:
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
