"""The published problems at full scale, speed, and what the results files are made of; not part of the wheel."""
