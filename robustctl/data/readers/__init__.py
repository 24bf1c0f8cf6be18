"""Records from files: csv, xlsx, parquet, mat, hdf5 and NumPy, and from DataFrames."""
