/* Threads for a network's calls: as many as asked for, the calling one among them. */
#ifndef KIT_POOL_H
#define KIT_POOL_H

#include "@name@.h"

#ifdef __cplusplus
extern "C" {
#endif

/* NULL where they cannot be started. One call at a time may use a pool. */
const fastconv_pool* start_pool(int threads);

/* Ends them; NULL is no pool. */
void stop_pool(const fastconv_pool* pool);

#ifdef __cplusplus
}
#endif
#endif
