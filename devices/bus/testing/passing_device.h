#ifndef HOLDFAST_DEVICES_BUS_TESTING_PASSING_DEVICE_H_
#define HOLDFAST_DEVICES_BUS_TESTING_PASSING_DEVICE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "devices/bus/region_device.h"

namespace holdfast::testing {

// For controls: passes everything on to a device, but for mistakes that only a
// framework can make.
class PassingDevice final : public RegionDevice {
 public:
  using Reading = std::function<void(uint32_t region, uint64_t offset,
                                     absl::Span<uint8_t> out)>;
  using Writing =
      std::function<bool(uint32_t region, uint64_t offset, uint8_t byte)>;
  struct Mistakes {
    Reading spoils = nullptr;     // What was read.
    Writing drops = nullptr;      // Writes for which it says true.
    bool forgets_names = false;   // Accesses come without.
    bool forgives_range = false;  // No such bytes, no error.
    bool resets_nothing = false;
    bool forgets_unmask = false;
  };

  PassingDevice(RegionDevice& device, Mistakes mistakes)
      : device_(device), mistakes_(std::move(mistakes)) {}

  bool is_pci() const override { return device_.is_pci(); }
  absl::Span<const RegionInfo> regions() const override {
    return device_.regions();
  }
  absl::Span<const IrqInfo> irqs() const override { return device_.irqs(); }
  BorrowedFd RegionMemory(uint32_t region) const override {
    return device_.RegionMemory(region);
  }
  absl::Status Read(AccessId id, uint32_t region, uint64_t offset,
                    absl::Span<uint8_t> out) override {
    const absl::Status status =
        Forgive(device_.Read(NameOf(id), region, offset, out));
    if (status.ok() && mistakes_.spoils) mistakes_.spoils(region, offset, out);
    return status;
  }
  absl::Status Write(AccessId id, uint32_t region, uint64_t offset,
                     absl::Span<const uint8_t> bytes) override {
    if (mistakes_.drops && mistakes_.drops(region, offset, bytes[0])) {
      return absl::OkStatus();
    }
    return Forgive(device_.Write(NameOf(id), region, offset, bytes));
  }
  absl::Status Reset() override {
    return mistakes_.resets_nothing ? absl::OkStatus() : device_.Reset();
  }
  void OnUnmask(uint32_t irq, uint32_t vector) override {
    if (!mistakes_.forgets_unmask) device_.OnUnmask(irq, vector);
  }
  absl::Status Resume() override { return device_.Resume(); }
  absl::Status ResourceChanged() override { return device_.ResourceChanged(); }
  bool work_pending() const override { return device_.work_pending(); }
  absl::Status RunWork() override { return device_.RunWork(); }

 private:
  AccessId NameOf(AccessId id) const {
    return mistakes_.forgets_names ? AccessId::kNone : id;
  }
  absl::Status Forgive(absl::Status status) const {
    const bool forgiven =
        mistakes_.forgives_range && absl::IsOutOfRange(status);
    return forgiven ? absl::OkStatus() : status;
  }

  RegionDevice& device_;
  const Mistakes mistakes_;
};

// A class of devices with such mistakes, for those whose classes have `wrap`.
template <typename Class>
Class With(Class device, PassingDevice::Mistakes mistakes) {
  device.wrap = [mistakes = std::move(mistakes)](RegionDevice& function) {
    return std::make_unique<PassingDevice>(function, mistakes);
  };
  return device;
}

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_BUS_TESTING_PASSING_DEVICE_H_
