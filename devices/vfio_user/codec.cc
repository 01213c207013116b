#include "devices/vfio_user/codec.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace holdfast::vfio_user {
namespace {

// What a client may send with a command.
enum class Body {
  kRefused,    // Not a client's, or nobody's.
  kWithdrawn,  // Was one once.
  kNone,
  kVersion,
  kDmaMap,
  kDmaUnmap,
  kDeviceInfo,
  kRegionInfo,
  kRegionIoFds,
  kIrqInfo,
  kIrqSet,
  kRegionRead,
  kRegionWrite,
  kSmallWrites,
  kFeature,
  kMigrationRead,
  kMigrationWrite,
};

struct CommandInfo {
  Command command;
  absl::string_view name;
  Body body;
  size_t max_fds;
};

// Indexed by number.
constexpr CommandInfo kInfo[] = {
    {Command{0}, "command 0", Body::kRefused, 0},
    {Command::kVersion, "VERSION", Body::kVersion, 0},
    {Command::kDmaMap, "DMA_MAP", Body::kDmaMap, 1},
    {Command::kDmaUnmap, "DMA_UNMAP", Body::kDmaUnmap, 0},
    {Command::kDeviceGetInfo, "DEVICE_GET_INFO", Body::kDeviceInfo, 0},
    {Command::kDeviceGetRegionInfo, "DEVICE_GET_REGION_INFO", Body::kRegionInfo,
     0},
    {Command::kDeviceGetRegionIoFds, "DEVICE_GET_REGION_IO_FDS",
     Body::kRegionIoFds, 0},
    {Command::kDeviceGetIrqInfo, "DEVICE_GET_IRQ_INFO", Body::kIrqInfo, 0},
    {Command::kDeviceSetIrqs, "DEVICE_SET_IRQS", Body::kIrqSet, kMaxMessageFds},
    {Command::kRegionRead, "REGION_READ", Body::kRegionRead, 0},
    {Command::kRegionWrite, "REGION_WRITE", Body::kRegionWrite, 0},
    {Command::kDmaRead, "DMA_READ", Body::kRefused, 0},
    {Command::kDmaWrite, "DMA_WRITE", Body::kRefused, 0},
    {Command::kDeviceReset, "DEVICE_RESET", Body::kNone, 0},
    {Command::kUserDirtyPages, "USER_DIRTY_PAGES", Body::kWithdrawn, 0},
    {Command::kRegionWriteMulti, "REGION_WRITE_MULTI", Body::kSmallWrites, 0},
    {Command::kDeviceFeature, "DEVICE_FEATURE", Body::kFeature, 0},
    {Command::kMigDataRead, "MIG_DATA_READ", Body::kMigrationRead, 0},
    {Command::kMigDataWrite, "MIG_DATA_WRITE", Body::kMigrationWrite, 0},
};
constexpr size_t kInfoCount = sizeof(kInfo) / sizeof(kInfo[0]);

constexpr bool InfoIsIndexedByNumber() {
  for (size_t i = 0; i < kInfoCount; ++i) {
    if (static_cast<size_t>(kInfo[i].command) != i) return false;
  }
  return true;
}
static_assert(InfoIsIndexedByNumber());

const CommandInfo& InfoOf(Command command) {
  const size_t number = static_cast<size_t>(command);
  return kInfo[number < kInfoCount ? number : 0];
}

// Takes one message apart.
class Parser {
 public:
  Parser(Request& request, absl::Span<const uint8_t> payload)
      : request_(request), payload_(payload) {}

