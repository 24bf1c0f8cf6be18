"""Files that are written whole or not at all, and arrays with a header under one checksum."""
