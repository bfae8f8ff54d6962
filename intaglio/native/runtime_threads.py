"""Threads of the generated C: a small pool that runs slices of a loop, printed only where one is used.

Slice `k` of a loop always holds the same iterations for the same number of threads, and iterations are
independent, so results depend on neither. Idle threads spin for a moment, then sleep.
"""

from __future__ import annotations

from intaglio.native.helper import Helper

THREADED_HEADERS = ("pthread.h", "sched.h", "stdatomic.h", "stddef.h", "stdint.h", "stdlib.h")


def make(name: str) -> Helper | None:
    """The helper of that name, or None."""
    return _HELPERS.get(name)


_POOL = """
/* Threads that wait for loops to run. A round is one loop: its number grows, every thread runs its slice. */
typedef void pool_task(const void *context, int64_t begin, int64_t end);

struct pool {
    atomic_uint round, running;
    atomic_int sleeping, stop;
    atomic_flag busy;
    int threads, owner;
    pool_task *task;
    const void *context;
    int64_t count;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct pool_worker {
        struct pool *pool;
        pthread_t thread;
        int slice;
    } workers[];
};

enum { POOL_SPINS = 4000, POOL_MOST = 1024, POOL_STACK = 4 << 20 };

int getpid(void);

static void pool_pause(int spins) {
    if (spins % 64 == 63) {
        sched_yield();
        return;
    }
#if defined(__x86_64__) || defined(__i386__)
    __asm__ volatile("pause");
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void pool_slice(const struct pool *pool, int slice) {
    int64_t begin = pool->count * slice / pool->threads;
    int64_t end = pool->count * (slice + 1) / pool->threads;
    if (begin < end) {
        pool->task(pool->context, begin, end);
    }
}

static void *pool_work(void *argument) {
    const struct pool_worker *self = argument;
    struct pool *pool = self->pool;
    unsigned seen = 0;
    for (;;) {
        for (int spins = 0; spins < POOL_SPINS && atomic_load(&pool->round) == seen; spins++) {
            pool_pause(spins);
        }
        if (atomic_load(&pool->round) == seen) {
            pthread_mutex_lock(&pool->mutex);
            atomic_fetch_add(&pool->sleeping, 1);
            while (atomic_load(&pool->round) == seen) {
                pthread_cond_wait(&pool->wake, &pool->mutex);
            }
            atomic_fetch_sub(&pool->sleeping, 1);
            pthread_mutex_unlock(&pool->mutex);
        }
        seen++;
        if (atomic_load(&pool->stop)) {
            return NULL;
        }
        pool_slice(pool, self->slice);
        atomic_fetch_sub(&pool->running, 1);
    }
}

static void pool_start_round(struct pool *pool) {
    atomic_fetch_add(&pool->round, 1);
    if (atomic_load(&pool->sleeping) > 0) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->mutex);
    }
}

/* Run iterations 0 .. count - 1, in slices on all threads of the pool, or all of them here: without a
 * pool, in a process forked from the pool's, and while the pool runs another loop. */
static void pool_run(void *handle, int64_t count, pool_task *task, const void *context) {
    struct pool *pool = handle;
    if (pool == NULL || count < 2 || pool->owner != getpid() || atomic_flag_test_and_set(&pool->busy)) {
        task(context, 0, count);
        return;
    }
    pool->task = task;
    pool->context = context;
    pool->count = count;
    atomic_store(&pool->running, (unsigned)pool->threads - 1);
    pool_start_round(pool);
    pool_slice(pool, 0);
    for (int spins = 0; atomic_load(&pool->running) > 0; spins = (spins + 1) % POOL_SPINS) {
        pool_pause(spins);
    }
    atomic_flag_clear(&pool->busy);
}

static void pool_destroy(void *handle) {
    struct pool *pool = handle;
    if (pool == NULL || pool->owner != getpid()) {
        return;
    }
    atomic_store(&pool->stop, 1);
    pool_start_round(pool);
    for (int k = 0; k + 1 < pool->threads; k++) {
        pthread_join(pool->workers[k].thread, NULL);
    }
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

static void *pool_create(int threads) {
    if (threads < 2) {
        return NULL;
    }
    threads = threads < POOL_MOST ? threads : POOL_MOST;
    struct pool *pool = calloc(1, sizeof *pool + (size_t)(threads - 1) * sizeof *pool->workers);
    if (pool == NULL) {
        return NULL;
    }
    pool->owner = getpid();
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    atomic_flag_clear(&pool->busy);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, POOL_STACK);
    pool->threads = 1;
    for (int k = 0; k + 1 < threads; k++) {
        struct pool_worker *worker = &pool->workers[k];
        worker->pool = pool;
        worker->slice = k + 1;
        if (pthread_create(&worker->thread, &attributes, pool_work, worker) != 0) {
            break;
        }
        pool->threads++;
    }
    pthread_attr_destroy(&attributes);
    if (pool->threads == 1) {
        pool_destroy(pool);
        return NULL;
    }
    return pool;
}
"""

_HELPERS = {"pool": Helper(_POOL.strip(), (), THREADED_HEADERS)}
