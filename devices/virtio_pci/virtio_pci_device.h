#ifndef HOLDFAST_DEVICES_VIRTIO_PCI_VIRTIO_PCI_DEVICE_H_
#define HOLDFAST_DEVICES_VIRTIO_PCI_VIRTIO_PCI_DEVICE_H_

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "devices/bus/guest_memory.h"
#include "devices/bus/pci_device.h"
#include "devices/bus/virtio_device.h"
#include "devices/virtio_pci/virtio_pci_registers.h"

namespace holdfast::virtio_pci {

// How the driver has laid out a queue. Not checked but for its size.
struct RingLayout {
  uint16_t size = 0;  // Entries: a power of two, at most the queue's maximum.
  GuestAddress descriptors{};
  GuestAddress available{};
  GuestAddress used{};
  uint64_t features = 0;  // That the driver has accepted.

  friend bool operator==(const RingLayout& a, const RingLayout& b) {
    return a.size == b.size && a.descriptors == b.descriptors &&
           a.available == b.available && a.used == b.used &&
           a.features == b.features;
  }
};

// How a queue's interrupts reach the driver now. Aligned to its size, so that
// every compiler reads and writes it at once.
struct alignas(uint32_t) InterruptRoute {
  enum class Kind : uint8_t {
    kNone,      // Not at all: the driver polls.
    kMessage,   // Signal `vector` of the MSI-X kind.
    kRegister,  // Through registers: VirtioFunction::InterruptQueue.
  };
  Kind kind = Kind::kNone;
  uint16_t vector = 0;

  friend bool operator==(InterruptRoute a, InterruptRoute b) {
    return a.kind == b.kind && a.vector == b.vector;
  }
  friend bool operator!=(InterruptRoute a, InterruptRoute b) {
    return !(a == b);
  }
};

// What the registers say of one queue.
struct QueueView {
  bool runs = false;
  RingLayout ring;
  InterruptRoute route;
};

// What they say of the device.
struct DeviceView {
  uint64_t resets = 0;          // Rises with each.
  bool features_known = false;  // FEATURES_OK is set.
  uint64_t features = 0;        // That the driver has accepted.
  std::array<QueueView, kMaxQueues> queues;
};

// Where notifications of the driver go. Called inside a register access: must
// not block.
class QueueKicker {
 public:
  virtual ~QueueKicker() = default;
  // May repeat. A queue that does not run, or is not there, ignores it.
  virtual void Kick(uint16_t queue) = 0;
};

// The registers of a VirtioDevice on PCI (VIRTIO 1.2, section 4.1, "modern"):
// negotiation, the window on the queues, interrupts. Runs nothing: what the
// registers say is read with View, and brought about by VirtioFunction.
//
// A mistake of the driver is answered as the specification lets a device: what
// cannot be written keeps its value. Threads: as PciDevice says.
class VirtioPciDevice final : public PciDevice {
 public:
  // What `spec` is on PCI: identity, capabilities, registers, and the device's
  // state. INVALID_ARGUMENT: it has no queue, more than kMaxQueues, one whose
  // size is no power of two, or more than kMaxConfigSize bytes of configuration
  // space.
  static absl::StatusOr<PciSpec> Spec(const VirtioSpec& spec);

  // All references outlive the device. `spec` is one that Spec accepts.
  VirtioPciDevice(const VirtioSpec& spec, VirtioDevice& device,
                  QueueKicker& kicker, PciContext& context);

  PciContext& context() { return context_; }

  // PciDevice.
  absl::Status OnRead(const RegRead& read, PciTxn& txn) override;
  absl::Status OnWrite(const RegWrite& write, PciTxn& txn) override;
  void OnReset(PciTxn& txn) override;

  // What the registers say. `vmm_has_table`: as IrqSink::has_vector_table.
  DeviceView View(PciTxn& txn, bool vmm_has_table) const;

  // Whether the driver's accesses may have changed what View says since the
  // last call. It does not see those to other registers than its own.
  bool TakeChanged();
  void MarkChanged() { changed_ = true; }

  // Tells the driver that a queue has answered, as the route kRegister does.
  void InterruptQueue(PciTxn& txn, uint16_t queue);
  // Shows the driver configuration space as it is now. If that is not what it
  // was shown before, or `asked`, a running driver is interrupted.
  void ShowConfig(PciTxn& txn, bool asked);
  // As ShowConfig, for a change that the driver made itself.
  void ShowOwnConfig(PciTxn& txn) { (void)CopyConfig(txn); }
  // Whether [offset, offset + size) of BAR 0 is device configuration space.
  bool InConfig(uint64_t offset, uint64_t size) const;
  // The device can go on only after a reset (2.1.2): says so once.
  void SetNeedsReset(PciTxn& txn);

 private:
  bool InMessages(PciTxn& txn) const;
  uint16_t CheckVector(uint64_t vector) const;
  uint16_t SizeOf(PciTxn& txn, uint16_t queue) const;
  uint8_t Acceptable(PciTxn& txn, uint8_t status) const;
  bool CopyConfig(PciTxn& txn);
  void InterruptConfig(PciTxn& txn);
  void RaiseRegister(PciTxn& txn, uint8_t cause);
  InterruptRoute RouteOf(PciTxn& txn, uint16_t queue, bool vmm_has_table) const;

  void ResetAll(PciTxn& txn);
  void ResetQueue(PciTxn& txn, uint16_t queue);
  void ShowQueue(PciTxn& txn);
  void OnStatus(const RegWrite& write, PciTxn& txn);
  void OnDriverFeature(const RegWrite& write, PciTxn& txn);
  void OnQueueWindow(const RegWrite& write, PciTxn& txn);
  void OnQueueLayout(const RegWrite& write, PciTxn& txn, uint16_t queue);
  // What the access capability is set to; 0 bytes: nothing that can be done.
  uint32_t ThroughSize(PciTxn& txn) const;
  absl::Status ReadThrough(PciTxn& txn);
  absl::Status WriteThrough(uint32_t data, PciTxn& txn);

  const VirtioSpec& spec_;
  VirtioDevice& device_;
  QueueKicker& kicker_;
  PciContext& context_;
  const uint64_t offered_;
  const uint16_t queues_;
  const uint16_t vectors_;
  const MsixRegisters msix_;
  bool changed_ = true;
};

}  // namespace holdfast::virtio_pci

#endif  // HOLDFAST_DEVICES_VIRTIO_PCI_VIRTIO_PCI_DEVICE_H_
