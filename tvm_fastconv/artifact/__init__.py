"""The file of a compiled model: how it is built, what it says of itself, how it is read and checked."""
