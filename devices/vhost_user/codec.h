#ifndef HOLDFAST_DEVICES_VHOST_USER_CODEC_H_
#define HOLDFAST_DEVICES_VHOST_USER_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "devices/vhost_user/message.h"

namespace holdfast::vhost_user {

// Bytes <-> types. Pure; every function is thread-safe and trusts no byte.

// One message of the front-end with its payload checked for size. Which member
// is meaningful follows from `type`; the others are zero. What the numbers mean
// (queue exists, region is valid) is session.h's business.
struct Request {
  RequestType type{};
  bool need_reply = false;
  // A number that session.h does not serve. Its payload is not looked at.
  bool supported = true;

  uint64_t value = 0;      // All whose payload is one 64-bit number.
  VringState vring{};      // SET_VRING_NUM, BASE, ENABLE, ENDIAN,
                           // GET_VRING_BASE.
  VringAddress address{};  // SET_VRING_ADDR.
  MemoryRegion regions[kMaxTableRegions] = {};  // SET_MEM_TABLE; the first one:
  size_t region_count = 0;                      // ADD_ and REM_MEM_REG.
  LogDescription log{};                         // SET_LOG_BASE.
  InflightDescription inflight{};               // GET_ and SET_INFLIGHT_FD.
  ConfigHeader config{};                        // GET_ and SET_CONFIG ...
  uint8_t config_bytes[kMaxConfigAccess] = {};  // ... config.size of these.

  // SET_VRING_KICK, CALL, ERR: the queue, and whether a descriptor is there.
  uint16_t vring_index() const {
    return static_cast<uint16_t>(value & kVringIndexMask);
  }
  bool vring_has_fd() const { return (value & kVringNoFd) == 0; }
};

// "SET_MEM_TABLE", or "request 99" for a number without a name.
std::string RequestName(RequestType type);

// The size of the whole message that begins with these bytes, at least a
// header's worth of them. kInvalidArgument: too few bytes, a version other than
// 1, the reply flag, or a payload beyond kMaxPayloadSize. After an error the
// stream has no message boundary any more and must be given up. Numbers that
// nobody knows are accepted here, so that they can be refused politely.
absl::StatusOr<size_t> MessageSize(absl::Span<const uint8_t> header);

// Reads one whole message, exactly MessageSize() bytes. kInvalidArgument, with
// the message's name and both sizes, when the payload is not exactly what the
// type says.
absl::StatusOr<Request> Parse(absl::Span<const uint8_t> message);

// No reply is larger: GET_CONFIG of kMaxConfigAccess bytes.
inline constexpr size_t kMaxReplySize =
    sizeof(MessageHeader) + sizeof(ConfigHeader) + kMaxConfigAccess;

// Writes a reply to `type` with this payload and returns its size.
// kInvalidArgument when `out` is too small.
absl::StatusOr<size_t> EncodeReply(RequestType type,
                                   absl::Span<const uint8_t> payload,
                                   absl::Span<uint8_t> out);
absl::StatusOr<size_t> EncodeReply(RequestType type, uint64_t value,
                                   absl::Span<uint8_t> out);
absl::StatusOr<size_t> EncodeReply(RequestType type, const VringState& value,
                                   absl::Span<uint8_t> out);
absl::StatusOr<size_t> EncodeReply(RequestType type,
                                   const InflightDescription& value,
                                   absl::Span<uint8_t> out);

// Writes a request of the back-end without payload and returns its size.
absl::StatusOr<size_t> EncodeBackendRequest(BackendRequestType type,
                                            bool need_reply,
                                            absl::Span<uint8_t> out);

}  // namespace holdfast::vhost_user

#endif  // HOLDFAST_DEVICES_VHOST_USER_CODEC_H_
