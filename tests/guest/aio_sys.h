#ifndef HOLDFAST_TESTS_GUEST_AIO_SYS_H_
#define HOLDFAST_TESTS_GUEST_AIO_SYS_H_

#include <linux/aio_abi.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "tests/load/io_queue.h"

namespace holdfast::guest {

// A block device or file through Linux AIO by its bare system calls: no threads
// and no library, so it fits in an initramfs and keeps `depth` requests in the
// kernel at once. Not thread-safe. Requests that never complete keep the
// process from exiting.
class AioQueue final : public load::IoQueue {
 public:
  // `direct`: past the page cache (O_DIRECT).
  static absl::StatusOr<std::unique_ptr<AioQueue>> Open(
      const std::string& path, bool direct, uint32_t depth,
      size_t max_request_bytes);
  ~AioQueue() override;

  // Of the device or file, in bytes.
  uint64_t size() const { return size_; }

  absl::Span<uint8_t> buffer(uint32_t slot) override;
  void Add(uint32_t slot, const load::LoadRequest& request) override;
  absl::Status Submit() override;
  // Empty when a signal arrived, too.
  absl::StatusOr<std::vector<Completion>> Wait(int timeout_ms) override;

 private:
  struct Slot {
    iocb block = {};
    size_t expected = 0;  // Bytes to transfer.
  };
  struct Free {
    void operator()(uint8_t* memory) const { std::free(memory); }
  };

  AioQueue(UniqueFd device, uint64_t size, uint32_t depth,
           size_t max_request_bytes);

  const UniqueFd device_;
  const uint64_t size_;
  const size_t buffer_bytes_;
  std::unique_ptr<uint8_t, Free> memory_;  // Of all buffers, page-aligned.
  aio_context_t context_ = 0;
  std::vector<Slot> slots_;
  std::vector<iocb*> added_;
  std::vector<io_event> events_;
};

}  // namespace holdfast::guest

#endif  // HOLDFAST_TESTS_GUEST_AIO_SYS_H_
