#ifndef HOLDFAST_DEVICES_VFIO_USER_ANSWERS_H_
#define HOLDFAST_DEVICES_VFIO_USER_ANSWERS_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "devices/vfio_user/ask_journal.h"
#include "devices/vfio_user/message.h"
#include "devices/vfio_user/server.h"
#include "statestore/lane.h"

namespace holdfast::vfio_user {

// What a client sends on the second socket of its connection (`twin_socket`):
// answers to requests of ours, and nothing else. A lane of its own has this
// handler, so that the stream stays whole across deaths; its bank says nothing,
// and it sends nothing. Our requests go out between its messages (AskJournal).
//
// A message that is no answer, or whose size is impossible, is an error of
// Lane::Run: the connection is over. Makes no system call itself. One thread.
class AnswerReader final : public LaneHandler {
 public:
  // Of the lane that it runs on: no answer is longer.
  static constexpr LaneSizes Sizes() {
    return {/*bank=*/8,
            /*max_message=*/sizeof(MessageHeader) + sizeof(DmaAccess) +
                kMaxAskBytes,
            /*max_reply=*/8};
  }

  // Answers are for environment.Take(). It outlives the reader.
  explicit AnswerReader(ServerEnvironment& environment)
      : environment_(environment) {}

  // LaneHandler.
  size_t header_size() const override { return sizeof(MessageHeader); }
  absl::StatusOr<size_t> MessageSize(
      absl::Span<const uint8_t> header) const override;
  // Nobody wants descriptors with an answer: they are closed.
  absl::Status Escrow(absl::Span<const uint8_t>,
                      absl::Span<UniqueFd>) override {
    return absl::OkStatus();
  }
  absl::StatusOr<Outcome> Execute(absl::Span<const uint8_t> message,
                                  size_t fd_count,
                                  absl::Span<const uint8_t> old_bank,
                                  absl::Span<uint8_t> new_bank,
                                  absl::Span<uint8_t> reply,
                                  uint32_t attempts) override;
  void Committed(absl::Span<const uint8_t>) override {}
  absl::Span<const int> ReplyFds(absl::Span<const uint8_t>) override {
    return {};
  }

 private:
  ServerEnvironment& environment_;
};

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_ANSWERS_H_
