/* Measures the candidates of a batch on the device that they are for, as measure.pyz does where there is Python. Each
   job runs in a process of its own, so that one that crashes or hangs costs that job alone; what was measured is on the
   disk at once, and the program, started again, goes on from there. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jobs.h"

static const char measured[] = "measured.jsonl", results[] = "results.json", no_error[] = "\"error\":null";

static int right; /* how many jobs have been measured without an error */
enum { JOB_SECONDS = 180, CLOCK_REPEATS = 9 };

static _Noreturn void fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

/* Runs a job in a process of its own. */
static void run_alone(const struct job* job, int to, pid_t parent) {
  sigset_t hang;
  sigemptyset(&hang);
  sigaddset(&hang, SIGALRM);
  sigprocmask(SIG_UNBLOCK, &hang, NULL);
  signal(SIGALRM, SIG_DFL);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  alarm(JOB_SECONDS);
  run_job(job, fdopen(to, "w"));
}

/* Whether this ends a process from outside: the candidate is not to blame. */
static int is_from_outside(int status) {
  int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  return number == SIGKILL || number == SIGTERM || number == SIGINT || number == SIGHUP;
}

/* What came of a job, as fields of JSON; ends the program where nothing can come of any. */
static char* outcome_of(const struct job* job, FILE* lines, int again) {
  int ends[2], status = 0;
  if (pipe(ends)) fail("no pipe can be made");
  pid_t own = getpid(), child = fork();
  if (child < 0) fail("no process can be started");
  if (!child) {
    close(ends[0]);
    run_alone(job, ends[1], own);
  }
  close(ends[1]);
  size_t size = 0, room = 4096;
  char* text = malloc(room);
  ssize_t got;
  while (text && (got = read(ends[0], text + size, room - size - 1)) > 0)
    if ((size += (size_t)got) + 1 == room) text = realloc(text, room *= 2);
  close(ends[0]);
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) fail("a process is lost");
  if (!text) fail("no memory");
  text[size] = 0;
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGILL && !right) {
    if (ftruncate(fileno(lines), 0)) fail("%s cannot be written", measured); /* no time of this processor counts */
    fail("this is not the processor that the batch is for: it lacks an instruction of the candidates");
  }
  if (*text == STOPPED) fail("%s", text + 1);
  if (is_from_outside(status) && !again) {
    free(text);
    return outcome_of(job, lines, 1); /* for want of memory it ends so each time */
  }
  char error[64] = "";
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
    snprintf(error, sizeof error, "it took longer than %d s", JOB_SECONDS);
  else if (WIFSIGNALED(status))
    snprintf(error, sizeof error, "the process that ran it was killed by signal %d", WTERMSIG(status));
  else if (WEXITSTATUS(status) || !size)
    snprintf(error, sizeof error, "the process that ran it ended with exit code %d", WEXITSTATUS(status));
  if (*error) snprintf(text, room, "\"error\":\"%s\",\"times\":[]", error);
  return text;
}

/* Whether a line is what this program writes of a job. */
static int is_of(const struct job* job, const char* line, size_t length) {
  size_t described = strlen(job->described);
  return length > described + 4 && *line == '{' && !strncmp(line + 1, job->described, described) &&
         !strncmp(line + 1 + described, ",\"error\":", 9) && !strcmp(line + length - 3, "]}\n");
}

/* How many jobs are done; a line that was cut off is none, and is removed. */
static int count_done(FILE* file) {
  char* line = NULL;
  size_t room = 0;
  ssize_t length;
  int lines = 0;
  long end = 0;
  rewind(file);
  for (; (length = getline(&line, &room, file)) > 0 && line[length - 1] == '\n'; lines++, end = ftell(file))
    if (lines == job_count || !is_of(&jobs[lines], line, (size_t)length))
      fail("%s is damaged; without it, all is measured anew", measured);
    else
      right += strstr(line, no_error) != NULL;
  free(line);
  if (ftruncate(fileno(file), end)) fail("%s cannot be written", measured);
  fseek(file, 0, SEEK_END);
  return lines;
}

static void check_array(const struct array* array) {
  if (!is_there(array)) fail("%s is missing or damaged: copy the whole folder of the batch again", array->file);
}

