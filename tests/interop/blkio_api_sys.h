#ifndef HOLDFAST_TESTS_INTEROP_BLKIO_API_SYS_H_
#define HOLDFAST_TESTS_INTEROP_BLKIO_API_SYS_H_

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string>

#include "absl/status/statusor.h"

namespace holdfast::interop {

// The part of libblkio's C API (blkio(3), 1.x) that the client uses, declared
// here and loaded at run time: Debian 12 has no libblkio, so the build cannot
// need it. Names and layouts are the library's.
struct blkio;
struct blkioq;

struct BlkioMemoryRegion {
  void* address;
  size_t length;
  uint64_t iova;
  int64_t fd_offset;
  int fd;
  uint32_t flags;
};
static_assert(sizeof(BlkioMemoryRegion) == 40, "struct blkio_mem_region");

struct BlkioCompletion {
  void* user_data;
  const char* error_message;
  int result;
  uint8_t reserved[12];
};
static_assert(sizeof(BlkioCompletion) == 32, "struct blkio_completion");

struct BlkioApi {
  const char* (*get_error_msg)();
  int (*create)(const char* driver, blkio** out);
  void (*destroy)(blkio** device);
  int (*connect)(blkio* device);
  int (*start)(blkio* device);
  int (*get_uint64)(blkio* device, const char* name, uint64_t* value);
  int (*set_int)(blkio* device, const char* name, int value);
  int (*set_str)(blkio* device, const char* name, const char* value);
  int (*alloc_mem_region)(blkio* device, BlkioMemoryRegion* region,
                          size_t length);
  int (*map_mem_region)(blkio* device, const BlkioMemoryRegion* region);
  blkioq* (*get_queue)(blkio* device, int index);
  void (*q_read)(blkioq* queue, uint64_t start, void* data, size_t length,
                 void* user_data, uint32_t flags);
  void (*q_write)(blkioq* queue, uint64_t start, const void* data,
                  size_t length, void* user_data, uint32_t flags);
  void (*q_flush)(blkioq* queue, void* user_data, uint32_t flags);
  int (*q_do_io)(blkioq* queue, BlkioCompletion* completions,
                 int min_completions, int max_completions, timespec* timeout);
};

// Loads the library from `path` and keeps it for the life of the process.
// NOT_FOUND: no such library, or one that lacks a function.
absl::StatusOr<BlkioApi> LoadBlkio(const std::string& path);

}  // namespace holdfast::interop

#endif  // HOLDFAST_TESTS_INTEROP_BLKIO_API_SYS_H_
