#ifndef HOLDFAST_DEVICES_TESTING_CONFORMANCE_RINGS_H_
#define HOLDFAST_DEVICES_TESTING_CONFORMANCE_RINGS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "devices/testing/conformance_steps.h"
#include "devices/testing/conformance_target.h"

namespace holdfast::testing {

// A request that no driver may make (VIRTIO 1.2, sections 2.7.5 and 2.7.13).
struct BrokenChain {
  const char* name;
  // Writes it beside what the driver uses; the index of its first descriptor.
  uint16_t (*make)(FakeDriver& driver);
  bool indirect;  // The driver has negotiated indirect descriptors.
};

absl::Span<const BrokenChain> BrokenChains();

// Offers a good request and then the broken one. The good one is answered; the
// broken one gets no bytes or no answer (the ring then rests until a reset);
// the ring can be stopped, and the connection and the device live on.
absl::Status OfferBrokenChain(ServedDevice& device,
                              const ConformanceTarget& target,
                              const BrokenChain& chain);

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_TESTING_CONFORMANCE_RINGS_H_
