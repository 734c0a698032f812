/* Loaded before libc by cost.py: counts and times what makes files durable, or leaves it out.
 *
 * SYNC_TIME names the file that gets "calls nanoseconds renames bytes" when the process ends; SYNC_SKIP=1 leaves the
 * syncs out. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static atomic_llong calls, nanoseconds, renames, bytes;

static long long now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static int timed(const char *name, int file) {
    long long begin = now();
    int done = getenv("SYNC_SKIP") ? 0 : ((int (*)(int))dlsym(RTLD_NEXT, name))(file);
    atomic_fetch_add(&nanoseconds, now() - begin);
    atomic_fetch_add(&calls, 1);
    return done;
}

int fsync(int file) { return timed("fsync", file); }
int fdatasync(int file) { return timed("fdatasync", file); }

int rename(const char *from, const char *to) {
    atomic_fetch_add(&renames, 1);
    return ((int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename"))(from, to);
}

ssize_t write(int file, const void *from, size_t length) {
    ssize_t done = ((ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write"))(file, from, length);
    if (file > 2 && done > 0) atomic_fetch_add(&bytes, done);
    return done;
}

ssize_t pwrite64(int file, const void *from, size_t length, off64_t at) {
    ssize_t done = ((ssize_t(*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64"))(file, from, length, at);
    if (done > 0) atomic_fetch_add(&bytes, done);
    return done;
}

__attribute__((destructor)) static void tell(void) {
    const char *path = getenv("SYNC_TIME");
    FILE *out = path ? fopen(path, "w") : NULL;
    if (!out) return;
    fprintf(out, "%lld %lld %lld %lld\n", calls, nanoseconds, renames, bytes);
    fclose(out);
}
