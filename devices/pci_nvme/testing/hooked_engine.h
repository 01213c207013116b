#ifndef HOLDFAST_DEVICES_PCI_NVME_TESTING_HOOKED_ENGINE_H_
#define HOLDFAST_DEVICES_PCI_NVME_TESTING_HOOKED_ENGINE_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "devices/block/block_engine.h"
#include "devices/bus/pci_device.h"
#include "devices/pci_nvme/testing/nvme_driver.h"

namespace holdfast::nvme::testing {

// A RamEngine whose reads ask first.
class HookedEngine final : public block::BlockEngine {
 public:
  // Of all of them: an error is the read's. Empty: none asks.
  using Hook = std::function<absl::Status(uint64_t offset)>;
  static Hook& hook() {
    static Hook* const hook = new Hook;
    return *hook;
  }
  static std::unique_ptr<block::BlockEngine> Make(PciContext& context) {
    return std::make_unique<HookedEngine>(context.dma());
  }

  explicit HookedEngine(Dma& dma) : ram_(dma) {}
  uint32_t BlockSize() const override { return ram_.BlockSize(); }
  absl::StatusOr<uint64_t> Size() const override { return ram_.Size(); }
  absl::Status Read(uint64_t offset, absl::Span<const Buffer> to) override {
    const absl::Status asked = hook() ? hook()(offset) : absl::OkStatus();
    return asked.ok() ? ram_.Read(offset, to) : asked;
  }
  absl::Status Write(uint64_t offset, absl::Span<const Buffer> from) override {
    return ram_.Write(offset, from);
  }
  absl::Status Flush() override { return ram_.Flush(); }
  absl::Status Discard(uint64_t offset, uint64_t size) override {
    return ram_.Discard(offset, size);
  }
  absl::Status WriteZeroes(uint64_t offset, uint64_t size,
                           bool may_unmap) override {
    return ram_.WriteZeroes(offset, size, may_unmap);
  }

 private:
  RamEngine ram_;
};

}  // namespace holdfast::nvme::testing

#endif  // HOLDFAST_DEVICES_PCI_NVME_TESTING_HOOKED_ENGINE_H_
