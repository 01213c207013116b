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
  // the same, of the same descriptors, are kept. After an error the old
  // mappings are in place. Precondition when regions change: no queue runs.
  absl::Status Update(const vhost_user::SessionState& state,
                      const DescriptorSlots& descriptors);

  // The same in a standby, for a session that another process has committed:
  // nothing in it is trusted, and what cannot be mapped yet is left out.
  void UpdateAhead(vhost_user::SessionState state,
                   const DescriptorSlots& descriptors);

  // Whether Update(state) would change nothing.
  bool IsCurrent(const vhost_user::SessionState& state,
                 const DescriptorSlots& descriptors) const;

  void Clear();

  // Faults in some of what the guest has written so far, so that a successor
  // meets no page fault on its way to the first answer: a bounded slice, well
  // below a millisecond of work. False: nothing is left to do. Touches no page
  // that the guest has not, and nothing of a descriptor that is gone.
  bool TouchSome(const DescriptorSlots& descriptors);

  GuestMemory& memory() { return memory_; }
  const GuestMemory& memory() const { return memory_; }

 private:
  struct Entry {
    vhost_user::RegionState region = {};
    // Of the slot's descriptor. Another VMM may say the same of other memory,
    // and its descriptors come to lie in the same slots.
    uint64_t generation = 0;
    UnalignedMapping mapped;
    uint64_t touched = 0;  // Bytes from the region's begin.
  };
  using Entries = std::array<Entry, vhost_user::kMaxRegions>;

  static bool IsOf(const Entry& entry, const vhost_user::RegionState& region,
                   const DescriptorSlots& descriptors);
  static uint64_t TouchNext(const Entry& entry, BorrowedFd file);

  Entries entries_;
  GuestMemory memory_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_MEMORY_MAP_SYS_H_
