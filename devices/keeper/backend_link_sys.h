#ifndef HOLDFAST_DEVICES_KEEPER_BACKEND_LINK_SYS_H_
#define HOLDFAST_DEVICES_KEEPER_BACKEND_LINK_SYS_H_

#include <cstddef>
#include <cstdint>
#include <deque>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "devices/vhost_user/front_end_codec.h"
#include "devices/vhost_user/message.h"

namespace holdfast::keeper {

// A conversation with one life of a back-end: questions one at a time, commands
// one behind the other. The back-end is not trusted: what it says is checked,
// and how long it may take is bounded.
//
// Threads: one. Every error means that this life is of no use any more.
class BackendLink {
 public:
  // How long a back-end may take for one answer. Longer than any that lives
  // takes to finish the requests of a ring, shorter than what a guest's driver
  // waits for its disk (30 s).
  static constexpr int kPatienceMs = 10'000;
  void SetPatience(int milliseconds) { patience_ms_ = milliseconds; }

  // `socket` is borrowed, connected and outlives the conversation.
  explicit BackendLink(BorrowedFd socket) : socket_(socket) {}

  BorrowedFd socket() const { return socket_; }
  // The same connection by another descriptor.
  void SetSocket(BorrowedFd socket) { socket_ = socket; }

  // After SET_PROTOCOL_FEATURES: whether REPLY_ACK was acknowledged. Without it
  // Command returns when the request is sent; Sync then waits for all of them.
  void SetAcknowledges(bool acknowledges) { acknowledges_ = acknowledges; }

  // How many commands may be said ahead. What lies in the two sockets is far
  // below what any of them holds, so neither side waits for the other to read.
  static constexpr size_t kMostAhead = 32;

  // A request that has no answer of its own. kAborted: the back-end says no.
  absl::Status Command(vhost_user::RequestType type,
                       absl::Span<const uint8_t> payload = {},
                       absl::Span<const int> fds = {});
  // The same without waiting for its acknowledgement: errors may be of commands
  // before it. Collect, before anything else is said that relies on it.
  absl::Status CommandAhead(vhost_user::RequestType type,
                            absl::Span<const uint8_t> payload = {},
                            absl::Span<const int> fds = {});
  // Takes the acknowledgements of all commands. kAborted names the first one
  // that the back-end refuses.
  absl::Status Collect();
  // A request that has one. All commands were collected.
  absl::StatusOr<vhost_user::Answer> Ask(
      vhost_user::RequestType type, absl::Span<const uint8_t> payload = {});
  // The two halves of that: nothing else is said in between.
  absl::Status Request(vhost_user::RequestType type,
                       absl::Span<const uint8_t> payload = {}) {
    return Send(type, /*need_reply=*/false, payload, {});
  }
  absl::StatusOr<vhost_user::Answer> AwaitAnswer(vhost_user::RequestType type) {
    return Receive(type, /*acknowledgement=*/false);
  }

  // Returns when everything that was said has been executed.
  absl::Status Sync();

  // Whether the other end has closed, or says something that nobody has asked.
  bool IsOver() const;

 private:
  absl::Status Send(vhost_user::RequestType type, bool need_reply,
                    absl::Span<const uint8_t> payload,
                    absl::Span<const int> fds);
  absl::StatusOr<vhost_user::Answer> Receive(vhost_user::RequestType asked,
                                             bool acknowledgement);
  absl::Status ReceiveExactly(absl::Span<uint8_t> bytes);
  // Takes the oldest acknowledgement.
  absl::Status CollectOne();
  // False: nothing has happened for as long as a back-end may take.
  bool Await(short events) const;

  BorrowedFd socket_;
  bool acknowledges_ = false;
  // Commands that will be acknowledged, in their order.
  std::deque<vhost_user::RequestType> ahead_;
  int patience_ms_ = kPatienceMs;
};

}  // namespace holdfast::keeper

#endif  // HOLDFAST_DEVICES_KEEPER_BACKEND_LINK_SYS_H_
