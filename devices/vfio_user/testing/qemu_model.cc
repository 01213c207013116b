#include "devices/vfio_user/testing/qemu_model.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "devices/vfio_user/testing/message_line.h"

namespace holdfast::vfio_user {
namespace {

constexpr uint32_t kConfig = 7;
constexpr uint32_t kMostRegions = 100;
constexpr uint32_t kMostIrqs = 50;
constexpr absl::string_view kCapabilities =
    R"({"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, )"
    R"("max_dma_maps": 65535, "max_data_xfer_size": 1048576, )"
    R"("migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, )"
    R"("write_multiple": true}})";

}  // namespace

// ---- The stream (hw/vfio-user/proxy.c of QEMU) ----

uint16_t QemuModel::Put(Command command, const Bytes& payload, uint32_t flags,
                        Attached attached) {
  const uint16_t id = next_id_++;
  const size_t fds = attached == Attached::kNothing ? 0 : 1;
  sent_.push_back(MessageLine(command, payload, flags, fds));
  if (!wire_.Send(CommandMessage(command, payload, flags, id), attached, fds)) {
    Say("Unable to write to socket: Broken pipe");
    dead_ = true;
  } else if ((flags & kFlagNoReply) == 0) {
    pending_.push_back({id,
                        sizeof(MessageHeader) + payload.size(),
                        command == Command::kDeviceGetRegionInfo,
                        {}});
  }
  return id;
}

QemuModel::Pending* QemuModel::Find(uint16_t id) {
  for (Pending& pending : pending_) {
    if (pending.id == id) return &pending;
  }
  return nullptr;
}

void QemuModel::Die(absl::string_view why) {
  Say(why);
  dead_ = true;  // Reads no more; what is sent still goes out.
}

std::optional<Bytes> QemuModel::WaitFor(uint16_t id) {
  while (true) {
    Pending* const pending = Find(id);
    if (pending == nullptr) return std::nullopt;  // It could not be sent.
    if (pending->reply.has_value() && partial_ != id) {
      const Bytes reply = *std::move(pending->reply);
      pending_.erase(pending_.begin() + (pending - pending_.data()));
      if ((Load<MessageHeader>(reply).flags & kFlagError) != 0) {
        return std::nullopt;
      }
      return reply;
    }
    size_t descriptors = 0;
    const ClientWire::Came came = dead_ ? ClientWire::Came::kNothing
                                        : wire_.Receive(stream_, descriptors);
    if (came == ClientWire::Came::kBytes) {
      Digest(descriptors);
      continue;
    }
    // Nobody wakes who waits when the connection ends.
    if (came == ClientWire::Came::kEnd) Die("failed to read header: EOF");
    ++timeouts_;
    pending_.erase(pending_.begin() + (Find(id) - pending_.data()));
    Say("timed out waiting for reply: Connection timed out");
    return std::nullopt;
  }
}

void QemuModel::Digest(size_t descriptors) {
  while (!dead_ && !stream_.empty()) {
    if (partial_.has_value()) {
      Pending* const pending = Find(*partial_);
      const size_t size = Load<MessageHeader>(*pending->reply).size;
      const size_t now =
          std::min(size - pending->reply->size(), stream_.size());
      pending->reply->insert(pending->reply->end(), stream_.begin(),
                             stream_.begin() + static_cast<ptrdiff_t>(now));
      stream_.erase(stream_.begin(),
                    stream_.begin() + static_cast<ptrdiff_t>(now));
      if (pending->reply->size() == size) partial_.reset();
      continue;
    }
    if (stream_.size() < sizeof(MessageHeader)) {
      return Die("short read of header");
    }
    const auto header = Load<MessageHeader>(stream_);
    stream_.erase(stream_.begin(), stream_.begin() + sizeof(header));
    if (header.size < sizeof(header)) return Die("bad header size");
    switch (header.flags & kFlagTypeMask) {
      case 0:
        Refuse(header);
        break;
      case kFlagReply:
        DigestReply(header, std::exchange(descriptors, 0));
        break;
      default:
        return Die("unknown message type");
    }
  }
}

// Whatever is wrong with a reply, its body stays in the stream, and is taken
// for a header next.
void QemuModel::DigestReply(const MessageHeader& header, size_t descriptors) {
  Pending* const pending = Find(header.id);
  if (pending == nullptr || pending->reply.has_value()) {
    return Say("unexpected reply");
  }
  MessageHeader kept = header;
  const bool too_many = descriptors > (pending->expects_fd ? 1u : 0u);
  if (too_many || header.size > pending->most) {
    Say(too_many ? "unexpected FDs in reply" : "reply larger than recv buffer");
    kept.flags |= kFlagError;
    kept.size = sizeof(kept);
    pending->reply = Join(kept);
    return;
  }
  pending->reply = Join(kept);
  if (header.size > sizeof(header)) partial_ = header.id;
}

