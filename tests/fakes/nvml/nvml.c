/* A stand-in for libnvidia-ml.so.1: the real symbols and struct layouts, with values from a text file that a test may replace at any time.
 *
 * The file (environment variable STUDIO_FAKE_NVML) has one "key value" pair a line. Values of GPUs are keyed by slot, "gpu.0.uuid";
 * "order 1,0" says which slot stands at which index. A value that is not there, or is "na", is NVML_ERROR_NOT_SUPPORTED; "unset" is the
 * all-bits-set value that NVML writes where it has none. "hang.FUNCTION 1" makes a function not return while the line is there;
 * "error.FUNCTION 999" makes it fail. See __init__.py for the keys.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, NO_DRIVER = 9, TIMEOUT = 10, LOST = 15, VERSION = 25 };
enum { MOST_SLOTS = 16, MOST_INSTANCES = 8, MOST_BYTES = 1 << 16 };

typedef struct { int slot; int instance; } device_t;
typedef struct { char bus_legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { unsigned version, sensor; int celsius; } temperature_t;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process_t;
typedef struct { device_t *device; unsigned long long type, data; unsigned gpu_instance, compute_instance; } event_t;
typedef union { double d; unsigned u; unsigned long ul; unsigned long long ull; long long sll; int i; unsigned short us; } value_t;
typedef struct { uint32_t field, scope; int64_t timestamp, latency; uint32_t type, result; value_t value; } field_t;

static device_t whole[MOST_SLOTS], parts[MOST_SLOTS][MOST_INSTANCES];
static int event_set;
static long last_event;

/* The file's text, read again whenever the file was replaced. */
static const char *text(void) {
    static char content[MOST_BYTES];
    static struct stat seen;
    struct stat now;
    const char *path = getenv("STUDIO_FAKE_NVML");
    if (!path || stat(path, &now)) { content[0] = 0; seen.st_ino = 0; return content; }
    if (now.st_ino == seen.st_ino && now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec && now.st_mtim.tv_sec == seen.st_mtim.tv_sec) return content;
    FILE *file = fopen(path, "r");
    if (!file) { content[0] = 0; return content; }
    content[fread(content, 1, MOST_BYTES - 1, file)] = 0;
    fclose(file);
    seen = now;
    return content;
}

/* Copy the value of a key; whether there is one. */
static int find(const char *key, char *value, size_t size) {
    size_t length = strlen(key);
    for (const char *line = text(); *line; line = strchrnul(line, '\n'), line += *line == '\n') {
        if (strncmp(line, key, length) || line[length] != ' ') continue;
        size_t n = strcspn(line + length + 1, "\n");
        if (n >= size) n = size - 1;
        memcpy(value, line + length + 1, n);
        value[n] = 0;
        return 1;
    }
    return 0;
}

static int text_of(device_t *device, const char *name, char *value, size_t size) {
    char key[128];
    if (device->instance < 0) snprintf(key, sizeof key, "gpu.%d.%s", device->slot, name);
    else snprintf(key, sizeof key, "gpu.%d.mig.%d.%s", device->slot, device->instance, name);
    return find(key, value, size) && strcmp(value, "na") ? SUCCESS : NOT_SUPPORTED;
}

static int number_of(device_t *device, const char *name, unsigned long long *value) {
    char found[64];
    int result = text_of(device, name, found, sizeof found);
    if (result == SUCCESS) *value = strcmp(found, "unset") ? strtoull(found, 0, 0) : ~0ULL;
    return result;
}

/* What happens on entry to every function: it hangs, fails, or goes on. */
static int enter(const char *function) {
    char key[128], value[64];
    struct timespec pause = {0, 10000000};
    snprintf(key, sizeof key, "hang.%s", function);
    while (find(key, value, sizeof value)) nanosleep(&pause, 0);
    snprintf(key, sizeof key, "error.%s", function);
    return find(key, value, sizeof value) ? atoi(value) : SUCCESS;
}

static int enter_device(const char *function, device_t *device) {
    unsigned long long lost;
    device_t parent = {device->slot, -1};
    int result = enter(function);
    if (result) return result;
    return number_of(&parent, "lost", &lost) == SUCCESS && lost ? LOST : SUCCESS;
}

#define ENTER do { int entered = enter(__func__); if (entered) return entered; } while (0)
#define ENTER_DEVICE do { int entered = enter_device(__func__, device); if (entered) return entered; } while (0)
#define NUMBER(name, type, target) do { \
    unsigned long long number; int result = number_of(device, name, &number); \
    if (result) return result; \
    *(target) = (type)number; } while (0)

static int count_of(const char *key) {
    char value[64];
    return find(key, value, sizeof value) ? atoi(value) : 0;
}

/* Which slot stands at an index. */
static int slot_at(unsigned index) {
    char order[256];
    if (!find("order", order, sizeof order)) return (int)index;
    char *at = order;
    while (index-- && at) { at = strchr(at, ','); if (at) at++; }
    return at ? atoi(at) : -1;
}

