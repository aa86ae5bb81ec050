// Loaded before the C library (LD_PRELOAD): sees the calls that change files below one folder,
// whoever makes them (Python, Rust, C++, a program that was started), and at a chosen one kills
// the process or fails as a full or read-only disk does. See interpose.py, which fills `struct told`.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

struct told {
    char prefix[1024];   // the folder, without a slash at the end
    char log[1024];      // where calls are told, a line each; may be empty
    char operation[32];  // the one that is chosen; "*": any
    char pattern[1024];  // of its path below the folder, as fnmatch takes it
    long at;             // the how manieth of them, from 1; 0: none
    long seen;           // so many have been
    int error;           // what the call fails with; 0: kill; below 0: a signal comes before it
    int lasts;           // from the first failure on, all writes fail
    int failing;         // they do now
    int pid;             // whom to kill
};

static struct told *told;
static int log_fd = -1;

static void map(const char *file) {
    int fd = syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0) return;
    void *at = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (at == MAP_FAILED) return;
    told = at;
    if (told->log[0])
        log_fd = syscall(SYS_openat, AT_FDCWD, told->log,
                         O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
}

void vqasr_arm(const char *file) {  // of this process
    map(file);
    if (told) told->pid = getpid();
}

__attribute__((constructor)) static void begin(void) {  // of a program that it starts
    const char *file = getenv("VQASR_FAULT");
    if (file) map(file);
}

// The path below the folder; NULL where it is not there.
static const char *below(const char *path) {
    size_t length = strlen(told->prefix);
    if (strncmp(path, told->prefix, length) || path[length] != '/') return NULL;
    return path + length + 1;
}

static const char *path_of(int fd, char *room) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, room, PATH_MAX - 1);
    if (length < 0) return NULL;
    room[length] = 0;
    return below(room);
}

static const char *path_at(int folder, const char *name, char *room) {
    if (name[0] == '/') return below(name);
    char start[PATH_MAX];
    if (folder == AT_FDCWD) {
        if (!getcwd(start, sizeof start)) return NULL;
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, start, sizeof start - 1);
        if (length < 0) return NULL;
        start[length] = 0;
    }
    if ((size_t)snprintf(room, PATH_MAX, "%s/%s", start, name) >= PATH_MAX) return NULL;
    return below(room);
}

enum { GO, KILL, FAIL, FILL };  // FILL: half of it still finds room

