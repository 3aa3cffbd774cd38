"""Videos in files, folders of frames and arrays."""
