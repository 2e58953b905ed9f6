/* A preloaded library that simulates a disk with a volatile cache for the store's files, so that kill -9 has the
 * effect of a power cut.
 *
 * Writes and truncations stay in the memory of the process, which reads them back from there. A sync of a file
 * copies them to the real file. Unsynced data is lost with the process. Names and locks are those of the real
 * file. The index of the -wal file (-shm) is not intercepted, because recovery does not use it.
 *
 * A disk may also write early. VOLATILE_DISK_EARLY of 100 unsynced blocks of 4 KiB are written to the real file at
 * once, half of them torn: only some of their sectors are written. The same happens during a sync, and the rest is
 * written when it ends. VOLATILE_DISK_SEED selects the blocks.
 *
 * The library supports the calls that SQLite and Python make. It does not support dup, rename, mmap of the file,
 * and vectored writes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define SECTOR 512
#define BLOCK 4096
#define DESCRIPTORS 65536

#define REAL(name) ((__typeof__(&name)) real(&real_##name, #name))
#define KNOWN(name) static void *real_##name
KNOWN(open64); KNOWN(openat64); KNOWN(close); KNOWN(unlink);
KNOWN(read); KNOWN(pread64); KNOWN(write); KNOWN(pwrite64); KNOWN(lseek64); KNOWN(ftruncate64);
KNOWN(fsync); KNOWN(fdatasync); KNOWN(fstat64); KNOWN(stat64); KNOWN(lstat64);

static void *real(void **known, const char *name) {
    if (!*known) *known = dlsym(RTLD_NEXT, name);
    return *known;
}

/* A file that may have unsynced data. It is kept after it is closed, because closing does not sync. */
struct file {
    dev_t device;
    ino_t inode;
    int disk;     /* the real file; never closed before the end, since that would drop the process's locks */
    int memory;   /* the content that the process sees */
    off64_t size; /* the size that the process sees */
    off64_t kept; /* the smallest size since the last sync */
    uint8_t *dirty; /* for each sector: whether it may differ from the disk */
    size_t sectors; /* the capacity of `dirty` */
    int opened;
    int unlinked;
    struct file *next;
};

/* Shared memory that can be read from outside, also after the process has ended. */
static struct report { uint64_t dirty, writes, early, syncs; } nowhere, *report = &nowhere;

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static struct file *files;
static struct { struct file *file; int view; } descriptors[DESCRIPTORS];
static unsigned early;
static uint64_t dice;

__attribute__((constructor)) static void begin(void) {
    const char *chance = getenv("VOLATILE_DISK_EARLY"), *seed = getenv("VOLATILE_DISK_SEED");
    const char *path = getenv("VOLATILE_DISK_REPORT");
    early = chance ? (unsigned) atoi(chance) : 0;
    dice = (seed ? strtoull(seed, NULL, 10) : 0) * 2 + 0x9e3779b97f4a7c15ull;
    int fd = path ? REAL(open64)(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd < 0 || REAL(ftruncate64)(fd, sizeof *report)) return;
    void *shared = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared != MAP_FAILED) report = shared;
}

static uint64_t throw_dice(void) {
    dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
    return dice >> 11;
}

static int is_volatile(const char *path) {
    static const char *const ends[] = {".db", ".db-wal", ".db-journal"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t length = strlen(path), end = strlen(ends[i]);
        if (length > end && !strcmp(path + length - end, ends[i])) return 1;
    }
    return 0;
}

static void fail(const char *what) {
    perror(what);
    abort();
}

/* Reads and writes between memory and disk */

static size_t least(size_t one, size_t other) { return one < other ? one : other; }

