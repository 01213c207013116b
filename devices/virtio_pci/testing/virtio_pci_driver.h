#ifndef HOLDFAST_DEVICES_VIRTIO_PCI_TESTING_VIRTIO_PCI_DRIVER_H_
#define HOLDFAST_DEVICES_VIRTIO_PCI_TESTING_VIRTIO_PCI_DRIVER_H_

#include <cstdint>

#include "devices/bus/pci_registers.h"
#include "devices/bus/virtio_ids.h"
#include "devices/virtio_pci/virtio_pci_registers.h"

namespace holdfast::testing {

// A guest's virtio-pci driver: finds the structures by their capabilities, as
// the specification tells a driver to (VIRTIO 1.2, 4.1.4), and knows nothing
// else of where they are. `Bus` has
//   uint64_t Read(uint32_t region, uint64_t offset, size_t size);
//   void Write(uint32_t region, uint64_t offset, uint64_t value, size_t size);
template <typename Bus>
class VirtioPciDriver {
 public:
  struct Structure {
    uint8_t at = 0;  // Of the capability.
    uint32_t bar = 0;
    uint32_t offset = 0;
    uint32_t size = 0;
  };
  struct Ring {
    uint16_t size = 0;
    uint64_t descriptors = 0;
    uint64_t available = 0;
    uint64_t used = 0;
    uint16_t vector = virtio_pci::kNoVector;
  };

  explicit VirtioPciDriver(Bus& bus) : bus_(bus) {}

  // Walks the list of capabilities.
  void Probe() {
    uint64_t at = Config(pci::kCapabilityPointer, 1);
    for (int hops = 0; at != 0 && hops < 48; ++hops) {
      const uint64_t type = Config(at + 3, 1);
      if (Config(at, 1) == 0x09 && type >= 1 && type <= 5) {
        structures_[type] = {static_cast<uint8_t>(at),
                             static_cast<uint32_t>(Config(at + 4, 1)),
                             static_cast<uint32_t>(Config(at + 8, 4)),
                             static_cast<uint32_t>(Config(at + 12, 4))};
      }
      at = Config(at + 1, 1);
    }
    if (notify().at != 0) {
      multiplier_ = static_cast<uint32_t>(Config(notify().at + 16u, 4));
    }
  }
  const Structure& common() const { return structures_[1]; }
  const Structure& notify() const { return structures_[2]; }
  const Structure& isr() const { return structures_[3]; }
  const Structure& config() const { return structures_[4]; }
  const Structure& access() const { return structures_[5]; }

  // Bus mastering and memory, and message interrupts if `msix`.
  void Enable(bool msix) {
    bus_.Write(kPciConfigRegion, pci::kCommand.offset(),
               pci::kCommandMemory | pci::kCommandMaster, 2);
    if (msix) {
      bus_.Write(kPciConfigRegion, pci::kMsixControl.offset(), pci::kMsixEnable,
                 2);
    }
  }

  // Registers of the common structure.
  template <typename T>
  uint64_t Get(const Reg<T>& reg) {
    return bus_.Read(common().bar, common().offset + reg.offset(), sizeof(T));
  }
  template <typename T>
  void Set(const Reg<T>& reg, uint64_t value) {
    bus_.Write(common().bar, common().offset + reg.offset(), value, sizeof(T));
  }

  // Drivers write addresses in halves.
  void SetAddress(const Reg64& reg, uint64_t address) {
    const uint64_t at = common().offset + reg.offset();
    bus_.Write(common().bar, at, address & 0xffffffff, 4);
    bus_.Write(common().bar, at + 4, address >> 32, 4);
  }

  uint8_t status() {
    return static_cast<uint8_t>(Get(virtio_pci::kDeviceStatus));
  }
  void AddStatus(uint8_t bits) {
    Set(virtio_pci::kDeviceStatus, uint64_t{status()} | bits);
  }
  void Reset() { Set(virtio_pci::kDeviceStatus, 0); }

  uint64_t OfferedFeatures() {
    Set(virtio_pci::kDeviceFeatureSelect, 0);
    const uint64_t low = Get(virtio_pci::kDeviceFeature);
    Set(virtio_pci::kDeviceFeatureSelect, 1);
    return low | Get(virtio_pci::kDeviceFeature) << 32;
  }

  // Reset to FEATURES_OK (3.1.1, steps 1 to 6). Whether the device agreed.
  bool Negotiate(uint64_t features) {
    Reset();
    // Not for ever: the bus may be broken.
    for (int i = 0; i < 100'000 && status() != 0; ++i) continue;
    AddStatus(virtio_pci::kAcknowledge);
    AddStatus(virtio_pci::kDriver);
    Set(virtio_pci::kDriverFeatureSelect, 0);
    Set(virtio_pci::kDriverFeature, features & 0xffffffff);
    Set(virtio_pci::kDriverFeatureSelect, 1);
    Set(virtio_pci::kDriverFeature, features >> 32);
    AddStatus(virtio_pci::kFeaturesOk);
    return (status() & virtio_pci::kFeaturesOk) != 0;
  }

  void SetUpQueue(uint16_t queue, const Ring& ring) {
    Set(virtio_pci::kQueueSelect, queue);
    Set(virtio_pci::kQueueSize, ring.size);
    SetAddress(virtio_pci::kQueueDescriptors, ring.descriptors);
    SetAddress(virtio_pci::kQueueDriver, ring.available);
    SetAddress(virtio_pci::kQueueDevice, ring.used);
    Set(virtio_pci::kQueueVector, ring.vector);
    Set(virtio_pci::kQueueEnable, 1);
  }

  void Go() { AddStatus(virtio_pci::kDriverOk); }

  // Where a queue is notified, in the notify structure's BAR.
  uint64_t NotifyAddress(uint16_t queue) {
    Set(virtio_pci::kQueueSelect, queue);
    return notify().offset + Get(virtio_pci::kQueueNotifyOffset) * multiplier_;
  }
  void Kick(uint16_t queue) {
    bus_.Write(notify().bar, NotifyAddress(queue), queue, 2);
  }

  uint8_t TakeIsr() {
    return static_cast<uint8_t>(bus_.Read(isr().bar, isr().offset, 1));
  }
  uint64_t ReadConfig(uint64_t offset, size_t size) {
    return bus_.Read(config().bar, config().offset + offset, size);
  }
  void WriteConfig(uint64_t offset, uint64_t value, size_t size) {
    bus_.Write(config().bar, config().offset + offset, value, size);
  }

  // An access by way of configuration space (4.1.4.9).
  uint64_t ReadThrough(uint32_t bar, uint32_t offset, uint32_t size) {
    Aim(bar, offset, size);
    return Config(access().at + 16u, size);
  }
  void WriteThrough(uint32_t bar, uint32_t offset, uint64_t value,
                    uint32_t size) {
    Aim(bar, offset, size);
    bus_.Write(kPciConfigRegion, access().at + 16u, value, size);
  }

 private:
  uint64_t Config(uint64_t offset, size_t size) {
    return bus_.Read(kPciConfigRegion, offset, size);
  }
  void Aim(uint32_t bar, uint32_t offset, uint32_t size) {
    bus_.Write(kPciConfigRegion, access().at + 4u, bar, 1);
    bus_.Write(kPciConfigRegion, access().at + 8u, offset, 4);
    bus_.Write(kPciConfigRegion, access().at + 12u, size, 4);
  }

  Bus& bus_;
  Structure structures_[6];
  uint32_t multiplier_ = 0;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_VIRTIO_PCI_TESTING_VIRTIO_PCI_DRIVER_H_
