#ifndef HOLDFAST_DEVICES_PCI_NVME_SIDES_H_
#define HOLDFAST_DEVICES_PCI_NVME_SIDES_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "absl/types/span.h"
#include "devices/pci_nvme/completion_queue.h"
#include "devices/pci_nvme/submission_queue.h"

// Queues as this process knows them: changed by work 0 when it is alone, used
// by the work of the submission queue.
namespace holdfast::nvme {

// A command that takes longer is worth a thread of its own: two wake-ups cost
// about as much. Nanoseconds.
inline constexpr uint64_t kWorthAHelper = 20'000;

struct Submission {
  absl::Span<uint8_t> area;
  bool live = false;
  std::mutex mutex;  // Of `queue`; before that of a completion queue.
  SubmissionQueue queue;
  // How long commands take, in nanoseconds: rises with the second one that is
  // slow, falls slowly.
  std::atomic<uint64_t> last_took{0};
  std::atomic<uint64_t> service_time{2 * kWorthAHelper};
  std::atomic<bool> wants_help{false};
};

struct CompletionSide {
  absl::Span<uint8_t> area;
  bool live = false;
  std::mutex mutex;  // Submission queues may share it.
  CompletionQueue queue;
  uint32_t reserved = 0;  // Room that commands in flight have been promised.
};

// A command of a queue, fetched.
struct Taken {
  size_t slot;
  bool more;         // There are others.
  uint32_t crashes;  // Of processes that executed it.
};

}  // namespace holdfast::nvme

#endif  // HOLDFAST_DEVICES_PCI_NVME_SIDES_H_
