/* A GPU plugin without a GPU: the interface of batchmine_gpu.h, computed on the CPU, with faults on demand.
 *
 * FAKE_GPU_DEVICES  devices there are (1)
 * FAKE_GPU_FREE     free bytes of each (64 GiB)
 * FAKE_GPU_SILENT   a device that does not answer
 * FAKE_GPU_FULL     a device with a tenth of the others' free bytes
 * FAKE_GPU_VERSION  version of the interface that it reports
 * FAKE_GPU_FAULT    crash, exit, hang, error, oom, twice, place, score, nan: what happens instead of an answer
 * FAKE_GPU_FROM     number of the first search, in a process, that has the fault (0)
 * FAKE_GPU_ABOVE    only tiles of more base rows have it
 * FAKE_GPU_ONCE     a file: it is made by the first fault, and there is no fault once it exists
 * FAKE_GPU_LOG      a file that each search appends a line to: device, base rows, queries, values copied
 */
#include "batchmine_gpu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct batchmine_gpu_session {
    uint32_t device, type, dim;
    uint64_t searches, base_tag, query_tag;
};

static uint64_t number(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static int32_t failed(int32_t code, char *error, size_t error_bytes, const char *text) {
    snprintf(error, error_bytes, "%s", text);
    return code;
}

uint32_t batchmine_gpu_version(void) { return (uint32_t)number("FAKE_GPU_VERSION", BATCHMINE_GPU_VERSION); }

const char *batchmine_gpu_about(void) { return "a fake plugin"; }

int32_t batchmine_gpu_count(uint32_t *count, char *error, size_t error_bytes) {
    (void)error, (void)error_bytes;
    *count = (uint32_t)number("FAKE_GPU_DEVICES", 1);
    return BATCHMINE_GPU_OK;
}

int32_t batchmine_gpu_describe(uint32_t device, char *name, size_t name_bytes, uint64_t *free_bytes,
                               uint64_t *total_bytes, char *error, size_t error_bytes) {
    if (device == number("FAKE_GPU_SILENT", UINT32_MAX)) {
        return failed(BATCHMINE_GPU_FAILED, error, error_bytes, "it is somebody else's");
    }
    /* Whoever talks where replies go is not understood as one. */
    printf("a plugin that talks\n");
    fflush(stdout);
    snprintf(name, name_bytes, "fake device %u", device);
    *free_bytes = number("FAKE_GPU_FREE", (uint64_t)64 << 30) / (device == number("FAKE_GPU_FULL", UINT32_MAX) ? 10 : 1);
    *total_bytes = (uint64_t)80 << 30;
    return BATCHMINE_GPU_OK;
}

int32_t batchmine_gpu_open(uint32_t device, uint32_t type, uint32_t dim, batchmine_gpu_session **session, char *error,
                           size_t error_bytes) {
    batchmine_gpu_session *made = calloc(1, sizeof *made);
    if (!made) {
        return failed(BATCHMINE_GPU_OUT_OF_MEMORY, error, error_bytes, "no memory for a session");
    }
    made->device = device, made->type = type, made->dim = dim;
    *session = made;
    return BATCHMINE_GPU_OK;
}

void batchmine_gpu_close(batchmine_gpu_session *session) { free(session); }

static float half(uint16_t bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    float size = exponent ? ldexpf((float)(1024 + fraction), exponent - 25) : ldexpf((float)fraction, -24);
    return bits >> 15 ? -size : size;
}

static float *widened(const batchmine_gpu_session *session, const batchmine_gpu_tile *tile) {
    uint64_t count = tile->rows * session->dim;
    float *values = malloc(count * sizeof *values);
    for (uint64_t at = 0; values && at < count; ++at) {
        values[at] = session->type == BATCHMINE_GPU_F16 ? half(((const uint16_t *)tile->values)[at])
                                                        : ((const float *)tile->values)[at];
    }
    return values;
}

typedef struct {
    float score;
    uint32_t place;
} answer;

/* Puts an answer among the best k, best first; of ties the last row, which is not batchmine's order. */
static void keep(answer *best, uint32_t *held, uint32_t k, float score, uint32_t place) {
    if (*held == k && score < best[k - 1].score) {
        return;
    }
    uint32_t at = *held < k ? (*held)++ : k - 1;
    for (; at > 0 && best[at - 1].score <= score; --at) {
        best[at] = best[at - 1];
    }
    best[at] = (answer){score, place};
}

static int has_fault(const batchmine_gpu_session *session, const batchmine_gpu_tile *base) {
    const char *once = getenv("FAKE_GPU_ONCE");
    if (!getenv("FAKE_GPU_FAULT") || session->searches < number("FAKE_GPU_FROM", 0) ||
        base->rows <= number("FAKE_GPU_ABOVE", 0) || (once && access(once, F_OK) == 0)) {
        return 0;
    }
    FILE *file = once ? fopen(once, "w") : NULL;
    if (file) {
        fclose(file);
    }
    return 1;
}

int32_t batchmine_gpu_search(batchmine_gpu_session *session, const batchmine_gpu_tile *base,
                             const batchmine_gpu_tile *queries, uint32_t k, float *scores, uint32_t *places,
                             char *error, size_t error_bytes) {
    const char *fault = has_fault(session, base) ? getenv("FAKE_GPU_FAULT") : "";
    session->searches += 1;
    if (!strcmp(fault, "crash")) {
        fprintf(stderr, "the fake device is lost\n");
        abort();
    } else if (!strcmp(fault, "exit")) {
        exit(0);
    } else if (!strcmp(fault, "hang")) {
        sleep(3600);
    } else if (!strcmp(fault, "error")) {
        return failed(BATCHMINE_GPU_FAILED, error, error_bytes, "the fake device fails");
    } else if (!strcmp(fault, "oom")) {
        return failed(BATCHMINE_GPU_OUT_OF_MEMORY, error, error_bytes, "the fake device is full");
    }
    const char *log = getenv("FAKE_GPU_LOG");
    FILE *file = log ? fopen(log, "a") : NULL;
    if (file) {
        uint64_t copied = base->tag && base->tag == session->base_tag ? 0 : base->rows;
        copied += queries->tag && queries->tag == session->query_tag ? 0 : queries->rows;
        fprintf(file, "%u %llu %llu %llu\n", session->device, (unsigned long long)base->rows,
                (unsigned long long)queries->rows, (unsigned long long)(copied * session->dim));
        fclose(file);
    }
    session->base_tag = base->tag, session->query_tag = queries->tag;

    float *x = widened(session, queries), *y = widened(session, base);
    answer *best = malloc(k * sizeof *best);
    if (!x || !y || !best) {
        free(x), free(y), free(best);
        return failed(BATCHMINE_GPU_OUT_OF_MEMORY, error, error_bytes, "no memory for a tile");
    }
    for (uint64_t query = 0; query < queries->rows; ++query) {
        uint32_t held = 0;
        for (uint64_t row = 0; row < base->rows; ++row) {
            float sum = 0;
            /* Backwards, in single precision: not the reference's sum. */
            for (uint32_t at = session->dim; at-- > 0;) {
                sum += x[query * session->dim + at] * y[row * session->dim + at];
            }
            keep(best, &held, k, sum, (uint32_t)row);
        }
        for (uint32_t rank = 0; rank < k; ++rank) {
            scores[query * k + rank] = best[rank].score;
            places[query * k + rank] = best[rank].place;
        }
        uint64_t last = query * k + k - 1;
        if (!strcmp(fault, "twice")) {
            places[last] = places[query * k];
        } else if (!strcmp(fault, "place")) {
            places[last] = (uint32_t)base->rows;
        } else if (!strcmp(fault, "score")) {
            scores[query * k] *= 1.25f;
        } else if (!strcmp(fault, "nan")) {
            scores[last] = NAN;
        }
    }
    free(x), free(y), free(best);
    return BATCHMINE_GPU_OK;
}
