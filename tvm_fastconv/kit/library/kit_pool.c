/* A pool whose threads spin for a while between tasks: a network launches tasks every few microseconds, and the system
   takes longer than that to wake a thread. */
#define _POSIX_C_SOURCE 200112L
#include "kit_pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

enum { SPINS = 2000 };

struct pool {
  fastconv_pool face;
  pthread_mutex_t mutex;
  pthread_cond_t wake;
  int (*task)(void* job, int i);
  void* job;
  int count; /* tasks of this round */
  int round; /* changes when there is work */
  int ending, unfinished, status, started;
  struct worker { struct pool* pool; pthread_t thread; int number; } workers[];
};

static void* work(void* data) {
  struct worker* worker = data;
  struct pool* pool = worker->pool;
  int seen = 0;
  for (;;) {
    for (int i = 0; i < SPINS && __atomic_load_n(&pool->round, __ATOMIC_ACQUIRE) == seen; i++) sched_yield();
    pthread_mutex_lock(&pool->mutex);
    while (pool->round == seen && !pool->ending) pthread_cond_wait(&pool->wake, &pool->mutex);
    seen = pool->round;
    int ending = pool->ending;
    pthread_mutex_unlock(&pool->mutex);
    if (ending) return NULL;
    if (worker->number < pool->count && pool->task(pool->job, worker->number))
      __atomic_store_n(&pool->status, -1, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&pool->unfinished, 1, __ATOMIC_RELEASE);
  }
}

static int run_tasks(void* context, int (*task)(void* job, int i), void* job, int count) {
  struct pool* pool = context;
  pthread_mutex_lock(&pool->mutex);
  pool->task = task;
  pool->job = job;
  pool->count = count;
  pool->status = 0;
  __atomic_store_n(&pool->unfinished, pool->started, __ATOMIC_RELAXED);
  __atomic_add_fetch(&pool->round, 1, __ATOMIC_RELEASE);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->mutex);
  int status = task(job, 0);
  while (__atomic_load_n(&pool->unfinished, __ATOMIC_ACQUIRE)) sched_yield();
  return status ? status : __atomic_load_n(&pool->status, __ATOMIC_RELAXED);
}

const fastconv_pool* start_pool(int threads) {
  struct pool* pool = threads < 1 ? NULL : calloc(1, sizeof *pool + (size_t)threads * sizeof pool->workers[0]);
  if (!pool) return NULL;
  pool->face = (fastconv_pool){run_tasks, pool, threads};
  pthread_mutex_init(&pool->mutex, NULL);
  pthread_cond_init(&pool->wake, NULL);
  for (int i = 1; i < threads; i++) {
    struct worker* worker = &pool->workers[i - 1];
    worker->pool = pool;
    worker->number = i;
    if (pthread_create(&worker->thread, NULL, work, worker)) {
      stop_pool(&pool->face);
      return NULL;
    }
    pool->started++;
  }
  return &pool->face;
}

void stop_pool(const fastconv_pool* face) {
  if (!face) return;
  struct pool* pool = face->context;
  pthread_mutex_lock(&pool->mutex);
  pool->ending = 1;
  __atomic_add_fetch(&pool->round, 1, __ATOMIC_RELEASE);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->mutex);
  for (int i = 0; i < pool->started; i++) pthread_join(pool->workers[i].thread, NULL);
  pthread_cond_destroy(&pool->wake);
  pthread_mutex_destroy(&pool->mutex);
  free(pool);
}
