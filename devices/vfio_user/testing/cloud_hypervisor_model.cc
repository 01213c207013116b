#include "devices/vfio_user/testing/cloud_hypervisor_model.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/match.h"
#include "devices/vfio_user/testing/message_line.h"

namespace holdfast::vfio_user {
namespace {

constexpr uint32_t kConfig = 7;
constexpr uint32_t kRom = 6;
constexpr uint32_t kIntx = 0;
constexpr uint32_t kMsi = 1;
constexpr uint32_t kMsix = 2;
// Of the flags of SET_IRQS.
constexpr uint32_t kTrigger = 0x20;
constexpr uint32_t kUnmask = 0x10;
constexpr uint32_t kNoData = 0x01;
constexpr uint32_t kEvents = 0x04;

constexpr absl::string_view kCapabilities =
    R"({"capabilities":{"max_msg_fds":1,"max_data_xfer_size":1048576,)"
    R"("migration":{"pgsize":4096}}})";

}  // namespace

// ---- The stream (rust-vmm/vfio-user, lib.rs) ----

std::optional<Bytes> CloudHypervisorModel::Take(size_t size) {
  while (stream_.size() < size) {
    size_t descriptors = 0;  // Those that nobody wants are closed.
    const ClientWire::Came came = wire_.Receive(stream_, descriptors);
    if (came == ClientWire::Came::kBytes) continue;
    dead_ = came == ClientWire::Came::kEnd;
    stands_still_ = !dead_;
    Say(dead_ ? "Error reading from stream: failed to fill whole buffer"
              : "(nothing, for ever)");
    return std::nullopt;
  }
  const auto end = stream_.begin() + static_cast<ptrdiff_t>(size);
  Bytes taken(stream_.begin(), end);
  stream_.erase(stream_.begin(), end);
  return taken;
}

std::optional<Bytes> CloudHypervisorModel::Ask(Command command,
                                               const Bytes& payload,
                                               size_t size, Attached attached,
                                               size_t count) {
  // Whoever waits has the client's lock.
  if (stands_still_) return std::nullopt;
  const uint16_t id = same_id_.value_or(next_id_);
  same_id_.reset();
  ++next_id_;
  sent_.push_back(MessageLine(command, payload, 0, count));
  if (!wire_.Send(CommandMessage(command, payload, 0, id), attached, count)) {
    dead_ = true;
    Say("Error writing to stream: Broken pipe");
    return std::nullopt;
  }
  return Take(sizeof(MessageHeader) + size);
}

bool CloudHypervisorModel::Negotiate() {
  Bytes proposal = Join(Version{0, 1});
  proposal.insert(proposal.end(), kCapabilities.begin(), kCapabilities.end());
  proposal.push_back(0);
  const auto reply = Ask(Command::kVersion, proposal, sizeof(Version));
  if (!reply.has_value()) return false;
  // Whatever version that is. What can do migration must say a page size.
  const auto header = Load<MessageHeader>(*reply);
  const size_t known = sizeof(MessageHeader) + sizeof(Version);
  const auto json = Take(header.size < known ? 0 : header.size - known);
  if (!json.has_value()) return false;
  const std::string text(json->begin(), json->end());
  if (absl::StrContains(text, "\"migration\"") &&
      !absl::StrContains(text, "\"pgsize\"")) {
    Say("Error deserializing capabilities: missing field `pgsize`");
    return false;
  }
  return absl::StrContains(text, "\"capabilities\"");
}

bool CloudHypervisorModel::AskRegion(uint32_t index) {
  RegionInfo ask = {sizeof(RegionInfo), 0, index, 0, 0, 0};
  const uint16_t id = next_id_;
  auto reply =
      Ask(Command::kDeviceGetRegionInfo, Join(ask), sizeof(RegionInfo));
  if (!reply.has_value()) return false;
  const auto region = Load<RegionInfo>(*reply, sizeof(MessageHeader));
  if (region.argsz <= sizeof(RegionInfo)) return true;
  // Asks once more under the id of the first.
  ask.argsz = region.argsz;
  same_id_ = id;
  reply = Ask(Command::kDeviceGetRegionInfo, Join(ask), sizeof(RegionInfo));
  if (!reply.has_value()) return false;
  const auto header = Load<MessageHeader>(*reply);
  const auto whole = Load<RegionInfo>(*reply, sizeof(MessageHeader));
  const uint32_t more = whole.argsz - sizeof(RegionInfo);
  if (header.size - sizeof(header) - sizeof(RegionInfo) != more) {
    Say("panicked: assertion `left == right` failed");
    return false;
  }
  return Take(more).has_value();
}

bool CloudHypervisorModel::AskRegions() {
  // Counts the header.
  DeviceInfo ask = {sizeof(MessageHeader) + sizeof(DeviceInfo), 0, 0, 0};
  const auto reply =
      Ask(Command::kDeviceGetInfo, Join(ask), sizeof(DeviceInfo));
  if (!reply.has_value()) return false;
  const auto device = Load<DeviceInfo>(*reply, sizeof(MessageHeader));
  if ((device.flags & kDeviceIsPci) == 0) {
    Say("Not a PCI device");
    return false;
  }
  // The other way round: it resets what says that it cannot be.
  resets_ = (device.flags & kDeviceCanReset) == 0;
  for (uint32_t index = 0; index < device.region_count; ++index) {
    if (!AskRegion(index)) return false;
  }
  return true;
}

uint32_t CloudHypervisorModel::AskVectors(uint32_t irq) {
  const auto reply = Ask(Command::kDeviceGetIrqInfo,
                         Join(uint32_t{16}, uint32_t{0}, irq, uint32_t{0}), 16);
  if (!reply.has_value()) return 0;
  return Load<uint32_t>(*reply, sizeof(MessageHeader) + 12);
}

void CloudHypervisorModel::SetIrqs(uint32_t flags, uint32_t irq, uint32_t start,
                                   uint32_t count) {
  const bool events = (flags & kEvents) != 0;
  (void)Ask(Command::kDeviceSetIrqs,
            Join(uint32_t{20}, flags, irq, start, count), 0,
            events ? Attached::kEvent : Attached::kNothing, events ? count : 0);
}

// As many at once as a system call takes here.
void CloudHypervisorModel::EnableIrq(uint32_t irq, uint32_t vectors) {
  for (uint32_t start = 0; start < vectors; start += 16) {
    SetIrqs(kEvents | kTrigger, irq, start,
            std::min(vectors - start, uint32_t{16}));
  }
}

void CloudHypervisorModel::DisableIrq(uint32_t irq) {
  SetIrqs(kNoData | kTrigger, irq, 0, 0);
}

uint64_t CloudHypervisorModel::Config(uint64_t offset, uint32_t size) {
  uint64_t value = 0;
  const auto reply =
      Ask(Command::kRegionRead, Join(offset, kConfig, size), 16 + size);
  if (!reply.has_value()) return 0;
  std::memcpy(&value, reply->data() + sizeof(MessageHeader) + 16, size);
  return value;
}

// Always waits for an answer, which has what was asked for but no data.
void CloudHypervisorModel::Transfer(uint32_t region, uint64_t offset,
                                    uint64_t value, uint32_t size) {
  Bytes payload = Join(offset, region, size);
  const Bytes data = Join(value);
  payload.insert(payload.end(), data.begin(), data.begin() + size);
  (void)Ask(Command::kRegionWrite, payload, 16);
}

void CloudHypervisorModel::SetConfig(uint64_t offset, uint32_t value) {
  Transfer(kConfig, offset, value, 4);
}

// ---- The device (cloud-hypervisor, pci/src/vfio.rs) ----

// 0: there is no list.
uint8_t CloudHypervisorModel::FirstCapability() {
  if ((Config(0x06, 2) & 0x10) == 0) return 0;
  return static_cast<uint8_t>(Config(0x34, 1) & 0xfc);
}

void CloudHypervisorModel::WalkCapabilities() {
  bool express = false;
  bool power = false;
  for (uint8_t at = FirstCapability(); at != 0;) {
    const uint64_t id = Config(at, 1);
    express |= id == 0x10;
    power |= id == 0x01;
    if (id == 0x05 && AskVectors(kMsi) != 0) Config(at + 2u, 2);
    if (id == 0x11 && AskVectors(kMsix) != 0) {
      msix_at_ = at;
      vectors_ = static_cast<uint32_t>(Config(at + 2u, 2) & 0x7ff) + 1;
      table_ = static_cast<uint32_t>(Config(at + 4u, 4));
      Config(at + 8u, 4);
    }
    const auto next = static_cast<uint8_t>(Config(at + 1u, 1) & 0xfc);
    if (next == at) break;
    at = next;
  }
  if (express && power) WalkExtended();
}

void CloudHypervisorModel::WalkExtended() {
  for (uint64_t at = 0x100; at != 0;) at = Config(at, 4) >> 20 & 0xfff;
}

// Leaves them as the probe did: addresses are a business of the monitor.
void CloudHypervisorModel::ProbeBars() {
  for (uint32_t bar = 0; bar <= kRom; ++bar) {
    const uint64_t at = bar == kRom ? 0x30 : 0x10 + 4 * bar;
    const uint64_t flags = Config(at, 4);
    SetConfig(at, 0xffffffff);
    uint64_t mask = Config(at, 4);
    if (bar == kRom || (flags & 4) == 0) continue;
    SetConfig(at + 4, 0xffffffff);
    mask |= Config(at + 4, 4) << 32;
    if ((mask & ~uint64_t{0xf}) != 0) ++bar;
  }
}

bool CloudHypervisorModel::Add() {
  if (!Negotiate() || !AskRegions()) return false;
  if (resets_) (void)Ask(Command::kDeviceReset, {}, 0);
  WalkCapabilities();
  has_intx_ = AskVectors(kIntx) != 0;
  if (has_intx_) EnableIrq(kIntx, 1);
  intx_enabled_ = has_intx_;
  const DmaMap map = {sizeof(DmaMap), 3, 0, 0, kMemorySize};
  (void)Ask(Command::kDmaMap, Join(map), 0, Attached::kMemory, 1);
  ProbeBars();
  return !dead_ && !stands_still_;
}

// ---- The guest ----

uint64_t CloudHypervisorModel::Read(uint32_t region, uint64_t offset,
                                    uint32_t size) {
  uint64_t value = 0;
  const auto reply =
      Ask(Command::kRegionRead, Join(offset, region, size), 16 + size);
  if (reply.has_value()) {
    std::memcpy(&value, reply->data() + sizeof(MessageHeader) + 16, size);
  }
  // It may have been what ends an interrupt.
  if (intx_enabled_) SetIrqs(kNoData | kUnmask, kIntx, 0, 1);
  return value;
}

void CloudHypervisorModel::Write(uint32_t region, uint64_t offset,
                                 uint64_t value, uint32_t size) {
  Transfer(region, offset, value, size);
  if (intx_enabled_) SetIrqs(kNoData | kUnmask, kIntx, 0, 1);
}

uint32_t CloudHypervisorModel::ReadConfig(uint64_t offset) {
  // Looks for MSI-X before each register that it reads.
  for (uint8_t at = FirstCapability(); at != 0;) {
    if (Config(at, 1) == 0x11) {
      if (offset == at + 4u) return table_;
      break;
    }
    const auto next = static_cast<uint8_t>(Config(at + 1u, 1) & 0xfc);
    if (next == at) break;
    at = next;
  }
  return static_cast<uint32_t>(Config(offset, 4));
}

void CloudHypervisorModel::EnableMsix(bool enable) {
  if (msix_at_ == 0) return;
  if (enable) {
    if (intx_enabled_) DisableIrq(kIntx);
    intx_enabled_ = false;
    EnableIrq(kMsix, vectors_);
  } else {
    DisableIrq(kMsix);
    if (has_intx_) EnableIrq(kIntx, 1);
    intx_enabled_ = has_intx_;
  }
  Transfer(kConfig, msix_at_ + 2u, enable ? 0x8000 : 0, 2);
}

}  // namespace holdfast::vfio_user
