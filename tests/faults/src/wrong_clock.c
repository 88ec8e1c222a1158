/* Preloaded into a program: its wall clock is wrong by the number of seconds in /clocks/$CLOCK_OF. All other clocks and
 * all timers stay right. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long wrong_by(void) {
    char path[512], text[24] = {0};
    const char *whose = getenv("CLOCK_OF");
    if (!whose) return 0;
    snprintf(path, sizeof path, "/clocks/%s", whose);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
    close(file);
    return strtol(text, NULL, 10);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += wrong_by();
    return failed;
}
