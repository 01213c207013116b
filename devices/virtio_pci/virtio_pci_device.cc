#include "devices/virtio_pci/virtio_pci_device.h"

#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "devices/bus/virtio_ids.h"

namespace holdfast::virtio_pci {
namespace {

constexpr uint16_t kVendorId = 0x1af4;
constexpr uint16_t kFirstDeviceId = 0x1040;  // 4.1.2.1.
constexpr uint32_t kMsixBar = 1;

uint64_t OfferedBy(const VirtioSpec& spec) {
  return spec.features() | virtio::kFeatureVersion1 |
         virtio::kFeatureRingIndirectDesc | virtio::kFeatureRingEventIdx |
         // Addresses are those of the VMM's DMA windows.
         virtio::kFeatureAccessPlatform | virtio::kFeatureRingReset;
}

// Class, subclass and interface, as other implementations have them.
uint32_t ClassOf(uint32_t device_id) {
  switch (device_id) {
    case virtio::kDeviceIdNet:
      return 0x020000;
    case virtio::kDeviceIdBlock:
      return 0x018000;
    case virtio::kDeviceIdConsole:
      return 0x078000;
    default:
      return 0x00ff00;
  }
}

void AppendWord(std::vector<uint8_t>& bytes, uint32_t value) {
  for (int shift = 0; shift < 32; shift += 8) {
    bytes.push_back(static_cast<uint8_t>(value >> shift));
  }
}

// struct virtio_pci_cap after its first three bytes.
std::vector<uint8_t> Capability(CapabilityType type, uint32_t offset,
                                uint32_t size) {
  std::vector<uint8_t> bytes = {static_cast<uint8_t>(type), kBar, 0, 0, 0};
  AppendWord(bytes, offset);
  AppendWord(bytes, size);
  return bytes;
}

RegisterFile FileOf(const VirtioSpec& spec) {
  const auto queues = static_cast<uint32_t>(spec.queues().size());
  std::vector<Register> registers = {
      kDeviceFeatureSelect,
      kDeviceFeature,
      kDriverFeatureSelect,
      kDriverFeature,
      kConfigVector,
      kQueueCount.Reset(static_cast<uint16_t>(queues)),
      kDeviceStatus,
      kConfigGeneration,
      kQueueSelect,
      kQueueSize,
      kQueueVector,
      kQueueEnable,
      kQueueNotifyOffset,
      kQueueDescriptors,
      kQueueDriver,
      kQueueDevice,
      kQueueNotifyData,
      kQueueReset,
      kIsr,
      kDriverFeatures,
      kResets,
      kQueueSizes.Array(queues),
      kQueueVectors.Array(queues),
      kQueuesEnabled.Array(queues),
      kAllDescriptors.Array(queues),
      kAllDrivers.Array(queues),
      kAllDevices.Array(queues),
      kNotify.Array(queues, kNotifyMultiplier),
  };
  if (spec.config_size() != 0) {
    registers.push_back(kConfig.Array(spec.config_size()));
  }
  return RegisterFile(std::move(registers)).Size(kBarSize);
}

uint32_t Half(uint64_t features, uint64_t select) {
  return select > 1 ? 0 : static_cast<uint32_t>(features >> (32 * select));
}

absl::Status Check(const VirtioSpec& spec) {
  const size_t queues = spec.queues().size();
  if (queues == 0 || queues > kMaxQueues) {
    return absl::InvalidArgumentError(absl::StrCat(
        "VIRTIO on PCI: ", queues, " queues are not 1 to ", kMaxQueues));
  }
  for (const QueueSpec& queue : spec.queues()) {
    if (queue.max_size == 0 || (queue.max_size & (queue.max_size - 1)) != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("VIRTIO on PCI: queue ", queue.name, " of ",
                       queue.max_size, " entries: no power of two"));
    }
  }
  if (spec.config_size() > kMaxConfigSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("VIRTIO on PCI: ", spec.config_size(),
                     " bytes of configuration, limit is ", kMaxConfigSize));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PciSpec> VirtioPciDevice::Spec(const VirtioSpec& spec) {
  RETURN_IF_ERROR(Check(spec));
  const auto queues = static_cast<uint32_t>(spec.queues().size());
  PciId id;
  id.vendor = kVendorId;
  id.device = static_cast<uint16_t>(kFirstDeviceId + spec.device_id());
  id.revision = 1;
  id.class_code = ClassOf(spec.device_id());
  std::vector<uint8_t> notify = Capability(
      CapabilityType::kNotify, kNotifyOffset, queues * kNotifyMultiplier);
  AppendWord(notify, kNotifyMultiplier);
  std::vector<uint8_t> access = Capability(CapabilityType::kPciAccess, 0, 0);
  AppendWord(access, 0);
  PciSpec result(id);
  result.Bar(kBar, FileOf(spec))
      .Intx()
      .Msix(queues + 1, kMsixBar)
      .VendorAt(kCommonCapability,
                Capability(CapabilityType::kCommon, kCommonOffset, kCommonSize))
      .VendorAt(kNotifyCapability, std::move(notify))
      .VendorAt(kIsrCapability, Capability(CapabilityType::kIsr, kIsrOffset, 1))
      .VendorAt(kAccessCapability, std::move(access),
                {kAccessBar, kAccessOffset, kAccessLength, kAccessData})
      .CompatVersion(spec.compat_version())
      .StateSchema(spec.schema());
  if (spec.config_size() != 0) {
    result.VendorAt(
        kConfigCapability,
        Capability(CapabilityType::kDevice, kConfigOffset, spec.config_size()));
  }
  return result;
}

VirtioPciDevice::VirtioPciDevice(const VirtioSpec& spec, VirtioDevice& device,
                                 QueueKicker& kicker, PciContext& context)
    : spec_(spec),
      device_(device),
      kicker_(kicker),
      context_(context),
      offered_(OfferedBy(spec)),
      queues_(static_cast<uint16_t>(spec.queues().size())),
      vectors_(static_cast<uint16_t>(queues_ + 1)),
      msix_(vectors_, kMsixBar) {}

bool VirtioPciDevice::TakeChanged() { return std::exchange(changed_, false); }

bool VirtioPciDevice::InConfig(uint64_t offset, uint64_t size) const {
  return offset >= kConfigOffset && size <= spec_.config_size() &&
         offset - kConfigOffset <= spec_.config_size() - size;
}

// ---- Accesses ----

absl::Status VirtioPciDevice::OnRead(const RegRead& read, PciTxn& txn) {
  if (read.Is(kAccessData)) return ReadThrough(txn);
  // Reading says that the interrupt has been seen (4.1.5.4).
  if (read.Is(kIsr)) txn.SetIntx(false);
  return absl::OkStatus();
}

absl::Status VirtioPciDevice::OnWrite(const RegWrite& write, PciTxn& txn) {
  if (write.Is(kNotify)) {
    kicker_.Kick(static_cast<uint16_t>(write.index()));
    return absl::OkStatus();
  }
  if (write.Is(kAccessData)) {
    return WriteThrough(static_cast<uint32_t>(write.value()), txn);
  }
  if (write.reg().bar() != kBar) return absl::OkStatus();
  changed_ = true;
  if (write.Is(kDeviceFeatureSelect)) {
    txn.Set(kDeviceFeature, Half(offered_, write.value()));
  } else if (write.Is(kDriverFeatureSelect)) {
    txn.Set(kDriverFeature, Half(txn.Get(kDriverFeatures), write.value()));
  } else if (write.Is(kDriverFeature)) {
    OnDriverFeature(write, txn);
  } else if (write.Is(kConfigVector)) {
    txn.Set(kConfigVector, CheckVector(write.value()));
  } else if (write.Is(kDeviceStatus)) {
    OnStatus(write, txn);
  } else if (write.Is(kQueueSelect)) {
    ShowQueue(txn);
  } else {
    OnQueueWindow(write, txn);
  }
  return absl::OkStatus();
}

void VirtioPciDevice::OnReset(PciTxn& txn) {
  ResetAll(txn);
  (void)CopyConfig(txn);
}

// ---- Negotiation and status ----

// Writing 0 resets. Otherwise bits are only ever added (2.1.1); those that
// cannot be are left out, which the driver finds when it reads again.
void VirtioPciDevice::OnStatus(const RegWrite& write, PciTxn& txn) {
  if (write.value() == 0) return ResetAll(txn);
  constexpr uint8_t kDriversBits =
      kAcknowledge | kDriver | kDriverOk | kFeaturesOk | kFailed;
  const auto wanted =
      static_cast<uint8_t>(write.old() | (write.value() & kDriversBits));
  txn.Set(kDeviceStatus, Acceptable(txn, wanted));
}

uint8_t VirtioPciDevice::Acceptable(PciTxn& txn, uint8_t status) const {
  const uint64_t features = txn.Get(kDriverFeatures);
  if ((features & ~offered_) != 0 ||
      (features & virtio::kFeatureVersion1) == 0) {
    status &= static_cast<uint8_t>(~kFeaturesOk);
  }
  if ((status & kFeaturesOk) == 0) status &= static_cast<uint8_t>(~kDriverOk);
  return status;
}

void VirtioPciDevice::OnDriverFeature(const RegWrite& write, PciTxn& txn) {
  const uint32_t select = txn.Get(kDriverFeatureSelect);
  if (select > 1 || (txn.Get(kDeviceStatus) & kFeaturesOk) != 0) {
    return txn.Restore(write);
  }
  const uint64_t other =
      txn.Get(kDriverFeatures) & ~(uint64_t{0xffffffff} << (32 * select));
  txn.Set(kDriverFeatures, other | write.value() << (32 * select));
}

void VirtioPciDevice::SetNeedsReset(PciTxn& txn) {
  const uint8_t status = txn.Get(kDeviceStatus);
  if (status == 0 || (status & kNeedsReset) != 0) return;
  txn.Set(kDeviceStatus, status | kNeedsReset);
  if ((status & kDriverOk) != 0) InterruptConfig(txn);
}

void VirtioPciDevice::ResetAll(PciTxn& txn) {
  txn.Set(kDeviceFeatureSelect, 0);
  txn.Set(kDeviceFeature, Half(offered_, 0));
  txn.Set(kDriverFeatureSelect, 0);
  txn.Set(kDriverFeature, 0);
  txn.Set(kDriverFeatures, 0);
  txn.Set(kConfigVector, kNoVector);
  txn.Set(kDeviceStatus, 0);
  txn.Set(kIsr, 0);
  txn.SetIntx(false);
  for (uint16_t queue = 0; queue < queues_; ++queue) ResetQueue(txn, queue);
  txn.Set(kQueueSelect, 0);
  ShowQueue(txn);
  txn.Set(kResets, txn.Get(kResets) + 1);
  changed_ = true;
}

// ---- Queues ----

uint16_t VirtioPciDevice::SizeOf(PciTxn& txn, uint16_t queue) const {
  const uint16_t size = txn.Get(kQueueSizes, queue);
  return size != 0 ? size : spec_.queues()[queue].max_size;
}

uint16_t VirtioPciDevice::CheckVector(uint64_t vector) const {
  return vector < vectors_ ? static_cast<uint16_t>(vector) : kNoVector;
}

void VirtioPciDevice::ResetQueue(PciTxn& txn, uint16_t queue) {
  txn.Set(kQueueSizes, 0, queue);
  txn.Set(kQueueVectors, kNoVector, queue);
  txn.Set(kQueuesEnabled, 0, queue);
  txn.Set(kAllDescriptors, 0, queue);
  txn.Set(kAllDrivers, 0, queue);
  txn.Set(kAllDevices, 0, queue);
}

// A queue that is not there has size 0 (4.1.4.3).
void VirtioPciDevice::ShowQueue(PciTxn& txn) {
  const uint16_t queue = txn.Get(kQueueSelect);
  const bool there = queue < queues_;
  txn.Set(kQueueSize, there ? SizeOf(txn, queue) : 0);
  txn.Set(kQueueVector, there ? txn.Get(kQueueVectors, queue) : kNoVector);
  txn.Set(kQueueEnable, there ? txn.Get(kQueuesEnabled, queue) : 0);
  txn.Set(kQueueNotifyOffset, there ? queue : 0);
  txn.Set(kQueueDescriptors, there ? txn.Get(kAllDescriptors, queue) : 0);
  txn.Set(kQueueDriver, there ? txn.Get(kAllDrivers, queue) : 0);
  txn.Set(kQueueDevice, there ? txn.Get(kAllDevices, queue) : 0);
  txn.Set(kQueueReset, 0);
}

void VirtioPciDevice::OnQueueWindow(const RegWrite& write, PciTxn& txn) {
  const uint16_t queue = txn.Get(kQueueSelect);
  if (queue >= queues_) return txn.Restore(write);
  if (write.Is(kQueueVector)) {
    const uint16_t vector = CheckVector(write.value());
    txn.Set(kQueueVector, vector);
    txn.Set(kQueueVectors, vector, queue);
  } else if (write.Is(kQueueEnable)) {
    // The driver cannot take it back but by a reset.
    if (write.value() != 1 || (txn.Get(kDeviceStatus) & kFeaturesOk) == 0) {
      return txn.Restore(write);
    }
    txn.Set(kQueuesEnabled, 1, queue);
  } else if (write.Is(kQueueReset)) {
    txn.Restore(write);
    if (write.value() != 1 ||
        (txn.Get(kDriverFeatures) & virtio::kFeatureRingReset) == 0) {
      return;
    }
    // Over before the write is answered.
    ResetQueue(txn, queue);
    ShowQueue(txn);
  } else if (txn.Get(kQueuesEnabled, queue) != 0) {
    txn.Restore(write);
  } else {
    OnQueueLayout(write, txn, queue);
  }
}

void VirtioPciDevice::OnQueueLayout(const RegWrite& write, PciTxn& txn,
                                    uint16_t queue) {
  const uint64_t value = write.value();
  if (write.Is(kQueueSize)) {
    if (value == 0 || (value & (value - 1)) != 0 ||
        value > spec_.queues()[queue].max_size) {
      return txn.Restore(write);
    }
    txn.Set(kQueueSizes, static_cast<uint16_t>(value), queue);
  } else if (write.Is(kQueueDescriptors)) {
    txn.Set(kAllDescriptors, value, queue);
  } else if (write.Is(kQueueDriver)) {
    txn.Set(kAllDrivers, value, queue);
  } else if (write.Is(kQueueDevice)) {
    txn.Set(kAllDevices, value, queue);
  }
}

// ---- Interrupts ----

bool VirtioPciDevice::InMessages(PciTxn& txn) const {
  return (txn.Get(pci::kMsixControl) & pci::kMsixEnable) != 0;
}

void VirtioPciDevice::RaiseRegister(PciTxn& txn, uint8_t cause) {
  txn.Set(kIsr, txn.Get(kIsr) | cause);
  txn.SetIntx(true);
}

void VirtioPciDevice::InterruptQueue(PciTxn& txn, uint16_t queue) {
  if (queue >= queues_ || (txn.Get(kDeviceStatus) & kDriverOk) == 0) return;
  if (!InMessages(txn)) return RaiseRegister(txn, kIsrQueue);
  const uint16_t vector = txn.Get(kQueueVectors, queue);
  if (vector != kNoVector) txn.RaiseMsix(vector);
}

void VirtioPciDevice::InterruptConfig(PciTxn& txn) {
  if (!InMessages(txn)) return RaiseRegister(txn, kIsrConfig);
  const uint16_t vector = txn.Get(kConfigVector);
  if (vector != kNoVector) txn.RaiseMsix(vector);
}

InterruptRoute VirtioPciDevice::RouteOf(PciTxn& txn, uint16_t queue,
                                        bool vmm_has_table) const {
  using Kind = InterruptRoute::Kind;
  if (!InMessages(txn)) return {Kind::kRegister, 0};
  const uint16_t vector = txn.Get(kQueueVectors, queue);
  if (vector == kNoVector) return {Kind::kNone, 0};
  const bool held_back =
      (txn.Get(pci::kMsixControl) & pci::kMsixMaskAll) != 0 ||
      (txn.Get(pci::kCommand) & pci::kCommandMaster) == 0 ||
      (!vmm_has_table && (txn.Get(msix_.control, vector) & 1) != 0);
  return {held_back ? Kind::kRegister : Kind::kMessage, vector};
}

// ---- Device configuration ----

bool VirtioPciDevice::CopyConfig(PciTxn& txn) {
  std::array<uint8_t, kMaxConfigSize> now;
  const uint32_t size = spec_.config_size();
  device_.ReadConfig(0, absl::MakeSpan(now).first(size));
  bool changed = false;
  for (uint32_t i = 0; i < size; ++i) {
    if (txn.Get(kConfig, i) == now[i]) continue;
    txn.Set(kConfig, now[i], i);
    changed = true;
  }
  if (changed) txn.Set(kConfigGeneration, txn.Get(kConfigGeneration) + 1);
  return changed;
}

void VirtioPciDevice::ShowConfig(PciTxn& txn, bool asked) {
  const bool changed = CopyConfig(txn);
  if (!changed && !asked) return;
  if ((txn.Get(kDeviceStatus) & kDriverOk) != 0) InterruptConfig(txn);
}

// ---- Access through configuration space ----

uint32_t VirtioPciDevice::ThroughSize(PciTxn& txn) const {
  const uint32_t size = txn.Get(kAccessLength);
  const bool possible = txn.Get(kAccessBar) == kBar &&
                        (size == 1 || size == 2 || size == 4) &&
                        txn.Get(kAccessOffset) % size == 0;
  return possible ? size : 0;
}

// What lies outside reads as ones and is not written, as on a bus.
absl::Status VirtioPciDevice::ReadThrough(PciTxn& txn) {
  const uint32_t size = ThroughSize(txn);
  if (size == 0) return absl::OkStatus();
  uint32_t data = 0;
  const absl::Status read = txn.ReadRegisters(
      kBar, txn.Get(kAccessOffset), {reinterpret_cast<uint8_t*>(&data), size},
      [&](const RegRead& inner) { return OnRead(inner, txn); });
  txn.Set(kAccessData, read.ok() ? data : ~uint32_t{0});
  return absl::IsOutOfRange(read) ? absl::OkStatus() : read;
}

absl::Status VirtioPciDevice::WriteThrough(uint32_t data, PciTxn& txn) {
  const absl::Span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(&data),
                                        ThroughSize(txn));
  if (bytes.empty()) return absl::OkStatus();
  const uint32_t offset = txn.Get(kAccessOffset);
  if (InConfig(offset, bytes.size())) {
    RETURN_IF_ERROR(device_.WriteConfig(offset - kConfigOffset, bytes));
    ShowOwnConfig(txn);
    return absl::OkStatus();
  }
  const absl::Status written = txn.WriteRegisters(
      kBar, offset, bytes,
      [&](const RegWrite& inner) { return OnWrite(inner, txn); });
  return absl::IsOutOfRange(written) ? absl::OkStatus() : written;
}

// ---- What the registers say ----

DeviceView VirtioPciDevice::View(PciTxn& txn, bool vmm_has_table) const {
  const uint8_t status = txn.Get(kDeviceStatus);
  DeviceView view;
  // A reset of the function gives this file's count its first value.
  view.resets = txn.Get(work::kResets) << 32 | txn.Get(kResets);
  view.features_known = (status & kFeaturesOk) != 0;
  view.features = txn.Get(kDriverFeatures);
  for (uint16_t i = 0; i < queues_; ++i) {
    QueueView& queue = view.queues[i];
    queue.runs = (status & kDriverOk) != 0 && txn.Get(kQueuesEnabled, i) != 0;
    queue.ring.size = SizeOf(txn, i);
    queue.ring.descriptors = GuestAddress{txn.Get(kAllDescriptors, i)};
    queue.ring.available = GuestAddress{txn.Get(kAllDrivers, i)};
    queue.ring.used = GuestAddress{txn.Get(kAllDevices, i)};
    queue.ring.features = view.features;
    queue.route = RouteOf(txn, i, vmm_has_table);
  }
  return view;
}

}  // namespace holdfast::virtio_pci
