/*
 * The floor: what the kernel alone asks for what a monitoring agent reads once a second. `tools/bench-agent.py` compiles it
 * and measures it beside the agent.
 *
 *     probe [host]
 *
 * Once a second: /proc/{stat,meminfo,loadavg,diskstats,vmstat,net/dev}, statvfs of the root, and `stat` and `statm` of each
 * process; with `host`, no processes. Files stay open and are read with pread at 0 into one buffer. Nothing is parsed, but
 * for the names of the directories of processes.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define MOST_PROCESSES 65536

static const char *const HOST[] = {
    "/proc/stat", "/proc/meminfo", "/proc/loadavg", "/proc/diskstats", "/proc/vmstat", "/proc/net/dev",
};
#define HOST_FILES (sizeof HOST / sizeof *HOST)

struct process {
    int pid;
    int stat;
    int statm;
};

static char buffer[1 << 16];
static struct process processes[MOST_PROCESSES];
static struct process before[MOST_PROCESSES];
static size_t known;

/* To the end: the kernel hands out long files a page at a time. */
static void read_listing(int fd) {
    off_t at = 0;
    ssize_t got;
    while ((got = pread(fd, buffer, sizeof buffer, at)) > 0)
        at += got;
}

static int open_of(int pid, const char *file) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static void close_of(struct process *process) {
    if (process->stat >= 0)
        close(process->stat);
    if (process->statm >= 0)
        close(process->statm);
}

/* The kernel lists processes in the order of their ids, so the lists of two passes are merged. */
static void read_processes(DIR *proc) {
    size_t count = 0, old = 0, old_count = known;
    memcpy(before, processes, known * sizeof *processes);
    rewinddir(proc);
    for (struct dirent *entry; (entry = readdir(proc)) && count < MOST_PROCESSES;) {
        int pid = atoi(entry->d_name);
        if (pid <= 0)
            continue;
        while (old < old_count && before[old].pid < pid)
            close_of(&before[old++]);
        if (old < old_count && before[old].pid == pid)
            processes[count] = before[old++];
        else
            processes[count] = (struct process){pid, open_of(pid, "stat"), open_of(pid, "statm")};
        struct process *now = &processes[count++];
        if (pread(now->stat, buffer, sizeof buffer, 0) < 0 || pread(now->statm, buffer, sizeof buffer, 0) < 0) {
            /* It has ended, or another has its id: opened anew at the next pass. */
            close_of(now);
            count--;
        }
    }
    while (old < old_count)
        close_of(&before[old++]);
    known = count;
}

int main(int argc, char **argv) {
    int host_only = argc > 1 && strcmp(argv[1], "host") == 0;
    int files[HOST_FILES];
    for (size_t i = 0; i < HOST_FILES; i++)
        files[i] = open(HOST[i], O_RDONLY | O_CLOEXEC);
    DIR *proc = opendir("/proc");
    struct rlimit limit;
    if (!proc || getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        perror("probe");
        return 1;
    }
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (;;) {
        for (size_t i = 0; i < HOST_FILES; i++)
            read_listing(files[i]);
        struct statvfs root;
        statvfs("/", &root);
        if (!host_only)
            read_processes(proc);
        next.tv_sec++;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
}
