#include "devices/vhost_user/codec.h"

#include <cstring>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"

namespace holdfast::vhost_user {
namespace {

enum class Payload {
  kNone,
  kNumber,
  kVringState,
  kVringAddress,
  kMemoryTable,
  kSingleRegion,
  kLog,
  kConfig,
  kInflight,
  kIgnored,  // Not served: whatever follows is skipped.
};

struct RequestInfo {
  RequestType type;
  absl::string_view name;
  Payload payload;
};

// Indexed by number; kInfo[i].type == i is checked by a test.
constexpr RequestInfo kInfo[] = {
    {RequestType{0}, "request 0", Payload::kIgnored},
    {RequestType::kGetFeatures, "GET_FEATURES", Payload::kNone},
    {RequestType::kSetFeatures, "SET_FEATURES", Payload::kNumber},
    {RequestType::kSetOwner, "SET_OWNER", Payload::kNone},
    {RequestType::kResetOwner, "RESET_OWNER", Payload::kNone},
    {RequestType::kSetMemTable, "SET_MEM_TABLE", Payload::kMemoryTable},
    {RequestType::kSetLogBase, "SET_LOG_BASE", Payload::kLog},
    {RequestType::kSetLogFd, "SET_LOG_FD", Payload::kNone},
    {RequestType::kSetVringNum, "SET_VRING_NUM", Payload::kVringState},
    {RequestType::kSetVringAddr, "SET_VRING_ADDR", Payload::kVringAddress},
    {RequestType::kSetVringBase, "SET_VRING_BASE", Payload::kVringState},
    {RequestType::kGetVringBase, "GET_VRING_BASE", Payload::kVringState},
    {RequestType::kSetVringKick, "SET_VRING_KICK", Payload::kNumber},
    {RequestType::kSetVringCall, "SET_VRING_CALL", Payload::kNumber},
    {RequestType::kSetVringErr, "SET_VRING_ERR", Payload::kNumber},
    {RequestType::kGetProtocolFeatures, "GET_PROTOCOL_FEATURES",
     Payload::kNone},
    {RequestType::kSetProtocolFeatures, "SET_PROTOCOL_FEATURES",
     Payload::kNumber},
    {RequestType::kGetQueueNum, "GET_QUEUE_NUM", Payload::kNone},
    {RequestType::kSetVringEnable, "SET_VRING_ENABLE", Payload::kVringState},
    {RequestType::kSendRarp, "SEND_RARP", Payload::kIgnored},
    {RequestType::kNetSetMtu, "NET_SET_MTU", Payload::kIgnored},
    {RequestType::kSetBackendReqFd, "SET_BACKEND_REQ_FD", Payload::kNone},
    {RequestType::kIotlbMsg, "IOTLB_MSG", Payload::kIgnored},
    {RequestType::kSetVringEndian, "SET_VRING_ENDIAN", Payload::kVringState},
    {RequestType::kGetConfig, "GET_CONFIG", Payload::kConfig},
    {RequestType::kSetConfig, "SET_CONFIG", Payload::kConfig},
    {RequestType::kCreateCryptoSession, "CREATE_CRYPTO_SESSION",
     Payload::kIgnored},
    {RequestType::kCloseCryptoSession, "CLOSE_CRYPTO_SESSION",
     Payload::kIgnored},
    {RequestType::kPostcopyAdvise, "POSTCOPY_ADVISE", Payload::kIgnored},
    {RequestType::kPostcopyListen, "POSTCOPY_LISTEN", Payload::kIgnored},
    {RequestType::kPostcopyEnd, "POSTCOPY_END", Payload::kIgnored},
    {RequestType::kGetInflightFd, "GET_INFLIGHT_FD", Payload::kInflight},
    {RequestType::kSetInflightFd, "SET_INFLIGHT_FD", Payload::kInflight},
    {RequestType::kGpuSetSocket, "GPU_SET_SOCKET", Payload::kIgnored},
    {RequestType::kResetDevice, "RESET_DEVICE", Payload::kNone},
    {RequestType::kVringKick, "VRING_KICK", Payload::kIgnored},
    {RequestType::kGetMaxMemSlots, "GET_MAX_MEM_SLOTS", Payload::kNone},
    {RequestType::kAddMemReg, "ADD_MEM_REG", Payload::kSingleRegion},
    {RequestType::kRemMemReg, "REM_MEM_REG", Payload::kSingleRegion},
    {RequestType::kSetStatus, "SET_STATUS", Payload::kNumber},
    {RequestType::kGetStatus, "GET_STATUS", Payload::kNone},
    {RequestType::kGetSharedObject, "GET_SHARED_OBJECT", Payload::kIgnored},
    {RequestType::kSetDeviceStateFd, "SET_DEVICE_STATE_FD", Payload::kIgnored},
    {RequestType::kCheckDeviceState, "CHECK_DEVICE_STATE", Payload::kIgnored},
    {RequestType::kGetShmemConfig, "GET_SHMEM_CONFIG", Payload::kIgnored},
};
constexpr size_t kInfoCount = sizeof(kInfo) / sizeof(kInfo[0]);

constexpr bool InfoIsIndexedByNumber() {
  for (size_t i = 0; i < kInfoCount; ++i) {
    if (static_cast<size_t>(kInfo[i].type) != i) return false;
  }
  return true;
}
static_assert(InfoIsIndexedByNumber());

Payload PayloadOf(RequestType type) {
  const size_t number = static_cast<size_t>(type);
  return number < kInfoCount ? kInfo[number].payload : Payload::kIgnored;
}

absl::Status WrongSize(RequestType type, size_t got, size_t want) {
  return absl::InvalidArgumentError(absl::StrCat(
      RequestName(type), ": the payload is ", got, " bytes, not ", want));
}

// Copies a payload that must be exactly one T.
template <typename T>
absl::Status ReadExact(RequestType type, absl::Span<const uint8_t> payload,
                       T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (payload.size() != sizeof(T)) {
    return WrongSize(type, payload.size(), sizeof(T));
  }
  std::memcpy(&value, payload.data(), sizeof(T));
  return absl::OkStatus();
}

absl::Status ReadMemoryTable(absl::Span<const uint8_t> payload,
                             Request& request) {
  MemoryTableHeader header;
  if (payload.size() < sizeof(header)) {
    return WrongSize(request.type, payload.size(), sizeof(header));
  }
  std::memcpy(&header, payload.data(), sizeof(header));
  if (header.count > kMaxTableRegions) {
    return absl::InvalidArgumentError(
        absl::StrCat(RequestName(request.type), ": ", header.count,
                     " regions, at most ", kMaxTableRegions, " are allowed"));
  }
  const size_t size = sizeof(header) + header.count * sizeof(MemoryRegion);
  if (payload.size() != size) {
    return WrongSize(request.type, payload.size(), size);
  }
  std::memcpy(request.regions, payload.data() + sizeof(header),
              header.count * sizeof(MemoryRegion));
  request.region_count = header.count;
  return absl::OkStatus();
}

absl::Status ReadConfig(absl::Span<const uint8_t> payload, Request& request) {
  if (payload.size() < sizeof(ConfigHeader)) {
    return WrongSize(request.type, payload.size(), sizeof(ConfigHeader));
  }
  std::memcpy(&request.config, payload.data(), sizeof(ConfigHeader));
  if (request.config.size > kMaxConfigAccess) {
    return absl::InvalidArgumentError(absl::StrCat(
        RequestName(request.type), ": an access of ", request.config.size,
        " bytes, at most ", kMaxConfigAccess, " are allowed"));
  }
  const size_t size = sizeof(ConfigHeader) + request.config.size;
  if (payload.size() != size) {
    return WrongSize(request.type, payload.size(), size);
  }
  std::memcpy(request.config_bytes, payload.data() + sizeof(ConfigHeader),
              request.config.size);
  return absl::OkStatus();
}

absl::Status ReadPayload(absl::Span<const uint8_t> payload, Request& request) {
  switch (PayloadOf(request.type)) {
    case Payload::kNone:
      if (!payload.empty()) return WrongSize(request.type, payload.size(), 0);
      return absl::OkStatus();
    case Payload::kNumber:
      return ReadExact(request.type, payload, request.value);
    case Payload::kVringState:
      return ReadExact(request.type, payload, request.vring);
    case Payload::kVringAddress:
      return ReadExact(request.type, payload, request.address);
    case Payload::kMemoryTable:
      return ReadMemoryTable(payload, request);
    case Payload::kSingleRegion: {
      SingleMemoryRegion single{};
      RETURN_IF_ERROR(ReadExact(request.type, payload, single));
      request.regions[0] = single.region;
      request.region_count = 1;
      return absl::OkStatus();
    }
    case Payload::kLog:
      return ReadExact(request.type, payload, request.log);
    case Payload::kConfig:
      return ReadConfig(payload, request);
    case Payload::kInflight:
      return ReadExact(request.type, payload, request.inflight);
    case Payload::kIgnored:
      request.supported = false;
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::StatusOr<size_t> Encode(uint32_t request, uint32_t flags,
                              absl::Span<const uint8_t> payload,
                              absl::Span<uint8_t> out) {
  const MessageHeader header{request, flags,
                             static_cast<uint32_t>(payload.size())};
  const size_t size = sizeof(header) + payload.size();
  if (out.size() < size || payload.size() > kMaxPayloadSize) {
    return absl::InvalidArgumentError(absl::StrCat("a message of ", size,
                                                   " bytes does not fit in ",
                                                   out.size(), " bytes"));
  }
  std::memcpy(out.data(), &header, sizeof(header));
  if (!payload.empty()) {
    std::memcpy(out.data() + sizeof(header), payload.data(), payload.size());
  }
  return size;
}

template <typename T>
absl::Span<const uint8_t> BytesOf(const T& value) {
  static_assert(std::has_unique_object_representations_v<T>);
  return {reinterpret_cast<const uint8_t*>(&value), sizeof(value)};
}

}  // namespace

std::string RequestName(RequestType type) {
  const size_t number = static_cast<size_t>(type);
  if (number < kInfoCount) return std::string(kInfo[number].name);
  return absl::StrCat("request ", number);
}

absl::StatusOr<size_t> MessageSize(absl::Span<const uint8_t> bytes) {
  MessageHeader header;
  if (bytes.size() < sizeof(header)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a message header has ", sizeof(header), " bytes, not ", bytes.size()));
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  const RequestType type{header.request};
  const uint32_t version = header.flags & kFlagVersionMask;
  if (version != kVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat(RequestName(type), ": protocol version ", version,
                     ", only version ", kVersion, " is understood"));
  }
  if ((header.flags & kFlagReply) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        RequestName(type), ": a request with the flag of a reply"));
  }
  if (header.size > kMaxPayloadSize) {
    return absl::InvalidArgumentError(
        absl::StrCat(RequestName(type), ": a payload of ", header.size,
                     " bytes, at most ", kMaxPayloadSize, " are allowed"));
  }
  return sizeof(header) + header.size;
}

absl::StatusOr<Request> Parse(absl::Span<const uint8_t> message) {
  ASSIGN_OR_RETURN(const size_t size, MessageSize(message));
  MessageHeader header;
  std::memcpy(&header, message.data(), sizeof(header));
  Request request;
  request.type = RequestType{header.request};
  request.need_reply = (header.flags & kFlagNeedReply) != 0;
  if (message.size() != size) {
    return absl::InvalidArgumentError(
        absl::StrCat(RequestName(request.type), ": ", message.size(),
                     " bytes of a message of ", size));
  }
  RETURN_IF_ERROR(ReadPayload(message.subspan(sizeof(header)), request));
  return request;
}

absl::StatusOr<size_t> EncodeReply(RequestType type,
                                   absl::Span<const uint8_t> payload,
                                   absl::Span<uint8_t> out) {
  return Encode(static_cast<uint32_t>(type), kVersion | kFlagReply, payload,
                out);
}

absl::StatusOr<size_t> EncodeReply(RequestType type, uint64_t value,
                                   absl::Span<uint8_t> out) {
  return EncodeReply(type, BytesOf(value), out);
}

absl::StatusOr<size_t> EncodeReply(RequestType type, const VringState& value,
                                   absl::Span<uint8_t> out) {
  return EncodeReply(type, BytesOf(value), out);
}

absl::StatusOr<size_t> EncodeReply(RequestType type,
                                   const InflightDescription& value,
                                   absl::Span<uint8_t> out) {
  return EncodeReply(type, BytesOf(value), out);
}

absl::StatusOr<size_t> EncodeBackendRequest(BackendRequestType type,
                                            bool need_reply,
                                            absl::Span<uint8_t> out) {
  return Encode(static_cast<uint32_t>(type),
                kVersion | (need_reply ? kFlagNeedReply : 0), {}, out);
}

}  // namespace holdfast::vhost_user
