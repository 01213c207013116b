#ifndef HOLDFAST_DEVICES_PCI_NVME_SUBMISSION_DOORBELL_H_
#define HOLDFAST_DEVICES_PCI_NVME_SUBMISSION_DOORBELL_H_

#include <cstdint>

#include "absl/types/span.h"
#include "devices/pci_nvme/submission_area.h"

namespace holdfast::nvme {

// What the doorbell's thread does with the area of a submission queue that
// lives. Any thread.
template <typename Access>
class SubmissionDoorbell {
 public:
  static uint32_t SizeIn(absl::Span<uint8_t> area) {
    return Access::Load(&HeaderIn(area)->size);
  }
  static uint16_t CqIn(absl::Span<uint8_t> area) {
    return Access::Load(&HeaderIn(area)->cq);
  }
  // After a fence that follows what makes room.
  static bool StalledIn(absl::Span<uint8_t> area) {
    return Access::Load(&HeaderIn(area)->stalled) != 0;
  }
  static bool HasShadowsIn(absl::Span<uint8_t> area) {
    return Access::LoadAcquire(&HeaderIn(area)->shadows) != 0;
  }
  static uint32_t TailIn(absl::Span<uint8_t> area) {
    return Access::LoadAcquire(&HeaderIn(area)->tail);
  }
  static void StoreTail(absl::Span<uint8_t> area, uint32_t tail) {
    Access::StoreRelease(&HeaderIn(area)->tail, tail);
  }

 private:
  static SubmissionHeader* HeaderIn(absl::Span<uint8_t> area) {
    return reinterpret_cast<SubmissionHeader*>(area.data());
  }
};

}  // namespace holdfast::nvme

#endif  // HOLDFAST_DEVICES_PCI_NVME_SUBMISSION_DOORBELL_H_
