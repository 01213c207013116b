#ifndef HOLDFAST_DEVICES_BUS_TESTING_PCI_GUEST_H_
#define HOLDFAST_DEVICES_BUS_TESTING_PCI_GUEST_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "devices/bus/dma_windows.h"
#include "devices/bus/pci_function.h"
#include "devices/bus/region_device.h"
#include "statestore/schema.h"
#include "statestore/transaction.h"

namespace holdfast::testing {

// A device class with its type erased.
struct PciClass {
  PciSpec spec;
  PciFunction::MakeDevice make;
  DeviceOptions options = {};
  // What stands between guest and function, made anew with each function; a
  // control may make mistakes there that a PciDevice cannot make.
  std::function<std::unique_ptr<RegionDevice>(RegionDevice&)> wrap = {};
};
template <typename D>
PciClass PciClassOf() {
  return {D::Spec(), PciDeviceMaker<D>(), {}, {}};
}

// What the world outside the device sees, in the same memory as its state, so
// that a kill cuts both at one instant.
struct PciRecord {
  static constexpr size_t kMaxAccesses = 128;
  static constexpr size_t kMaxVectors = 64;

  uint64_t done;  // Accesses answered.
  uint64_t answers[kMaxAccesses];
  uint64_t signals[kPciIrqCount][kMaxVectors];
};

// A guest, its VMM and a carrier in one: drives a PciFunction by region
// accesses, receives its interrupts, has memory for its DMA at address 0. Does
// in order what a carrier does: access, answer, then all ordered work.
//
// An access that failed reads as ones, as on a bus. Aborts when the test itself
// is wrong (a spec that is refused).
class PciGuest final : private IrqSink {
 public:
  static constexpr size_t kRamSize = 8192;

  struct Options {
    // Whether the VMM masks vectors itself.
    bool has_vector_table = false;
    // Controls, each a carrier that does one thing wrong.
    bool names_accesses = true;
    bool resumes = true;
    size_t ram_size = kRamSize;  // Bytes, whole pages.
  };

  // With memory of its own, and started.
  explicit PciGuest(const PciClass& device) : PciGuest(device, Options()) {}
  PciGuest(const PciClass& device, Options options);
  // To be attached.
  struct Detached {};
  PciGuest(const PciClass& device, Options options, Detached);
  ~PciGuest() override;

  // Bytes of state, record, RAM and areas of such a device; whole pages.
  static size_t MemorySize(const PciClass& device, const Options& options);
  static void Format(const PciClass& device, absl::Span<uint8_t> memory);
  // Takes over what is in `memory` as the next incarnation of the device would.
  // Accesses that the record says are answered are not made again, but answered
  // from there.
  void Attach(absl::Span<uint8_t> memory);
  // The device is killed now and taken over.
  void Restart();

  uint64_t Read(uint32_t region, uint64_t offset, size_t size);
  void Write(uint32_t region, uint64_t offset, uint64_t value, size_t size);
  uint32_t Read32(uint32_t bar, uint64_t offset) {
    return static_cast<uint32_t>(Read(bar, offset, 4));
  }
  void Write32(uint32_t bar, uint64_t offset, uint32_t value) {
    Write(bar, offset, value, 4);
  }
  uint32_t ReadConfig(uint64_t offset, size_t size) {
    return static_cast<uint32_t>(Read(kPciConfigRegion, offset, size));
  }
  void WriteConfig(uint64_t offset, uint32_t value, size_t size) {
    Write(kPciConfigRegion, offset, value, size);
  }

  // Writes memory, as one of the accesses that are not made again.
  void StoreRam(uint64_t address, absl::Span<const uint8_t> bytes);

  // What drivers do first.
  void EnableMaster();
  void EnableMsix();
  void UnmaskMsix(uint32_t vector);  // In the device's table.

  uint64_t signals(uint32_t irq, uint32_t vector = 0) const {
    return record().signals[irq][vector];
  }
  uint64_t msix_count(uint32_t vector) const {
    return signals(kPciMsixIrq, vector);
  }

  absl::Span<uint8_t> ram();
  DmaWindows& windows() { return windows_; }
  const PciRecord& record() const { return *record_; }
  PciFunction& function() { return *function_; }
  // What accesses go to: the function, or what wraps it.
  RegionDevice& device() {
    return wrapper_ == nullptr ? *function_ : *wrapper_;
  }
  StateBank& bank() { return *bank_; }
  absl::Span<uint8_t> state();
  absl::Span<uint8_t> areas();
  // Does all work that was ordered, as accesses do by themselves.
  void Work();
  absl::Span<uint8_t> memory() { return memory_; }
  // Of the last access.
  const absl::Status& status() const { return status_; }
  void set_next_id(uint64_t id) { next_ = id; }

 private:
  void Signal(uint32_t irq, uint32_t vector) override;
  bool has_vector_table() const override { return options_.has_vector_table; }

  void MakeFunction();
  template <typename Make>
  uint64_t Once(Make access);

  const PciClass device_;
  const Options options_;
  std::vector<uint8_t> own_;
  absl::Span<uint8_t> memory_;
  PciRecord* record_ = nullptr;
  size_t state_size_ = 0;
  size_t areas_size_ = 0;
  DmaWindows windows_;
  std::vector<std::vector<uint8_t>> bars_;
  std::optional<StateBank> bank_;
  std::unique_ptr<PciFunction> function_;
  std::unique_ptr<RegionDevice> wrapper_;
  uint64_t next_ = 0;  // Number of the next access.
  absl::Status status_;
};

// The last committed values of all fields, in a section of state.
absl::Span<const uint8_t> CommittedFields(absl::Span<const uint8_t> state,
                                          const Schema& schema);

// The first difference, for people; "": none but in the fields `uncertain`.
std::string CompareFields(const Schema& schema, absl::Span<const uint8_t> want,
                          absl::Span<const uint8_t> got,
                          const std::set<std::string>& uncertain);

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_BUS_TESTING_PCI_GUEST_H_
