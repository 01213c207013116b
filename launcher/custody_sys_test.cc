#include "launcher/custody_sys.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <vector>

#include "base/testing/matchers.h"
#include "base/unique_fd.h"
#include "base/unix_socket_sys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::_;

class CustodyChannel : public ::testing::Test {
 protected:
  void SetUp() override {
    auto pair = SeqpacketPair();
    ASSERT_OK(pair);
    core_ = std::move(pair->first);
    parent_ = std::move(pair->second);
    fcntl(parent_.get(), F_SETFL, O_NONBLOCK);
  }

  static Custody Some() {
    Custody custody;
    custody.link.Reset(dup(0));
    custody.store_link.Reset(dup(0));
    custody.store_pidfd.Reset(dup(0));
    custody.store_pid = 4711;
    custody.specs_run = true;
    return custody;
  }

  UniqueFd core_;    // The core's end.
  UniqueFd parent_;  // The parent's.
};

TEST_F(CustodyChannel, CarriesEverything) {
  ASSERT_OK(SendCustody(core_, Some()));
  Custody got;
  EXPECT_FALSE(got.valid());
  ASSERT_OK(ReceiveCustody(parent_, got));
  EXPECT_TRUE(got.valid());
  EXPECT_TRUE(got.store_link.valid());
  EXPECT_TRUE(got.store_pidfd.valid());
  EXPECT_EQ(got.store_pid, 4711);
  EXPECT_TRUE(got.specs_run);
}

TEST_F(CustodyChannel, LastOneOfADeadCoreIsStillThere) {
  ASSERT_OK(SendCustody(core_, Some()));
  core_.Reset();
  Custody got;
  EXPECT_OK(ReceiveCustody(parent_, got));
  EXPECT_EQ(got.store_pid, 4711);
  EXPECT_THAT(ReceiveCustody(parent_, got),
              StatusIs(absl::StatusCode::kCancelled, _));
}

TEST_F(CustodyChannel, NothingThereIsNotTheEnd) {
  Custody got = Some();
  EXPECT_THAT(ReceiveCustody(parent_, got),
              StatusIs(absl::StatusCode::kUnavailable, _));
  EXPECT_EQ(got.store_pid, 4711);
}

TEST_F(CustodyChannel, MalformedMessageLeavesWhatWasThere) {
  const std::vector<uint8_t> bytes(64);
  const std::vector<int> fds = {0, 0, 0};
  for (size_t size : {size_t{1}, size_t{4}, size_t{7}, size_t{9}, size_t{64}}) {
    ASSERT_OK(SendWithFds(core_, {bytes.data(), size}, fds));
  }
  // The right size, without descriptors and with one too few.
  ASSERT_OK(SendWithFds(core_, {bytes.data(), 8}, {}));
  ASSERT_OK(SendWithFds(core_, {bytes.data(), 8}, {fds.data(), 2}));
  Custody got = Some();
  int refused = 0;
  while (true) {
    const absl::Status status = ReceiveCustody(parent_, got);
    if (absl::IsUnavailable(status)) break;
    refused += absl::IsInvalidArgument(status);
    EXPECT_EQ(got.store_pid, status.ok() ? 0 : 4711);
    if (status.ok()) got = Some();
  }
  // What is longer is cut to its beginning, as the kernel does.
  EXPECT_GE(refused, 5);
}

TEST_F(CustodyChannel, DuplicateStandsOnItsOwn) {
  Custody first = Some();
  absl::StatusOr<Custody> copy = first.Duplicate();
  ASSERT_OK(copy);
  const int number = copy->link.get();
  EXPECT_NE(number, first.link.get());
  first = Custody();
  EXPECT_NE(fcntl(number, F_GETFD), -1);
  EXPECT_EQ(copy->store_pid, 4711);
  EXPECT_TRUE(copy->specs_run);
  absl::StatusOr<Custody> none = first.Duplicate();
  ASSERT_OK(none);
  EXPECT_FALSE(none->valid());
}

TEST_F(CustodyChannel, ExitsArriveInOrder) {
  for (int32_t pid = 1; pid <= 3; ++pid) SendExit(parent_, {pid, 256 * pid});
  for (int32_t pid = 1; pid <= 3; ++pid) {
    const auto exit = ReceiveExit(core_);
    ASSERT_TRUE(exit.has_value());
    EXPECT_EQ(exit->pid, pid);
    EXPECT_EQ(exit->status, 256 * pid);
  }
  EXPECT_FALSE(ReceiveExit(core_).has_value());
}

// A core that does not read must not keep its parent from reaping.
TEST_F(CustodyChannel, FullChannelLosesExitsAndNeverWaits) {
  for (int i = 0; i < 100'000; ++i) SendExit(parent_, {i, 0});
  int read = 0;
  while (ReceiveExit(core_).has_value()) ++read;
  EXPECT_GT(read, 0);
  EXPECT_LT(read, 100'000);
  core_.Reset();
  SendExit(parent_, {1, 0});
}

}  // namespace
}  // namespace holdfast::launcher
