#ifndef HOLDFAST_DEVICES_VHOST_USER_FRONT_END_CODEC_H_
#define HOLDFAST_DEVICES_VHOST_USER_FRONT_END_CODEC_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "devices/vhost_user/message.h"

namespace holdfast::vhost_user {

// The other side of codec.h: what a front-end says to a back-end that somebody
// else has written, and what it hears. Pure; every function is thread-safe and
// trusts no byte of the back-end's.

// Writes a request and returns its size. kInvalidArgument when `out` is too
// small, or the payload larger than kMaxPayloadSize.
absl::StatusOr<size_t> EncodeRequest(RequestType type, bool need_reply,
                                     absl::Span<const uint8_t> payload,
                                     absl::Span<uint8_t> out);

// The reply to one request. Which member is meaningful follows from the request
// that was sent; the others are zero.
struct Answer {
  uint64_t value = 0;     // A number, or an acknowledgement: 0 is success.
  VringState vring{};     // GET_VRING_BASE.
  ConfigHeader config{};  // GET_CONFIG ...
  uint8_t config_bytes[kMaxConfigAccess] = {};  // ... config.size of these.
};

// The size of the whole reply to `asked` that begins with these bytes, at least
// a header's worth. kInvalidArgument: it is no reply to that; the stream must
// be given up.
absl::StatusOr<size_t> AnswerSize(RequestType asked,
                                  absl::Span<const uint8_t> header);

// Reads one whole reply to `asked`, exactly AnswerSize() bytes.
// `acknowledgement`: the request has no reply of its own but asked for one.
// kInvalidArgument: the payload is not what the request's reply has.
absl::StatusOr<Answer> ParseAnswer(RequestType asked, bool acknowledgement,
                                   absl::Span<const uint8_t> message);

// One request of the back-end (on the channel of SET_BACKEND_REQ_FD), of any
// type: the header is all that is looked at. As codec.h's MessageSize.
struct BackendRequest {
  BackendRequestType type{};
  bool need_reply = false;
  size_t size = 0;  // Of the whole message.
};
absl::StatusOr<BackendRequest> ParseBackendRequest(
    absl::Span<const uint8_t> message);

}  // namespace holdfast::vhost_user

#endif  // HOLDFAST_DEVICES_VHOST_USER_FRONT_END_CODEC_H_
