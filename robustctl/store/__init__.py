"""Files that are whole or not there: atomic writing, and arrays with a header under one seal."""