  absl::Status ParseCommand() {
    const CommandInfo& info = InfoOf(request_.command);
    if (request_.fd_count > info.max_fds) {
      return Wrong(request_.fd_count, " descriptors, at most ", info.max_fds,
                   " belong to it");
    }
    switch (info.body) {
      case Body::kRefused:
        return Wrong("not a command of a client");
      case Body::kWithdrawn:
        return absl::UnimplementedError(
            Text("withdrawn in favour of DEVICE_FEATURE"));
      case Body::kNone:
        return ExpectSize(0);
      case Body::kVersion:
        return ParseVersion();
      case Body::kDmaMap:
        return Extensible(request_.dma_map, sizeof(DmaMap));
      case Body::kDmaUnmap:
        return Extensible(request_.dma_unmap, sizeof(DmaUnmap));
      case Body::kDeviceInfo:
        return Extensible(request_.device_info, sizeof(DeviceInfo));
      case Body::kRegionInfo:
        return Extensible(request_.region_info, sizeof(RegionInfo));
      case Body::kRegionIoFds:
        return Extensible(request_.region_io_fds, sizeof(RegionIoFds));
      case Body::kIrqInfo:
        return Extensible(request_.irq_info, sizeof(IrqInfo));
      case Body::kIrqSet:
        return ParseIrqSet();
      case Body::kRegionRead:
      case Body::kRegionWrite:
        return ParseRegionAccess(info.body == Body::kRegionWrite);
      case Body::kSmallWrites:
        return ParseSmallWrites();
      case Body::kFeature:
        return ParseFeature();
      case Body::kMigrationRead:
      case Body::kMigrationWrite:
        return ParseMigration(info.body == Body::kMigrationWrite);
    }
    return Wrong("not a command");
  }

  // Requests of ours were DMA_READ and DMA_WRITE.
  absl::Status ParseReply() {
    if (request_.fd_count != 0) return Wrong("a reply with descriptors");
    if (request_.error != 0) return absl::OkStatus();  // A header is enough.
    switch (request_.command) {
      case Command::kDmaRead:
        return ParseDmaReadReply();
      case Command::kDmaWrite:
        return ParseDmaWriteReply();
      default:
        return Wrong("a reply to what was never asked");
    }
  }

 private:
  template <typename... Parts>
  std::string Text(const Parts&... parts) const {
    return absl::StrCat(CommandName(request_.command), ": ", parts...);
  }
  template <typename... Parts>
  absl::Status Wrong(const Parts&... parts) const {
    return absl::InvalidArgumentError(Text(parts...));
  }
  absl::Status ExpectSize(uint64_t size) const {
    if (payload_.size() == size) return absl::OkStatus();
    return Wrong("the payload is ", payload_.size(), " bytes, not ", size);
  }

  // Copies a T from the beginning; the rest becomes `data`.
  template <typename T>
  absl::Status Take(T& value) {
    if (payload_.size() < sizeof(T)) return ExpectSize(sizeof(T));
    std::memcpy(&value, payload_.data(), sizeof(T));
    request_.data = payload_.subspan(sizeof(T));
    return absl::OkStatus();
  }

  // A structure that may grow in later versions; what we do not know of it is
  // not looked at.
  template <typename T>
  absl::Status Extensible(T& value, uint32_t min_argsz) {
    RETURN_IF_ERROR(Take(value));
    request_.data = {};
    if (value.argsz < min_argsz) {
      return Wrong("argsz is ", value.argsz, ", at least ", min_argsz,
                   " are needed");
    }
    return absl::OkStatus();
  }

  absl::Status CheckTransfer(uint64_t count) const {
    if (count <= kMaxTransfer) return absl::OkStatus();
    return Wrong(count, " bytes of data, at most ", kMaxTransfer,
                 " are allowed");
  }

  absl::Status ParseVersion() {
    RETURN_IF_ERROR(Take(request_.version));
    request_.has_json = !request_.data.empty();
    if (!request_.has_json) return absl::OkStatus();
    if (request_.data.back() != 0) return Wrong("its data ends without a NUL");
    request_.json = {reinterpret_cast<const char*>(request_.data.data()),
                     request_.data.size() - 1};
    request_.data = {};
    return absl::OkStatus();
  }

  absl::Status ParseIrqSet() {
    const IrqSet& set = request_.irq_set;
    RETURN_IF_ERROR(Take(request_.irq_set));
    if (set.argsz < sizeof(IrqSet)) {
      return Wrong("argsz is ", set.argsz, ", at least ", sizeof(IrqSet),
                   " are needed");
    }
    if ((set.flags & kIrqDataMask) == kIrqDataBool) {
      return ExpectSize(sizeof(IrqSet) + uint64_t{set.count});
    }
    request_.data = {};
    return absl::OkStatus();
  }

  absl::Status ParseRegionAccess(bool write) {
    RETURN_IF_ERROR(Take(request_.region));
    const uint32_t count = request_.region.count;
    RETURN_IF_ERROR(CheckTransfer(count));
    return ExpectSize(sizeof(RegionAccess) + (write ? uint64_t{count} : 0));
  }

