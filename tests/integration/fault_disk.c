/* A disk that fails, for the real executable: preloaded in front of the C library.
 *
 * Counts the calls whose name is in FAULT_CALLS and whose file lies under FAULT_UNDER. The call FAULT_AT (from 0), or
 * with FAULT_FOREVER that one and all later ones, does what FAULT_DOES says:
 *
 *   ENOSPC, EIO, EDQUOT, EMFILE, EROFS, EINTR   fails with this error
 *   short                                       writes or reads half of its bytes
 *   kill                                        ends the process by SIGKILL, before the call
 *   killed-after                                the same after the call
 *
 * Each counted call is a line of FAULT_LOG: its name, a space, its path. Calls are named write, read, sync, truncate,
 * rename, mkdir, unlink, mmap, create (an open for writing) and open (for reading).
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum doing { PASS, FAIL, SHORT, KILL, KILL_AFTER };

static struct {
    const char *calls, *under;
    long at;
    int forever, error, log;
    enum doing doing;
} plan;
static atomic_long count;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void read_plan(void) {
    static const struct { const char *name; int error; } errors[] = {
        {"ENOSPC", ENOSPC}, {"EIO", EIO}, {"EDQUOT", EDQUOT}, {"EMFILE", EMFILE}, {"EROFS", EROFS}, {"EINTR", EINTR},
    };
    const char *at = getenv("FAULT_AT"), *does = getenv("FAULT_DOES"), *log = getenv("FAULT_LOG");
    plan.calls = getenv("FAULT_CALLS");
    plan.under = getenv("FAULT_UNDER");
    plan.at = at ? atol(at) : -1;
    plan.forever = getenv("FAULT_FOREVER") != NULL;
    /* Past the `open` below, which waits for this function. */
    plan.log = log ? (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    if (!does) return;
    if (strcmp(does, "short") == 0) plan.doing = SHORT;
    if (strcmp(does, "kill") == 0) plan.doing = KILL;
    if (strcmp(does, "killed-after") == 0) plan.doing = KILL_AFTER;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (strcmp(does, errors[i].name) == 0) plan.doing = FAIL, plan.error = errors[i].error;
}

/* Whether `name` is one of the calls: a word between commas. */
static int is_counted(const char *name) {
    size_t length = strlen(name);
    for (const char *at = plan.calls; at && (at = strstr(at, name)); at += length)
        if ((at == plan.calls || at[-1] == ',') && (at[length] == ',' || at[length] == 0)) return 1;
    return 0;
}

/* What this call does. */
static enum doing step(const char *name, const char *path) {
    if (!is_counted(name) || !plan.under || !path) return PASS;
    char whole[PATH_MAX + 8];
    if (path[0] != '/') {
        char here[PATH_MAX];
        if (!getcwd(here, sizeof here) || strlen(here) + strlen(path) + 2 > sizeof whole) return PASS;
        strcat(strcat(strcpy(whole, here), "/"), path);
        path = whole;
    }
    if (strncmp(path, plan.under, strlen(plan.under)) != 0) return PASS;
    /* What a lock holds is a name for messages, and may fail. */
    size_t length = strlen(path);
    if (length > 4 && strcmp(path + length - 4, "lock") == 0 && strcmp(name, "write") == 0) return PASS;
    long number = atomic_fetch_add(&count, 1);
    if (plan.log >= 0) {
        int before = errno;
        dprintf(plan.log, "%s %s\n", name, path);
        errno = before;
    }
    if (plan.at < 0 || number < plan.at || (number > plan.at && !plan.forever)) return PASS;
    if (plan.doing == KILL) raise(SIGKILL);
    if (plan.doing == FAIL) errno = plan.error;
    return plan.doing;
}

static enum doing step_fd(const char *name, int fd) {
    if (!is_counted(name)) return PASS;
    char link[64], path[PATH_MAX + 1];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX);
    errno = before;
    if (length < 0) return PASS;
    path[length] = 0;
    return step(name, path);
}

#define REAL(name) \
    static typeof(name) *real; \
    pthread_once(&once, read_plan); \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name)
#define BEGIN(what, failed) \
    enum doing does = what; \
    if (does == FAIL) return failed
