#include "launcher/by_path_sys.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "base/unique_fd.h"
#include "base/unix_socket_sys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

using ::holdfast::testing::IsOkAndHolds;
using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

std::pair<UniqueFd, UniqueFd> Pair() {
  auto pair = StreamPair();
  EXPECT_OK(pair);
  return *std::move(pair);
}

// A message of that type with so many bytes after its header.
std::vector<uint8_t> Message(uint32_t type, uint32_t size) {
  std::vector<uint8_t> bytes(12 + size, static_cast<uint8_t>(type));
  const uint32_t header[] = {type, 1, size};
  std::memcpy(bytes.data(), header, sizeof(header));
  return bytes;
}

class CarryTest : public ::testing::Test {
 protected:
  CarryTest() {
    std::tie(vmm_, from_) = Pair();
    std::tie(to_, program_) = Pair();
  }
  void Send(const std::vector<uint8_t>& bytes, std::vector<int> fds = {}) {
    ASSERT_EQ(SendFds(vmm_, bytes, fds, 0), static_cast<ssize_t>(bytes.size()));
  }
  // What one look of the program finds, and how many descriptors with it.
  std::pair<std::vector<uint8_t>, size_t> Receive(size_t at_most) {
    std::vector<uint8_t> bytes(at_most);
    UniqueFd fds[kMaxMessageFds];
    const Received got =
        ReceiveFds(program_, absl::MakeSpan(bytes), fds, MSG_DONTWAIT);
    bytes.resize(static_cast<size_t>(std::max<ssize_t>(got.size, 0)));
    return {bytes, got.fd_count};
  }

  UniqueFd vmm_, from_, to_, program_;
};

TEST_F(CarryTest, AMessageArrivesAsItWasSent) {
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  Send(Message(12, 8), {event.get(), event.get()});
  EXPECT_THAT(CarryMessage(from_, to_), IsOkAndHolds(true));
  const auto [bytes, fds] = Receive(100);
  EXPECT_EQ(bytes, Message(12, 8));
  EXPECT_EQ(fds, 2u);
}

// Whoever reads as much as there is gets the second message's descriptors with
// the first one's bytes.
TEST_F(CarryTest, DescriptorsStayWithTheirMessage) {
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  Send(Message(1, 0));
  Send(Message(13, 8), {event.get()});
  EXPECT_THAT(CarryMessage(from_, to_), IsOkAndHolds(true));
  EXPECT_EQ(Receive(100).second, 0u);
  EXPECT_THAT(CarryMessage(from_, to_), IsOkAndHolds(true));
  const auto [bytes, fds] = Receive(100);
  EXPECT_EQ(bytes, Message(13, 8));
  EXPECT_EQ(fds, 1u);
}

TEST_F(CarryTest, AMessageInPiecesIsWaitedFor) {
  const std::vector<uint8_t> message = Message(24, 300);
  std::thread slowly([&] {
    for (const uint8_t byte : message) Send({byte});
  });
  EXPECT_THAT(CarryMessage(from_, to_), IsOkAndHolds(true));
  slowly.join();
  EXPECT_EQ(Receive(1000).first, message);
}

TEST_F(CarryTest, AnEndIsAnEndEvenWithinAMessage) {
  Send({1, 2, 3});
  vmm_.Reset();
  EXPECT_THAT(CarryMessage(from_, to_), IsOkAndHolds(false));
  EXPECT_EQ(Receive(100).first.size(), 0u);
}

TEST_F(CarryTest, AProgramThatHasEndedIsAnEnd) {
  Send(Message(1, 0));
  program_.Reset();
  EXPECT_THAT(CarryMessage(from_, to_), IsOkAndHolds(false));
}

TEST_F(CarryTest, WhatIsNoMessageIsNotCarried) {
  std::vector<uint8_t> lie = Message(1, 0);
  lie[11] = 0x80;  // 2 GiB follow.
  Send(lie);
  EXPECT_THAT(CarryMessage(from_, to_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("2147483648 bytes follow")));
}

TEST_F(CarryTest, AFloodOfDescriptorsIsRefused) {
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  const std::vector<int> many(kMaxMessageFds, event.get());
  // They arrive with different bytes of one message.
  const std::vector<uint8_t> message = Message(1, 4);
  Send({message.begin(), message.begin() + 2}, many);
  Send({message.begin() + 2, message.end()}, {event.get()});
  EXPECT_THAT(CarryMessage(from_, to_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("too many descriptors")));
}

}  // namespace
}  // namespace holdfast::launcher