/* The event with the lowest number above the last one: lines "event.NUMBER SLOT TYPE DATA". */
static int next_event(long after, long *number, int *slot, unsigned long long *type, unsigned long long *data) {
    long lowest = 0, candidate;
    for (const char *line = text(); *line; line = strchrnul(line, '\n'), line += *line == '\n') {
        int s; unsigned long long t, d;
        if (sscanf(line, "event.%ld %d %llu %llu", &candidate, &s, &t, &d) != 4 || candidate <= after) continue;
        if (!lowest || candidate < lowest) { lowest = candidate; *slot = s; *type = t; *data = d; }
    }
    *number = lowest;
    return lowest != 0;
}

int nvmlInitWithFlags(unsigned flags) {
    long number; int slot; unsigned long long type, data;
    (void)flags;
    ENTER;
    for (int s = 0; s < MOST_SLOTS; s++) {
        whole[s] = (device_t){s, -1};
        for (int i = 0; i < MOST_INSTANCES; i++) parts[s][i] = (device_t){s, i};
    }
    /* Like the driver's, events from before are not told again. */
    while (next_event(last_event, &number, &slot, &type, &data)) last_event = number;
    return getenv("STUDIO_FAKE_NVML") ? SUCCESS : NO_DRIVER;
}

int nvmlShutdown(void) { ENTER; return SUCCESS; }

const char *nvmlErrorString(int result) {
    switch (result) {
    case NO_DRIVER: return "Driver Not Loaded";
    case LOST: return "GPU is lost";
    default: return "stand-in error";
    }
}

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    char value[64];
    ENTER;
    if (!find("driver", value, sizeof value)) return NOT_SUPPORTED;
    snprintf(version, length, "%s", value);
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) { ENTER; *count = (unsigned)count_of("count"); return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t **handle) {
    ENTER;
    int slot = slot_at(index);
    if ((int)index >= count_of("count") || slot < 0 || slot >= MOST_SLOTS) return INVALID;
    device_t *device = &whole[slot];
    ENTER_DEVICE;
    *handle = device;
    return SUCCESS;
}

static int text_into(device_t *device, const char *name, char *buffer, unsigned length) {
    char value[128];
    int result = text_of(device, name, value, sizeof value);
    if (!result) snprintf(buffer, length, "%s", value);
    return result;
}

int nvmlDeviceGetUUID(device_t *device, char *uuid, unsigned length) { ENTER_DEVICE; return text_into(device, "uuid", uuid, length); }
int nvmlDeviceGetName(device_t *device, char *name, unsigned length) { ENTER_DEVICE; return text_into(device, "name", name, length); }

int nvmlDeviceGetPciInfo_v3(device_t *device, pci_t *pci) {
    ENTER_DEVICE;
    memset(pci, 0, sizeof *pci);
    return text_into(device, "pci", pci->bus_id, sizeof pci->bus_id);
}

int nvmlDeviceGetCudaComputeCapability(device_t *device, int *major, int *minor) {
    char value[32];
    ENTER_DEVICE;
    int result = text_of(device, "capability", value, sizeof value);
    if (result) return result;
    return sscanf(value, "%d.%d", major, minor) == 2 ? SUCCESS : INVALID;
}

