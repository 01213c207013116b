#ifndef HOLDFAST_LAUNCHER_TESTING_FAKE_DEVICE_H_
#define HOLDFAST_LAUNCHER_TESTING_FAKE_DEVICE_H_

#include <cstdint>

namespace holdfast::launcher {

// A VMM that sends this has it close its channel to the store, answer and live
// on; any other byte is only answered.
inline constexpr uint8_t kLeaveStore = 0xff;

// What fake_device writes into its segment, for tests to read. Every word is
// written by one child at a time.
struct FakeSegment {
  uint64_t epoch;        // Of the last promotion.
  uint64_t promotions;   // Counted in the segment, over all children.
  uint64_t beats;        // Counted by the active child while it lives.
  uint64_t answers;      // Bytes of a VMM that were answered.
  uint64_t reattached;   // New store channels that were accepted.
  uint64_t descriptors;  // Bit n: descriptor n was open at the start.
  uint64_t slots;        // Bit n: slot n (below 64) is held by the active one.
  uint64_t resized;      // Told so often that a resource has changed:
  uint64_t standby_resized;  // active and parked ones.
  uint64_t resource_slot;    // HOLDFAST_RESOURCE_image, 0: not set.
};

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_TESTING_FAKE_DEVICE_H_
