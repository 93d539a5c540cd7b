/* Stands in for AMD's libamd_smi.so below its real binding: what a function gives out is a file, read at every call.

   $STUDIO_FAKE_AMD/init                       an error of amdsmi_init, as a number
   $STUDIO_FAKE_AMD/SLOT/FUNCTION[.KIND]       what FUNCTION writes for the GPU in SLOT, byte by byte; without it: not supported

   The functions that the binding looks up and that are not here are added when this is compiled: they support nothing. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 2, MOST = 1 << 16 };
typedef void *handle_t;

static void path_of(char *path, size_t size, const char *format, long slot, const char *function, long kind) {
    const char *folder = getenv("STUDIO_FAKE_AMD");
    int used = snprintf(path, size, "%s/", folder ? folder : "");
    snprintf(path + used, size - used, format, slot, function, kind);
}

/* How many bytes the answer has; -1: there is none. */
static long answer(const char *function, handle_t gpu, long kind, char *bytes) {
    char path[512];
    path_of(path, sizeof path, kind < 0 ? "%ld/%s" : "%ld/%s.%ld", (long)(intptr_t)gpu - 1, function, kind);
    FILE *file = fopen(path, "rb");
    if (!file) return -1;
    long length = fread(bytes, 1, MOST, file);
    fclose(file);
    return length;
}

static int give(const char *function, handle_t gpu, long kind, void *out) {
    static char bytes[MOST];
    long length = answer(function, gpu, kind, bytes);
    if (length < 0) return NOT_SUPPORTED;
    memcpy(out, bytes, length);
    return SUCCESS;
}

int amdsmi_init(uint64_t flags) {
    char path[512];
    int error = SUCCESS;
    (void)flags;
    path_of(path, sizeof path, "init", 0, "", 0);
    FILE *file = fopen(path, "r");
    if (file) {
        if (fscanf(file, "%d", &error) != 1) error = SUCCESS;
        fclose(file);
    }
    return error;
}

int amdsmi_shut_down(void) { return SUCCESS; }

int amdsmi_get_socket_handles(uint32_t *count, handle_t *sockets) {
    if (sockets) sockets[0] = (handle_t)1;
    *count = 1;
    return SUCCESS;
}

int amdsmi_get_processor_handles(handle_t socket, uint32_t *count, handle_t *gpus) {
    char path[512];
    struct stat found;
    uint32_t slot = 0;
    (void)socket;
    for (;; slot++) {
        path_of(path, sizeof path, "%ld", slot, "", 0);
        if (stat(path, &found)) break;
        if (gpus && slot < *count) gpus[slot] = (handle_t)(intptr_t)(slot + 1);
    }
    *count = slot;
    return SUCCESS;
}

#define GIVES(function) int function(handle_t gpu, void *out) { return give(#function, gpu, -1, out); }
#define GIVES_A_KIND(function) \
    int function(handle_t gpu, int kind, void *out) { return give(#function, gpu, kind, out); }

GIVES(amdsmi_get_gpu_driver_info)
GIVES(amdsmi_get_gpu_asic_info)
GIVES(amdsmi_get_gpu_activity)
GIVES(amdsmi_get_power_info)
GIVES(amdsmi_get_gpu_total_ecc_count)
GIVES(amdsmi_get_gpu_enumeration_info)
GIVES(amdsmi_get_gpu_device_bdf)
GIVES_A_KIND(amdsmi_get_power_cap_info)
GIVES_A_KIND(amdsmi_get_gpu_memory_total)
GIVES_A_KIND(amdsmi_get_gpu_memory_usage)
GIVES_A_KIND(amdsmi_get_clock_info)

int amdsmi_get_temp_metric(handle_t gpu, int sensor, int metric, int64_t *celsius) {
    (void)metric;
    return give("amdsmi_get_temp_metric", gpu, sensor, celsius);
}

int amdsmi_get_energy_count(handle_t gpu, uint64_t *count, float *resolution, uint64_t *at) {
    char bytes[MOST];
    if (answer("amdsmi_get_energy_count", gpu, -1, bytes) < 0) return NOT_SUPPORTED;
    memcpy(count, bytes, 8);
    memcpy(resolution, bytes + 8, 4);
    memcpy(at, bytes + 12, 8);
    return SUCCESS;
}

/* The file: how many, then each as it is. */
int amdsmi_get_gpu_process_list(handle_t gpu, uint32_t *count, void *list) {
    char bytes[MOST];
    long length = answer("amdsmi_get_gpu_process_list", gpu, -1, bytes);
    if (length < 4) return NOT_SUPPORTED;
    memcpy(count, bytes, 4);
    memcpy(list, bytes + 4, length - 4);
    return SUCCESS;
}
