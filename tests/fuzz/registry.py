"""The generators, by the names that ``--what`` takes."""

from .commands import Commands
from .files import Files
from .generator import Generator
from .manifests import Manifests
from .networks import Networks

GENERATORS: dict[str, Generator] = {
    generator.name: generator for generator in (Networks(), Files(), Manifests(), Commands())
}
