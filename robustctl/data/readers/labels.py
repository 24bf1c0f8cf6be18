"""Units in the headers of text files: what is a unit, and which part of a column's name."""

from __future__ import annotations

import re

# Whole labels of loggers, spreadsheets and PLCs. A product of them by * / . or a space, with powers, is a unit as well.
_ATOMS = (
    "V|mV|kV|uV|A|mA|uA|kA|W|mW|kW|MW|VA|kVA|var|Ohm|kOhm|F|uF|nF|pF|H|mH|T|mT|Wb|C|Ah|mAh|J|kJ|MJ|Wh|kWh|MWh|m|mm|cm|dm|km|um|nm|µm|μm|"
    "inch|in|ft|yd|mi|s|sec|ms|msec|us|µs|μs|ns|min|h|hr|d|days|day|Hz|kHz|MHz|GHz|g|mg|kg|t|lb|lbs|oz|N|mN|kN|MN|lbf|Nm|mNm|kNm|"
    "Pa|hPa|kPa|MPa|mbar|bar|psi|psig|atm|torr|mmHg|mmH2O|inH2O|K|degC|degF|°C|°F|℃|℉|°K|°R|deg|°|rad|mrad|grad|rev|rpm|RPM|rps|"
    "turns|turn|U|mol|mmol|l|L|ml|mL|dl|cl|gal|gpm|cfm|slpm|sccm|Nl|%RH|%|ppm|ppb|ppt|pH|dBm|dB|lx|lm|cd|Bq|Gy|Sv|"
    "counts|count|cnt|cts|bits|bit|LSB|pu|raw|bool|kph|mph|kn|g0|Vpp|Vrms|Arms|[kMm]?Ω|-|1"
)
_ATOM = rf"(?:{_ATOMS})(?:\^?-?\d|[²³⁻¹])*"
_UNIT = re.compile(rf"{_ATOM}(?:\s*[*/·.^ ]\s*\(?{_ATOM}\)?)*")
_NAMED = (
    re.compile(r"(.*?)[\s_]*\[([^\[\]]*)\]"),
    re.compile(r"(.*?)[\s_]*\(([^()]+)\)"),
    re.compile(r"(.*?)\s+/\s+(\S+)"),
    re.compile(r"(.*?)\s+in\s+(\S+)"),
)


def is_unit(text: str) -> bool:
    """True for a label made of known units, in brackets or not."""
    text = text.strip()
    if len(text) > 2 and (text[0], text[-1]) in (("[", "]"), ("(", ")")):
        text = text[1:-1].strip()
    return bool(_UNIT.fullmatch(text))


def bare(text: str) -> str:
    """A unit without the brackets around it; ``-`` and ``1`` stand for no unit."""
    text = text.strip()
    if len(text) > 1 and (text[0], text[-1]) in (("[", "]"), ("(", ")")):
        text = text[1:-1].strip()
    return "" if text in ("-", "1") else text


def split_unit(name: str) -> tuple[str, str]:
    """A column's name without its unit, and the unit: of ``T [degC]``, ``T (degC)``, ``T / degC`` and ``T in degC``.

    Square brackets hold a unit whatever it is, except an index: ``u[0]`` is a name. Elsewhere it must be a known unit.
    """
    for index, pattern in enumerate(_NAMED):
        found = pattern.fullmatch(name.strip())
        if found and found[1].strip():
            inside = found[2].strip()
            if is_unit(inside) if index else not re.fullmatch(r"[\d:,;\s]*", inside):
                return found[1].strip(), bare(inside)
    return name, ""
