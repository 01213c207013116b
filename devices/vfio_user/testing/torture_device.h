#ifndef HOLDFAST_DEVICES_VFIO_USER_TESTING_TORTURE_DEVICE_H_
#define HOLDFAST_DEVICES_VFIO_USER_TESTING_TORTURE_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "devices/bus/region_device.h"

namespace holdfast::vfio_user {

// A PCI-like device whose registers betray every access that is lost, done
// twice or done out of order, whatever instruction its process is killed at.
//
//   region 0, 4 KiB  0  read: how often this was read, this time included
//                    8  write: accumulator = 31 * accumulator + value
//                    8  read: the accumulator
//                   16  read: how often 8 was written
//                   64  64 bytes of memory
//   region 2, 8 KiB  with two windows, if there is memory for it
//   region 6         readable only
//   region 7, 256    configuration space: byte i is i
//
// INTx is a level; 4 MSI-X vectors. The state lies in memory that outlives it.
class TortureDevice : public RegionDevice {
 public:
  struct Bank {
    uint64_t last_access;
    uint8_t last_answer[64];
    uint64_t reads;
    uint64_t accumulator;
    uint64_t writes;
    uint64_t resets;
    uint8_t scratch[64];
  };
  struct Memory {
    uint64_t current;  // Index of the bank that counts.
    Bank banks[2];
  };

  // A deliberate mistake: names are not looked at, so what is repeated after a
  // crash is done twice.
  enum class Fault { kNone, kIgnoresNames };

  // `memory` begins as zeros and outlives the device.
  explicit TortureDevice(Memory& memory, BorrowedFd window = BorrowedFd(-1),
                         Fault fault = Fault::kNone);

  const Bank& bank() const { return memory_.banks[memory_.current & 1]; }

  // For tests to set: what the next accesses return instead of being done.
  absl::Status access_status;
  // Accesses that were done, repetitions not counted.
  uint64_t done = 0;
  // Names that came neither ascending nor again.
  uint64_t misnamed = 0;
  std::vector<std::string> unmasked;

  bool is_pci() const override { return true; }
  absl::Span<const holdfast::RegionInfo> regions() const override {
    return regions_;
  }
  absl::Span<const holdfast::IrqInfo> irqs() const override { return irqs_; }
  BorrowedFd RegionMemory(uint32_t region) const override {
    return region == 2 ? window_ : BorrowedFd(-1);
  }
  absl::Status Read(AccessId id, uint32_t region, uint64_t offset,
                    absl::Span<uint8_t> out) override;
  absl::Status Write(AccessId id, uint32_t region, uint64_t offset,
                     absl::Span<const uint8_t> bytes) override;
  absl::Status Reset() override;
  void OnUnmask(uint32_t irq, uint32_t vector) override;
  absl::Status Resume() override { return absl::OkStatus(); }
  bool work_pending() const override { return false; }
  absl::Status RunWork() override { return absl::OkStatus(); }

 private:
  // Whether this access was done before.
  bool Seen(AccessId id);
  // A copy of the bank, to be changed and committed.
  Bank Begin(AccessId id) const;
  void Commit(const Bank& bank);

  Memory& memory_;
  const BorrowedFd window_;
  const Fault fault_;
  std::vector<holdfast::RegionInfo> regions_;
  std::vector<holdfast::IrqInfo> irqs_;
};

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_TESTING_TORTURE_DEVICE_H_
