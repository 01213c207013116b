#ifndef HOLDFAST_STATESTORE_TESTING_LANE_FIXTURE_SYS_H_
#define HOLDFAST_STATESTORE_TESTING_LANE_FIXTURE_SYS_H_

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/shm_sys.h"
#include "base/unique_fd.h"
#include "base/unix_socket_sys.h"
#include "gtest/gtest.h"
#include "statestore/lane.h"
#include "statestore/lane_format.h"
#include "statestore/lane_io.h"
#include "statestore/lane_sys.h"
#include "statestore/testing/lane_toy.h"

namespace holdfast::testing {

// The real system calls, for tests that change one of them.
class ForwardingIo : public LaneIo {
 public:
  explicit ForwardingIo(BorrowedFd fd) : socket_(fd) {}
  absl::StatusOr<Peeked> Peek(absl::Span<uint8_t> into) override {
    return socket_.Peek(into);
  }
  absl::StatusOr<Peeked> PeekWithFds(absl::Span<uint8_t> into,
                                     std::vector<UniqueFd>& fds) override {
    return socket_.PeekWithFds(into, fds);
  }
  absl::StatusOr<int> PeekOffset() override { return socket_.PeekOffset(); }
  absl::Status SetPeekOffset(size_t offset) override {
    return socket_.SetPeekOffset(offset);
  }
  absl::StatusOr<Taken> Receive(LaneEntry& entry, LaneVector& vector,
                                absl::Span<uint8_t> into) override {
    return socket_.Receive(entry, vector, into);
  }
  absl::StatusOr<Result> Send(LaneEntry& entry, LaneVector& vector,
                              absl::Span<const uint8_t> bytes,
                              absl::Span<const int> fds) override {
    return socket_.Send(entry, vector, bytes, fds);
  }
  absl::Status WaitWritable() override { return socket_.WaitWritable(); }

 private:
  LaneSocket socket_;
};

// A section, a connection and the store's end of an escrow channel. Outlives
// the "processes", which are Lane objects.
class LaneTest : public ::testing::Test {
 protected:
  LaneTest() {
    memfd_ = std::move(*CreateSealedMemfd("lane", LaneSize(kToySizes)));
    mapping_ = std::move(
        *MapShared(memfd_, 0, LaneSize(kToySizes), MapAccess::kReadWrite));
    Connect();
    auto pair = SeqpacketPair();
    store_ = std::move(pair->first);
    store_far_end_ = std::move(pair->second);
    gift_.Reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
  }

  void Connect() {
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    client_.Reset(pair[0]);
    server_.Reset(pair[1]);
  }

  absl::StatusOr<Lane> Attach(uint64_t epoch = 1) {
    return Lane::Attach(mapping_.span(), kToySizes, epoch);
  }
  LaneHeader& header() {
    return *reinterpret_cast<LaneHeader*>(mapping_.data());
  }
  ToyHandler NewHandler() { return ToyHandler(store_, gift_); }

  void Send(absl::Span<const uint8_t> bytes, std::vector<int> fds = {}) {
    iovec vector{const_cast<uint8_t*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) char control[256] = {};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
      cmsghdr* c = CMSG_FIRSTHDR(&message);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
      std::memcpy(CMSG_DATA(c), fds.data(), fds.size() * sizeof(int));
    }
    ASSERT_EQ(sendmsg(client_.get(), &message, MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }

  // All that the client can read now.
  std::vector<uint8_t> Receive() {
    std::vector<uint8_t> all(1 << 20);
    const ssize_t n = recv(client_.get(), all.data(), all.size(), MSG_DONTWAIT);
    all.resize(n < 0 ? 0 : n);
    return all;
  }

  // Ids of the messages whose descriptors the store has.
  std::vector<ToyEscrow> Escrowed() {
    std::vector<ToyEscrow> all;
    ToyEscrow note;
    ReceivedFds fds;
    while (recv(store_far_end_.get(), &note, sizeof(note), MSG_DONTWAIT) ==
           sizeof(note)) {
      all.push_back(note);
    }
    return all;
  }

  static std::vector<uint8_t> Message(uint32_t id, uint32_t size = 24,
                                      uint32_t reply = sizeof(ToyReply),
                                      uint16_t fds = 0, uint16_t flags = 0) {
    return ToyMessage({size, id, reply, fds, flags, id * 17});
  }

  // What the client must see after `message`; keeps the model's bank.
  std::vector<uint8_t> Expected(absl::Span<const uint8_t> message) {
    model_ = ToyAdvance(model_, message);
    return ToyExpectedReply(message, model_);
  }

  static int OpenDescriptors() {
    int count = 0;
    for (int fd = 0; fd < 256; ++fd) count += fcntl(fd, F_GETFD) >= 0;
    return count;
  }

  UniqueFd memfd_, client_, server_, store_, store_far_end_, gift_;
  Mapping mapping_;
  ToyBank model_{};
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_STATESTORE_TESTING_LANE_FIXTURE_SYS_H_
