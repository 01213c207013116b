#ifndef HOLDFAST_DEVICES_VIRTQUEUE_TESTING_FAKE_DRIVER_H_
#define HOLDFAST_DEVICES_VIRTQUEUE_TESTING_FAKE_DRIVER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "devices/bus/guest_memory.h"
#include "devices/virtqueue/split_ring.h"
#include "devices/virtqueue/vring_layout.h"

namespace holdfast::testing {

// The guest's side of one split virtqueue, for tests of devices: lays the ring
// out in a piece of memory, posts requests, collects answers, and notices an
// answer that is doubled, unknown or too long.
//
// Threads: one; the device may run beside it in another thread or process.
class FakeDriver {
 public:
  struct Options {
    uint16_t size = 8;
    bool event_idx = false;
    bool indirect = false;     // Post uses an indirect table each time.
    uint16_t first_index = 0;  // Both rings start here, as after migration.
    uint64_t guest_address = 0x100000;  // Of the memory.
    uint64_t user_address = 0x7f0000000000;
    uint64_t memory_size = 1 << 20;  // When the driver makes it itself.
  };

  // A request's buffer. Readable ones (for the device) come first.
  struct Buffer {
    static Buffer Readable(std::vector<uint8_t> data) {
      return {std::move(data), 0};
    }
    static Buffer Writable(uint32_t size) { return {{}, size}; }

    std::vector<uint8_t> data;
    uint32_t writable_size;  // 0: readable, with `data`.
  };

  struct Answer {
    uint64_t request;  // What Post returned.
    uint32_t written;
    std::vector<uint8_t> data;  // All writable buffers.
  };

  explicit FakeDriver(const Options& options);
  // In `memory`, page-aligned and zeroed, which outlives the driver; the device
  // may have it mapped elsewhere.
  FakeDriver(const Options& options, absl::Span<uint8_t> memory);
  FakeDriver(const FakeDriver&) = delete;
  FakeDriver& operator=(const FakeDriver&) = delete;

  // Makes a request available. Returns its number, 1 upwards, or nullopt if
  // descriptors or memory do not suffice.
  absl::optional<uint64_t> Post(absl::Span<const Buffer> buffers);
  // Whether the device wants a kick for what was posted since the last call.
  bool NeedsKick();

  // Takes all answers there are, in the order of the used ring.
  std::vector<Answer> Collect();
  // From now on one answer suffices for an interrupt; resp. none is wanted.
  // True: there are answers already, for which none may come.
  bool EnableInterrupts();
  void DisableInterrupts();

  // What the device did wrong so far; empty is good.
  const std::vector<std::string>& violations() const { return violations_; }
  // Requests without an answer.
  size_t outstanding() const { return requests_.size(); }

  // For the device under test.
  const GuestMemory& memory() const { return guest_memory_; }
  GuestMemory& memory() { return guest_memory_; }
  SplitRingConfig config() const;
  GuestRegion region() const;
  UserAddress ToUser(const void* at) const;
  GuestAddress ToGuest(const void* at) const;

  // The raw rings, for tests that break them.
  vring::Descriptor& descriptor(uint16_t i);
  uint16_t& avail_flags() { return Available()->flags; }
  uint16_t& avail_index() { return Available()->idx; }
  uint16_t& avail_ring(uint16_t i);
  uint16_t& used_event() { return avail_ring(options_.size); }
  vring::Used& used();
  vring::UsedElement& used_ring(uint16_t i);
  uint16_t& avail_event();
  // Memory for tables and buffers that a test builds by hand; aligned to 16.
  uint8_t* Allocate(size_t size);

 private:
  struct Request {
    uint64_t number;
    std::vector<uint16_t> descriptors;  // Of the ring, head first.
    std::vector<uint8_t*> allocations;
    std::vector<absl::Span<uint8_t>> writable;
    uint64_t writable_size = 0;
  };

  vring::Available* Available();
  void CollectInto(std::vector<Answer>& answers);
  void Free(uint8_t* at);
  bool Build(absl::Span<const Buffer> buffers, Request& request,
             std::vector<vring::Descriptor>& chain);
  bool Place(const std::vector<vring::Descriptor>& chain, Request& request);
  void Release(Request& request);
  Answer Finish(Request& request, uint32_t written);
  void Violation(const std::string& what) { violations_.push_back(what); }

  Options options_;
  std::vector<uint64_t> own_memory_;
  absl::Span<uint8_t> bytes_;
  GuestMemory guest_memory_;
  size_t available_at_;
  size_t used_at_;
  std::map<size_t, size_t> free_;       // Offset -> size.
  std::map<size_t, size_t> allocated_;  // Likewise.
  std::vector<uint16_t> free_descriptors_;
  std::map<uint16_t, Request> requests_;  // By head.
  uint64_t last_request_ = 0;
  uint16_t next_available_;
  uint16_t kicked_;  // next_available_ at the last NeedsKick.
  uint16_t next_used_;
  bool interrupts_ = true;
  std::vector<std::string> violations_;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_VIRTQUEUE_TESTING_FAKE_DRIVER_H_
