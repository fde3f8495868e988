/*
 * A stand-in for NVIDIA's libnvidia-ml.so.1, for tests on machines without a GPU. Its functions have NVML's names and
 * layouts; its two GPUs are made up. GPU 0 is whole, has NVLink and processes; GPU 1 is in MIG mode.
 *
 * What goes wrong is said by the file that the variable UTILIZER_TEST_NVML names, read anew at every question, a line each:
 *
 *   count N        there are N GPUs (2)
 *   epoch N        the driver was loaded anew: until nvmlInit is called again, every question says "uninitialized"
 *   no-driver      nvmlInit says that no driver is loaded, as does the rest
 *   lost N         GPU N has fallen off the bus
 *   broken N       the power of GPU N can't be read
 *   hang           the question for the utilization does not come back while this line is there
 *   xid CODE N ID  GPU N reports an error, once for each ID
 *
 * With OLD_DRIVER defined, it lacks what drivers of some years ago lacked.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int ret;
enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15, UNKNOWN = 999
};

typedef unsigned int u32;
typedef unsigned long long u64;

struct device { int gpu; int mig; };
typedef struct device *dev;

static struct device gpus[2] = { { 0, -1 }, { 1, -1 } };
/* Compute instances of GPU 1: one on GPU instance 1, two on 9. Number 1 is a gap. */
static struct device migs[4] = { { 1, 0 }, { 1, 1 }, { 1, 2 }, { 1, 3 } };

/* What the control file says. */

static int each_line(int (*want)(const char *line, void *with), void *with)
{
    const char *path = getenv("UTILIZER_TEST_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[128];
    int found = 0;
    if (!file)
        return 0;
    while (!found && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        found = want(line, with);
    }
    fclose(file);
    return found;
}

static int is_same(const char *line, void *with) { return !strcmp(line, with); }
static int says(const char *text) { return each_line(is_same, (void *)text); }

static int is_epoch(const char *line, void *with) { return sscanf(line, "epoch %d", (int *)with) == 1; }
static int is_count(const char *line, void *with) { return sscanf(line, "count %u", (u32 *)with) == 1; }

static int says_of(const char *what, int gpu)
{
    char text[32];
    snprintf(text, sizeof text, "%s %d", what, gpu);
    return says(text);
}

static int opened = -1;

static int epoch(void)
{
    int number = 0;
    each_line(is_epoch, &number);
    return number;
}

static ret ready(void)
{
    return opened == epoch() && !says("no-driver") ? SUCCESS : UNINITIALIZED;
}

static ret ready_for(dev d)
{
    ret r = ready();
    if (r)
        return r;
    return says_of("lost", d->gpu) ? GPU_IS_LOST : SUCCESS;
}

#define ASK(d) do { ret r_ = ready_for(d); if (r_) return r_; } while (0)
#define ASK_WHOLE(d) do { ASK(d); if ((d)->mig >= 0) return INVALID_ARGUMENT; } while (0)

static ret text(char *to, u32 length, const char *from)
{
    if (strlen(from) >= length)
        return INSUFFICIENT_SIZE;
    strcpy(to, from);
    return SUCCESS;
}

/* The library. */

ret nvmlInit_v2(void)
{
    if (says("no-driver"))
        return DRIVER_NOT_LOADED;
    opened = epoch();
    return SUCCESS;
}

ret nvmlShutdown(void) { opened = -1; return SUCCESS; }

ret nvmlSystemGetDriverVersion(char *to, u32 length) { return text(to, length, "550.54.15"); }
ret nvmlSystemGetNVMLVersion(char *to, u32 length) { return text(to, length, "12.550.54.15"); }
ret nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12040; return SUCCESS; }

ret nvmlDeviceGetCount_v2(u32 *count)
{
    ret r = ready();
    *count = 2;
    each_line(is_count, count);
    return r;
}

ret nvmlDeviceGetHandleByIndex_v2(u32 index, dev *device)
{
    if (index > 1)
        return INVALID_ARGUMENT;
    *device = &gpus[index];
    return ready_for(*device);
}

