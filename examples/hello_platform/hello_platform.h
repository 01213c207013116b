#ifndef HOLDFAST_EXAMPLES_HELLO_PLATFORM_HELLO_PLATFORM_H_
#define HOLDFAST_EXAMPLES_HELLO_PLATFORM_HELLO_PLATFORM_H_

#include <array>

#include "base/status_macros.h"
#include "devices/bus/platform_device.h"

namespace hello {

// Region 0. This table is the register file: the framework lays it out in the
// segment, checks width and access, and answers plain reads by itself.
constexpr holdfast::Reg64 kSource{"source", 0x00, holdfast::kReadWrite};
constexpr holdfast::Reg64 kTarget{"target", 0x08, holdfast::kReadWrite};
constexpr holdfast::Reg32 kLength{"length", 0x10, holdfast::kReadWrite};
constexpr holdfast::Reg32 kStart{"start", 0x14, holdfast::kWriteOnly};
constexpr holdfast::Reg32 kBusy{"busy", 0x18, holdfast::kReadOnly};
constexpr holdfast::Reg32 kStatus{"status", 0x1c, holdfast::kWriteOneToClear};

constexpr uint32_t kDone = 1;  // Of kStatus.
constexpr uint32_t kFailed = 2;
constexpr uint32_t kLine = 0;
constexpr uint32_t kCopy = 0;  // The only work.

// Copies guest memory, up to 4096 bytes at a time; its line is high while
// kStatus is not 0.
class Copier final : public holdfast::PlatformDevice {
 public:
  static holdfast::PlatformSpec Spec() {
    return holdfast::PlatformSpec()
        .Region({kSource, kTarget, kLength, kStart, kBusy, kStatus})
        .LevelLine();
  }

  explicit Copier(holdfast::PlatformContext&) {}

  // Runs when the new value of the written register is in `txn`. All that it
  // sets and orders becomes true together with the write.
  absl::Status OnWrite(const holdfast::RegWrite& write,
                       holdfast::PlatformTxn& txn) override {
    if (write.Is(kStatus)) {
      txn.SetLine(kLine, write.value() != 0);
    } else if (txn.Get(kBusy) != 0) {
      txn.Restore(write);  // What is being copied stays what it is.
    } else if (write.Is(kStart)) {
      txn.Set(kBusy, 1);
      txn.Order(kCopy);
    }
    return absl::OkStatus();
  }

  // Runs when the write of kStart is answered; after a crash once more, from
  // its beginning. The last transaction ends it: that part is done once.
  absl::Status OnWork(uint32_t, holdfast::PlatformContext& context) override {
    uint64_t source = 0;
    uint64_t target = 0;
    uint32_t length = 0;
    RETURN_IF_ERROR(context.Update([&](holdfast::PlatformTxn& txn) {
      source = txn.Get(kSource);
      target = txn.Get(kTarget);
      length = txn.Get(kLength);
      return absl::OkStatus();
    }));
    const bool copied = Copy(context.dma(), source, target, length).ok();
    return context.Update([copied](holdfast::PlatformTxn& txn) {
      txn.Set(kStatus, txn.Get(kStatus) | (copied ? kDone : kFailed));
      txn.Set(kBusy, 0);
      txn.SetLine(kLine, true);
      txn.Done(kCopy);
      return absl::OkStatus();
    });
  }

 private:
  static absl::Status Copy(holdfast::Dma& dma, uint64_t source, uint64_t target,
                           uint32_t length) {
    std::array<uint8_t, 4096> bytes;
    // A copy onto its own source would have another one when it is made again.
    const uint64_t apart = source < target ? target - source : source - target;
    if (length > bytes.size() || apart < length) {
      return absl::InvalidArgumentError("too long, or onto itself");
    }
    const absl::Span<uint8_t> part = absl::MakeSpan(bytes).first(length);
    RETURN_IF_ERROR(dma.Read(holdfast::GuestAddress{source}, part));
    return dma.Write(holdfast::GuestAddress{target}, part);
  }
};

}  // namespace hello

#endif  // HOLDFAST_EXAMPLES_HELLO_PLATFORM_HELLO_PLATFORM_H_
