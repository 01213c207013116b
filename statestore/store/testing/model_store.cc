#include "statestore/store/testing/model_store.h"

#include <algorithm>
#include <utility>

#include "statestore/store/promotion.h"

namespace holdfast::store::testing {
namespace {

// What slots hold at first: of a session of before, no longer needed.
constexpr std::array<uint8_t, kModelSlots> kOld = {14, 15};

Incoming Of(const Word& word) {
  Incoming incoming;
  incoming.size = sizeof(Message);
  incoming.message.type = word.type;
  incoming.message.instance = kModelInstance;
  incoming.message.slot = static_cast<Slot>(kModelFirstSlot + word.slot);
  if (word.type == Type::kRetain) {
    incoming.message.bitmap[0] = uint64_t{word.value} << kModelFirstSlot;
  } else if (word.value != 0) {
    incoming.fd_count = 1;
    incoming.fds[0] = kValueBase + word.value;
  }
  return incoming;
}

Incoming AddOf(size_t person, uint64_t flags, uint64_t epoch) {
  const Handle base = static_cast<Handle>(person + 1) * 10;
  Incoming add;
  add.size = sizeof(Message);
  add.message.type = Type::kAddChild;
  add.message.instance = kModelInstance;
  add.message.child = static_cast<ChildId>(person + 1);
  add.message.arg1 = flags;
  add.message.arg2 = epoch;
  add.fd_count = 4;
  for (int i = 0; i < 4; ++i) add.fds[i] = base + i;
  return add;
}

}  // namespace

// Lends `world.instance` to the one real Escrow, which is too large to copy
// for every state, and takes it back.
std::vector<Action> ModelStore::Ask(World& world, const Event& event) {
  auto& place = const_cast<Instance&>(escrow_->tables().instances()[0]);
  place = world.instance;
  actions_->Clear();
  event(*escrow_, *actions_);
  world.instance = place;
  return {actions_->begin(), actions_->end()};
}

Key ModelStore::KeyOf(World& world, size_t person, Watch watch) {
  const_cast<Instance&>(escrow_->tables().instances()[0]) = world.instance;
  for (size_t i = 0; i < kMaxChildrenPerInstance; ++i) {
    if (world.instance.children[i].id == person + 1) {
      return escrow_->tables().KeyOf(escrow_->tables().instances()[0], i,
                                     watch);
    }
  }
  return {Watch::kChannel, 255, 255, 0};
}

void ModelStore::Carry(World& world, const Action& action) {
  const Message& m = action.message;
  if (action.kind == Action::Kind::kKill) {
    world.people[action.handle / 10 - 1].alive = false;
  } else if (action.kind == Action::Kind::kSend) {
    Person& to = world.people[action.handle / 10 - 1];
    Word word{m.type, 0, 0};
    if (m.type == Type::kForward || m.type == Type::kAck) {
      word.slot = static_cast<uint8_t>(m.slot - kModelFirstSlot);
    }
    if (action.fds[0] != kNoHandle) {
      word.value = static_cast<uint8_t>(action.fds[0] - kValueBase);
    }
    if (m.type == Type::kPromote) word.value = m.arg0 & 255;
    if (m.type == Type::kSync) word.value = m.bitmap[0] >> kModelFirstSlot & 3;
    if (to.alive && !to.channels.empty()) to.channels.back().push_back(word);
  } else if (action.kind == Action::Kind::kTell) {
    if (m.type == Type::kPromoted) {
      world.believed_active = static_cast<int>(m.child) - 1;
      world.told_epoch = static_cast<uint8_t>(m.arg0);
    }
    if (m.type == Type::kChildLost) {
      world.believed[m.child - 1] = false;
      if (world.believed_active == static_cast<int>(m.child) - 1) {
        world.believed_active = -1;
      }
    }
  }
}

void ModelStore::KillStore(World& world) {
  world.store_alive = world.store_complete = false;
  ++world.store_deaths;
  world.must_restart = true;
  world.to_attach.clear();
  world.instance = Instance();
  for (Person& person : world.people) {
    person.sent.clear();
    person.connected = person.reachable = false;
  }
}

// What Escrow::Apply does, without looking who is still depositing.
void ModelStore::PromoteEarly(World& world, std::vector<Action>& actions) {
  PromotionState& promotion = world.instance.promotion;
  promotion.awaited = false;
  const Decision decision =
      holdfast::store::Step(promotion, Stimulus::kRelease, 0);
  if (decision.promote == Decision::kNobody) return;
  const store::Child& child = world.instance.children[decision.promote];
  Action promote;
  promote.kind = Action::Kind::kSend;
  promote.handle = child.channel;
  promote.message.type = Type::kPromote;
  promote.message.arg0 = promotion.epoch;
  Action told;
  told.kind = Action::Kind::kTell;
  told.message.type = Type::kPromoted;
  told.message.child = child.id;
  told.message.arg0 = promotion.epoch;
  actions.insert(actions.end(), {promote, told});
}

// All ends of this event: carried out, or the store dies on the way.
void ModelStore::Happen(const World& before, const Event& event, Worlds& next,
                        bool completes) {
  World world = before;
  std::vector<Action> actions = Ask(world, event);
  if (mistakes_.await_nobody) PromoteEarly(world, actions);
  if (world.store_deaths < limits_.store_deaths && CountComplete(world) != 0) {
    World cut = world;
    for (size_t i = 0;; ++i) {
      World dead = cut;
      Note(dead, "store-dies-after", i);
      KillStore(dead);
      next.push_back(std::move(dead));
      if (i == actions.size()) break;
      Carry(cut, actions[i]);
    }
  }
  for (const Action& action : actions) Carry(world, action);
  if (completes) world.store_complete = true;
  for (const store::Child& child : world.instance.children) {
    // The store keeps those up to date that it knows.
    if (child.id != 0 && world.store_complete) {
      world.people[child.id - 1].complete = true;
    }
  }
  next.push_back(std::move(world));
}

void ModelStore::Reads(const World& world, size_t person, Worlds& next) {
  World after = world;
  Words& sent = after.people[person].sent;
  const Word word = sent.front();
  sent.erase(sent.begin());
  Note(after, "store-reads", person, word);
  if (word.type == Type::kEscrow && word.value > world.committed &&
      word.value < kOld[0]) {
    // Those that this store does not know yet are not sent the new value.
    for (size_t i = 0; i < kPeople; ++i) {
      if (i != person && !Knows(world, i)) after.people[i].complete = false;
    }
  }
  const Key key = KeyOf(after, person, Watch::kChannel);
  const int active = ActiveMember(after.instance.promotion);
  const bool of_standby = active != static_cast<int>(key.child);
  if (word.type == Type::kEscrow && of_standby && key.instance == 0) {
    if (mistakes_.ignore_standby && active != Decision::kNobody) {
      after.people[person].channels.back().push_back({Type::kAck, 0, 0});
      next.push_back(std::move(after));
      return;
    }
    if (mistakes_.last_depositor_wins && active == Decision::kNobody) {
      after.instance.spoken.reset();
    }
  }
  Happen(
      after,
      [&](Escrow& escrow, ActionList& actions) {
        escrow.OnChild(key, Of(word), 1, actions);
      },
      next, word.type == Type::kReady && after.people[person].complete);
}

void ModelStore::SeesDeath(const World& world, size_t person, Worlds& next) {
  World after = world;
  Note(after, "fence-of", person);
  const Key key = KeyOf(after, person, Watch::kListener);
  Happen(
      after,
      [&](Escrow& escrow, ActionList& actions) {
        escrow.OnFence(key, 1, actions);
      },
      next);
}

bool ModelStore::Knows(const World& world, size_t person) const {
  return std::any_of(
      world.instance.children.begin(), world.instance.children.end(),
      [&](const store::Child& child) { return child.id == person + 1; });
}

void ModelStore::Restart(const World& world, Worlds& next) {
  World after = world;
  after.must_restart = false;
  after.store_alive = true;
  Note(after, "restart");
  Ask(after, [](Escrow& escrow, ActionList& actions) {
    Incoming create;
    create.size = sizeof(Message);
    create.message.type = Type::kCreateInstance;
    create.message.instance = kModelInstance;
    create.message.arg0 = 1;
    create.fd_count = 1;
    create.fds[0] = 5;
    escrow.OnLauncher(create, 1, actions);
  });
  if (after.believed_active >= 0) {
    after.to_attach.push_back(static_cast<uint8_t>(after.believed_active));
  }
  for (size_t i = 0; i < kPeople; ++i) {
    if (after.believed[i] && static_cast<int>(i) != after.believed_active) {
      after.to_attach.push_back(static_cast<uint8_t>(i));
    }
  }
  next.push_back(std::move(after));
}

void ModelStore::Attach(const World& world, Worlds& next) {
  World after = world;
  const size_t person = after.to_attach.front();
  after.to_attach.erase(after.to_attach.begin());
  Note(after, "attach", person);
  after.people[person].channels.emplace_back();
  after.people[person].reachable = true;
  const bool active = static_cast<int>(person) == after.believed_active;
  Worlds added;
  Happen(
      after,
      [&](Escrow& escrow, ActionList& actions) {
        escrow.OnLauncher(
            AddOf(person, kAddReattached | (active ? kAddActive : 0),
                  after.told_epoch),
            1, actions);
      },
      added);
  for (World& result : added) {
    // What is dead is seen before anything else is read.
    if (result.store_alive && !result.people[person].alive) {
      SeesDeath(result, person, next);
    } else {
      next.push_back(std::move(result));
    }
  }
}

void ModelStore::Spawn(const World& world, Worlds& next) {
  World after = world;
  ++after.newcomers;
  Note(after, "spawn");
  const size_t index = kPeople - 1;
  Person& person = after.people[index];
  person = Person();
  person.present = person.alive = person.starting = person.connected = true;
  person.reachable = true;
  person.channels.emplace_back();
  after.believed[index] = true;
  Happen(
      after,
      [&](Escrow& escrow, ActionList& actions) {
        escrow.OnLauncher(AddOf(index, 0, 0), 1, actions);
      },
      next);
}

World ModelStore::First(ModelChildren& children) {
  World world;
  Worlds started;
  Restart(world, started);
  world = std::move(started.back());
  const auto happen = [&](const Event& event) {
    for (const Action& action : Ask(world, event)) Carry(world, action);
  };
  for (size_t i = 0; i < 2; ++i) {
    Person& person = world.people[i];
    person.present = person.alive = person.connected = true;
    person.complete = person.reachable = true;
    person.channels.emplace_back();
    world.believed[i] = true;
    happen([&](Escrow& escrow, ActionList& actions) {
      escrow.OnLauncher(AddOf(i, 0, 0), 1, actions);
    });
    const Key key = KeyOf(world, i, Watch::kChannel);
    happen([&](Escrow& escrow, ActionList& actions) {
      escrow.OnChild(key, Of({Type::kReady, 0, 0}), 1, actions);
    });
  }
  for (size_t slot = 0; slot < kModelSlots; ++slot) {
    world.instance.slots[kModelFirstSlot + slot] = kValueBase + kOld[slot];
  }
  for (size_t i = 0; i < 2; ++i) {
    Person& person = world.people[i];
    while (!person.channels[0].empty()) children.Read(world, person);
    person.holds = kOld;
  }
  return world;
}

}  // namespace holdfast::store::testing
