"""Few levels: recognised in weights and activations, made on request, computed by popcounts of packed bits.

The words of this family, here and in `topi`:

bitserial
    The family, its operators, and a layer that runs as one of them. Reports call a layer so by what it is, also where
    dot products of bytes or floats are faster.
few-level
    A value, or the weights of one filter, that hold at most 2^b numbers at equal distances; a layer whose operands both
    do. **Levels** are those numbers, counted by integers.
bits, bit planes
    The packed form: words of 32 channels, one for each binary digit of an activation's level, and for each plane of
    signs that weights are a weighted sum of.
binary
    Exactly two levels, one bit; and the user's word for such networks.
"""
