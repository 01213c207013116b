#include "devices/runtime/memory_map_sys.h"

#include <unistd.h>

#include <cstring>
#include <utility>
#include <vector>

#include "base/status_macros.h"

namespace holdfast {
namespace {

using vhost_user::RegionState;
using vhost_user::SessionState;

// What one read fault maps when the pages are there (fault_around_bytes).
constexpr uint64_t kFaultAround = 64 * 1024;
constexpr int kTouchesInASlice = 32;

}  // namespace

bool MemoryMap::IsOf(const Entry& entry, const RegionState& region,
                     const DescriptorSlots& descriptors) {
  return std::memcmp(&entry.region, &region, sizeof(region)) == 0 &&
         (region.size == 0 ||
          entry.generation == descriptors.generation(region.slot));
}

bool MemoryMap::IsCurrent(const SessionState& state,
                          const DescriptorSlots& descriptors) const {
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (!IsOf(entries_[i], state.regions[i], descriptors)) return false;
  }
  return true;
}

void MemoryMap::UpdateAhead(SessionState state,
                            const DescriptorSlots& descriptors) {
  if (!vhost_user::CheckInvariants(state).ok()) return;
  // A descriptor may still be on its way. What was mapped of the slot before is
  // let go of all the same.
  for (RegionState& region : state.regions) {
    if (region.size != 0 && !descriptors.Get(region.slot).valid()) region = {};
  }
  if (!Update(state, descriptors).ok()) Clear();
}

absl::Status MemoryMap::Update(const SessionState& state,
                               const DescriptorSlots& descriptors) {
  if (IsCurrent(state, descriptors)) return absl::OkStatus();
  Entries next;
  std::array<Entry*, vhost_user::kMaxRegions> kept = {};
  std::vector<GuestRegion> regions;
  for (size_t i = 0; i < next.size(); ++i) {
    const RegionState& region = state.regions[i];
    next[i].region = region;
    if (region.size == 0) continue;
    next[i].generation = descriptors.generation(region.slot);
    uint8_t* host = nullptr;
    for (Entry& old : entries_) {
      if (IsOf(old, region, descriptors)) kept[i] = &old;
    }
    if (kept[i] != nullptr) {
      host = kept[i]->mapped.inside;
      next[i].touched = kept[i]->touched;
    } else {
      const BorrowedFd file = descriptors.Get(region.slot);
      // The VMM may have cut it since it was accepted: better no memory than
      // one crash after the other.
      RETURN_IF_ERROR(CheckFileHolds(file, region.mmap_offset, region.size));
      ASSIGN_OR_RETURN(next[i].mapped,
                       MapUnaligned(file, region.mmap_offset, region.size));
      host = next[i].mapped.inside;
    }
    regions.push_back({GuestAddress{region.guest_address}, region.size,
                       UserAddress{region.user_address}, host});
  }
  ASSIGN_OR_RETURN(memory_, GuestMemory::Create(regions));
  for (size_t i = 0; i < next.size(); ++i) {
    if (kept[i] != nullptr) next[i].mapped = std::move(kept[i]->mapped);
  }
  entries_ = std::move(next);
  return absl::OkStatus();
}

bool MemoryMap::TouchSome(const DescriptorSlots& descriptors) {
  int budget = kTouchesInASlice;
  for (Entry& entry : entries_) {
    const RegionState& region = entry.region;
    if (!IsOf(entry, region, descriptors)) continue;
    while (entry.touched < region.size) {
      if (budget-- == 0) return true;
      entry.touched = TouchNext(entry, descriptors.Get(region.slot));
    }
  }
  return false;
}

uint64_t MemoryMap::TouchNext(const Entry& entry, BorrowedFd file) {
  const RegionState& region = entry.region;
  // Holes are memory that the guest has never used.
  const off_t at =
      lseek(file.get(), static_cast<off_t>(region.mmap_offset + entry.touched),
            SEEK_DATA);
  if (at < 0) return region.size;  // Only a hole is left, or no such notion.
  const uint64_t data = static_cast<uint64_t>(at) - region.mmap_offset;
  if (data >= region.size) return region.size;
  // The kernel maps the neighbours of a page that is read, too.
  (void)*const_cast<volatile uint8_t*>(entry.mapped.inside + data);
  return (data / kFaultAround + 1) * kFaultAround;
}

void MemoryMap::Clear() {
  memory_ = GuestMemory();
  entries_ = Entries();
}

}  // namespace holdfast
