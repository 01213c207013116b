#include "devices/vhost_user/front_end_codec.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "devices/vhost_user/codec.h"

namespace holdfast::vhost_user {
namespace {

absl::Status WrongAnswer(RequestType asked, size_t got) {
  return absl::InvalidArgumentError(absl::StrCat(
      "the back-end's reply to ", RequestName(asked), " has ", got, " bytes"));
}

absl::Status ReadConfigAnswer(absl::Span<const uint8_t> payload,
                              Answer& answer) {
  // A back-end that has no such bytes answers with nothing, or with none.
  if (payload.empty()) return absl::OkStatus();
  if (payload.size() < sizeof(ConfigHeader)) {
    return WrongAnswer(RequestType::kGetConfig, payload.size());
  }
  std::memcpy(&answer.config, payload.data(), sizeof(ConfigHeader));
  if (answer.config.size == 0) return absl::OkStatus();
  if (answer.config.size > kMaxConfigAccess ||
      payload.size() != sizeof(ConfigHeader) + answer.config.size) {
    return WrongAnswer(RequestType::kGetConfig, payload.size());
  }
  std::memcpy(answer.config_bytes, payload.data() + sizeof(ConfigHeader),
              answer.config.size);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<size_t> EncodeRequest(RequestType type, bool need_reply,
                                     absl::Span<const uint8_t> payload,
                                     absl::Span<uint8_t> out) {
  const MessageHeader header{static_cast<uint32_t>(type),
                             kVersion | (need_reply ? kFlagNeedReply : 0),
                             static_cast<uint32_t>(payload.size())};
  const size_t size = sizeof(header) + payload.size();
  if (payload.size() > kMaxPayloadSize || out.size() < size) {
    return absl::InvalidArgumentError(absl::StrCat(
        RequestName(type), ": ", size, " bytes do not fit in ", out.size()));
  }
  std::memcpy(out.data(), &header, sizeof(header));
  if (!payload.empty()) {
    std::memcpy(out.data() + sizeof(header), payload.data(), payload.size());
  }
  return size;
}

absl::StatusOr<size_t> AnswerSize(RequestType asked,
                                  absl::Span<const uint8_t> bytes) {
  MessageHeader header;
  if (bytes.size() < sizeof(header)) return WrongAnswer(asked, bytes.size());
  std::memcpy(&header, bytes.data(), sizeof(header));
  if ((header.flags & kFlagVersionMask) != kVersion ||
      (header.flags & kFlagReply) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("the back-end's reply to ", RequestName(asked),
                     " has flags 0x", absl::Hex(header.flags)));
  }
  if (header.request != static_cast<uint32_t>(asked)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the back-end replies to ", RequestName(RequestType{header.request}),
        " instead of ", RequestName(asked)));
  }
  if (header.size > kMaxPayloadSize) return WrongAnswer(asked, header.size);
  return sizeof(header) + header.size;
}

absl::StatusOr<Answer> ParseAnswer(RequestType asked, bool acknowledgement,
                                   absl::Span<const uint8_t> message) {
  ASSIGN_OR_RETURN(const size_t size, AnswerSize(asked, message));
  if (message.size() != size) return WrongAnswer(asked, message.size());
  const absl::Span<const uint8_t> payload =
      message.subspan(sizeof(MessageHeader));
  Answer answer;
  if (!acknowledgement && asked == RequestType::kGetConfig) {
    RETURN_IF_ERROR(ReadConfigAnswer(payload, answer));
    return answer;
  }
  if (!acknowledgement && asked == RequestType::kGetVringBase) {
    if (payload.size() != sizeof(answer.vring)) {
      return WrongAnswer(asked, payload.size());
    }
    std::memcpy(&answer.vring, payload.data(), sizeof(answer.vring));
    return answer;
  }
  if (payload.size() != sizeof(answer.value)) {
    return WrongAnswer(asked, payload.size());
  }
  std::memcpy(&answer.value, payload.data(), sizeof(answer.value));
  return answer;
}

absl::StatusOr<BackendRequest> ParseBackendRequest(
    absl::Span<const uint8_t> message) {
  ASSIGN_OR_RETURN(const size_t size, MessageSize(message));
  if (message.size() != size) {
    return absl::InvalidArgumentError("half a request of the back-end");
  }
  MessageHeader header;
  std::memcpy(&header, message.data(), sizeof(header));
  BackendRequest request;
  request.type = BackendRequestType{header.request};
  request.size = size;
  request.need_reply = (header.flags & kFlagNeedReply) != 0;
  return request;
}

}  // namespace holdfast::vhost_user