// A request of the server: no guest runs whose memory it could want.
void QemuModel::Refuse(const MessageHeader& header) {
  const size_t rest =
      std::min<size_t>(header.size - sizeof(header), stream_.size());
  stream_.erase(stream_.begin(),
                stream_.begin() + static_cast<ptrdiff_t>(rest));
  const auto command = static_cast<Command>(header.command);
  const bool dma =
      command == Command::kDmaRead || command == Command::kDmaWrite;
  if (!dma) Say(absl::StrCat("unknown cmd ", header.command));
  wire_.Send(ErrorMessage(command, dma ? EINVAL : ENOSYS, header.id),
             Attached::kNothing, 0);
}

std::optional<Bytes> QemuModel::Ask(Command command, const Bytes& payload,
                                    size_t reply_size, Attached attached) {
  const uint16_t id = Put(command, payload, 0, attached);
  Pending* const pending = Find(id);
  if (pending != nullptr && reply_size != 0) {
    pending->most = sizeof(MessageHeader) + reply_size;
  }
  return WaitFor(id);
}

void QemuModel::Begin(Command command, const Bytes& payload,
                      Attached attached) {
  Put(command, payload, 0, attached);
}

// Only the last one is waited for; an error of the others is printed.
void QemuModel::Await() {
  while (!pending_.empty()) {
    const uint16_t id = pending_.back().id;
    (void)WaitFor(id);
    for (const Pending& pending : pending_) {
      if (!pending.reply.has_value()) continue;
      if ((Load<MessageHeader>(*pending.reply).flags & kFlagError) != 0) {
        Say("error reply on async request");
      }
    }
    pending_.clear();
  }
}

// ---- The guest ----

uint64_t QemuModel::Read(uint32_t region, uint64_t offset, uint32_t size) {
  const uint64_t ones = ~uint64_t{0} >> (64 - 8 * size);
  const auto reply = Ask(Command::kRegionRead, Join(offset, region, size),
                         /*reply_size=*/16 + size);
  if (!reply.has_value()) return ones;
  uint64_t value = 0;
  // Nobody looks how much there is: the buffer began as the request, and zeros.
  if (reply->size() == sizeof(MessageHeader)) return value;
  if (Load<uint32_t>(*reply, sizeof(MessageHeader) + 12) != size) {
    Say("short read");
    return ones;
  }
  std::memcpy(&value, reply->data() + reply->size() - size, size);
  return value;
}

void QemuModel::Write(uint32_t region, uint64_t offset, uint64_t value,
                      uint32_t size) {
  Bytes payload = Join(offset, region, size);
  const Bytes data = Join(value);
  payload.insert(payload.end(), data.begin(), data.begin() + size);
  if (region == kConfig) {
    (void)Ask(Command::kRegionWrite, payload);
  } else {
    Put(Command::kRegionWrite, payload, kFlagNoReply, Attached::kNothing);
  }
}

// ---- Plugging in (hw/vfio-user/pci.c, hw/vfio/pci.c) ----

bool QemuModel::Negotiate() {
  Bytes proposal = Join(Version{0, 0});
  proposal.insert(proposal.end(), kCapabilities.begin(), kCapabilities.end());
  proposal.push_back(0);
  const auto reply = Ask(Command::kVersion, proposal, /*reply_size=*/65536);
  if (!reply.has_value()) return false;
  const auto version = Load<Version>(*reply, sizeof(MessageHeader));
  if (version.major != 0 || version.minor != 0 || reply->back() != 0) {
    Say("cannot agree on a version");
    return false;
  }
  return true;
}

void QemuModel::MapMemory(uint32_t flags, uint64_t address, uint64_t size,
                          Attached attached) {
  const uint64_t offset = attached == Attached::kMemory ? address : 0;
  Begin(Command::kDmaMap,
        Join(DmaMap{sizeof(DmaMap), flags, offset, address, size}), attached);
}

void QemuModel::UnmapMemory(uint64_t address, uint64_t size) {
  Begin(Command::kDmaUnmap, Join(DmaUnmap{sizeof(DmaUnmap), 0, address, size}),
        Attached::kNothing);
}

