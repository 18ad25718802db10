"""What the schedules and their cost models know of a processor: one row of data, from a table or measured."""

import json
from dataclasses import asdict, dataclass, fields

KIB, MIB = 1024, 1024 * 1024

SMALLEST, LARGEST = 1e-12, 1e12
"""Of any number in a row: nothing that is measured is beyond, and no estimate overflows."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A processor, as far as the choice of operators and knobs depends on it.

    Fields named ``..._cost`` compare an operation with one multiply-add of a whole vector; ``..._cycles`` are cycles;
    bandwidths are bytes per cycle of one core. Where a row of the table (`machines`) says nothing of a field, it has
    what was measured on a Zen 4, the default here: loops of each operator over sizes and kernels, fitted.

    Attributes
    ----------
    name : str
        Of the microarchitecture.
    kind : str
        Of target, in TVM's words: which templates there are.
    lanes, registers : int
        float32 values of a vector register, and how many of those there are.
    fma_per_cycle : float
        Multiply-adds of whole vectors.
    sums_in_flight : int
        Independent sums that keep its multiply-add pipes busy: pipes times latency.
    half_vector_cost : float
        An operation on half a vector: half where the core splits whole ones.
    counts_words : bool
        Whether it has a popcount of 32-bit lanes, or only of bytes.
    dot_products : bool
        Whether a 32-bit lane can add four products of bytes at once.
    dot_bits : int
        Bits of the unsigned factor there: 7 where both are signed.
    dot_product_cost : float
        Such an addition to a whole vector.
    word_popcount_cost, byte_popcount_cost : float
        Exclusive or, popcount and addition of a vector, with and without ``counts_words``.
    packs_inputs : bool
        Whether a vector of inputs, whose lanes are multiplied one by one, is loaded in less time than those alone.
    load_cost, store_cost : float
        A load beside multiply-adds; finishing and storing a vector of results.
    broadcast_cost, weight_load_cost, permute_cost : float
        In a grouped convolution: to broadcast an input, to load a vector of weights, to permute or blend one of inputs.
    scattered_load_cost : float
        To load and add a vector that begins anywhere, most of them across cache lines, from L1.
    l2_load_factor : float
        How many times longer that takes from L2.
    tap_cost, window_cost : float
        In a depthwise convolution, for each vector of outputs: every tap, and what else there is.
    window_share : float
        Of the registers, what the outputs of a tile of a depthwise convolution take.
    gather_cost : float
        How many times slower one with a channel multiplier is, which reads its input lane by lane.
    digit_cost : float
        To make numbers of one binary digit of a vector of counts.
    transpose_cycles : float
        To change the layout of one float, in registers.
    coefficient_cycles, visit_cycles : float
        In a sparse convolution: each coefficient beside its multiply-adds, and each visit of a filter to a block of
        channels beside reading and writing its sums.
    product_cycles, output_cycles : float
        In a sparse matrix product: each coefficient, and each output.
    call_cycles, wake_cycles : int
        A function of its own, and to wake a second thread.
    l1_bytes, l2_bytes, l3_bytes : int
        Data caches of a core; of the last one, what it may count on.
    l2_bandwidth, l3_bandwidth, memory_bandwidth : float
    """

    name: str = "generic"
    kind: str = "llvm"
    lanes: int
    registers: int
    fma_per_cycle: float = 2.0
    sums_in_flight: int = 8
    half_vector_cost: float = 1.0
    counts_words: bool = False
    dot_products: bool = False
    dot_bits: int = 8
    dot_product_cost: float = 1.0
    word_popcount_cost: float = 1.6
    byte_popcount_cost: float = 4.8
    packs_inputs: bool = False
    load_cost: float = 0.1
    store_cost: float = 4.0
    broadcast_cost: float = 0.25
    weight_load_cost: float = 0.2
    permute_cost: float = 0.7
    scattered_load_cost: float = 1.8
    l2_load_factor: float = 2.0
    tap_cost: float = 1.05
    window_cost: float = 5.0
    window_share: float = 0.25
    gather_cost: float = 10.0
    digit_cost: float = 2.75
    transpose_cycles: float = 0.4
    coefficient_cycles: float = 3.0
    visit_cycles: float = 12.0
    product_cycles: float = 1.4
    output_cycles: float = 10.0
    call_cycles: int = 4000
    wake_cycles: int = 16 * 1024
    l1_bytes: int = 32 * 1024
    l2_bytes: int = 1024 * 1024
    l3_bytes: int = 16 * 1024 * 1024
    l2_bandwidth: float = 48.0
    l3_bandwidth: float = 14.0
    memory_bandwidth: float = 6.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), field.type
            if type(value) not in ((float, int) if kind is float else (kind,)):
                raise ValueError(f"{field.name} is {value!r}; allowed: {getattr(kind, '__name__', kind)}")
            lowest = 1 if kind is int else SMALLEST
            if kind in (int, float) and not lowest <= value <= LARGEST:
                raise ValueError(f"{field.name} is {str(value)[:20]}; allowed: {lowest:g} to {LARGEST:g}")
            if kind is float:
                object.__setattr__(self, field.name, float(value))

    @property
    def popcount_cost(self) -> float:
        """Exclusive or, popcount and addition of a vector."""
        return self.word_popcount_cost if self.counts_words else self.byte_popcount_cost

    @property
    def resident_bytes(self) -> int:
        """What stays in L2 from one strip of a plane to the next, beside what passes by."""
        return self.l2_bytes // 2

    @property
    def strip_bytes(self) -> int:
        """Padded input under one strip, in L2 beside the weights that pass by (on Zen 4, 64 to 256 KiB are level)."""
        return self.l2_bytes // 8

    @property
    def block_bytes(self) -> int:
        """Inputs that stay in L1 beside the lists of coefficients that pass by."""
        return self.l1_bytes * 3 // 4

    @property
    def own_l3_bytes(self) -> int:
        """Of the last cache, what one network finds of its own from one run to the next: others share it."""
        return self.l3_bytes * 3 // 4

    def vector_cost(self, lanes: int) -> float:
        """What an operation on ``lanes`` lanes costs."""
        return self.half_vector_cost if 2 * lanes == self.lanes else 1.0

    def cycles(self, cost: float) -> float:
        """The cycles that ``cost`` multiply-adds of whole vectors take."""
        return cost / self.fma_per_cycle

    def streaming_cycles(self, size: float) -> float:
        """To read ``size`` bytes that no cache, or only the last, keeps from one inference to the next."""
        if size <= self.l2_bytes:
            return 0.0
        return size / (self.l3_bandwidth if size <= self.l3_bytes else self.memory_bandwidth)

    def passing_cycles(self, size: float) -> float:
        """To write ``size`` bytes behind one operator and read them again in front of the next."""
        return 2 * size / (self.l2_bandwidth if 2 * size <= self.l2_bytes else self.l3_bandwidth)

    def handover_cycles(self, size: float) -> float:
        """The same, as far as the estimates of the two operators leave it out."""
        return self.passing_cycles(size)

    def to_json(self) -> str:
        """Every field by name, for a file."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Machine":
        """Inverse of `to_json`.

        Raises
        ------
        ValueError
            The text is no object of these fields; the message names what is wrong.
        """
        found = json.loads(text)
        known = {field.name for field in fields(cls)}
        if not isinstance(found, dict):
            raise ValueError("it holds no fields")
        if unknown := sorted(set(found) - known):
            raise ValueError(f"unknown fields {', '.join(unknown)}; allowed: {', '.join(sorted(known))}")
        if missing := sorted({"lanes", "registers"} - set(found)):
            raise ValueError(f"fields {' and '.join(missing)} are missing")
        return cls(**found)
