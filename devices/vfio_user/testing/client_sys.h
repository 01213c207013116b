#ifndef HOLDFAST_DEVICES_VFIO_USER_TESTING_CLIENT_SYS_H_
#define HOLDFAST_DEVICES_VFIO_USER_TESTING_CLIENT_SYS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "devices/vfio_user/message.h"
#include "devices/vfio_user/testing/message_builder.h"

namespace holdfast::vfio_user {

// A vfio-user client that believes nothing: each reply must be the one that was
// asked for, in order, and nothing else may come. Waits at most 20 s for one.
// An error is kUnknown with the errno that the server gave, or kInternal: the
// server broke the protocol. Threads: one.
class Client {
 public:
  static absl::StatusOr<std::unique_ptr<Client>> Connect(
      const std::string& path);
  static std::unique_ptr<Client> Adopt(UniqueFd socket);

  BorrowedFd socket() const { return socket_; }

  // Sends a command and waits for its reply, whose payload it returns.
  absl::StatusOr<Bytes> Ask(Command command, const Bytes& payload,
                            const std::vector<int>& fds = {});
  // Sends a command that wants no reply.
  absl::Status Post(Command command, const Bytes& payload);
  // The descriptors that came with the last reply.
  std::vector<UniqueFd>& reply_fds() { return reply_fds_; }

  // `twin`: it takes a second socket for the server's requests, if it is
  // offered one.
  absl::Status Negotiate(bool twin = false);
  // Invalid: there is none.
  BorrowedFd twin() const { return twin_; }
  // Memory that has no descriptor: `bytes` is the server's to ask for, by
  // message, from `address` on. Its requests are answered whenever a reply is
  // awaited, in order, and must keep to what was granted. Outlives the client.
  absl::Status MapByMessage(uint64_t address, absl::Span<uint8_t> bytes);
  // Answers requests, without a reply to wait for, until `count` were answered.
  absl::Status AnswerAsks(size_t count);
  // From now on requests are taken and not answered, until false is said.
  void HoldAnswers(bool hold) { hold_ = hold; }
  absl::Status AnswerHeld();
  size_t held() const { return held_asks_.size(); }
  // Requests refused from now on get this errno; 0: none are.
  void RefuseAsks(uint32_t error) { refuse_ = error; }
  uint64_t asks() const { return asks_; }

  // Up to 8 bytes of a region.
  absl::StatusOr<uint64_t> Read(uint32_t region, uint64_t offset,
                                uint32_t size);
  absl::Status Write(uint32_t region, uint64_t offset, uint64_t value,
                     uint32_t size);
  absl::Status PostWrite(uint32_t region, uint64_t offset, uint64_t value,
                         uint32_t size);
  // Grants the device `size` bytes of `file` from `offset` on.
  absl::Status Map(uint64_t address, BorrowedFd file, uint64_t offset,
                   uint64_t size);
  absl::Status Unmap(uint64_t address, uint64_t size);
  // An eventfd, non-blocking, that the device signals from now on.
  absl::StatusOr<UniqueFd> Listen(uint32_t irq, uint32_t vector);

 private:
  explicit Client(UniqueFd socket) : socket_(std::move(socket)) {}
  absl::Status Send(Command command, uint32_t flags, const Bytes& payload,
                    const std::vector<int>& fds);
  // Where the server asks.
  BorrowedFd ask_socket() const {
    return twin_.valid() ? BorrowedFd(twin_) : BorrowedFd(socket_);
  }
  absl::Status Receive(BorrowedFd from, uint8_t* out, size_t size);
  absl::StatusOr<MessageHeader> ReceiveHeader(BorrowedFd from);
  absl::StatusOr<MessageHeader> ReceiveReply();
  absl::StatusOr<bool> AwaitEither();
  absl::Status TakeNextAsk();
  absl::Status TakeAsk(const MessageHeader& header);
  absl::Status Answer(const MessageHeader& header, const Bytes& payload);

  // A range that the server may ask for.
  struct Range {
    uint64_t address;
    absl::Span<uint8_t> bytes;
  };
  struct HeldAsk {
    MessageHeader header;
    Bytes payload;
  };
  UniqueFd socket_;
  UniqueFd twin_;
  uint16_t id_ = 0;
  std::vector<Range> ranges_;
  std::vector<HeldAsk> held_asks_;
  bool hold_ = false;
  uint32_t refuse_ = 0;
  uint64_t asks_ = 0;  // Requests of the server, so far.
  std::vector<UniqueFd> reply_fds_;
};

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_TESTING_CLIENT_SYS_H_