static void check_files(void) {
  for (const struct job* job = jobs; job < jobs + job_count; job++) {
    check_array(&job->expected);
    for (const struct candidate* c = job->candidates; c < job->candidates + job->count; c++)
      for (int i = 0; i < c->count; i++) check_array(&c->arrays[i]);
  }
}

/* To where the program lies, however it was started. */
static void enter_folder(char* called) {
  char path[4096];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length > 0) path[length] = 0;
  char *whole = length > 0 ? path : called, *slash = strrchr(whole, '/');
  if (!slash) return;
  slash[slash == whole] = 0;
  if (chdir(whole)) fail("%s cannot be entered", whole);
}

static FILE* open_measured(void) {
  struct stat status;
  FILE* file = stat(measured, &status) || S_ISREG(status.st_mode) ? fopen(measured, "a+") : NULL;
  if (!file) fail("%s cannot be written", measured);
  if (flock(fileno(file), LOCK_EX | LOCK_NB)) fail("another process measures this batch");
  return file;
}

/* Cycles in a second, the best of several turns; before them, the processor gets its time to speed up. */
static double clock_rate(void) {
  const double turn = 0.002, warm = 0.05;
  long rounds = 1000;
  double best = 0, begin = now();
  for (int repeat = 0; repeat < CLOCK_REPEATS || now() - begin < warm; repeat++) {
    double start = now(), cycles = add_chain(rounds), seconds = fmax(now() - start, 1e-9);
    best = fmax(best, seconds < turn ? 0 : cycles / seconds);
    if (seconds < turn) repeat = -1, rounds *= 2;
  }
  return best;
}

/* What the system calls its processor, without what would end a string of JSON. */
static void write_processor(FILE* to) {
  char line[512];
  struct utsname system;
  const char *name = NULL, *machine = uname(&system) ? "" : system.machine;
  FILE* file = fopen("/proc/cpuinfo", "r");
  while (!name && file && fgets(line, sizeof line, file)) {
    char* colon = strchr(line, ':');
    size_t key = colon ? (size_t)(colon - line) : 0;
    while (key && (line[key - 1] == ' ' || line[key - 1] == '\t')) key--;
    if ((key == 10 && !strncmp(line, "model name", 10)) || (key == 5 && !strncmp(line, "Model", 5)))
      name = colon + 1 + strspn(colon + 1, " \t");
  }
  if (file) fclose(file);
  for (name = name && *name != '\n' ? name : machine; *name; name++)
    if (*name >= ' ' && *name < 127 && *name != '"' && *name != '\\') fputc(*name, to);
}

/* Returns how many failed. */
static int write_results(FILE* lines) {
  static const char unfinished[] = ".results.json.new";
  FILE* file = fopen(unfinished, "w");
  if (!file) fail("%s cannot be written", results);
  fprintf(file, "{\"clock\":%.9g,\"conditions\":\"%s\",\"processor\":\"", clock_rate(), conditions);
  write_processor(file);
  fputs("\",\"results\":[", file);
  rewind(lines);
  char* line = NULL;
  size_t room = 0;
  int failed = 0;
  for (int i = 0; i < job_count && getline(&line, &room, lines) > 0; i++) {
    failed += !strstr(line, no_error);
    fprintf(file, "%s%.*s", i ? "," : "", (int)strcspn(line, "\n"), line);
  }
  free(line);
  fputs("]}", file);
  if (ferror(file) || fflush(file) || fsync(fileno(file)) || fclose(file) || rename(unfinished, results))
    fail("%s cannot be written", results);
  return failed;
}

int main(int count, char** arguments) {
  if (count > 1) fail("usage: %s, beside the files of its batch", arguments[0]);
  enter_folder(arguments[0]);
  check_files();
  FILE* file = open_measured();
  int done = count_done(file);
  double told = now();
  for (; done < job_count; done++) {
    char* outcome = outcome_of(&jobs[done], file, 0);
    fprintf(file, "{%s,%s}\n", jobs[done].described, outcome);
    right += strstr(outcome, no_error) != NULL;
    free(outcome);
    if (fflush(file) || fsync(fileno(file))) fail("%s cannot be written", measured);
    if (now() - told > 10) {
      told = now();
      printf("%d of %d measured\n", done + 1, job_count);
      fflush(stdout);
    }
  }
  int failed = write_results(file);
  printf("%d measured, %d failed: bring %s back\n", job_count, failed, results);
  return job_count && failed == job_count;
}
