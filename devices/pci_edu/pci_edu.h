#ifndef HOLDFAST_DEVICES_PCI_EDU_PCI_EDU_H_
#define HOLDFAST_DEVICES_PCI_EDU_PCI_EDU_H_

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "devices/bus/pci_device.h"

namespace holdfast {

// The educational device of QEMU's documentation (docs/specs/edu.rst), whose
// drivers run unchanged: an identification, a register that inverts what is
// written, a factorial that takes a while, interrupts to raise and acknowledge,
// and transfers between guest memory and a buffer of 4096 bytes.
//
// BAR 0, registers:
namespace edu {

inline constexpr uint64_t kBarSize = 1 << 20;
inline constexpr uint32_t kVersion = 0x010000ed;  // 1.0.

inline constexpr Reg32 kId = Reg32{"id", 0x00, kConstant, kVersion}.WholeOnly();
// Reads as the complement of what was written.
inline constexpr Reg32 kLiveness =
    Reg32{"liveness", 0x04, kReadWrite}.WholeOnly();
inline constexpr Reg32 kFactorial =
    Reg32{"factorial", 0x08, kReadWrite}.WholeOnly();
inline constexpr uint32_t kComputing = 0x01;
inline constexpr uint32_t kInterruptWhenDone = 0x80;
inline constexpr Reg32 kStatus = Reg32{"status", 0x20, kReadOnly}
                                     .Bits(kReadWrite, kInterruptWhenDone)
                                     .WholeOnly();
inline constexpr Reg32 kInterruptStatus =
    Reg32{"interrupt_status", 0x24, kReadOnly}.WholeOnly();
inline constexpr Reg32 kInterruptRaise =
    Reg32{"interrupt_raise", 0x60, kWriteOnly}.WholeOnly();
inline constexpr Reg32 kInterruptAcknowledge =
    Reg32{"interrupt_acknowledge", 0x64, kWriteOnly}.WholeOnly();
inline constexpr Reg64 kDmaSource{"dma_source", 0x80, kReadWrite};
inline constexpr Reg64 kDmaDestination{"dma_destination", 0x88, kReadWrite};
inline constexpr Reg64 kDmaCount{"dma_count", 0x90, kReadWrite};
inline constexpr uint64_t kDmaRun = 0x01;
inline constexpr uint64_t kDmaFromBuffer = 0x02;  // Else to it.
inline constexpr uint64_t kDmaInterrupt = 0x04;
inline constexpr Reg64 kDmaCommand{"dma_command", 0x98, kReadWrite};

// What interrupt_status says.
inline constexpr uint32_t kFactorialDone = 0x001;
inline constexpr uint32_t kDmaDone = 0x100;

// Where the buffer is, for the DMA registers. No BAR shows it.
inline constexpr uint64_t kBufferAddress = 0x40000;
inline constexpr size_t kBufferSize = 4096;
// What the device can address: 28 bits, as QEMU's by default.
inline constexpr uint64_t kDmaMask = (uint64_t{1} << 28) - 1;

}  // namespace edu

class PciEdu final : public PciDevice {
 public:
  static PciSpec Spec();

  explicit PciEdu(PciContext& context);

  absl::Status OnWrite(const RegWrite& write, PciTxn& txn) override;
  absl::Status OnWork(uint32_t work, PciContext& context) override;
  void OnReset(PciTxn& txn) override;

 private:
  // In pieces that a field holds, so that a change of one copies one.
  static constexpr size_t kWords = edu::kBufferSize / 8;
  struct State {
    static constexpr SchemaId kSchema{"pci_edu", /*version=*/1};
    Cell<std::array<uint64_t, kWords>> buffer{"buffer"};
  };
  enum Work : uint32_t { kComputeFactorial, kTransfer };

  absl::Status Compute(PciContext& context);
  absl::Status Transfer(PciContext& context);

  const State state_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_PCI_EDU_PCI_EDU_H_