bool QemuModel::AskRegions() {
  const auto info = Ask(Command::kDeviceGetInfo,
                        Join(DeviceInfo{sizeof(DeviceInfo), 0, 0, 0}));
  if (!info.has_value()) return false;
  const auto device = Load<DeviceInfo>(*info, sizeof(MessageHeader));
  if (device.region_count > kMostRegions || device.irq_count > kMostIrqs ||
      device.region_count < 9 || device.irq_count < 5) {
    Say("invalid reply");
    return false;
  }
  for (const uint32_t index : {0, 1, 2, 3, 4, 5, 7}) {
    RegionInfo ask = {sizeof(RegionInfo), 0, index, 0, 0, 0};
    auto reply = Ask(Command::kDeviceGetRegionInfo, Join(ask));
    if (!reply.has_value()) return false;
    auto region = Load<RegionInfo>(*reply, sizeof(MessageHeader));
    if (region.argsz > ask.argsz) {
      ask.argsz = region.argsz;
      reply = Ask(Command::kDeviceGetRegionInfo, Join(ask), region.argsz);
      if (!reply.has_value()) return false;
      region = Load<RegionInfo>(*reply, sizeof(MessageHeader));
    }
    region_sizes_[index] = region.size;
  }
  return true;
}

bool QemuModel::AskVectors(uint32_t irq, uint32_t* count) {
  const auto reply = Ask(Command::kDeviceGetIrqInfo,
                         Join(uint32_t{16}, uint32_t{0}, irq, uint32_t{0}));
  if (!reply.has_value()) return false;
  *count = Load<uint32_t>(*reply, sizeof(MessageHeader) + 12);
  return true;
}

void QemuModel::AskRomSize() {
  const uint64_t rom = Config(0x30, 4);
  Write(kConfig, 0x30, 0xfffff800, 4);
  Config(0x30, 4);
  Write(kConfig, 0x30, rom, 4);
}

// MSI-X before the list is walked, then the rest of it from its end.
bool QemuModel::AskCapabilities() {
  std::vector<uint8_t> list;
  for (uint8_t at = ConfigByte(0x34); at != 0 && list.size() < 48;
       at = ConfigByte(at + 1u)) {
    list.push_back(at);
  }
  for (const uint8_t at : list) {
    uint32_t vectors = 0;
    if (ConfigByte(at) != 0x11) continue;
    msix_at_ = at;
    Config(at + 2u, 2);
    Config(at + 4u, 4);
    Config(at + 8u, 4);
    if (!AskVectors(2, &vectors)) return false;
  }
  for (auto at = list.rbegin(); at != list.rend(); ++at) {
    if (ConfigByte(*at) == 0x05) Config(*at + 2u, 2);
  }
  return true;
}

void QemuModel::SetIrqs(uint32_t flags, uint32_t irq, uint32_t count,
                        Attached attached) {
  (void)Ask(Command::kDeviceSetIrqs,
            Join(uint32_t{20}, flags, irq, uint32_t{0}, count), 0, attached);
}

void QemuModel::EnableIntx() {
  if (Config(0x3d, 1) == 0) return;
  SetIrqs(0x24, 0, 1, Attached::kEvent);
}

bool QemuModel::Realize() {
  uint32_t errors = 0;
  if (!Negotiate()) return false;
  MapMemory(3, 0, kMemorySize, Attached::kMemory);
  MapMemory(1, 0xfffc0000, 0x40000, Attached::kNothing);
  Await();
  if (!AskRegions() || !AskVectors(3, &errors)) return false;
  const auto config =
      Ask(Command::kRegionRead, Join(uint64_t{0}, kConfig, uint32_t{256}),
          /*reply_size=*/16 + 256);
  if (!config.has_value()) return false;
  config_.assign(config->begin() + sizeof(MessageHeader) + 16, config->end());
  AskRomSize();
  for (uint32_t bar = 0; bar < 6; ++bar) {
    if (region_sizes_[bar] != 0) Config(0x10 + 4 * bar, 4);
  }
  if (!AskCapabilities()) return false;
  has_pin_ = Config(0x3d, 1) != 0;
  if (has_pin_) EnableIntx();
  if (errors == 1) SetIrqs(0x24, 3, 1, Attached::kEvent);
  Reset();
  UnmapMemory(0, kMemorySize);
  MapMemory(3, 0, 0xc0000, Attached::kMemory);
  MapMemory(1, 0xc0000, 0x20000, Attached::kNothing);
  MapMemory(1, 0xe0000, 0x20000, Attached::kNothing);
  MapMemory(3, 0x100000, kMemorySize - 0x100000, Attached::kMemory);
  Await();
  return !dead_;
}

