/* One job: its candidates are checked, and timed in turns. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "jobs.h"

static const double turn_seconds = 0.01, tolerance = 2e-5 /* of the largest expected value */;
enum { WARM_UP_CALLS = 3 };

static FILE* said;

/* What this candidate did. */
static _Noreturn void give_up(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("\"error\":\"", said);
  vfprintf(said, format, arguments);
  va_end(arguments);
  fputs("\",\"times\":[]", said);
  fclose(said);
  _exit(0);
}

/* What no candidate is to blame for: the program ends with it, and records nothing. */
static _Noreturn void stop(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputc(STOPPED, said);
  vfprintf(said, format, arguments);
  va_end(arguments);
  fclose(said);
  _exit(0);
}

/* Aligned as candidates want it. */
static void* allocate(size_t bytes) {
  void* memory = NULL;
  if (posix_memalign(&memory, FASTCONV_ALIGNMENT, bytes ? bytes : 1)) stop("no memory for %zu bytes", bytes);
  return memory;
}

double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + 1e-9 * time.tv_nsec;
}

/* What generated code calls of a runtime. */

struct environment { void* unused; int32_t tasks; };
typedef int (*function)(int, struct environment*, void*);
struct work { function call; void* data; struct environment environment; };

static const fastconv_pool* pool;
static _Thread_local char *scratch, *arena;

static int task(void* data, int i) {
  struct work* work = data;
  return work->call(i, &work->environment, work->data);
}

static int launch(function call, void* data, int tasks) {
  int most = pool ? pool->threads : 1;
  struct work work = {call, data, {0, tasks > 0 && tasks < most ? tasks : most}};
  return pool ? pool->run(pool->context, task, &work, work.environment.tasks) : task(&work, 0);
}

static void* take(int device, int number, uint64_t bytes, int code, int bits) {
  if (!arena) scratch = arena = allocate(scratch_bytes);
  char* taken = scratch;
  scratch += (bytes + FASTCONV_ALIGNMENT - 1) / FASTCONV_ALIGNMENT * FASTCONV_ALIGNMENT;
  return taken;
}

static int give(int device, int number, void* taken) { /* in the reverse order */
  scratch = taken;
  return 0;
}

