#ifndef HOLDFAST_DEVICES_BLOCK_IMAGE_FILE_H_
#define HOLDFAST_DEVICES_BLOCK_IMAGE_FILE_H_

#include <cstdint>

#include "absl/types/span.h"
#include "devices/bus/request.h"

namespace holdfast::block {

// The calls that FileEngine makes, as the kernel has them: they may do a part
// of what is asked, be interrupted, and fail. A result below 0 is an errno with
// its sign turned. Thread-safe. Offsets and sizes are bytes.
class ImageFile {
 public:
  // Reason: a kernel call takes them on its stack; longer lists take more
  // calls.
  static constexpr size_t kMaxBuffers = 64;

  virtual ~ImageFile() = default;

  // What the storage reads and writes in one piece: a power of two from 512 to
  // 64 KiB. Fixed for the file's life.
  virtual uint32_t block_size() const = 0;
  // Whether I/O goes past the page cache (O_DIRECT) and therefore fails unless
  // it is aligned: to alignment() in the file, to 512 bytes in memory.
  virtual bool direct() const = 0;
  // A power of two from block_size() to 64 KiB: more than a block where the
  // storage below the file system has larger ones than the disk is to have.
  virtual uint32_t alignment() const { return block_size(); }

  virtual int64_t Size() const = 0;
  // Move the first bytes of `buffers`, at most kMaxBuffers of them, and return
  // how many. 0 is the end of the file.
  virtual int64_t Read(uint64_t offset, absl::Span<const Buffer> buffers) = 0;
  virtual int64_t Write(uint64_t offset, absl::Span<const Buffer> buffers) = 0;
  virtual int Sync() = 0;
  // Of whole blocks only.
  virtual int PunchHole(uint64_t offset, uint64_t size) = 0;
  virtual int ZeroRange(uint64_t offset, uint64_t size) = 0;
};

}  // namespace holdfast::block

#endif  // HOLDFAST_DEVICES_BLOCK_IMAGE_FILE_H_