static void mark(struct file *file, off64_t from, off64_t to) {
    size_t needed = (size_t) (to + SECTOR - 1) / SECTOR;
    if (needed > file->sectors) {
        size_t room = needed * 2;
        if (!(file->dirty = realloc(file->dirty, room))) fail("volatile disk: memory");
        memset(file->dirty + file->sectors, 0, room - file->sectors);
        file->sectors = room;
    }
    for (size_t sector = (size_t) from / SECTOR; sector < needed; sector++) {
        report->dirty += !file->dirty[sector];
        file->dirty[sector] = 1;
    }
}

static void clean(struct file *file, size_t from, size_t to) {
    for (size_t sector = from; sector < to && sector < file->sectors; sector++) {
        report->dirty -= file->dirty[sector];
        file->dirty[sector] = 0;
    }
}

static void to_disk(struct file *file, off64_t from, off64_t to) {
    char buffer[64 * 1024];
    if (to > file->size) to = file->size;
    while (from < to) {
        size_t size = least((size_t) (to - from), sizeof buffer);
        ssize_t got = REAL(pread64)(file->memory, buffer, size, from);
        if (got <= 0 || REAL(pwrite64)(file->disk, buffer, (size_t) got, from) != got) fail("volatile disk: write");
        from += got;
    }
}

static void load(struct file *file) {
    char buffer[64 * 1024];
    ssize_t got;
    while ((got = REAL(pread64)(file->disk, buffer, sizeof buffer, file->size)) > 0) {
        if (REAL(pwrite64)(file->memory, buffer, (size_t) got, file->size) != got) fail("volatile disk: read");
        file->size += got;
    }
    file->kept = file->size;
}

static off64_t size_of(int fd) {
    struct stat64 found;
    if (REAL(fstat64)(fd, &found)) fail("volatile disk: size");
    return found.st_size;
}

static void write_early(struct file *file, off64_t from, off64_t to) {
    for (off64_t block = from / BLOCK * BLOCK; early && block < to; block += BLOCK) {
        size_t first = (size_t) block / SECTOR;
        if (first >= file->sectors) return;
        if (!memchr(file->dirty + first, 1, least(BLOCK / SECTOR, file->sectors - first))) continue;
        if (throw_dice() % 100 >= early) continue;
        unsigned torn = throw_dice() % 2, which = torn ? throw_dice() & 0xff : 0xff;
        report->early++;
        for (unsigned sector = 0; sector < BLOCK / SECTOR; sector++) {
            off64_t start = block + sector * SECTOR;
            /* They stay dirty, because a sync must write their content at that time. */
            if (which & 1 << sector && start + SECTOR > from && start < to) to_disk(file, start, start + SECTOR);
        }
    }
}

static void wrote(struct file *file, off64_t from, off64_t to) {
    report->writes++;
    /* The gap between the old end and the write is also new. */
    mark(file, from < file->size ? from : file->size, to);
    if (to > file->size) file->size = to;
    write_early(file, from, to);
}

static void resized(struct file *file, off64_t size) {
    report->writes++;
    if (size > file->size) mark(file, file->size, size);
    else clean(file, (size_t) (size + SECTOR - 1) / SECTOR, file->sectors);
    file->size = size;
    if (size < file->kept) file->kept = size;
    if (throw_dice() % 100 < early && size_of(file->disk) > size) {
        report->early++;
        if (REAL(ftruncate64)(file->disk, size)) fail("volatile disk: truncate");
    }
}

static void write_dirty(struct file *file) {
    for (size_t sector = 0; sector < file->sectors; sector++) {
        if (!file->dirty[sector]) continue;
        size_t end = sector;
        while (end < file->sectors && file->dirty[end]) end++;
        to_disk(file, (off64_t) sector * SECTOR, (off64_t) end * SECTOR);
        clean(file, sector, end);
        sector = end;
    }
}

static void write_through(struct file *file) {
    report->syncs++;
    if (file->kept < size_of(file->disk) && REAL(ftruncate64)(file->disk, file->kept)) fail("volatile disk: truncate");
    write_dirty(file);
    if (file->size != size_of(file->disk) && REAL(ftruncate64)(file->disk, file->size)) fail("volatile disk: size");
    file->kept = file->size;
}

