#include "devices/bus/guest_memory.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace holdfast {
namespace {

// [start, start + size) of one address space.
struct Range {
  uint64_t start;
  uint64_t size;
};

absl::Status CheckRange(Range range, size_t index) {
  if (range.size == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("memory region ", index, " is empty"));
  }
  // The last byte, so that a region may end with the address space.
  if (range.start + (range.size - 1) < range.start) {
    return absl::InvalidArgumentError(
        absl::StrCat("memory region ", index, " wraps around"));
  }
  return absl::OkStatus();
}

bool Overlap(Range a, Range b) {
  return a.start <= b.start + (b.size - 1) && b.start <= a.start + (a.size - 1);
}

bool Contains(Range region, uint64_t address, uint64_t size) {
  if (size == 0 || address < region.start) return false;
  const uint64_t offset = address - region.start;
  return offset < region.size && size <= region.size - offset;
}

Range GuestRange(const GuestRegion& r) {
  return {ToInt(r.guest_address), r.size};
}
Range UserRange(const GuestRegion& r) {
  return {ToInt(r.user_address), r.size};
}

absl::Status CheckRegion(absl::Span<const GuestRegion> regions, size_t index) {
  const GuestRegion& region = regions[index];
  RETURN_IF_ERROR(CheckRange(GuestRange(region), index));
  RETURN_IF_ERROR(CheckRange(UserRange(region), index));
  const auto host = reinterpret_cast<uintptr_t>(region.host);
  if (host == 0 || host + (region.size - 1) < host) {
    return absl::InvalidArgumentError(
        absl::StrCat("memory region ", index, " is not mapped"));
  }
  for (size_t i = 0; i < index; ++i) {
    if (Overlap(GuestRange(region), GuestRange(regions[i])) ||
        Overlap(UserRange(region), UserRange(regions[i]))) {
      return absl::InvalidArgumentError(
          absl::StrCat("memory regions ", i, " and ", index, " overlap"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GuestMemory> GuestMemory::Create(
    absl::Span<const GuestRegion> regions) {
  if (regions.size() > kMaxRegions) {
    return absl::InvalidArgumentError(
        absl::StrCat(regions.size(), " memory regions, at most ", kMaxRegions));
  }
  for (size_t i = 0; i < regions.size(); ++i) {
    RETURN_IF_ERROR(CheckRegion(regions, i));
  }
  GuestMemory memory;
  memory.regions_.assign(regions.begin(), regions.end());
  std::sort(memory.regions_.begin(), memory.regions_.end(),
            [](const GuestRegion& a, const GuestRegion& b) {
              return a.guest_address < b.guest_address;
            });
  return memory;
}

absl::Span<uint8_t> GuestMemory::TranslatePrefix(GuestAddress address,
                                                 uint64_t size) const {
  const auto after = std::upper_bound(
      regions_.begin(), regions_.end(), address,
      [](GuestAddress a, const GuestRegion& r) { return a < r.guest_address; });
  if (after == regions_.begin()) return {};
  const GuestRegion& region = *std::prev(after);
  const uint64_t offset = ToInt(address) - ToInt(region.guest_address);
  if (offset >= region.size) return {};
  return {region.host + offset, std::min(size, region.size - offset)};
}

uint8_t* GuestMemory::Translate(GuestAddress address, uint64_t size) const {
  const absl::Span<uint8_t> prefix = TranslatePrefix(address, size);
  return size != 0 && prefix.size() == size ? prefix.data() : nullptr;
}

GuestMemory::UserTranslation GuestMemory::TranslateUser(UserAddress address,
                                                        uint64_t size) const {
  for (const GuestRegion& region : regions_) {
    if (!Contains(UserRange(region), ToInt(address), size)) continue;
    const uint64_t offset = ToInt(address) - ToInt(region.user_address);
    return {region.host + offset,
            GuestAddress{ToInt(region.guest_address) + offset}};
  }
  return {};
}

void GuestMemory::MarkPages(uint64_t address, uint64_t size) const {
  if (size == 0) return;
  const uint64_t end = address + (size - 1);
  if (end < address) return;
  const uint64_t pages = uint64_t{log_.size()} * 8;
  const uint64_t last = std::min(end / kLogPageSize, pages - 1);
  for (uint64_t page = address / kLogPageSize; page <= last; ++page) {
    // The front-end clears bits meanwhile, and other queues set theirs.
    // Release: whoever takes the bit sees the data.
    __atomic_fetch_or(&log_[page / 8], static_cast<uint8_t>(1u << (page % 8)),
                      __ATOMIC_RELEASE);
  }
}

}  // namespace holdfast
