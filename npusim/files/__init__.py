"""Files on disk: arrays, datasets, tables, folders that appear whole or not at all, and what devices dump."""