int (*__TVMBackendParallelLaunch)(function, void*, int) = launch;
void* (*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = take;
int (*__TVMBackendFreeWorkspace)(int, int, void*) = give;

/* The job. */

/* Where the data of a file begins that is as it was written. */
static FILE* open_array(const struct array* array) {
  static const unsigned char magic[] = "\x93NUMPY\x01";
  unsigned char head[10];
  struct stat status;
  if (stat(array->file, &status) || !S_ISREG(status.st_mode)) return NULL;
  FILE* file = fopen(array->file, "rb");
  if (!file) return NULL;
  size_t at = fread(head, 1, sizeof head, file) < sizeof head ? 0 : 10u + head[8] + 256u * head[9];
  if (at && !memcmp(head, magic, sizeof magic - 1) && (size_t)status.st_size == at + array->bytes &&
      !fseek(file, (long)at, SEEK_SET))
    return file;
  fclose(file);
  return NULL;
}

int is_there(const struct array* array) {
  FILE* file = open_array(array);
  if (file) fclose(file);
  return file != NULL;
}

static char* load(const struct array* array) {
  FILE* file = open_array(array);
  char* data = allocate(array->bytes);
  if (!file || fread(data, 1, array->bytes, file) != array->bytes) stop("%s cannot be read", array->file);
  fclose(file);
  return data;
}

static void compare(const char* got, const char* want, size_t bytes, int floats) {
  if (!floats) {
    if (memcmp(got, want, bytes)) give_up("wrong answer: its bytes differ");
    return;
  }
  const float *one = (const float*)got, *other = (const float*)want;
  double largest = 0, difference = 0;
  for (size_t i = 0; i < bytes / sizeof(float); i++) {
    largest = fmax(largest, fabs(other[i]));
    double off = fabs((double)one[i] - other[i]);
    difference = off <= difference ? difference : off; /* NaN stays */
    if (isnan(off)) break;
  }
  if (!(difference <= tolerance * largest) || isinf(difference))
    give_up("wrong answer: off by %.0e of the largest value", difference / fmax(largest, 1e-30));
}

struct run { const struct candidate* candidate; char** tensors; };

static struct run prepare(const struct candidate* candidate, const char* want, size_t bytes, int floats) {
  struct run run = {candidate, allocate((size_t)(candidate->count + 1) * sizeof(char*))};
  for (int i = 0; i < candidate->count; i++) run.tensors[i] = load(&candidate->arrays[i]);
  char* out = run.tensors[candidate->count] = allocate(bytes);
  memset(out, floats ? 0xFF : 0xAA, bytes); /* nan, or what does not look right by chance */
  if (candidate->call(run.tensors)) give_up("the candidate failed");
  compare(out, want, bytes, floats);
  return run;
}

static double seconds_of(const struct run* run, long calls) {
  double begin = now();
  for (long i = 0; i < calls; i++) run->candidate->call(run->tensors);
  return fmax((now() - begin) / calls, 1e-9); /* clocks of some devices are coarse */
}

/* All in turns, each from what its own last call left in the caches. */
static void time_warm(const struct job* job, const struct run* runs, double* times) {
  long* calls = allocate((size_t)job->count * sizeof *calls);
  for (int c = 0; c < job->count; c++) {
    seconds_of(&runs[c], WARM_UP_CALLS);
    double seconds = 0; /* until the clock, which may be coarse, has seen enough of them */
    for (calls[c] = 1; (seconds = calls[c] * seconds_of(&runs[c], calls[c])) < turn_seconds / 4; calls[c] *= 2) {}
    calls[c] = (long)ceil(calls[c] * turn_seconds / seconds);
  }
  for (int turn = 0; turn < job->turns; turn++)
    for (int c = 0; c < job->count; c++) {
      seconds_of(&runs[c], 1);
      times[c * job->turns + turn] = seconds_of(&runs[c], calls[c]);
    }
}

/* All in turns, each after a network's worth of other memory was touched, and its input read. */
static void time_cold(const struct job* job, const struct run* runs, double* times) {
  size_t count = (size_t)job->footprint / sizeof(float);
  float* other = allocate(count * sizeof(float));
  memset(other, 0, count * sizeof(float));
  volatile unsigned seen = 0;
  for (int turn = -1; turn < job->turns; turn++) /* the first warms up */
    for (int c = 0; c < job->count; c++) {
      for (size_t i = 0; i < count; i++) other[i] += 1;
      __asm__ volatile("" : : "r"(other) : "memory"); /* not left out because nothing reads it */
      unsigned sum = 0;
      const struct array* input = runs[c].candidate->arrays;
      for (size_t i = 0; i < input->bytes; i++) sum += (unsigned char)runs[c].tensors[0][i];
      seen += sum;
      double seconds = seconds_of(&runs[c], 1);
      if (turn >= 0) times[c * job->turns + turn] = seconds;
    }
}

void run_job(const struct job* job, FILE* to) {
  said = to;
  const char* want = load(&job->expected);
  if (thread_count > 1 && !(pool = start_pool(thread_count))) stop("%d threads cannot be started", thread_count);
  struct run* runs = allocate((size_t)job->count * sizeof *runs);
  for (int c = 0; c < job->count; c++) runs[c] = prepare(&job->candidates[c], want, job->expected.bytes, job->floats);
  double* times = allocate((size_t)(job->count * job->turns) * sizeof *times);
  (job->footprint < 0 ? time_warm : time_cold)(job, runs, times);
  fputs("\"error\":null,\"times\":[", said);
  for (int c = 0; c < job->count; c++)
    for (int turn = 0; turn < job->turns; turn++)
      fprintf(said, "%s%.9g%s", turn ? "," : c ? ",[" : "[", times[c * job->turns + turn], turn + 1 < job->turns ? "" : "]");
  fputs("]", said);
  fclose(said);
  _exit(0);
}