// ---- Firmware (SeaBIOS 1.17) and the guest's vectors ----

void QemuModel::Remap(const std::vector<Piece>& gone,
                      const std::vector<Piece>& now) {
  for (const Piece& piece : gone) UnmapMemory(piece.address, piece.size);
  for (const Piece& piece : now) {
    MapMemory(piece.flags, piece.address, piece.size, piece.attached);
  }
  Await();
}

void QemuModel::PlaceBars() {
  // Below the disk controller's.
  uint32_t next = 0xfebff000;
  for (uint32_t bar = 0; bar < 6; ++bar) {
    if (region_sizes_[bar] != 0) next -= 4096;
    for (const uint64_t value : {uint64_t{0xffffffff}, uint64_t{0}}) {
      Write(kConfig, 0x10 + 4 * bar, value, 4);
    }
  }
  Write(kConfig, 0x30, 0xfffff800, 4);
  Write(kConfig, 0x30, 0, 4);
  for (uint32_t bar = 0; bar < 6; ++bar) {
    if (region_sizes_[bar] == 0) continue;
    Write(kConfig, 0x10 + 4 * bar, next, 4);
    next += 4096;
  }
}

void QemuModel::BootFirmware() {
  constexpr auto kMemory = Attached::kMemory;
  constexpr auto kNone = Attached::kNothing;
  const std::vector<Piece> reset = {
      {0, 0xc0000, 3, kMemory},
      {0xc0000, 0x20000, 1, kNone},
      {0xe0000, 0x20000, 1, kNone},
      {0x100000, kMemorySize - 0x100000, 3, kMemory}};
  const std::vector<Piece> copied = {
      {0, 0xd8000, 3, kMemory},
      {0xd8000, 0x8000, 1, kNone},
      {0xe0000, 0x10000, 1, kNone},
      {0xf0000, kMemorySize - 0xf0000, 3, kMemory}};
  const std::vector<Piece> whole = {{0, kMemorySize, 3, kMemory}};
  Remap(reset, copied);
  Remap(copied, whole);
  for (int i = 0; i < 2; ++i) {
    Config(0x00, 2);
    Config(0x0a, 2);
    Config(0x0e, 1);
  }
  Config(0x00, 2);
  Config(0x00, 4);
  Config(0x08, 4);
  Config(0x0e, 1);
  Config(0x0e, 1);
  PlaceBars();
  Config(0x3d, 1);
  Write(kConfig, 0x04, Config(0x04, 2) | 0x0103, 2);
  Config(0x3d, 1);
  Config(0x3c, 1);
  Write(kConfig, 0x30, 0xfffffffe, 4);
  Write(kConfig, 0x30, 0, 4);
  Remap(whole, {{0, 0xc3000, 3, kMemory},
                {0xc3000, 0x15000, 1, kMemory},
                {0xd8000, 0x18000, 3, kMemory},
                {0xf0000, 0x10000, 1, kMemory},
                {0x100000, kMemorySize - 0x100000, 3, kMemory}});
  Remap({{0xc3000, 0x15000, 0, kNone}, {0xd8000, 0x18000, 0, kNone}},
        {{0xc3000, 0x25000, 1, kMemory}, {0xe8000, 0x8000, 3, kMemory}});
}

void QemuModel::EnableMsix() {
  Write(kConfig, msix_at_ + 2u, 0xc000, 2);
  SetIrqs(0x24, 2, 1, Attached::kNothing);
  Write(kConfig, msix_at_ + 2u, 0x8000, 2);
  UnmaskAgain();
}

void QemuModel::UnmaskAgain() { SetIrqs(0x24, 2, 1, Attached::kEvent); }

void QemuModel::DisableMsix() {
  Write(kConfig, msix_at_ + 2u, 0, 2);
  SetIrqs(0x21, 2, 0, Attached::kNothing);
  EnableIntx();
}

void QemuModel::Reset() {
  if (has_pin_) SetIrqs(0x21, 0, 0, Attached::kNothing);
  const uint64_t command = Config(0x04, 2);
  // No memory, no bus mastering.
  Write(kConfig, 0x04, command & ~uint64_t{7}, 2);
  (void)Ask(Command::kDeviceReset, {});
  EnableIntx();
  for (uint32_t bar = 0; bar < 6; ++bar) Write(kConfig, 0x10 + 4 * bar, 0, 4);
}

}  // namespace holdfast::vfio_user
