#ifndef HOLDFAST_TESTS_LOAD_IO_QUEUE_H_
#define HOLDFAST_TESTS_LOAD_IO_QUEUE_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tests/load/verified_load.h"

namespace holdfast::load {

// How a load reaches its device. A queue has a fixed number of slots, each with
// a buffer of its own and at most one request in flight. Not thread-safe.
class IoQueue {
 public:
  struct Completion {
    uint32_t slot = 0;
    bool ok = false;  // Everything was transferred.
  };

  virtual ~IoQueue() = default;

  // The slot's buffer: as long as the longest request. The device owns it from
  // Submit() to the completion.
  virtual absl::Span<uint8_t> buffer(uint32_t slot) = 0;

  // Adds a request to the next Submit().
  virtual void Add(uint32_t slot, const LoadRequest& request) = 0;

  virtual absl::Status Submit() = 0;

  // Waits up to `timeout_ms` for at least one completion; empty on time-out.
  virtual absl::StatusOr<std::vector<Completion>> Wait(int timeout_ms) = 0;
};

}  // namespace holdfast::load

#endif  // HOLDFAST_TESTS_LOAD_IO_QUEUE_H_