  absl::Status ParseSmallWrites() {
    uint64_t count = 0;
    RETURN_IF_ERROR(Take(count));
    if (count > kMaxSmallWrites) {
      return Wrong(count, " writes, at most ", kMaxSmallWrites, " are allowed");
    }
    RETURN_IF_ERROR(ExpectSize(sizeof(count) + count * sizeof(SmallWrite)));
    request_.small_writes = static_cast<uint32_t>(count);
    for (size_t i = 0; i < count; ++i) {
      const SmallWrite write = SmallWriteAt(request_, i);
      if (write.count > sizeof(write.data)) {
        return Wrong("write ", i, " has ", write.count, " bytes, not at most ",
                     sizeof(write.data));
      }
    }
    return absl::OkStatus();
  }

  absl::Status ParseFeature() {
    RETURN_IF_ERROR(Take(request_.feature));
    if (request_.feature.argsz < sizeof(DeviceFeature)) {
      return Wrong("argsz is ", request_.feature.argsz, ", at least ",
                   sizeof(DeviceFeature), " are needed");
    }
    return absl::OkStatus();
  }

  absl::Status ParseMigration(bool write) {
    RETURN_IF_ERROR(Take(request_.migration));
    const uint64_t size = request_.migration.size;
    RETURN_IF_ERROR(CheckTransfer(size));
    if (!write && request_.migration.argsz < sizeof(MigrationData) + size) {
      return Wrong("argsz is ", request_.migration.argsz, ", at least ",
                   sizeof(MigrationData) + size, " are needed");
    }
    return ExpectSize(sizeof(MigrationData) + (write ? size : 0));
  }

  absl::Status ParseDmaReadReply() {
    RETURN_IF_ERROR(Take(request_.dma));
    if (request_.dma.count == request_.data.size()) return absl::OkStatus();
    // QEMU 10.2 sends a count of 32 bits and the data right behind it. The two
    // cannot be mistaken: the same bytes cannot count 4 more and 4 less.
    constexpr size_t kOldHeader = sizeof(uint64_t) + sizeof(uint32_t);
    const uint32_t count = static_cast<uint32_t>(request_.dma.count);
    RETURN_IF_ERROR(ExpectSize(kOldHeader + uint64_t{count}));
    request_.dma.count = count;
    request_.data = payload_.subspan(kOldHeader);
    return absl::OkStatus();
  }

  // The specification's table has 12 bytes, its text 16, and QEMU sends none.
  absl::Status ParseDmaWriteReply() {
    if (payload_.empty()) return absl::OkStatus();
    constexpr size_t kShort = sizeof(uint64_t) + sizeof(uint32_t);
    if (payload_.size() != kShort) RETURN_IF_ERROR(ExpectSize(16));
    std::memcpy(&request_.dma, payload_.data(), payload_.size());
    return absl::OkStatus();
  }

  Request& request_;
  const absl::Span<const uint8_t> payload_;
};

}  // namespace

std::string CommandName(Command command) {
  const size_t number = static_cast<size_t>(command);
  if (number < kInfoCount) return std::string(kInfo[number].name);
  return absl::StrCat("command ", number);
}

uint32_t ErrorNumber(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kFailedPrecondition:
      return EINVAL;
    case absl::StatusCode::kAlreadyExists:
      return EEXIST;
    case absl::StatusCode::kNotFound:
      return ENOENT;
    case absl::StatusCode::kResourceExhausted:
      return ENOSPC;
    case absl::StatusCode::kUnimplemented:
      return ENOTSUP;
    case absl::StatusCode::kPermissionDenied:
      return EACCES;
    case absl::StatusCode::kUnavailable:
      return EBUSY;
    default:
      return EIO;
  }
}