static const char *uuids[2] = { "GPU-5717b000-0000-4000-8000-000000000000", "GPU-5717b000-0000-4000-8000-000000000001" };

ret nvmlDeviceGetHandleByUUID(const char *uuid, dev *device)
{
    for (int i = 0; i < 2; i++)
        if (!strcmp(uuid, uuids[i])) {
            *device = &gpus[i];
            return ready_for(*device);
        }
    return NOT_FOUND;
}

ret nvmlDeviceGetUUID(dev d, char *to, u32 length) { ASK(d); return text(to, length, uuids[d->gpu]); }

ret nvmlDeviceGetName(dev d, char *to, u32 length)
{
    static const char *names[] = { "MIG 3g.40gb", "", "MIG 1c.2g.20gb", "MIG 1c.2g.20gb" };
    char name[96];
    ASK(d);
    snprintf(name, sizeof name, "NVIDIA Stub%s%s", d->mig < 0 ? "" : " ", d->mig < 0 ? "" : names[d->mig]);
    return text(to, length, name);
}

struct pci { char legacy[16]; u32 domain, bus, device, id, subsystem; char bus_id[32]; };

ret nvmlDeviceGetPciInfo_v3(dev d, struct pci *pci)
{
    ASK_WHOLE(d);
    memset(pci, 0, sizeof *pci);
    pci->bus = 0x17 + d->gpu;
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", pci->bus);
    return SUCCESS;
}

/* Load. */

struct rates { u32 gpu, memory; };

ret nvmlDeviceGetUtilizationRates(dev d, struct rates *rates)
{
    while (says("hang"))
        usleep(10000);
    ASK(d);
    if (d->gpu == 1)
        return NOT_SUPPORTED;
    *rates = (struct rates){ 87, 41 };
    return SUCCESS;
}

ret nvmlDeviceGetEncoderUtilization(dev d, u32 *share, u32 *period)
{
    ASK_WHOLE(d);
    *share = d->gpu ? 4294967295u : 12;
    *period = 1000;
    return SUCCESS;
}

ret nvmlDeviceGetDecoderUtilization(dev d, u32 *share, u32 *period)
{
    ASK_WHOLE(d);
    *share = 3;
    *period = 1000;
    return SUCCESS;
}

#define MIB (1ull << 20)

static void memory_of(dev d, u64 *total, u64 *reserved, u64 *used)
{
    u64 mib = d->mig < 0 ? 81920 : d->mig == 0 ? 40448 : 20096;
    *total = mib * MIB;
    *reserved = d->mig < 0 ? 640 * MIB : 0;
    *used = (d->mig < 0 ? 6345 : d->mig == 0 ? 2048 : 512) * MIB + 4096;
}

struct memory { u64 total, free, used; };

