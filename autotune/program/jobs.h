/* The candidates of a batch, as the program that measures them sees them. `batch.c` is made for each batch. */
#ifndef JOBS_H
#define JOBS_H

#include <stddef.h>
#include <stdio.h>

#include "kit_pool.h"

struct array {
  const char* file; /* of NumPy's */
  size_t bytes;     /* of its data, in C order */
};
struct candidate {
  int (*call)(char** tensors); /* what it reads, in order, and then what it writes */
  int count;                   /* of what it reads */
  const struct array* arrays;
};
struct job {
  const char* described; /* fields of its result, in JSON */
  struct array expected; /* the answer */
  const struct candidate* candidates;
  int count, floats, turns;
  long long footprint; /* bytes that a network touches between two runs; less than 0: run from caches */
};

extern const struct job jobs[];
extern const int job_count, thread_count;
extern const size_t scratch_bytes; /* that a task takes at most */
extern const char conditions[];    /* what the measurements hold for, inside of a string of JSON */

/* Whether a file is as it was written, as far as its size tells. */
int is_there(const struct array* array);

/* Of what `run_job` says where no candidate is to blame; a message follows. */
enum { STOPPED = '!' };

/* Runs a job in this process, which it ends, and says what came of it: fields of JSON. */
_Noreturn void run_job(const struct job* job, FILE* to);

/* Seconds. */
double now(void);

/* Cycles in so many rounds of additions that wait for each other. */
double add_chain(long rounds);

#endif
