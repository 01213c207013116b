#ifndef HOLDFAST_DEVICES_RUNTIME_MEMORY_MAP_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_MEMORY_MAP_SYS_H_

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "devices/bus/guest_memory.h"
#include "devices/runtime/descriptors.h"
#include "devices/runtime/file_range_sys.h"
#include "devices/vhost_user/session_state.h"

namespace holdfast {

// The guest's memory as this process has it mapped. Used by the control thread;
// memory() may be read by others as long as no Update runs.
class MemoryMap {
 public:
  // Brings the mappings in line with the regions of `state`; mappings that stay
  // the same are kept. After an error the old mappings are in place.
  // Precondition when regions change: no queue runs.
  absl::Status Update(const vhost_user::SessionState& state,
                      const DescriptorSlots& descriptors);

  // Whether Update(state) would change nothing.
  bool IsCurrent(const vhost_user::SessionState& state) const;

  void Clear();

  // Faults in some of what the guest has written so far, so that a successor
  // meets no page fault on its way to the first answer: a bounded slice, well
  // below a millisecond of work. False: nothing is left to do. Touches no page
  // that the guest has not.
  bool TouchSome();

  GuestMemory& memory() { return memory_; }
  const GuestMemory& memory() const { return memory_; }

 private:
  struct Entry {
    vhost_user::RegionState region = {};
    UnalignedMapping mapped;
    BorrowedFd file{-1};   // Open as long as the region is in the table.
    uint64_t touched = 0;  // Bytes from the region's begin.
  };
  using Entries = std::array<Entry, vhost_user::kMaxRegions>;

  static uint64_t TouchNext(const Entry& entry);

  Entries entries_;
  GuestMemory memory_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_MEMORY_MAP_SYS_H_