ret nvmlDeviceGetMemoryInfo(dev d, struct memory *memory)
{
    u64 reserved;
    ASK(d);
    memory_of(d, &memory->total, &reserved, &memory->used);
    memory->used += reserved;
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

ret nvmlDeviceGetPcieThroughput(dev d, u32 counter, u32 *value)
{
    ASK_WHOLE(d);
    *value = counter == 0 ? 125000 : 480000;
    return SUCCESS;
}

/* State. */

ret nvmlDeviceGetClockInfo(dev d, u32 clock, u32 *mhz)
{
    ASK_WHOLE(d);
    *mhz = clock == 1 ? 1755 : clock == 2 ? 2619 : 0;
    return SUCCESS;
}

ret nvmlDeviceGetTemperature(dev d, u32 sensor, u32 *celsius)
{
    ASK_WHOLE(d);
    (void)sensor;
    *celsius = 61 + d->gpu;
    return SUCCESS;
}

ret nvmlDeviceGetPowerUsage(dev d, u32 *milliwatts)
{
    ASK_WHOLE(d);
    if (says_of("broken", d->gpu))
        return UNKNOWN;
    *milliwatts = 412345;
    return SUCCESS;
}

struct violation { u64 reference, time; };

ret nvmlDeviceGetViolationStatus(dev d, u32 policy, struct violation *violation)
{
    ASK_WHOLE(d);
    if (policy > 3)
        return NOT_SUPPORTED;
    violation->reference = 1;
    violation->time = policy == 0 ? 5500000000ull : policy == 1 ? 125000000 : 0;
    return SUCCESS;
}

ret nvmlDeviceGetCurrentClocksThrottleReasons(dev d, u64 *reasons)
{
    ASK_WHOLE(d);
    *reasons = 4;
    return SUCCESS;
}

/* Errors. */

ret nvmlDeviceGetPcieReplayCounter(dev d, u32 *value) { ASK_WHOLE(d); *value = 2; return SUCCESS; }

ret nvmlDeviceGetTotalEccErrors(dev d, u32 type, u32 counter, u64 *value)
{
    ASK_WHOLE(d);
    *value = (type == 0 ? 10 : 0) + counter;
    return SUCCESS;
}

#ifndef OLD_DRIVER

struct memory_v2 { u32 version; u64 total, reserved, free, used; };

ret nvmlDeviceGetMemoryInfo_v2(dev d, struct memory_v2 *memory)
{
    if (memory->version != (sizeof *memory | 2u << 24))
        return INVALID_ARGUMENT;
    ASK(d);
    memory_of(d, &memory->total, &memory->reserved, &memory->used);
    memory->free = memory->total - memory->used - memory->reserved;
    return SUCCESS;
}

ret nvmlDeviceGetTotalEnergyConsumption(dev d, u64 *millijoules)
{
    ASK_WHOLE(d);
    *millijoules = 987654321012ull;
    return SUCCESS;
}

ret nvmlDeviceGetCurrentClocksEventReasons(dev d, u64 *reasons)
{
    ASK_WHOLE(d);
    /* The power cap, and a bit that nobody knows yet. */
    *reasons = 4 | 1ull << 40;
    return SUCCESS;
}

ret nvmlDeviceGetRemappedRows(dev d, u32 *correctable, u32 *uncorrectable, u32 *pending, u32 *failed)
{
    ASK_WHOLE(d);
    *correctable = 5;
    *uncorrectable = 1;
    *pending = 0;
    *failed = d->gpu;
    return SUCCESS;
}

union value { double d; int si; u32 ui; unsigned long ul; u64 ull; long long sll; unsigned short us; };
struct field { u32 id, scope; long long time, latency; u32 type; ret result; union value value; };

ret nvmlDeviceGetFieldValues(dev d, int count, struct field *fields)
{
    ASK_WHOLE(d);
    for (int i = 0; i < count; i++) {
        struct field *field = &fields[i];
        int nvlink = (field->id >= 32 && field->id <= 59) || field->id == 138 || field->id == 139;
        field->result = SUCCESS;
        field->type = 3;
        if (field->id == 82) {
            field->type = 1;
            field->value.ui = 74;
        } else if (nvlink && d->gpu == 0) {
            field->value.ull = field->id >= 138 ? 1000000ull * field->id : field->id;
            if (field->id >= 138 && field->scope != 4294967295u)
                field->result = INVALID_ARGUMENT;
        } else {
            field->result = NOT_SUPPORTED;
        }
    }
    return SUCCESS;
}

#endif

/* MIG. */

ret nvmlDeviceGetMigMode(dev d, u32 *current, u32 *pending)
{
    ASK_WHOLE(d);
    *current = *pending = d->gpu == 1;
    return SUCCESS;
}

ret nvmlDeviceGetMaxMigDeviceCount(dev d, u32 *count) { ASK_WHOLE(d); *count = 7; return SUCCESS; }

ret nvmlDeviceGetMigDeviceHandleByIndex(dev d, u32 index, dev *mig)
{
    ASK_WHOLE(d);
    if (index == 1 || index > 3)
        return NOT_FOUND;
    *mig = &migs[index];
    return SUCCESS;
}

ret nvmlDeviceGetGpuInstanceId(dev d, u32 *id)
{
    ASK(d);
    if (d->mig < 0)
        return NOT_SUPPORTED;
    *id = d->mig == 0 ? 1 : 9;
    return SUCCESS;
}

/* Processes. */

struct process { u32 pid; u64 memory; u32 gpu_instance, compute_instance; };

static ret give(const struct process *all, u32 have, u32 *count, struct process *to)
{
    if (have > *count) {
        *count = have;
        return INSUFFICIENT_SIZE;
    }
    *count = have;
    if (have)
        memcpy(to, all, have * sizeof *all);
    return SUCCESS;
}

#define NONE 4294967295u

static ret compute(dev d, u32 *count, struct process *to)
{
    static const struct process whole[] = { { 4242, 6144 * MIB, NONE, NONE }, { 4343, ~0ull, NONE, NONE } };
    static const struct process part[] = { { 4545, 2048 * MIB, 1, 0 } };
    ASK(d);
    if (d->gpu == 0)
        return give(whole, 2, count, to);
    return give(part, d->mig == 0, count, to);
}

static ret graphics(dev d, u32 *count, struct process *to)
{
    static const struct process whole[] = { { 4242, 6144 * MIB, NONE, NONE }, { 4444, 200 * MIB, NONE, NONE } };
    ASK(d);
    if (d->gpu == 1)
        return NOT_SUPPORTED;
    return give(whole, 2, count, to);
}

#ifdef OLD_DRIVER
ret nvmlDeviceGetComputeRunningProcesses_v2(dev d, u32 *count, struct process *to) { return compute(d, count, to); }
ret nvmlDeviceGetGraphicsRunningProcesses_v2(dev d, u32 *count, struct process *to) { return graphics(d, count, to); }
#else
ret nvmlDeviceGetComputeRunningProcesses_v3(dev d, u32 *count, struct process *to) { return compute(d, count, to); }
ret nvmlDeviceGetGraphicsRunningProcesses_v3(dev d, u32 *count, struct process *to) { return graphics(d, count, to); }
#endif

struct process_sample { u32 pid; u64 time; u32 sm, memory, encoder, decoder; };

ret nvmlDeviceGetProcessUtilization(dev d, struct process_sample *to, u32 *count, u64 since)
{
    ASK_WHOLE(d);
    if (!to || *count < 2) {
        *count = 2;
        return INSUFFICIENT_SIZE;
    }
    *count = 2;
    to[0] = (struct process_sample){ 4242, since + 1000, 55, 20, 0, 3 };
    /* As some drivers answer. */
    to[1] = (struct process_sample){ 4444, since + 1000, NONE, NONE, NONE, NONE };
    return SUCCESS;
}

/* Events. */

struct event { dev device; u64 type, data; u32 gpu_instance, compute_instance; };
struct events { int registered[2]; };

static int last_delivered;

ret nvmlEventSetCreate(struct events **set)
{
    *set = calloc(1, sizeof **set);
    return *set ? SUCCESS : UNKNOWN;
}

ret nvmlEventSetFree(struct events *set) { free(set); return SUCCESS; }

ret nvmlDeviceGetSupportedEventTypes(dev d, u64 *types) { ASK_WHOLE(d); *types = 8; return SUCCESS; }

ret nvmlDeviceRegisterEvents(dev d, u64 types, struct events *set)
{
    ASK_WHOLE(d);
    if (types != 8)
        return INVALID_ARGUMENT;
    set->registered[d->gpu] = 1;
    return SUCCESS;
}

struct xid { int code, gpu, id; };

static int is_next_xid(const char *line, void *with)
{
    struct xid *xid = with;
    return sscanf(line, "xid %d %d %d", &xid->code, &xid->gpu, &xid->id) == 3 && xid->id > last_delivered;
}

ret nvmlEventSetWait_v2(struct events *set, struct event *event, u32 milliseconds)
{
    struct xid xid;
    for (u32 waited = 0; waited <= milliseconds; waited += 10) {
        ret r = ready();
        if (r)
            return r;
        if (each_line(is_next_xid, &xid) && xid.gpu >= 0 && xid.gpu < 2 && set->registered[xid.gpu]) {
            last_delivered = xid.id;
            *event = (struct event){ &gpus[xid.gpu], 8, (u64)xid.code, NONE, NONE };
            return SUCCESS;
        }
        usleep(10000);
    }
    return TIMEOUT;
}
