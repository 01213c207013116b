#ifndef HOLDFAST_DEVICES_BUS_DMA_H_
#define HOLDFAST_DEVICES_BUS_DMA_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "devices/bus/guest_memory.h"

namespace holdfast {

// What a device wants to do with memory.
enum class DmaAccess : uint8_t { kRead = 1, kWrite = 2, kReadWrite = 3 };

constexpr bool Allows(DmaAccess granted, DmaAccess wanted) {
  return (static_cast<int>(granted) & static_cast<int>(wanted)) ==
         static_cast<int>(wanted);
}

// Guest memory that is mapped here and stays so while this object lives: the
// window it lies in cannot be taken away meanwhile, so hold it for one transfer
// and no longer. The guest writes the bytes at any time: read them once, and
// believe nothing. Movable; ends on the thread that made it.
class DmaMapping {
 public:
  DmaMapping() = default;
  // `pin` is let go at the end.
  DmaMapping(absl::Span<uint8_t> bytes, std::shared_ptr<void> pin)
      : bytes_(bytes), pin_(std::move(pin)) {
    if (pin_ != nullptr) ++held_;
  }
  DmaMapping(DmaMapping&& other) noexcept
      : bytes_(std::exchange(other.bytes_, {})), pin_(std::move(other.pin_)) {}
  DmaMapping& operator=(DmaMapping&& other) noexcept {
    DmaMapping old(std::move(*this));
    bytes_ = std::exchange(other.bytes_, {});
    pin_ = std::move(other.pin_);
    return *this;
  }
  ~DmaMapping() {
    if (pin_ != nullptr) --held_;
  }

  absl::Span<uint8_t> bytes() const { return bytes_; }

  // Whether the calling thread holds one that pins a window.
  static bool HeldByThisThread() { return held_ != 0; }

 private:
  inline static thread_local size_t held_ = 0;

  absl::Span<uint8_t> bytes_;
  std::shared_ptr<void> pin_;
};

// The guest's memory as the device may use it: what the VMM has granted, and
// nothing else. Mapped windows and memory that only the VMM can reach (it is
// asked by message) look alike. Addresses are the device's view of the bus,
// behind an IOMMU if there is one.
//
// A transfer that fails has perhaps moved some of its bytes. Nothing here is
// part of a transaction: after a crash a transfer is made again, so begin
// each from state that does not change before it has ended. A read is then made
// twice, and a write of the same bytes reaches the guest twice: at least once.
// What it is made from, and what comes of it, the device's state keeps exactly
// once. A write of a dead process never reaches memory after one of its
// successor.
//
// Errors of all: OUT_OF_RANGE, not all of the range was granted;
// PERMISSION_DENIED, granted, but not for this access; UNAVAILABLE, the VMM did
// not answer or the device may not master the bus.
//
// Thread-safe. Read and Write may wait for the VMM, without limit: never call
// them inside a register access, which the VMM may be waiting for itself, nor
// while the thread holds a DmaMapping: the VMM may be waiting for its window.
// Both are FAILED_PRECONDITION where the VMM would have to be asked.
class Dma {
 public:
  virtual ~Dma() = default;

  virtual absl::Status Read(GuestAddress address, absl::Span<uint8_t> out) = 0;
  virtual absl::Status Write(GuestAddress address,
                             absl::Span<const uint8_t> bytes) = 0;

  // [address, address + size) in place. FAILED_PRECONDITION: it is not mapped
  // here in one piece; use Read and Write. After writing say so with Written.
  virtual absl::StatusOr<DmaMapping> Map(GuestAddress address, uint64_t size,
                                         DmaAccess access) = 0;

  // Returns when the VMM has answered all requests for transfers that nobody
  // waits for any more: of processes that are dead, or cut off. What it was
  // asked to write is written then, so memory may be given back to the driver.
  // May wait as Read does. UNAVAILABLE: the device is reset meanwhile.
  virtual absl::Status AwaitForgotten() { return absl::OkStatus(); }

  // Bytes of a mapping were changed: for the log of a live migration. Call it
  // after the write, and before the mapping ends.
  virtual void Written(GuestAddress address, uint64_t size) = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_DMA_H_