absl::StatusOr<size_t> MessageSize(absl::Span<const uint8_t> bytes) {
  MessageHeader header;
  if (bytes.size() < sizeof(header)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a message header has ", sizeof(header), " bytes, not ", bytes.size()));
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  const bool possible =
      header.size >= sizeof(header) && header.size <= kMaxMessageSize;
  return possible ? header.size : sizeof(header);
}

Request Parse(absl::Span<const uint8_t> message, size_t fd_count) {
  Request request;
  MessageHeader header;
  if (message.size() < sizeof(header)) {
    request.boundary_lost = true;
    request.malformed = absl::InvalidArgumentError("less than a header");
    return request;
  }
  std::memcpy(&header, message.data(), sizeof(header));
  request.id = header.id;
  request.command = Command{header.command};
  request.no_reply = (header.flags & kFlagNoReply) != 0;
  request.is_reply = (header.flags & kFlagTypeMask) == kFlagReply;
  if (message.size() != header.size) {
    request.boundary_lost = true;
    request.malformed = absl::InvalidArgumentError(
        absl::StrCat(CommandName(request.command), ": a message of ",
                     header.size, " bytes"));
    return request;
  }
  if ((header.flags & kFlagTypeMask) > kFlagReply) {
    request.malformed = absl::InvalidArgumentError(absl::StrCat(
        CommandName(request.command), ": neither a command nor a reply"));
    return request;
  }
  if (request.is_reply && (header.flags & kFlagError) != 0) {
    request.error = header.error != 0 ? header.error : EIO;
  }
  Request parsed = request;
  parsed.fd_count = fd_count;
  Parser parser(parsed, message.subspan(sizeof(header)));
  request.malformed =
      request.is_reply ? parser.ParseReply() : parser.ParseCommand();
  return request.malformed.ok() ? parsed : request;
}

SmallWrite SmallWriteAt(const Request& request, size_t i) {
  SmallWrite write;
  std::memcpy(&write, request.data.data() + i * sizeof(write), sizeof(write));
  return write;
}

MessageWriter::MessageWriter(absl::Span<uint8_t> out)
    : out_(out), overflow_(out.size() < sizeof(MessageHeader)) {}

absl::Span<uint8_t> MessageWriter::AppendSpace(size_t size) {
  if (overflow_ || out_.size() - size_ < size) {
    overflow_ = true;
    return {};
  }
  const absl::Span<uint8_t> space = out_.subspan(size_, size);
  size_ += size;
  return space;
}

void MessageWriter::AppendBytes(absl::Span<const uint8_t> bytes) {
  const absl::Span<uint8_t> space = AppendSpace(bytes.size());
  if (!space.empty()) std::memcpy(space.data(), bytes.data(), bytes.size());
}

absl::StatusOr<size_t> MessageWriter::FinishReply(const Request& request) {
  MessageHeader header{};
  header.id = request.id;
  header.command = static_cast<uint16_t>(request.command);
  header.flags = kFlagReply;
  return Finish(header);
}

absl::StatusOr<size_t> MessageWriter::FinishCommand(uint16_t id,
                                                    Command command) {
  MessageHeader header{};
  header.id = id;
  header.command = static_cast<uint16_t>(command);
  return Finish(header);
}

absl::StatusOr<size_t> MessageWriter::Finish(MessageHeader header) {
  if (overflow_) {
    return absl::ResourceExhaustedError(
        absl::StrCat(CommandName(Command{header.command}),
                     ": the message does not fit in ", out_.size(), " bytes"));
  }
  header.size = static_cast<uint32_t>(size_);
  std::memcpy(out_.data(), &header, sizeof(header));
  return size_;
}

absl::StatusOr<size_t> EncodeError(const Request& request, uint32_t error,
                                   absl::Span<uint8_t> out) {
  MessageWriter writer(out);
  ASSIGN_OR_RETURN(const size_t size, writer.FinishReply(request));
  if (error != 0) {
    MessageHeader header;
    std::memcpy(&header, out.data(), sizeof(header));
    header.flags |= kFlagError;
    header.error = error;
    std::memcpy(out.data(), &header, sizeof(header));
  }
  return size;
}

absl::StatusOr<size_t> EncodeDmaRead(uint16_t id, const DmaAccess& access,
                                     absl::Span<uint8_t> out) {
  MessageWriter writer(out);
  writer.Append(access);
  return writer.FinishCommand(id, Command::kDmaRead);
}

absl::StatusOr<size_t> EncodeDmaWrite(uint16_t id, uint64_t address,
                                      absl::Span<const uint8_t> data,
                                      absl::Span<uint8_t> out) {
  MessageWriter writer(out);
  writer.Append(DmaAccess{address, data.size()});
  writer.AppendBytes(data);
  return writer.FinishCommand(id, Command::kDmaWrite);
}

}  // namespace holdfast::vfio_user