/* Look-up of files */

static struct file *find(dev_t device, ino_t inode) {
    struct file *file = files;
    while (file && (file->unlinked || file->device != device || file->inode != inode)) file = file->next;
    return file;
}

static int view_of(int fd, int flags) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return REAL(open64)(path, flags | O_CLOEXEC);
}

static struct file *know(int fd) {
    struct stat64 found;
    if (REAL(fstat64)(fd, &found)) fail("volatile disk: open");
    struct file *file = find(found.st_dev, found.st_ino);
    if (file) return file;
    if (!(file = calloc(1, sizeof *file))) fail("volatile disk: memory");
    file->device = found.st_dev, file->inode = found.st_ino;
    file->disk = view_of(fd, O_RDWR);
    if (file->disk < 0) file->disk = view_of(fd, O_RDONLY);
    file->memory = memfd_create("volatile disk", MFD_CLOEXEC);
    if (file->disk < 0 || file->memory < 0) fail("volatile disk: open");
    load(file);
    file->next = files;
    return files = file;
}

static int opened(int fd, int flags) {
    if (fd < 0) return fd;
    if (fd >= DESCRIPTORS) fail("volatile disk: descriptors");
    pthread_mutex_lock(&turn);
    struct file *file = know(fd);
    file->opened++;
    if (flags & O_TRUNC) {
        if (REAL(ftruncate64)(file->memory, 0)) fail("volatile disk: truncate");
        resized(file, 0);
    }
    int view = view_of(file->memory, flags & (O_ACCMODE | O_APPEND));
    if (view < 0) fail("volatile disk: view");
    descriptors[fd].view = view;
    descriptors[fd].file = file;
    pthread_mutex_unlock(&turn);
    return fd;
}

static struct file *file_of(int fd) {
    return fd >= 0 && fd < DESCRIPTORS ? descriptors[fd].file : NULL;
}

/* Replacements for functions of the C library */

static mode_t mode_in(int flags, va_list more) {
    return flags & (O_CREAT | __O_TMPFILE) ? (mode_t) va_arg(more, int) : 0;
}

