/* Giving way to another thread. */
#ifndef INTAGLIO_SCHED_H
#define INTAGLIO_SCHED_H

int sched_yield(void);

#endif