int nvmlDeviceGetP2PStatus(device_t *device, device_t *other, int capability, int *status) {
    char peers[128];
    ENTER_DEVICE;
    *status = 5;
    if (capability != 2 || text_of(device, "nvlink", peers, sizeof peers)) return SUCCESS;
    for (char *rest = peers, *peer; (peer = strsep(&rest, ","));)
        if (atoi(peer) == other->slot) *status = 0;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(device_t *device, memory_v2_t *memory) {
    ENTER_DEVICE;
    if (memory->version != 0x02000028) return VERSION;
    NUMBER("memory.total", unsigned long long, &memory->total);
    NUMBER("memory.used", unsigned long long, &memory->used);
    NUMBER("memory.reserved", unsigned long long, &memory->reserved);
    memory->free = memory->total - memory->used - memory->reserved;
    return SUCCESS;
}

/* The first version counts reserved memory as used. */
int nvmlDeviceGetMemoryInfo(device_t *device, memory_t *memory) {
    unsigned long long reserved = 0;
    ENTER_DEVICE;
    NUMBER("memory.total", unsigned long long, &memory->total);
    NUMBER("memory.used", unsigned long long, &memory->used);
    number_of(device, "memory.reserved", &reserved);
    memory->used += reserved;
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(device_t *device, utilization_t *rates) {
    ENTER_DEVICE;
    NUMBER("utilization", unsigned, &rates->gpu);
    rates->memory = 0;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(device_t *device, unsigned *milliwatts) { ENTER_DEVICE; NUMBER("power", unsigned, milliwatts); return SUCCESS; }
int nvmlDeviceGetEnforcedPowerLimit(device_t *device, unsigned *milliwatts) { ENTER_DEVICE; NUMBER("power.limit", unsigned, milliwatts); return SUCCESS; }
int nvmlDeviceGetTotalEnergyConsumption(device_t *device, unsigned long long *millijoules) { ENTER_DEVICE; NUMBER("energy", unsigned long long, millijoules); return SUCCESS; }

int nvmlDeviceGetTemperatureV(device_t *device, temperature_t *temperature) {
    ENTER_DEVICE;
    if (temperature->version != 0x0100000C) return VERSION;
    NUMBER("temperature", int, &temperature->celsius);
    return SUCCESS;
}

int nvmlDeviceGetTemperature(device_t *device, int sensor, unsigned *celsius) {
    ENTER_DEVICE;
    if (sensor != 0) return INVALID;
    NUMBER("temperature", unsigned, celsius);
    return SUCCESS;
}

int nvmlDeviceGetClockInfo(device_t *device, int clock, unsigned *mhz) {
    ENTER_DEVICE;
    NUMBER(clock == 2 ? "clock.memory" : "clock.sm", unsigned, mhz);
    return SUCCESS;
}

int nvmlDeviceGetCurrentClocksEventReasons(device_t *device, unsigned long long *bits) { ENTER_DEVICE; NUMBER("clock.reasons", unsigned long long, bits); return SUCCESS; }
int nvmlDeviceGetCurrentClocksThrottleReasons(device_t *device, unsigned long long *bits) { ENTER_DEVICE; NUMBER("clock.reasons", unsigned long long, bits); return SUCCESS; }

int nvmlDeviceGetTotalEccErrors(device_t *device, int kind, int counter, unsigned long long *errors) {
    ENTER_DEVICE;
    if (kind != 1 || counter != 0) return INVALID;
    NUMBER("ecc.uncorrected", unsigned long long, errors);
    return SUCCESS;
}

int nvmlDeviceGetRemappedRows(device_t *device, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failure) {
    char value[64];
    ENTER_DEVICE;
    int result = text_of(device, "remapped", value, sizeof value);
    if (result) return result;
    return sscanf(value, "%u,%u,%u,%u", corrected, uncorrected, pending, failure) == 4 ? SUCCESS : INVALID;
}

/* "processes PID:BYTES,PID:unset": with no room, or too little, the number that there are is told. */
int nvmlDeviceGetComputeRunningProcesses_v3(device_t *device, unsigned *count, process_t *into) {
    char value[512];
    unsigned found = 0;
    ENTER_DEVICE;
    if (text_of(device, "processes", value, sizeof value)) return NOT_SUPPORTED;
    for (char *rest = value, *one; (one = strsep(&rest, ",")) && *one; found++) {
        char *bytes = strchr(one, ':');
        if (!into || found >= *count || !bytes) continue;
        unsigned long long used = strcmp(bytes + 1, "unset") ? strtoull(bytes + 1, 0, 0) : ~0ULL;
        into[found] = (process_t){(unsigned)atoi(one), used, ~0u, ~0u};
    }
    int result = found > *count ? TOO_SMALL : SUCCESS;
    *count = found;
    return result;
}

/* "field.NUMBER VALUE", each as an unsigned 64-bit value. */
int nvmlDeviceGetFieldValues(device_t *device, int count, field_t *fields) {
    ENTER_DEVICE;
    for (int i = 0; i < count; i++) {
        char name[32];
        unsigned long long number = 0;
        snprintf(name, sizeof name, "field.%u", fields[i].field);
        fields[i].result = (uint32_t)number_of(device, name, &number);
        fields[i].type = 3;
        fields[i].value.ull = number;
    }
    return SUCCESS;
}

int nvmlDeviceGetMigMode(device_t *device, unsigned *current, unsigned *pending) {
    ENTER_DEVICE;
    NUMBER("mig", unsigned, current);
    *pending = *current;
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(device_t *device, unsigned *count) { ENTER_DEVICE; *count = MOST_INSTANCES - 1; return SUCCESS; }

int nvmlDeviceGetMigDeviceHandleByIndex(device_t *device, unsigned index, device_t **handle) {
    char uuid[128];
    ENTER_DEVICE;
    if (index >= MOST_INSTANCES) return INVALID;
    device_t *instance = &parts[device->slot][index];
    if (text_of(instance, "uuid", uuid, sizeof uuid)) return NOT_FOUND;
    *handle = instance;
    return SUCCESS;
}

int nvmlEventSetCreate(int **set) { ENTER; *set = &event_set; return SUCCESS; }
int nvmlEventSetFree(int *set) { (void)set; ENTER; return SUCCESS; }
int nvmlDeviceGetSupportedEventTypes(device_t *device, unsigned long long *types) { ENTER_DEVICE; NUMBER("events", unsigned long long, types); return SUCCESS; }
int nvmlDeviceRegisterEvents(device_t *device, unsigned long long types, int *set) { (void)types; (void)set; ENTER_DEVICE; return SUCCESS; }

int nvmlEventSetWait_v2(int *set, event_t *event, unsigned milliseconds) {
    struct timespec pause = {0, 20000000};
    long number; int slot; unsigned long long type, data;
    (void)set;
    ENTER;
    for (unsigned waited = 0;; waited += 20) {
        if (next_event(last_event, &number, &slot, &type, &data)) {
            last_event = number;
            *event = (event_t){&whole[slot], type, data, ~0u, ~0u};
            return SUCCESS;
        }
        if (waited >= milliseconds) return TIMEOUT;
        nanosleep(&pause, 0);
    }
}