#define OPEN(name)                                                          \
    int name(const char *path, int flags, ...) {                            \
        va_list more;                                                       \
        va_start(more, flags);                                              \
        mode_t mode = mode_in(flags, more);                                 \
        va_end(more);                                                       \
        if (!is_volatile(path)) return REAL(open64)(path, flags, mode);     \
        return opened(REAL(open64)(path, flags & ~O_TRUNC, mode), flags);   \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                  \
    int name(int folder, const char *path, int flags, ...) {                          \
        va_list more;                                                                 \
        va_start(more, flags);                                                        \
        mode_t mode = mode_in(flags, more);                                           \
        va_end(more);                                                                 \
        if (!is_volatile(path)) return REAL(openat64)(folder, path, flags, mode);     \
        return opened(REAL(openat64)(folder, path, flags & ~O_TRUNC, mode), flags);   \
    }
OPENAT(openat)
OPENAT(openat64)

static void forget(struct file *file) {
    struct file **place = &files;
    while (*place != file) place = &(*place)->next;
    *place = file->next;
    REAL(close)(file->disk);
    REAL(close)(file->memory);
    free(file->dirty);
    free(file);
}

int close(int fd) {
    struct file *file = file_of(fd);
    if (!file) return REAL(close)(fd);
    pthread_mutex_lock(&turn);
    descriptors[fd].file = NULL;
    REAL(close)(descriptors[fd].view);
    if (!--file->opened && file->unlinked) forget(file);
    pthread_mutex_unlock(&turn);
    return REAL(close)(fd);
}

int unlink(const char *path) {
    struct stat64 found;
    if (!is_volatile(path) || REAL(lstat64)(path, &found)) return REAL(unlink)(path);
    pthread_mutex_lock(&turn);
    struct file *file = find(found.st_dev, found.st_ino);
    int result = REAL(unlink)(path);
    if (!result && file) {
        clean(file, 0, file->sectors);
        file->unlinked = 1;
        if (!file->opened) forget(file);
    }
    pthread_mutex_unlock(&turn);
    return result;
}

ssize_t read(int fd, void *data, size_t size) {
    return REAL(read)(file_of(fd) ? descriptors[fd].view : fd, data, size);
}

ssize_t pread64(int fd, void *data, size_t size, off64_t at) {
    return REAL(pread64)(file_of(fd) ? descriptors[fd].view : fd, data, size, at);
}

ssize_t pread(int fd, void *data, size_t size, off_t at) { return pread64(fd, data, size, at); }

ssize_t write(int fd, const void *data, size_t size) {
    struct file *file = file_of(fd);
    if (!file) return REAL(write)(fd, data, size);
    pthread_mutex_lock(&turn);
    ssize_t written = REAL(write)(descriptors[fd].view, data, size);
    off64_t end = REAL(lseek64)(descriptors[fd].view, 0, SEEK_CUR);
    if (written > 0) wrote(file, end - written, end);
    pthread_mutex_unlock(&turn);
    return written;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    struct file *file = file_of(fd);
    if (!file) return REAL(pwrite64)(fd, data, size, at);
    pthread_mutex_lock(&turn);
    ssize_t written = REAL(pwrite64)(descriptors[fd].view, data, size, at);
    if (written > 0) wrote(file, at, at + written);
    pthread_mutex_unlock(&turn);
    return written;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }

off64_t lseek64(int fd, off64_t by, int whence) {
    return REAL(lseek64)(file_of(fd) ? descriptors[fd].view : fd, by, whence);
}

off_t lseek(int fd, off_t by, int whence) { return lseek64(fd, by, whence); }

int ftruncate64(int fd, off64_t size) {
    struct file *file = file_of(fd);
    if (!file) return REAL(ftruncate64)(fd, size);
    pthread_mutex_lock(&turn);
    int result = REAL(ftruncate64)(descriptors[fd].view, size);
    if (!result) resized(file, size);
    pthread_mutex_unlock(&turn);
    return result;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

/* A sync takes as long as that of the real disk. Its data is safe at its end, not before. */
static int synced(int fd, int (*sync)(int)) {
    struct file *file = file_of(fd);
    if (!file) return sync(fd);
    pthread_mutex_lock(&turn);
    write_early(file, 0, file->size);
    pthread_mutex_unlock(&turn);
    int result = sync(fd);
    pthread_mutex_lock(&turn);
    if (!result) write_through(file);
    pthread_mutex_unlock(&turn);
    return result;
}

int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

int fstat64(int fd, struct stat64 *found) {
    int result = REAL(fstat64)(fd, found);
    if (!result && file_of(fd)) found->st_size = size_of(descriptors[fd].view);
    return result;
}

static void see(struct stat64 *found) {
    pthread_mutex_lock(&turn);
    struct file *file = find(found->st_dev, found->st_ino);
    if (file) found->st_size = file->size;
    pthread_mutex_unlock(&turn);
}

int stat64(const char *path, struct stat64 *found) {
    int result = REAL(stat64)(path, found);
    if (!result && is_volatile(path)) see(found);
    return result;
}

int lstat64(const char *path, struct stat64 *found) {
    int result = REAL(lstat64)(path, found);
    if (!result && is_volatile(path)) see(found);
    return result;
}

/* These structures are the same if off_t has 64 bits. */
_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "a 64-bit system");

int fstat(int fd, struct stat *found) { return fstat64(fd, (struct stat64 *) found); }
int stat(const char *path, struct stat *found) { return stat64(path, (struct stat64 *) found); }
int lstat(const char *path, struct stat *found) { return lstat64(path, (struct stat64 *) found); }
