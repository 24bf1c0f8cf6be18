"""Records from files: csv, parquet, mat, hdf5 and NumPy."""
