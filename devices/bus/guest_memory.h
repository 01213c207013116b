#ifndef HOLDFAST_DEVICES_BUS_GUEST_MEMORY_H_
#define HOLDFAST_DEVICES_BUS_GUEST_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace holdfast {

// An address as the guest's drivers see it ("guest physical").
enum class GuestAddress : uint64_t {};

// An address in the front-end's own address space, which vhost-user uses for
// ring addresses only.
enum class UserAddress : uint64_t {};

inline uint64_t ToInt(GuestAddress address) {
  return static_cast<uint64_t>(address);
}
inline uint64_t ToInt(UserAddress address) {
  return static_cast<uint64_t>(address);
}

// One piece of guest memory and where it is mapped here.
struct GuestRegion {
  GuestAddress guest_address{};
  uint64_t size = 0;
  UserAddress user_address{};
  uint8_t* host = nullptr;  // `size` bytes, readable and writable.
};

// What the guest's memory consists of: translates the addresses that guest and
// front-end name, and keeps the dirty log.
//
// A table does not change: when the front-end adds or removes memory, build
// another and replace the pointer while no request runs. The table does not own
// the mappings; they outlive it. Mapped memory is written by the guest at any
// time: read it once, and believe nothing.
//
// Threads: all const members from any thread; SetLog from one thread, while no
// request runs.
class GuestMemory {
 public:
  // More than any VMM's memory slots over vhost-user (QEMU: 8 or, with
  // CONFIGURE_MEM_SLOTS, what the back-end offers). Beyond: refused.
  static constexpr size_t kMaxRegions = 64;
  static constexpr uint64_t kLogPageSize = 4096;

  // No memory: nothing translates.
  GuestMemory() = default;

  // Errors: INVALID_ARGUMENT naming the region, if there are too many, one is
  // empty, unmapped or wraps, or two overlap in either address space.
  static absl::StatusOr<GuestMemory> Create(
      absl::Span<const GuestRegion> regions);

  // Where [address, address + size) is mapped, or nullptr unless all of it lies
  // in one region. `size` 0 gives nullptr.
  uint8_t* Translate(GuestAddress address, uint64_t size) const;

  // The mapped bytes from `address` to the end of its region, at most `size`;
  // empty if `address` is nowhere. For buffers, which may cross from one region
  // into the next.
  absl::Span<uint8_t> TranslatePrefix(GuestAddress address,
                                      uint64_t size) const;

  struct UserTranslation {
    uint8_t* host = nullptr;  // nullptr: as for Translate.
    GuestAddress guest_address{};
  };
  // As Translate, for an address of the front-end.
  UserTranslation TranslateUser(UserAddress address, uint64_t size) const;

  // From here on MarkDirty writes to `log`, the front-end's bitmap: one bit a
  // page of 4 KiB from guest address 0. An empty span ends logging.
  void SetLog(absl::Span<uint8_t> log) { log_ = log; }
  bool logging() const { return !log_.empty(); }

  // Tells the front-end that [address, address + size) was written. Call it
  // after the write: a page that is marked first may be copied and unmarked
  // before the write. Pages beyond the log are ignored. Without a log a no-op.
  void MarkDirty(GuestAddress address, uint64_t size) const {
    if (!log_.empty()) MarkPages(ToInt(address), size);
  }

  absl::Span<const GuestRegion> regions() const { return regions_; }

 private:
  void MarkPages(uint64_t address, uint64_t size) const;

  std::vector<GuestRegion> regions_;  // Sorted by guest address.
  absl::Span<uint8_t> log_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_GUEST_MEMORY_H_
