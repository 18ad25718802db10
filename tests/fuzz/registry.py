"""The generators, by the names that ``--what`` takes."""

from .commands import Commands
from .generator import Generator

GENERATORS: dict[str, Generator] = {generator.name: generator for generator in (Commands(),)}
