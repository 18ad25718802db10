"""The generators, by the names that ``--what`` takes."""

from .generator import Generator

GENERATORS: dict[str, Generator] = {generator.name: generator for generator in ()}
