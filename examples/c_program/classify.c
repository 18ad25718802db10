/* Reads handwritten digits from standard input, 64 numbers from 0 (paper) to 16 (ink) each, and prints what they are.

   Two networks are linked, and take turns: nothing is allocated, everything is in static memory. */
#include <stdio.h>

#include "bits.h"
#include "floats.h"

enum { PIXELS = 64, CLASSES = 10, PADDED = 16 /* floats, up to a multiple of 64 bytes */, WORKSPACE = 1 << 20 };

static _Alignas(FASTCONV_ALIGNMENT) float image[PIXELS];
static _Alignas(FASTCONV_ALIGNMENT) float scores[2][PADDED];
static _Alignas(FASTCONV_ALIGNMENT) char workspace[WORKSPACE];

static int largest(const float* of) {
  int best = 0;
  for (int i = 1; i < CLASSES; i++)
    if (of[i] > of[best]) best = i;
  return best;
}

static int read_image(void) {
  for (int i = 0; i < PIXELS; i++) {
    if (scanf("%f", &image[i]) != 1) return 0;
    image[i] /= 16;
  }
  return 1;
}

int main(void) {
  const bits_inputs bits_in = {image};
  const bits_outputs bits_out = {scores[0]};
  const floats_inputs floats_in = {image};
  const floats_outputs floats_out = {scores[1]};
  while (read_image()) {
    fastconv_status status = bits_run(&bits_in, &bits_out, workspace, sizeof workspace, NULL);
    if (!status) status = floats_run(&floats_in, &floats_out, workspace, sizeof workspace, NULL);
    if (status) {
      fprintf(stderr, "status %d\n", status);
      return 1;
    }
    printf("%d %d\n", largest(scores[0]), largest(scores[1]));
  }
  return 0;
}