#define END(type, call) \
    type result = call; \
    if (does == KILL_AFTER) raise(SIGKILL); \
    return result
#define WHOLE(type, name, failed, what, ...) \
    REAL(name); \
    BEGIN(what, failed); \
    END(type, real(__VA_ARGS__))
#define HALF(n) (does == SHORT && (n) > 1 ? (n) / 2 : (n))

ssize_t write(int fd, const void *bytes, size_t n) {
    REAL(write);
    BEGIN(step_fd("write", fd), -1);
    END(ssize_t, real(fd, bytes, HALF(n)));
}
ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at) {
    REAL(pwrite);
    BEGIN(step_fd("write", fd), -1);
    END(ssize_t, real(fd, bytes, HALF(n), at));
}
ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at) {
    REAL(pwrite64);
    BEGIN(step_fd("write", fd), -1);
    END(ssize_t, real(fd, bytes, HALF(n), at));
}
ssize_t writev(int fd, const struct iovec *pieces, int n) {
    REAL(writev);
    BEGIN(step_fd("write", fd), -1);
    END(ssize_t, real(fd, pieces, HALF(n)));
}
ssize_t read(int fd, void *bytes, size_t n) {
    REAL(read);
    BEGIN(step_fd("read", fd), -1);
    END(ssize_t, real(fd, bytes, HALF(n)));
}
ssize_t pread(int fd, void *bytes, size_t n, off_t at) {
    REAL(pread);
    BEGIN(step_fd("read", fd), -1);
    END(ssize_t, real(fd, bytes, HALF(n), at));
}
ssize_t pread64(int fd, void *bytes, size_t n, off64_t at) {
    REAL(pread64);
    BEGIN(step_fd("read", fd), -1);
    END(ssize_t, real(fd, bytes, HALF(n), at));
}
int fsync(int fd) { WHOLE(int, fsync, -1, step_fd("sync", fd), fd); }
int fdatasync(int fd) { WHOLE(int, fdatasync, -1, step_fd("sync", fd), fd); }
int ftruncate(int fd, off_t n) { WHOLE(int, ftruncate, -1, step_fd("truncate", fd), fd, n); }
int ftruncate64(int fd, off64_t n) { WHOLE(int, ftruncate64, -1, step_fd("truncate", fd), fd, n); }
int rename(const char *from, const char *to) { WHOLE(int, rename, -1, step("rename", to), from, to); }
int link(const char *from, const char *to) { WHOLE(int, link, -1, step("rename", to), from, to); }
int linkat(int a, const char *from, int b, const char *to, int flags) {
    WHOLE(int, linkat, -1, step("rename", to), a, from, b, to, flags);
}
int mkdir(const char *path, mode_t mode) { WHOLE(int, mkdir, -1, step("mkdir", path), path, mode); }
int unlink(const char *path) { WHOLE(int, unlink, -1, step("unlink", path), path); }
void *mmap(void *to, size_t n, int protection, int flags, int fd, off_t at) {
    WHOLE(void *, mmap, MAP_FAILED, fd < 0 ? PASS : step_fd("mmap", fd), to, n, protection, flags, fd, at);
}
void *mmap64(void *to, size_t n, int protection, int flags, int fd, off64_t at) {
    WHOLE(void *, mmap64, MAP_FAILED, fd < 0 ? PASS : step_fd("mmap", fd), to, n, protection, flags, fd, at);
}

/* Files that are opened for writing are "create", others "open". */
static const char *kind_of(int flags) { return (flags & O_ACCMODE) == O_RDONLY ? "open" : "create"; }
#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }
int open(const char *path, int flags, ...) {
    MODE(flags)
    WHOLE(int, open, -1, step(kind_of(flags), path), path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags)
    WHOLE(int, open64, -1, step(kind_of(flags), path), path, flags, mode);
}
int openat(int folder, const char *path, int flags, ...) {
    MODE(flags)
    WHOLE(int, openat, -1, folder == AT_FDCWD ? step(kind_of(flags), path) : PASS, folder, path, flags, mode);
}
int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags)
    WHOLE(int, openat64, -1, folder == AT_FDCWD ? step(kind_of(flags), path) : PASS, folder, path, flags, mode);
}
