#ifndef HOLDFAST_DEVICES_PCI_NVME_SUBMISSION_AREA_H_
#define HOLDFAST_DEVICES_PCI_NVME_SUBMISSION_AREA_H_

#include <cstddef>
#include <cstdint>

#include "devices/pci_nvme/protocol.h"

// What the area of a submission queue consists of; see submission_queue.h.
namespace holdfast::nvme {

// Limits of both kinds of queue.
inline constexpr uint32_t kMaxQueueSize = 4096;  // Entries; CAP.MQES says less.
inline constexpr uint16_t kMaxQueues = 32;       // With the admin queue.

struct SubmissionConfig {
  uint64_t base = 0;  // Where the guest has it.
  uint32_t size = 0;  // Entries, from 2 on.
  uint16_t cq = 0;
  uint32_t identity = 0;  // What the controller was when the guest made it.
};

// The first bytes of an area, on two cache lines.
struct SubmissionHeader {
  uint32_t generation;  // Which life of the queue; 0: none.
  uint32_t size;
  uint64_t base;
  uint16_t cq;
  uint16_t reserved0;
  uint32_t stalled;  // Whether it waits for room in its completion queue.
  uint32_t identity;
  uint32_t reserved1;
  uint64_t shadows;  // Of the admin queue, for all of them; 0: none.
  uint64_t events;
  uint8_t reserved2[16];
  uint32_t tail;  // As the doorbell said.
  uint8_t reserved3[60];
};
static_assert(sizeof(SubmissionHeader) == 128);
static_assert(offsetof(SubmissionHeader, tail) == 64);

struct SubmissionEntry {
  uint64_t word;  // Twice the counter, plus 1 while it is in flight.
  Command command;
  uint64_t blame;    // See below.
  uint64_t aborted;  // The counter of the later command that has aborted it.
  uint8_t reserved[40];
};
static_assert(sizeof(SubmissionEntry) == 128);

// A blame is the counter of a command that has crashed who executed it, and how
// many processes in the low byte. Of another command it says nothing.
constexpr uint32_t CrashesIn(uint64_t blame, uint64_t counter) {
  return blame >> 8 == counter ? blame & 0xff : 0;
}
constexpr uint64_t BlameAgain(uint64_t blame, uint64_t counter) {
  const uint32_t crashes = CrashesIn(blame, counter);
  return counter << 8 | (crashes == 0xff ? crashes : crashes + 1);
}

}  // namespace holdfast::nvme

#endif  // HOLDFAST_DEVICES_PCI_NVME_SUBMISSION_AREA_H_
