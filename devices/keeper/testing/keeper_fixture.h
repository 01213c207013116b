#ifndef HOLDFAST_DEVICES_KEEPER_TESTING_KEEPER_FIXTURE_H_
#define HOLDFAST_DEVICES_KEEPER_TESTING_KEEPER_FIXTURE_H_

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "base/unix_socket_sys.h"
#include "devices/keeper/keeper_host_sys.h"
#include "devices/keeper/testing/fake_backend.h"
#include "devices/runtime/testing/process_rig_sys.h"
#include "devices/vhost_user/testing/front_end.h"
#include "gtest/gtest.h"
#include "statestore/store/backend_resources.h"

namespace holdfast::keeper::testing {

using ::holdfast::testing::FrontEnd;
using ::holdfast::testing::ProcessRig;

inline constexpr store::Slot SlotOf(store::BackendResource resource) {
  return static_cast<store::Slot>(store::kSlotFirstResource + resource);
}
inline constexpr store::Slot kBackendSlot = SlotOf(store::kBackendConnection);

inline ProcessRig::Options RigOptions(const BackendTraits& traits) {
  ProcessRig::Options options;
  options.name = "keeper";
  for (size_t i = 0; i < store::kBackendResourceCount; ++i) {
    options.resources[store::kBackendResourceNames[i]] =
        SlotOf(store::BackendResource(i));
  }
  options.host = [traits]() -> absl::StatusOr<std::unique_ptr<DeviceHost>> {
    return std::unique_ptr<DeviceHost>(std::make_unique<KeeperHost>(traits));
  };
  return options;
}

inline std::pair<UniqueFd, UniqueFd> Pair(int type) {
  int pair[2];
  EXPECT_EQ(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair), 0);
  return {UniqueFd(pair[0]), UniqueFd(pair[1])};
}

// A VMM, a keeper, and the lives of a back-end, one after the other.
class KeeperTest : public ::testing::Test {
 protected:
  explicit KeeperTest(const BackendTraits& traits = {})
      : rig_(RigOptions(traits)) {
    NewLauncher();
  }

  void NewLauncher() {
    auto [ours, keepers] = Pair(SOCK_SEQPACKET);
    verdicts_ = std::move(ours);
    rig_.GiveResource(SlotOf(store::kBackendVerdicts), std::move(keepers));
  }
  // In the place of the current one.
  FakeBackend& NewLife(FakeBackend::Options options = {}) {
    FakeBackend& life = Seat(seat_, std::move(options));
    BeCurrent();
    return life;
  }
  // In the other seat. It becomes current by TakeOver().
  FakeBackend& NewSpare(FakeBackend::Options options = {}) {
    return Seat(1 - seat_, std::move(options));
  }
  void TakeOver() {
    seat_ = 1 - seat_;
    BeCurrent();
  }
  FakeBackend& Seat(size_t seat, FakeBackend::Options options) {
    const auto slot = [seat](store::BackendResource resource) {
      return SlotOf(store::InSeat(seat, resource));
    };
    auto [requests, peer] = Pair(SOCK_STREAM);
    rig_.GiveResource(slot(store::kBackendRequests), std::move(requests));
    rig_.GiveResource(slot(store::kBackendRequestsPeer), std::move(peer));
    auto [ours, theirs] = Pair(SOCK_STREAM);
    life_ = SocketCookie(ours);
    lives_.push_back(
        std::make_unique<FakeBackend>(std::move(theirs), std::move(options)));
    rig_.GiveResource(slot(store::kBackendConnection), std::move(ours));
    return *lives_.back();
  }
  virtual void BeCurrent() {
    rig_.GiveResource(SlotOf(store::kBackendCurrent),
                      rig_.keeper().Duplicate(SlotOf(
                          store::InSeat(seat_, store::kBackendConnection))));
  }
  // As the launcher: waits until the keeper has given the last life up.
  void AwaitVerdict(uint32_t kind = store::BackendVerdict::kUseless) {
    store::BackendVerdict verdict = {};
    AwaitWord(life_, kind, verdict);
    EXPECT_NE(verdict.why[0], '\0');
    EXPECT_EQ(verdict.why[sizeof(verdict.why) - 1], '\0');
  }
  void AwaitWord(uint64_t life, uint32_t kind, store::BackendVerdict& verdict) {
    do {
      pollfd said = {verdicts_.get(), POLLIN, 0};
      ASSERT_EQ(poll(&said, 1, 20'000), 1);
      ASSERT_EQ(read(verdicts_.get(), &verdict, sizeof(verdict)),
                static_cast<ssize_t>(sizeof(verdict)));
    } while (verdict.life != life || verdict.kind != kind);
  }
  // The same, and ends it; until then it notices nothing.
  void AwaitGivenUp(uint32_t kind = store::BackendVerdict::kUseless) {
    AwaitVerdict(kind);
    EXPECT_FALSE(lives_.back()->ended());
    lives_.back()->End();
    lives_.back()->WaitForEnd();
  }
  void Start() {
    ASSERT_OK(rig_.Run());
    vmm_ = rig_.Connect();
    ASSERT_OK(vmm_->Start());
  }
  // It looks at the ring, whatever the one before had seen; and so does the
  // driver.
  void ExpectBothLook(FakeBackend& life) {
    pollfd kick = {life.fd_of(vhost_user::RequestType::kSetVringKick), POLLIN,
                   0};
    EXPECT_EQ(poll(&kick, 1, 20'000), 1);
    EXPECT_OK(vmm_->WaitForCall(0));
  }
  // Of all that it was told: where the ring was begun.
  static bool Whole(FakeBackend& life) {
    return life.WaitFor("SET_VRING_ENABLE 0 1");
  }

  std::vector<std::unique_ptr<FakeBackend>> lives_;
  uint64_t life_ = 0;  // The last of them.
  size_t seat_ = 0;    // Of the current one.
  UniqueFd verdicts_;
  ProcessRig rig_;
  std::unique_ptr<FrontEnd> vmm_;
};

}  // namespace holdfast::keeper::testing

#endif  // HOLDFAST_DEVICES_KEEPER_TESTING_KEEPER_FIXTURE_H_
