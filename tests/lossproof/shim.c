/* Between a process and its C library: a disk that fails and a clock that jumps, as a control file says.
 *
 * Preloaded (ld.so(8)). The control file is mapped, so a test changes it while the process runs. Only files whose name
 * holds "journal.sqlite" are touched; only CLOCK_REALTIME jumps, as it does when somebody sets a clock.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct control {
  volatile int64_t write_errno;    /* of every write; 0: none */
  volatile int64_t sync_errno;     /* of every fsync and fdatasync */
  volatile int64_t clock_offset_s;
  volatile int64_t sync_delay_us;
  volatile int64_t torn_write;     /* counts down; the write that finds 1 is cut in the middle and ends the process */
  volatile int64_t failed;         /* calls that were made to fail */
};

static struct control nothing;
static struct control *control = &nothing;

__attribute__((constructor)) static void attach(void) {
  const char *path = getenv("LOSSPROOF_SHIM");
  if (!path) return;
  int fd = open(path, O_RDWR);
  if (fd < 0) return;
  void *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped != MAP_FAILED) control = mapped;
  close(fd);
}

static int is_journal(int fd) {
  char link[64], name[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, name, sizeof name - 1);
  if (length < 0) return 0;
  name[length] = 0;
  return strstr(name, "journal.sqlite") != NULL && strstr(name, "-shm") == NULL;
}

static int fails(int fd, int64_t error) {
  if (!error || !is_journal(fd)) return 0;
  __sync_fetch_and_add(&control->failed, 1);
  errno = (int)error;
  return 1;
}

/* A process that dies in the middle of a page. */
static void maybe_torn(int fd, const void *data, size_t size, off_t at) {
  if (control->torn_write <= 0 || !is_journal(fd)) return;
  if (__sync_sub_and_fetch(&control->torn_write, 1) != 0) return;
  static ssize_t (*real)(int, const void *, size_t, off_t);
  real = dlsym(RTLD_NEXT, "pwrite64");
  if (size > 64) real(fd, data, size / 2, at);
  kill(getpid(), SIGKILL);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t at) {
  static ssize_t (*real)(int, const void *, size_t, off_t);
  if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
  if (fails(fd, control->write_errno)) return -1;
  maybe_torn(fd, data, size, at);
  return real(fd, data, size, at);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }

ssize_t write(int fd, const void *data, size_t size) {
  static ssize_t (*real)(int, const void *, size_t);
  if (!real) real = dlsym(RTLD_NEXT, "write");
  if (fails(fd, control->write_errno)) return -1;
  return real(fd, data, size);
}

static int synced(int fd, int (*real)(int)) {
  if (control->sync_delay_us && is_journal(fd)) usleep((useconds_t)control->sync_delay_us);
  if (fails(fd, control->sync_errno)) return -1;
  return real(fd);
}

int fsync(int fd) {
  static int (*real)(int);
  if (!real) real = dlsym(RTLD_NEXT, "fsync");
  return synced(fd, real);
}

int fdatasync(int fd) {
  static int (*real)(int);
  if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
  return synced(fd, real);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(clock, now);
  if (result == 0 && clock == CLOCK_REALTIME) now->tv_sec += control->clock_offset_s;
  return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  static int (*real)(struct timeval *, void *);
  if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
  int result = real(now, zone);
  if (result == 0) now->tv_sec += control->clock_offset_s;
  return result;
}

time_t time(time_t *result) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (result) *result = now.tv_sec;
  return now.tv_sec;
}
