#ifndef HOLDFAST_DEVICES_BLOCK_BLOCK_ENGINE_H_
#define HOLDFAST_DEVICES_BLOCK_BLOCK_ENGINE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "devices/bus/request.h"

namespace holdfast::block {

// How a disk's bytes are read and written: the seam behind which engines
// differ. Every operation is idempotent, so that a successor may repeat it, and
// has ended when it returns: an engine for which that does not hold needs a
// fence of its own (docs of the store, "I/O fence"). Several threads call at
// once; each waits for its own operation, and which one returns first is up to
// the engine. Offsets and lengths are bytes inside the disk, of any alignment;
// the caller has checked them.
class BlockEngine {
 public:
  virtual ~BlockEngine() = default;

  // What the storage reads and writes in one piece, in bytes: a power of two,
  // at least 512. Whatever is aligned to it is served without a detour. Fixed
  // for the engine's life.
  virtual uint32_t BlockSize() const = 0;

  // Size of the disk now, in bytes.
  virtual absl::StatusOr<uint64_t> Size() const = 0;

  // Reads or writes all of `buffers`, or fails.
  virtual absl::Status Read(uint64_t offset,
                            absl::Span<const Buffer> buffers) = 0;
  virtual absl::Status Write(uint64_t offset,
                             absl::Span<const Buffer> buffers) = 0;
  // Makes every completed write durable.
  virtual absl::Status Flush() = 0;
  // Gives the blocks that lie in the range as a whole back to the storage;
  // their content is zero afterwards. kUnimplemented when the storage cannot.
  virtual absl::Status Discard(uint64_t offset, uint64_t size) = 0;
  // Makes the range read as zeroes; `unmap` allows to give it back.
  virtual absl::Status WriteZeroes(uint64_t offset, uint64_t size,
                                   bool unmap) = 0;
};

}  // namespace holdfast::block

#endif  // HOLDFAST_DEVICES_BLOCK_BLOCK_ENGINE_H_
