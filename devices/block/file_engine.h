#ifndef HOLDFAST_DEVICES_BLOCK_FILE_ENGINE_H_
#define HOLDFAST_DEVICES_BLOCK_FILE_ENGINE_H_

#include <memory>
#include <mutex>

#include "devices/block/block_engine.h"
#include "devices/block/image_file.h"

namespace holdfast::block {

// Blocking I/O: the calling thread waits. What the calls of `file` leave undone
// is done by more of them. Where the file takes aligned I/O only, all else goes
// through a buffer of the thread, and a write of parts of blocks reads their
// other parts first.
class FileEngine final : public BlockEngine {
 public:
  explicit FileEngine(std::unique_ptr<ImageFile> file);

  uint32_t BlockSize() const override { return block_size_; }
  absl::StatusOr<uint64_t> Size() const override;
  absl::Status Read(uint64_t offset, absl::Span<const Buffer> buffers) override;
  absl::Status Write(uint64_t offset,
                     absl::Span<const Buffer> buffers) override;
  absl::Status Flush() override;
  absl::Status Discard(uint64_t offset, uint64_t size) override;
  absl::Status WriteZeroes(uint64_t offset, uint64_t size, bool unmap) override;

 private:
  enum class Direction { kRead, kWrite };

  bool Aligned(uint64_t offset, absl::Span<const Buffer> buffers) const;
  absl::Status Transfer(Direction direction, uint64_t offset,
                        absl::Span<const Buffer> buffers);
  absl::Status Bounce(Direction direction, uint64_t offset,
                      absl::Span<const Buffer> buffers);
  absl::Status ReadEdges(uint64_t start, size_t skip, size_t size);
  absl::Status Move(Direction direction, uint64_t offset,
                    absl::Span<const Buffer> buffers);

  const std::unique_ptr<ImageFile> file_;
  const uint32_t block_size_;
  const uint32_t alignment_;  // Of direct I/O.
  // Two writes of parts of the same block would each bring back what the other
  // one replaced. Writes of whole blocks need no part in it: one that meets a
  // part of a block overlaps it, which leaves the content to chance anyway.
  std::mutex partial_writes_;
};

}  // namespace holdfast::block

#endif  // HOLDFAST_DEVICES_BLOCK_FILE_ENGINE_H_
