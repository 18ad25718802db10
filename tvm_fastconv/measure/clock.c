/* One integer addition after the other, each of one cycle on any processor: a clock that follows the core's frequency.
 * Returns cycles. */
double add_chain(long rounds) {
  unsigned long x = 1;
  for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
      x += (unsigned long)r | 1;
      __asm__ volatile("" : "+r"(x)); /* not sixteen at once */
    }
  }
  return 16.0 * (double)rounds;
}
