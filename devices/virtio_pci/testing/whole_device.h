#ifndef HOLDFAST_DEVICES_VIRTIO_PCI_TESTING_WHOLE_DEVICE_H_
#define HOLDFAST_DEVICES_VIRTIO_PCI_TESTING_WHOLE_DEVICE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "devices/bus/pci_device.h"
#include "devices/bus/testing/pci_guest.h"
#include "devices/virtio_pci/testing/sample_device.h"
#include "devices/virtio_pci/virtio_pci_device.h"

namespace holdfast::virtio_pci {

// A VirtioPciDevice and the device behind it.
class WholeDevice final : public PciDevice {
 public:
  explicit WholeDevice(PciContext& context)
      : registers_(Spec(), device_, queues_, context) {}
  static const VirtioSpec& Spec() {
    static const auto* const spec =
        new VirtioSpec(holdfast::testing::SampleDevice::Spec());
    return *spec;
  }
  static holdfast::testing::PciClass Class() {
    return {*VirtioPciDevice::Spec(Spec()), PciDeviceMaker<WholeDevice>()};
  }

  absl::Status OnRead(const RegRead& read, PciTxn& txn) override {
    return registers_.OnRead(read, txn);
  }
  // The last register of all stands for what a queue's worker does.
  absl::Status OnWrite(const RegWrite& write, PciTxn& txn) override {
    if (write.Is(kNotify)) registers_.InterruptQueue(txn, 1);
    return registers_.OnWrite(write, txn);
  }
  void OnReset(PciTxn& txn) override { registers_.OnReset(txn); }

 private:
  class NoQueues final : public QueueKicker {
   public:
    void Kick(uint16_t) override {}
  };

  holdfast::testing::SampleDevice device_;
  NoQueues queues_;
  VirtioPciDevice registers_;
};

}  // namespace holdfast::virtio_pci

#endif  // HOLDFAST_DEVICES_VIRTIO_PCI_TESTING_WHOLE_DEVICE_H_
