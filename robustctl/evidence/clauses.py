"""Which clauses of the practice for run-time assurance a line of evidence can support.

Source: ASTM F3269-21, "Standard Practice for Methods to Safely Bound Behavior of Aircraft Systems Containing Complex Functions Using
Run-Time Assurance", ASTM International, 2021. Cited are its scope (section 1) and significance and use (section 4).
"""

PRACTICE = (
    "ASTM F3269-21, Standard Practice for Methods to Safely Bound Behavior of Aircraft Systems Containing Complex Functions Using "
    "Run-Time Assurance"
)
CLAUSES = {
    "1.1.1": "the components of a run-time assurance system",
    "1.1.2": "its safe boundaries and its coverage",
    "1.1.3": "requirements for the system and its components",
    "4.2.2": "its requirements captured in the specification of the larger system",
    "4.2.3": "verification and validation of its requirements",
}
"""Subject of each cited clause, in our words."""
SUPPORTS = {
    "data": ("4.2.3", "which data a validation refers to, and the range that they cover"),
    "run": ("4.2.3", "that the complex function is the one that was validated, and can be made again"),
    "report": ("4.2.3", "validation of a model on a record, with figures"),
    "certificate": ("4.2.3", "verification of a bound on the complex function, by a proof that is checked again"),
    "loop": ("1.1.2", "boundaries within which the loop stays, for every plant within the stated error of the model"),
    "robustness": ("4.2.3", "validation of the loop by simulation, with figures"),
    "guard": ("1.1.2", "coverage: how often the monitor let pass, changed and replaced the complex function's output"),
    "export": ("1.1.3", "that the code of a component is the one that was verified; its integration on hardware is not covered (1.4)"),
    "assumptions": ("4.2.2", "conditions that the specification of the larger system has to hold"),
}  # fmt: skip
"""For each kind of line a clause, and what of it the line can support."""
NOT_COVERED = (
    "the design assurance level of each component, which follows from a safety assessment (1.2)",
    "the integration of hardware and software, which is outside of the practice's scope too (1.4)",
    "the requirements of its later sections, which an applicant compares one by one with the text of the practice",
)
