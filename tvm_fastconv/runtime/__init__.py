"""Compiled models at work: TVM's runtime library alone, arrays of any library, threads, the end of the process."""
