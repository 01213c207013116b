#ifndef HOLDFAST_TESTS_INTEROP_BLKIO_QUEUE_SYS_H_
#define HOLDFAST_TESTS_INTEROP_BLKIO_QUEUE_SYS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tests/interop/blkio_api_sys.h"
#include "tests/load/io_queue.h"

namespace holdfast::interop {

// A vhost-user-blk back-end through libblkio's virtio-blk-vhost-user driver: a
// front-end that others wrote. The library ends the process with a panic when a
// request completes twice. Not thread-safe.
class BlkioQueue final : public load::IoQueue {
 public:
  struct Options {
    std::string socket;
    uint32_t depth = 1;
    size_t max_request_bytes = load::kBlockSize;
    // Guest memory, all of it touched; the buffers lie far apart in it.
    size_t memory_bytes = 0;  // At least what the buffers need.
    uint32_t pause_us = 0;    // Slept after each Wait that found something.
    int queue_size = 256;     // Descriptors of the virtqueue.
  };

  // Connects and starts. INTERNAL with the library's words if it refuses.
  static absl::StatusOr<std::unique_ptr<BlkioQueue>> Open(
      const BlkioApi& api, const Options& options);

  // Disconnects; requests in flight are abandoned.
  ~BlkioQueue() override;

  // Of the device, in bytes.
  uint64_t size() const { return size_; }

  absl::Span<uint8_t> buffer(uint32_t slot) override;
  void Add(uint32_t slot, const load::LoadRequest& request) override;
  // Nothing: the library submits when it waits.
  absl::Status Submit() override { return absl::OkStatus(); }
  absl::StatusOr<std::vector<Completion>> Wait(int timeout_ms) override;

 private:
  BlkioQueue(const BlkioApi& api, const Options& options)
      : api_(api), options_(options), completions_(options.depth) {}

  absl::Status Connect();
  // The status of a call of the library that returned `result`.
  absl::Status Check(int result, absl::string_view call) const;

  const BlkioApi api_;
  const Options options_;
  blkio* device_ = nullptr;
  blkioq* queue_ = nullptr;
  uint8_t* memory_ = nullptr;  // Of all buffers; the library owns it.
  size_t stride_ = 0;          // From one buffer to the next.
  uint64_t size_ = 0;
  std::vector<BlkioCompletion> completions_;
};

}  // namespace holdfast::interop

#endif  // HOLDFAST_TESTS_INTEROP_BLKIO_QUEUE_SYS_H_