static int meets(const char *operation, const char *path) {
    if (!path) return GO;
    if (log_fd >= 0) {
        char line[PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%s\t%s\n", operation, path);
        syscall(SYS_write, log_fd, line, (size_t)length);
    }
    if (told->failing && told->lasts) {
        // A full disk takes no bytes, a read-only one nothing at all.
        int writes = strstr(operation, "write") != NULL || !strcmp(operation, "truncate");
        if (writes || told->error == EROFS) return FAIL;
    }
    if (!told->at) return GO;
    if (strcmp(told->operation, "*") && strcmp(told->operation, operation)) return GO;
    if (fnmatch(told->pattern, path, 0)) return GO;
    if (__atomic_add_fetch(&told->seen, 1, __ATOMIC_SEQ_CST) != told->at) return GO;
    if (!told->error) return KILL;
    if (told->error < 0) {
        kill(told->pid, -told->error);
        return GO;
    }
    told->failing = 1;
    return told->lasts ? FILL : FAIL;
}

static void die(void) {
    kill(told->pid, SIGKILL);
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

#define CHECK(operation, path)                         \
    do {                                               \
        int met_ = told ? meets(operation, path) : GO; \
        if (met_ == KILL) die();                       \
        if (met_ != GO) {                              \
            errno = told->error;                       \
            return -1;                                 \
        }                                              \
    } while (0)

// Killed within a write, half of it is done; a disk that is full takes half and then nothing.
#define CHECK_WRITE(fd, half)                                      \
    do {                                                           \
        char room_[PATH_MAX];                                      \
        int met_ = told ? meets("write", path_of(fd, room_)) : GO; \
        if (met_ == KILL || met_ == FILL) {                        \
            ssize_t done_ = (half);                                \
            if (met_ == KILL) die();                               \
            if (done_ > 0) return done_;                           \
        }                                                          \
        if (met_ != GO) {                                          \
            errno = told->error;                                   \
            return -1;                                             \
        }                                                          \
    } while (0)

ssize_t write(int fd, const void *from, size_t count) {
    CHECK_WRITE(fd, syscall(SYS_write, fd, from, count / 2));
    return syscall(SYS_write, fd, from, count);
}

ssize_t pwrite64(int fd, const void *from, size_t count, off64_t at) {
    CHECK_WRITE(fd, syscall(SYS_pwrite64, fd, from, count / 2, at));
    return syscall(SYS_pwrite64, fd, from, count, at);
}

ssize_t pwrite(int fd, const void *from, size_t count, off_t at) {
    return pwrite64(fd, from, count, at);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    CHECK_WRITE(fd, syscall(SYS_write, fd, parts[0].iov_base, parts[0].iov_len / 2));
    return syscall(SYS_writev, fd, parts, count);
}

static int open_at(int folder, const char *name, int flags, mode_t mode) {
    char room[PATH_MAX];
    if (told && (flags & (O_CREAT | O_TRUNC)))
        CHECK("open", path_at(folder, name, room));
    return syscall(SYS_openat, folder, name, flags, mode);
}

#define OPEN(name, ...)                            \
    mode_t mode = 0;                               \
    if (flags & (O_CREAT | O_TMPFILE)) {           \
        va_list rest;                              \
        va_start(rest, flags);                     \
        mode = va_arg(rest, mode_t);               \
        va_end(rest);                              \
    }                                              \
    return open_at(__VA_ARGS__, path, flags, mode)

int open(const char *path, int flags, ...) { OPEN(open, AT_FDCWD); }
int open64(const char *path, int flags, ...) { OPEN(open64, AT_FDCWD); }
int openat(int folder, const char *path, int flags, ...) { OPEN(openat, folder); }
int openat64(int folder, const char *path, int flags, ...) { OPEN(openat64, folder); }

int renameat(int from, const char *old, int to, const char *name) {
    char room[PATH_MAX];
    CHECK("rename", path_at(to, name, room));
    return syscall(SYS_renameat2, from, old, to, name, 0);
}
int rename(const char *old, const char *name) { return renameat(AT_FDCWD, old, AT_FDCWD, name); }

int unlinkat(int folder, const char *name, int flags) {
    char room[PATH_MAX];
    CHECK(flags & AT_REMOVEDIR ? "rmdir" : "unlink", path_at(folder, name, room));
    return syscall(SYS_unlinkat, folder, name, flags);
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int folder, const char *name, mode_t mode) {
    char room[PATH_MAX];
    CHECK("mkdir", path_at(folder, name, room));
    return syscall(SYS_mkdirat, folder, name, mode);
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int symlinkat(const char *target, int folder, const char *name) {
    char room[PATH_MAX];
    CHECK("symlink", path_at(folder, name, room));
    return syscall(SYS_symlinkat, target, folder, name);
}
int symlink(const char *target, const char *name) { return symlinkat(target, AT_FDCWD, name); }

int ftruncate64(int fd, off64_t length) {
    char room[PATH_MAX];
    CHECK("truncate", path_of(fd, room));
    return syscall(SYS_ftruncate, fd, length);
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int fsync(int fd) {
    char room[PATH_MAX];
    CHECK("sync", path_of(fd, room));
    return syscall(SYS_fsync, fd);
}
int fdatasync(int fd) {
    char room[PATH_MAX];
    CHECK("sync", path_of(fd, room));
    return syscall(SYS_fdatasync, fd);
}
