// holdfast-store under its real filters, made of its real policy: everything
// that it does still works, and what it must not do kills it.

#include <linux/filter.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/unix_socket_sys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sandbox/compile.h"
#include "sandbox/filter_memfd_sys.h"
#include "sandbox/lint/lint.h"
#include "sandbox/policy.h"
#include "sandbox/tighten_sys.h"
#include "statestore/store/child_channel.h"
#include "statestore/store/client.h"
#include "statestore/store/testing/fake_device_sys.h"
#include "statestore/store/testing/store_process_sys.h"

namespace holdfast {
namespace {

using store::ChildEvent;
using store::Type;
using store::testing::Command;
using store::testing::FakeDevice;
using store::testing::MakeToken;
using store::testing::StoreProcess;
using store::testing::WaitForEvent;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kStore[] = "statestore/store/holdfast-store";
constexpr store::InstanceId kDisk = 7;

sandbox::Policy ReadPolicy() {
  auto policy = sandbox::ParsePolicy(
      "store.policy", [](absl::string_view) -> absl::StatusOr<std::string> {
        std::ifstream file("statestore/store/store.policy");
        return std::string((std::istreambuf_iterator<char>(file)),
                           std::istreambuf_iterator<char>());
      });
  EXPECT_OK(policy);
  return *policy;
}

std::vector<sock_filter> CompileOrFail(
    const std::vector<sandbox::Rule>& rules) {
  auto program = sandbox::Compile(rules);
  EXPECT_OK(program);
  return *program;
}

// A store under the start-up filter from before exec on, which tightens itself
// with `steady`.
std::unique_ptr<StoreProcess> Confined(
    const std::vector<sandbox::Rule>& startup,
    const std::vector<sandbox::Rule>& steady) {
  const std::vector<sock_filter> first = CompileOrFail(startup);
  const absl::Span<const uint8_t> bytes(
      reinterpret_cast<const uint8_t*>(first.data()),
      first.size() * sizeof(sock_filter));
  const auto second = sandbox::SealFilter(CompileOrFail(steady));
  EXPECT_OK(second);
  return std::make_unique<StoreProcess>(
      kStore, std::vector<std::string>(), *second,
      [bytes] { sandbox::ApplySteadyFilter(bytes).IgnoreError(); });
}

class StoreFilter : public ::testing::Test {
 protected:
  void Start(const std::vector<sandbox::Rule>& steady) {
    store_ = Confined(policy_.StartupRules(), steady);
    ASSERT_OK(client().CreateInstance(kDisk, "disk", MakeToken(9), true));
  }
  store::Client& client() { return store_->client(); }
  std::unique_ptr<FakeDevice> Add(store::ChildId id) {
    auto device = std::make_unique<FakeDevice>(id);
    EXPECT_OK(device->child().AddTo(client(), kDisk));
    EXPECT_TRUE(WaitForEvent(client(), Type::kChildReady).has_value());
    return device;
  }
  static void Misbehave(FakeDevice& device) {
    Command raw;
    raw.kind = Command::Kind::kRaw;
    raw.raw.type = Type::kKillChild;
    device.Start(raw);
  }

  const sandbox::Policy policy_ = ReadPolicy();
  std::unique_ptr<StoreProcess> store_;
};

// The linter knows what no device may do; the store may do two things more, and
// those only in one way.
TEST_F(StoreFilter, LintObjectsOnlyToWhatTheStoreIsFor) {
  const sandbox::LintResult result = sandbox::LintPolicy(policy_, 11);
  EXPECT_THAT(result.findings, ElementsAre(HasSubstr("'accept4'"),
                                           HasSubstr("'pidfd_send_signal'")));
  for (const sandbox::Rule& rule : policy_.steady) {
    if (rule.syscall != "accept4" && rule.syscall != "pidfd_send_signal") {
      continue;
    }
    EXPECT_FALSE(rule.terms.empty()) << rule.syscall;
  }
}

TEST_F(StoreFilter, EverythingThatTheStoreDoesIsAllowed) {
  Start(policy_.SteadyRules());
  testing::TempDir dir;
  const auto listener = ListenAt(dir.File("vmm"));
  ASSERT_OK(client().SetListener(kDisk, *listener));
  auto active = Add(1), standby = Add(2), culprit = Add(3);
  const auto vmm = ConnectTo(dir.File("vmm"));
  ASSERT_TRUE(WaitForEvent(client(), Type::kVmmConnected).has_value());
  ASSERT_TRUE(active->Escrow(40, 40));
  Misbehave(*culprit);
  ASSERT_TRUE(WaitForEvent(client(), Type::kChildMisbehaved).has_value());
  ASSERT_TRUE(WaitForEvent(client(), Type::kChildLost).has_value());
  active->child().Kill();
  ASSERT_TRUE(standby->AwaitEvent(ChildEvent::Kind::kPromote).has_value());
  EXPECT_OK(store_->NewClient().Hello(1));
  EXPECT_OK(client().GetSlot(kDisk, 40));
  standby->child().Kill();
  ASSERT_TRUE(WaitForEvent(client(), Type::kChildLost).has_value());
  EXPECT_OK(client().RemoveInstance(kDisk));
  EXPECT_EQ(store_->End(), 0);
}

TEST_F(StoreFilter, WhatIsLeftOutOfThePolicyKills) {
  std::vector<sandbox::Rule> rules = policy_.SteadyRules();
  rules.erase(std::remove_if(rules.begin(), rules.end(),
                             [](const sandbox::Rule& rule) {
                               return rule.syscall == "pidfd_send_signal";
                             }),
              rules.end());
  Start(rules);
  auto culprit = Add(1);
  Misbehave(*culprit);
  EXPECT_FALSE(WaitForEvent(client(), Type::kChildMisbehaved).has_value());
  const int status = store_->End();
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGSYS);
}

TEST_F(StoreFilter, StoreWithoutAFilterDoesNotStart) {
  StoreProcess store(kStore, {});
  const int status = store.End();
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 1);
}

}  // namespace
}  // namespace holdfast
