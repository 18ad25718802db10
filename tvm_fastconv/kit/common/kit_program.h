/* The network as main.c calls it. */
#ifndef KIT_PROGRAM_H
#define KIT_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

enum { INPUTS = @input_count@, OUTPUTS = @output_count@, TENSORS = INPUTS + OUTPUTS, ALIGNMENT = @alignment@ };

/* Be ready for calls, on so many threads. 0, or something else after a message on stderr. */
int open_network(int threads);

/* Run it on tensors, inputs first; `batch` is 1 where all shapes are fixed. As above. */
int call_network(long batch, char** tensors);

void close_network(void);

/* So many bytes, aligned, all of them 0; ends the program where there is no memory. */
char* allocate(size_t bytes);

#endif
