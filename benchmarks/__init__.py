"""The published problems at full scale, speed measurements, and the scripts that write results files; not in the wheel."""
