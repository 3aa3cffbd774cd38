"""Samples in the rows of tables: Parquet, Arrow, and archives of members with common names."""
