/*
 * Faulty input and output, for LD_PRELOAD: counts the calls that change files below one directory, and at the
 * Nth of the chosen kinds ends the process, has the call fail, or lets it write half. Armed from Python
 * (tests/faulty_io.py); does nothing before.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum kind { WRITE, PWRITE, FSYNC, RENAME, UNLINK, TRUNCATE, CREATE, MKDIR, KINDS };
enum action { NOTHING, KILL_BEFORE, KILL_AFTER, KILL_HALFWAY, FAIL_ONCE, FAIL_ON, HALF };

static char root[PATH_MAX];
static size_t root_length;
static int kinds, action, error_number;
static long at;
static atomic_bool armed;
static atomic_long matched, counted[KINDS];

void faulty_arm(const char *directory, int which, long nth, int what, int code)
{
    root_length = strlen(strcpy(root, directory));
    kinds = which, at = nth, action = what, error_number = code;
    for (int kind = 0; kind < KINDS; kind++)
        counted[kind] = 0;
    matched = 0;
    armed = 1;
}

void faulty_heal(void) { armed = 0; }

long faulty_count(int kind) { return counted[kind]; }

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static int below(const char *path)
{
    return strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || !path[root_length]);
}

static int concerns_descriptor(int fd)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return below(path);
}

static int concerns(int directory, const char *path)
{
    return path[0] == '/' ? below(path) : directory != AT_FDCWD && concerns_descriptor(directory);
}

/* What is to happen to a call that concerns the directory. */
static enum action next(enum kind kind)
{
    counted[kind]++;
    if (!(kinds >> kind & 1))
        return NOTHING;
    long number = ++matched;
    if (number == at || (action == FAIL_ON && number > at)) {
        if (action == KILL_BEFORE)
            die();
        return action;
    }
    return NOTHING;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
    real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* A call as it is, within what is to happen to it; IS says whether it concerns the directory. */
#define AROUND(kind, is, call) \
    do { \
        int saved = errno; \
        enum action todo = armed && (is) ? next(kind) : NOTHING; \
        errno = saved; \
        if (todo == FAIL_ONCE || todo == FAIL_ON) { \
            errno = error_number; \
            return -1; \
        } \
        __typeof__(call) result = (call); \
        if (todo == KILL_AFTER || todo == KILL_HALFWAY) \
            die(); \
        return result; \
    } while (0)

#define WRITING(kind, whole, half) \
    do { \
        int saved = errno; \
        enum action todo = armed && concerns_descriptor(fd) ? next(kind) : NOTHING; \
        errno = saved; \
        if (todo == FAIL_ONCE || todo == FAIL_ON) { \
            errno = error_number; \
            return -1; \
        } \
        ssize_t result = todo == HALF || todo == KILL_HALFWAY ? (half) : (whole); \
        if (todo == KILL_AFTER || todo == KILL_HALFWAY) \
            die(); \
        return result; \
    } while (0)

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(write);
    WRITING(WRITE, real(fd, data, size), real(fd, data, size / 2));
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    REAL(pwrite);
    WRITING(PWRITE, real(fd, data, size, offset), real(fd, data, size / 2, offset));
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    REAL(pwrite64);
    WRITING(PWRITE, real(fd, data, size, offset), real(fd, data, size / 2, offset));
}

int fsync(int fd)
{
    REAL(fsync);
    AROUND(FSYNC, concerns_descriptor(fd), real(fd));
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    AROUND(FSYNC, concerns_descriptor(fd), real(fd));
}

int ftruncate(int fd, off_t size)
{
    REAL(ftruncate);
    AROUND(TRUNCATE, concerns_descriptor(fd), real(fd, size));
}

int ftruncate64(int fd, off64_t size)
{
    REAL(ftruncate64);
    AROUND(TRUNCATE, concerns_descriptor(fd), real(fd, size));
}

int rename(const char *from, const char *to)
{
    REAL(rename);
    AROUND(RENAME, concerns(AT_FDCWD, from), real(from, to));
}

int renameat(int from_directory, const char *from, int to_directory, const char *to)
{
    REAL(renameat);
    AROUND(RENAME, concerns(from_directory, from), real(from_directory, from, to_directory, to));
}

int unlink(const char *path)
{
    REAL(unlink);
    AROUND(UNLINK, concerns(AT_FDCWD, path), real(path));
}

int unlinkat(int directory, const char *path, int flags)
{
    REAL(unlinkat);
    AROUND(UNLINK, concerns(directory, path), real(directory, path, flags));
}

int rmdir(const char *path)
{
    REAL(rmdir);
    AROUND(UNLINK, concerns(AT_FDCWD, path), real(path));
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    AROUND(MKDIR, concerns(AT_FDCWD, path), real(path, mode));
}

int mkdirat(int directory, const char *path, mode_t mode)
{
    REAL(mkdirat);
    AROUND(MKDIR, concerns(directory, path), real(directory, path, mode));
}

#define MODE \
    mode_t mode = 0; \
    if (flags & O_CREAT) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...)
{
    REAL(open);
    MODE
    AROUND(CREATE, flags & O_CREAT && concerns(AT_FDCWD, path), real(path, flags, mode));
}

int open64(const char *path, int flags, ...)
{
    REAL(open64);
    MODE
    AROUND(CREATE, flags & O_CREAT && concerns(AT_FDCWD, path), real(path, flags, mode));
}

int openat(int directory, const char *path, int flags, ...)
{
    REAL(openat);
    MODE
    AROUND(CREATE, flags & O_CREAT && concerns(directory, path), real(directory, path, flags, mode));
}

int openat64(int directory, const char *path, int flags, ...)
{
    REAL(openat64);
    MODE
    AROUND(CREATE, flags & O_CREAT && concerns(directory, path), real(directory, path, flags, mode));
}
