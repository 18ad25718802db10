"""The generators, by the names that ``--what`` takes."""

from .generator import Generator
from .networks import Networks

GENERATORS: dict[str, Generator] = {generator.name: generator for generator in (Networks(),)}
