// An acknowledged deposit is never lost, whatever comes between two steps of
// the store, because the standby is sent it before the depositor is answered.
// The executor below cuts every list of actions short at every place and lets
// the depositor die there; the control sends forwards after everything else.

#include <algorithm>
#include <iterator>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "statestore/store/escrow.h"

namespace holdfast::store {
namespace {

constexpr Slot kSlot = 40;
constexpr Handle kActiveChannel = 10, kStandbyChannel = 20;

struct World {
  Escrow escrow;
  ActionList actions;
  Key active, standby;
  bool acknowledged = false;  // The depositor has read kAck.
  bool forwarded = false;     // The standby was sent the deposit ...
  bool had_it = false;        // ... before it was promoted.
};

Incoming Of(Type type, std::vector<Handle> fds = {}) {
  Incoming incoming;
  incoming.size = sizeof(Message);
  incoming.message.type = type;
  incoming.message.instance = 1;
  incoming.fd_count = fds.size();
  std::copy(fds.begin(), fds.end(), incoming.fds);
  return incoming;
}

Key Add(World& world, ChildId id, Handle channel) {
  Incoming add =
      Of(Type::kAddChild, {channel, channel + 1, channel + 2, channel + 3});
  add.message.child = id;
  world.escrow.OnLauncher(add, 1, world.actions);
  const Key key = world.escrow.tables().KeyOf(
      world.escrow.tables().instances()[0], id - 1, Watch::kChannel);
  world.escrow.OnChild(key, Of(Type::kReady), 1, world.actions);
  return key;
}

std::unique_ptr<World> NewWorld() {
  auto world = std::make_unique<World>();
  Incoming create = Of(Type::kCreateInstance, {5});
  create.message.arg0 = 1;
  world->escrow.OnLauncher(create, 1, world->actions);
  world->active = Add(*world, 1, kActiveChannel);
  world->standby = Add(*world, 2, kStandbyChannel);
  return world;
}

void Perform(World& world, const Action& action) {
  if (action.kind != Action::Kind::kSend) return;
  if (action.message.type == Type::kAck) world.acknowledged = true;
  if (action.message.type == Type::kForward) world.forwarded = true;
  if (action.message.type == Type::kPromote) world.had_it = world.forwarded;
}

// The depositor dies when `cut` actions of its deposit have been carried out;
// the store carries out the rest before it sees the death.
void DepositAndDie(World& world, size_t cut, bool forwards_last) {
  world.actions.Clear();
  world.escrow.OnChild(
      world.active,
      [] {
        Incoming deposit = Of(Type::kEscrow, {50});
        deposit.message.slot = kSlot;
        return deposit;
      }(),
      2, world.actions);
  std::vector<Action> list(world.actions.begin(), world.actions.end());
  std::vector<Action> later;
  if (forwards_last) {
    // Answer first, forward when there is time: after the next event.
    const auto is_forward = [](const Action& action) {
      return action.message.type == Type::kForward;
    };
    std::copy_if(list.begin(), list.end(), std::back_inserter(later),
                 is_forward);
    list.erase(std::remove_if(list.begin(), list.end(), is_forward),
               list.end());
  }
  bool alive_at_ack = false;
  for (size_t i = 0; i < list.size(); ++i) {
    Perform(world, list[i]);
    if (i < cut && world.acknowledged) alive_at_ack = true;
  }
  world.acknowledged = alive_at_ack;  // The dead do not read.
  world.actions.Clear();
  Key fence = world.active;
  fence.watch = Watch::kListener;
  world.escrow.OnFence(fence, 3, world.actions);
  for (const Action& action : world.actions) Perform(world, action);
  for (const Action& action : later) Perform(world, action);
}

int CountLost(bool forwards_last) {
  int lost = 0;
  for (size_t cut = 0; cut <= 4; ++cut) {
    auto world = NewWorld();
    DepositAndDie(*world, cut, forwards_last);
    if (world->acknowledged && !world->had_it) ++lost;
  }
  return lost;
}

TEST(EscrowOrder, AcknowledgedDepositIsWithTheSuccessor) {
  EXPECT_EQ(CountLost(/*forwards_last=*/false), 0);
}

TEST(EscrowOrder, ForwardingAfterTheAnswerWouldLoseIt) {
  EXPECT_GT(CountLost(/*forwards_last=*/true), 0);
}

TEST(EscrowOrder, DepositThatWasNeverTakenUpIsNowhere) {
  auto world = NewWorld();
  world->actions.Clear();
  Key fence = world->active;
  fence.watch = Watch::kListener;
  world->escrow.OnFence(fence, 3, world->actions);
  world->actions.Clear();
  Incoming late = Of(Type::kEscrow, {50});
  late.message.slot = kSlot;
  world->escrow.OnChild(world->active, late, 4, world->actions);
  ASSERT_EQ(world->actions.size(), 1u);
  EXPECT_EQ(world->actions.begin()->kind, Action::Kind::kClose);
  EXPECT_EQ(world->actions.begin()->handle, 50);
}

}  // namespace
}  // namespace holdfast::store
