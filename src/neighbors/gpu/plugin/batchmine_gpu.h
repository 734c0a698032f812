/* The interface between batchmine and a GPU plugin: plain C, no exception crosses it.
 *
 * A plugin is a shared object that exports these functions. batchmine loads it in worker processes only, never in
 * the job's own process. All calls come from one thread. A function that can fail returns a BATCHMINE_GPU_* code and,
 * unless that is BATCHMINE_GPU_OK, writes a message of at most `error_bytes` bytes, final zero included, to `error`.
 * After BATCHMINE_GPU_FAILED batchmine ends the process.
 */
#ifndef BATCHMINE_GPU_H
#define BATCHMINE_GPU_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Goes up with every change of this file that affects a caller or a plugin. */
#define BATCHMINE_GPU_VERSION 1

/* Largest k of a search. */
#define BATCHMINE_GPU_RANKS_MAX 2048

enum { BATCHMINE_GPU_OK = 0, BATCHMINE_GPU_OUT_OF_MEMORY = 1, BATCHMINE_GPU_FAILED = 2 };

/* Number types of the values: IEEE half, IEEE single. */
enum { BATCHMINE_GPU_F16 = 2, BATCHMINE_GPU_F32 = 4 };

/* Rows of `dim` values each, row after row, in host memory. */
typedef struct {
    const void *values;
    uint64_t rows;
    /* Tiles with the same tag have the same values: one that is on the device already need not be copied again.
     * 0: no tag. */
    uint64_t tag;
} batchmine_gpu_tile;

typedef struct batchmine_gpu_session batchmine_gpu_session;

/* BATCHMINE_GPU_VERSION of the plugin. */
uint32_t batchmine_gpu_version(void);

/* Name and version of the library that searches, for the log. */
const char *batchmine_gpu_about(void);

/* The number of devices. Called before any other function that uses a device. */
int32_t batchmine_gpu_count(uint32_t *count, char *error, size_t error_bytes);

/* Name of a device (truncated to `name_bytes` bytes, its final zero included) and its memory in bytes. */
int32_t batchmine_gpu_describe(uint32_t device, char *name, size_t name_bytes, uint64_t *free_bytes,
                               uint64_t *total_bytes, char *error, size_t error_bytes);

/* Begins to work on a device with rows of `dim` values of type `type`. */
int32_t batchmine_gpu_open(uint32_t device, uint32_t type, uint32_t dim, batchmine_gpu_session **session,
                           char *error, size_t error_bytes);

/* For each query the k base rows of the largest inner product, best first: `scores` and `places`, queries.rows * k
 * of each. A place is a row's number in the base tile. k is at most base.rows and BATCHMINE_GPU_RANKS_MAX. */
int32_t batchmine_gpu_search(batchmine_gpu_session *session, const batchmine_gpu_tile *base,
                             const batchmine_gpu_tile *queries, uint32_t k, float *scores, uint32_t *places,
                             char *error, size_t error_bytes);

void batchmine_gpu_close(batchmine_gpu_session *session);

#ifdef __cplusplus
}
#endif

#endif
