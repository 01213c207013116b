// The real holdfast-store with real processes that die.

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/unix_socket_sys.h"
#include "gtest/gtest.h"
#include "statestore/store/child_channel.h"
#include "statestore/store/message_io_sys.h"
#include "statestore/store/testing/store_process_sys.h"

namespace holdfast::store {
namespace {

using ::holdfast::testing::StatusIs;
using testing::FakeChild;
using ::testing::HasSubstr;
using testing::MakeToken;
using testing::ReadToken;
using testing::StoreProcess;
using testing::WaitForEvent;

constexpr char kStore[] = "statestore/store/holdfast-store";
constexpr InstanceId kInstance = 7;

// What a parked child tells the test when it is promoted.
struct Report {
  uint64_t epoch = 0;
  uint64_t death_ns = 0;
  uint64_t promoted_ns = 0;
  uint64_t connection = 0;
  uint64_t tokens[kSlotCount] = {};
};

// A device child's view of its slots.
struct Table {
  std::array<UniqueFd, kSlotCount> fds;
  uint64_t connection = 0;

  void Take(ChildEvent& event) {
    fds[event.slot] = std::move(event.fd);
    if (event.slot == kSlotConnection) connection = event.connection;
  }
  Report ToReport() const {
    Report report;
    report.connection = connection;
    for (size_t i = 0; i < kSlotCount; ++i) {
      if (fds[i].valid()) report.tokens[i] = ReadToken(fds[i]);
    }
    return report;
  }
};

// Parks as a standby until promoted, then reports. False: the store is gone.
bool Park(ChildChannel& channel, Table& table, BorrowedFd test) {
  ChildEvent event;
  while (true) {
    switch (channel.Receive(event)) {
      case ChildChannel::Received::kNothing:
        WaitFor(channel.fd(), Readiness::kReadable, -1);
        continue;
      case ChildChannel::Received::kGone:
        return false;
      case ChildChannel::Received::kEvent:
        break;
    }
    if (event.kind == ChildEvent::Kind::kForward) table.Take(event);
    if (event.kind == ChildEvent::Kind::kForwardDone) {
      if (!channel.Ready().ok()) return false;
    }
    if (event.kind != ChildEvent::Kind::kPromote) continue;
    const uint64_t now = MonotonicNs();
    Report report = table.ToReport();
    report.epoch = event.epoch;
    report.death_ns = event.death_ns;
    report.promoted_ns = now;
    send(test.get(), &report, sizeof(report), MSG_NOSIGNAL);
    return true;
  }
}

void ParkAndIdle(UniqueFd store, UniqueFd test) {
  ChildChannel channel(std::move(store));
  Table table;
  Park(channel, table, test);
  while (true) pause();
}

std::optional<Report> ReadReport(const FakeChild& child) {
  pollfd ready = {child.test().get(), POLLIN, 0};
  Report report;
  if (poll(&ready, 1, 10000) != 1 ||
      recv(child.test().get(), &report, sizeof(report), 0) != sizeof(report)) {
    return std::nullopt;
  }
  return report;
}

class StoreIntegration : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(client().CreateInstance(kInstance, "disk", MakeToken(99), true));
  }
  Client& client() { return store_.client(); }

  StoreProcess store_{kStore};
};

TEST_F(StoreIntegration, FirstReadyChildIsPromotedUnderEpochOne) {
  ASSERT_OK(client().SetResource(kInstance, 3, MakeToken(33)));
  FakeChild child(1, ParkAndIdle);
  ASSERT_OK(child.AddTo(client(), kInstance));
  const std::optional<Report> report = ReadReport(child);
  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->epoch, 1u);
  EXPECT_EQ(report->death_ns, 0u);
  EXPECT_EQ(report->tokens[3], 33u);
  EXPECT_EQ(WaitForEvent(client(), Type::kPromoted)->child, 1u);
}

TEST_F(StoreIntegration, DeathOfTheActiveChildPromotesTheStandby) {
  FakeChild first(1, ParkAndIdle), second(2, ParkAndIdle);
  ASSERT_OK(first.AddTo(client(), kInstance));
  ASSERT_TRUE(ReadReport(first).has_value());
  ASSERT_OK(second.AddTo(client(), kInstance));
  ASSERT_TRUE(WaitForEvent(client(), Type::kChildReady).has_value());
  first.Kill();
  const std::optional<Report> report = ReadReport(second);
  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->epoch, 2u);
  EXPECT_NE(report->death_ns, 0u);
  const std::optional<Message> lost = WaitForEvent(client(), Type::kChildLost);
  ASSERT_TRUE(lost.has_value());
  EXPECT_EQ(lost->child, 1u);
  EXPECT_EQ(lost->arg1, static_cast<uint64_t>(Fence::kSeccompListener));
  const auto promoted = WaitForEvent(client(), Type::kPromoted);
  ASSERT_TRUE(promoted.has_value());
  EXPECT_EQ(promoted->arg2, report->death_ns);
  EXPECT_GE(promoted->arg1, promoted->arg2);
}

TEST_F(StoreIntegration, EndsWhenTheLauncherCloses) {
  EXPECT_EQ(store_.End(), 0);
}

}  // namespace
}  // namespace holdfast::store
