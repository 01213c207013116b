#include "devices/vfio_user/answers.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "devices/vfio_user/codec.h"
#include "devices/vfio_user/session.h"

namespace holdfast::vfio_user {

absl::StatusOr<size_t> AnswerReader::MessageSize(
    absl::Span<const uint8_t> header) const {
  return vfio_user::MessageSize(header);
}

absl::StatusOr<LaneHandler::Outcome> AnswerReader::Execute(
    absl::Span<const uint8_t> message, size_t fd_count,
    absl::Span<const uint8_t> /*old_bank*/, absl::Span<uint8_t> /*new_bank*/,
    absl::Span<uint8_t> /*reply*/, uint32_t /*attempts*/) {
  const Request request = Parse(message, fd_count);
  if (request.boundary_lost || !request.is_reply) {
    return absl::InvalidArgumentError(
        absl::StrCat(CommandName(request.command),
                     " on the second socket, where only answers belong"));
  }
  TakeAnswer(AnswerIn(request), environment_);
  return Outcome();
}

}  // namespace holdfast::vfio_user
