#ifndef HOLDFAST_DEVICES_VIRTQUEUE_TESTING_MODEL_GUEST_H_
#define HOLDFAST_DEVICES_VIRTQUEUE_TESTING_MODEL_GUEST_H_

#include <array>
#include <cstdint>
#include <random>
#include <vector>

#include "devices/virtqueue/split_ring.h"
#include "devices/virtqueue/vring_layout.h"
#include "statestore/inflight.h"

namespace holdfast::testing {

// All memory that outlives a device process in the crash model.
struct ModelMemory {
  static constexpr uint16_t kSize = 4;

  alignas(64) std::array<uint8_t, InflightRegionSize(kSize)> region;
  alignas(16) vring::Descriptor descriptors[kSize];
  alignas(4) struct {
    vring::Available header;
    uint16_t ring[kSize];
    uint16_t used_event;
  } available;
  alignas(4) struct {
    vring::Used header;
    vring::UsedElement ring[kSize];
    uint16_t avail_event;
  } used;
  uint64_t question[kSize];  // By head.
  uint64_t answer[kSize];
};

// The ring in it.
inline SplitRingConfig RingOf(ModelMemory& memory, bool event_idx) {
  SplitRingConfig config;
  config.size = ModelMemory::kSize;
  config.descriptors = reinterpret_cast<uint8_t*>(memory.descriptors);
  config.available = reinterpret_cast<uint8_t*>(&memory.available);
  config.used = reinterpret_cast<uint8_t*>(&memory.used);
  config.event_idx = event_idx;
  return config;
}

// Takes one or two of `running`, any, to be answered together.
inline std::vector<Completion> TakeBatch(std::vector<uint16_t>& running,
                                         std::minstd_rand& random) {
  std::vector<Completion> batch;
  for (uint32_t n = 1 + random() % 2; n > 0 && !running.empty(); --n) {
    const size_t i = random() % running.size();
    batch.push_back({running[i], 8});
    running.erase(running.begin() + static_cast<ptrdiff_t>(i));
  }
  return batch;
}

// A guest with one descriptor a request, which acts in small steps between the
// device's stores: posts, kicks, collects, waits for interrupts. It notices
// every answer that is doubled, unknown, early, or another request's.
class ModelGuest {
 public:
  enum class Violation {
    kNone,
    kDoubledAnswer,   // For a head that is not outstanding.
    kWrongAnswer,     // The answer to another question, or none yet.
    kLateExecution,   // The device wrote after it had answered.
    kWrongOrder,      // Resubmitted in another order than taken.
    kBrokenRing,      // The device says that the guest is at fault.
    kRecoveryFailed,  // Recover returned an error.
    kHang,            // Not all requests were answered in the end.
  };

  static constexpr uint64_t Answer(uint64_t question) {
    return question * 0x9e3779b97f4a7c15u + 1;
  }

  // Posts `requests` requests in all. Both rings start at `first_index`.
  ModelGuest(ModelMemory& memory, uint32_t seed, int requests,
             uint16_t first_index, bool event_idx);

  // One atomic step of a virtual CPU, or none.
  void Step();

  // The device is about to write the answer of `head`.
  void CheckExecution(uint16_t head);
  // The place of the question behind `head` in the order of posting.
  uint64_t Number(uint16_t head) const { return posted_[head]; }

  void Report(Violation violation) {
    if (violation_ == Violation::kNone) violation_ = violation;
  }
  Violation violation() const { return violation_; }
  bool finished() const { return answered_ == requests_; }

  // The event descriptors.
  bool kicked = false;
  bool interrupted = false;

 private:
  enum class Waiting { kNo, kArmed, kAsleep };

  void Post();
  void Kick();
  void Collect();
  void Arm();
  bool AnswersWaiting() const;

  ModelMemory& memory_;
  std::minstd_rand random_;
  int requests_;
  bool event_idx_;
  uint64_t posted_[ModelMemory::kSize] = {};  // By head; 0: free.
  uint64_t last_posted_ = 0;
  int answered_ = 0;
  uint16_t next_available_;
  uint16_t kicked_at_;
  uint16_t next_used_;
  bool must_kick_ = false;
  Waiting waiting_ = Waiting::kNo;
  Violation violation_ = Violation::kNone;
};

const char* ToString(ModelGuest::Violation violation);

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_VIRTQUEUE_TESTING_MODEL_GUEST_H_
