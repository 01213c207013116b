#include "statestore/store/testing/escrow_model.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_set>
#include <utility>
#include <vector>

#include "statestore/store/escrow.h"

namespace holdfast::store::testing {
namespace {

constexpr InstanceId kInstance = 1;
constexpr size_t kSlots = 2;
constexpr Slot kFirst = 40;
constexpr size_t kPeople = 3;  // The first active child, its standby, one more.
constexpr Handle kValueBase = 10000;

// A message as far as the model cares.
struct Word {
  Type type{};
  uint8_t slot = 0;
  uint8_t value = 0;  // kRetain and kSync: set of slots.
};
using Words = std::vector<Word>;

// What happened, for the report of a problem.
struct Step {
  std::shared_ptr<const Step> before;
  const char* what;
  size_t number;  // Of a person, or of the store's actions.
  Word word;
};

struct Person {
  bool present = false;
  bool alive = false;
  bool active = false;     // As it knows itself.
  bool starting = false;   // Has not said kReady to any store.
  bool attaching = false;  // Waits for answers in ChildChannel::Reattach.
  bool reachable = false;  // channels.back() leads to the living store.
  bool connected = false;  // So does channels[0].
  bool waits = false;      // For the answer to the deposit of a value.
  bool must_retain = false;
  uint8_t epoch = 0;      // That it claimed.
  bool complete = false;  // It has, or is on the way to it, all there is.
  std::array<uint8_t, kSlots> holds = {};
  std::vector<Words> channels;  // To it; [0] is the one that it reads.
  Words sent;                   // From it to the living store.
  Words deposits;               // That are left.
  Words deferred;               // Read while it waited for answers.
};

struct World {
  Instance instance;
  bool store_alive = true;
  bool store_complete = true;  // A child has told it all.
  int store_deaths = 0;
  int child_deaths = 0;
  int newcomers = 0;
  std::array<Person, kPeople> people;
  // The segment: what is committed outlives everybody.
  uint8_t committed = 0;  // The last value; it is in SlotOf(committed).
  uint8_t epoch = 0;      // Claimed by the last that was promoted.
  // The launcher.
  int believed_active = -1;
  uint8_t told_epoch = 0;
  std::array<bool, kPeople> believed = {};
  std::vector<uint8_t> to_attach;
  bool must_restart = false;
  std::shared_ptr<const Step> path;  // How it came to this.
};

// What slots hold at first: of a session of before, no longer needed.
constexpr std::array<uint8_t, kSlots> kOld = {14, 15};

size_t SlotOf(uint8_t value) { return value % kSlots; }

class Explorer {
 public:
  Explorer(const ModelLimits& limits, const ModelMistakes& mistakes)
      : limits_(limits), mistakes_(mistakes) {}

  ModelResult Run() {
    std::vector<World> stack = {First()};
    while (!stack.empty() && result_.problem.empty() &&
           result_.states < limits_.states) {
      const World world = std::move(stack.back());
      stack.pop_back();
      if (!seen_.insert(Digest(world)).second) continue;
      ++result_.states;
      path_ = world.path.get();
      const size_t before = stack.size();
      Successors(world, stack);
      if (stack.size() == before) CheckQuiet(world);
    }
    result_.complete = stack.empty();
    return result_;
  }

 private:
  static void Note(World& world, const char* what, size_t number = 0,
                   Word word = {}) {
    world.path = std::make_shared<Step>(Step{world.path, what, number, word});
  }

  void Problem(const std::string& text) {
    std::string path;
    for (const Step* step = path_; step != nullptr; step = step->before.get()) {
      const std::string word =
          std::to_string(static_cast<int>(step->word.type)) + "," +
          std::to_string(step->word.slot) + "," +
          std::to_string(step->word.value);
      path = std::string(" ") + step->what + "-" +
             std::to_string(step->number) +
             (step->word.type == Type{} ? "" : "(" + word + ")") + path;
    }
    result_.problem = text + ", after" + path;
  }

  // ---- The store ----

  // Lends `world.instance` to the one real Escrow, which is too large to copy
  // for every state, and takes it back.
  template <typename Event>
  std::vector<Action> Ask(World& world, const Event& event) {
    auto& place = const_cast<Instance&>(escrow_->tables().instances()[0]);
    place = world.instance;
    actions_->Clear();
    event(*escrow_, *actions_);
    world.instance = place;
    return {actions_->begin(), actions_->end()};
  }

  Key KeyOf(World& world, size_t person, Watch watch) {
    const_cast<Instance&>(escrow_->tables().instances()[0]) = world.instance;
    for (size_t i = 0; i < kMaxChildrenPerInstance; ++i) {
      if (world.instance.children[i].id == person + 1) {
        return escrow_->tables().KeyOf(escrow_->tables().instances()[0], i,
                                       watch);
      }
    }
    return {Watch::kChannel, 255, 255, 0};
  }

  void Carry(World& world, const Action& action) {
    const Message& m = action.message;
    if (action.kind == Action::Kind::kKill) {
      world.people[action.handle / 10 - 1].alive = false;
    } else if (action.kind == Action::Kind::kSend) {
      Person& to = world.people[action.handle / 10 - 1];
      Word word{m.type, 0, 0};
      if (m.type == Type::kForward || m.type == Type::kAck) {
        word.slot = static_cast<uint8_t>(m.slot - kFirst);
      }
      if (action.fds[0] != kNoHandle) {
        word.value = static_cast<uint8_t>(action.fds[0] - kValueBase);
      }
      if (m.type == Type::kPromote) word.value = m.arg0 & 255;
      if (m.type == Type::kSync) word.value = m.bitmap[0] >> kFirst & 3;
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

  void KillStore(World& world) {
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

  static size_t CountComplete(const World& world) {
    return std::count_if(world.people.begin(), world.people.end(),
                         [](const Person& p) { return p.alive && p.complete; });
  }

  // All ends of this event: carried out, or the store dies on the way.
  template <typename Event>
  void Happen(const World& before, const Event& event, std::vector<World>& next,
              bool completes = false) {
    World world = before;
    const std::vector<Action> actions = Ask(world, event);
    if (world.store_deaths < limits_.store_deaths &&
        CountComplete(world) != 0) {
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

  static Incoming Of(const Word& word) {
    Incoming incoming;
    incoming.size = sizeof(Message);
    incoming.message.type = word.type;
    incoming.message.instance = kInstance;
    incoming.message.slot = static_cast<Slot>(kFirst + word.slot);
    if (word.type == Type::kRetain) {
      incoming.message.bitmap[0] = uint64_t{word.value} << kFirst;
    } else if (word.value != 0) {
      incoming.fd_count = 1;
      incoming.fds[0] = kValueBase + word.value;
    }
    return incoming;
  }

  static Incoming AddOf(size_t person, uint64_t flags, uint64_t epoch) {
    const Handle base = static_cast<Handle>(person + 1) * 10;
    Incoming add;
    add.size = sizeof(Message);
    add.message.type = Type::kAddChild;
    add.message.instance = kInstance;
    add.message.child = static_cast<ChildId>(person + 1);
    add.message.arg1 = flags;
    add.message.arg2 = epoch;
    add.fd_count = 4;
    for (int i = 0; i < 4; ++i) add.fds[i] = base + i;
    return add;
  }

  void StoreReads(const World& world, size_t person, std::vector<World>& next) {
    World after = world;
    Words& sent = after.people[person].sent;
    const Word word = sent.front();
    sent.erase(sent.begin());
    Note(after, "store-reads", person, word);
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

  void StoreSeesDeath(const World& world, size_t person,
                      std::vector<World>& next) {
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

  bool Knows(const World& world, size_t person) const {
    return std::any_of(
        world.instance.children.begin(), world.instance.children.end(),
        [&](const store::Child& child) { return child.id == person + 1; });
  }

  // ---- The launcher ----

  void Restart(const World& world, std::vector<World>& next) {
    World after = world;
    after.must_restart = false;
    after.store_alive = true;
    Note(after, "restart");
    Ask(after, [](Escrow& escrow, ActionList& actions) {
      Incoming create;
      create.size = sizeof(Message);
      create.message.type = Type::kCreateInstance;
      create.message.instance = kInstance;
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

  void Attach(const World& world, std::vector<World>& next) {
    World after = world;
    const size_t person = after.to_attach.front();
    after.to_attach.erase(after.to_attach.begin());
    Note(after, "attach", person);
    after.people[person].channels.emplace_back();
    after.people[person].reachable = true;
    const bool active = static_cast<int>(person) == after.believed_active;
    std::vector<World> added;
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
        StoreSeesDeath(result, person, next);
      } else {
        next.push_back(std::move(result));
      }
    }
  }

  void Spawn(const World& world, std::vector<World>& next) {
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

  // ---- Children ----

  void Say(Person& person, Word word) {
    if (person.connected) person.sent.push_back(word);
  }

  void Commit(World& world, Person& person, uint8_t value) {
    person.waits = false;
    person.holds[SlotOf(value)] = value;
    person.must_retain = true;
    world.committed = std::max(world.committed, value);
  }

  void Hear(World& world, Person& person, const Word& word) {
    switch (word.type) {
      case Type::kForward:
        if (!person.active || person.holds[word.slot] == 0) {
          person.holds[word.slot] = word.value;
        }
        break;
      case Type::kSync:
        for (size_t s = 0; s < kSlots; ++s) {
          if ((word.value >> s & 1) == 0) person.holds[s] = 0;
        }
        break;
      case Type::kForwardDone:
        // One whose start the store does not outlive ends.
        if (person.starting && !person.connected) person.alive = false;
        if (person.starting) Say(person, {Type::kReady, 0, 0});
        person.starting = false;
        break;
      case Type::kAck:
        if (person.waits) {
          Commit(world, person, static_cast<uint8_t>(world.committed + 1));
        }
        break;
      case Type::kPromote:
        Promoted(world, person, word.value);
        break;
      default:
        break;
    }
  }

  void Promoted(World& world, Person& person, uint8_t epoch) {
    // A store that knows of no promotion may give out the same number again.
    if (person.active && epoch == person.epoch) return;
    if (epoch <= world.epoch) {  // Segment::ClaimEpoch: another one owns it.
      person.alive = false;
      return;
    }
    ++result_.promotions;
    world.epoch = person.epoch = epoch;
    person.active = true;
    for (const Person& other : world.people) {
      if (&other != &person && other.alive && other.active) {
        Problem("two are active");
      }
    }
    if (world.committed != 0 &&
        person.holds[SlotOf(world.committed)] != world.committed) {
      Problem("value " + std::to_string(world.committed) +
              " was committed; the successor holds " +
              std::to_string(person.holds[SlotOf(world.committed)]));
    }
  }

  void NextDeposit(World& world, Person& person) {
    if (!person.deposits.empty()) {
      Say(person, person.deposits.front());
      person.deposits.erase(person.deposits.begin());
      return;
    }
    Say(person, {Type::kReady, 0, 0});
    person.attaching = false;
    HearDeferred(world, person);
  }

  void HearDeferred(World& world, Person& person) {
    for (const Word& word : std::exchange(person.deferred, {})) {
      Hear(world, person, word);
    }
  }

  void Read(World& world, Person& person) {
    const Word word = person.channels[0].front();
    person.channels[0].erase(person.channels[0].begin());
    const bool is_answer = word.type == Type::kAck;
    if ((person.attaching || person.waits) && !is_answer) {
      person.deferred.push_back(word);
    } else if (person.attaching) {
      NextDeposit(world, person);
    } else {
      Hear(world, person, word);
      if (is_answer) HearDeferred(world, person);
    }
  }

  // The next channel has come on the control channel.
  void MoveOn(World& world, Person& person, bool is_last) {
    const bool forgets = mistakes_.forget_last_words && !person.active;
    Words rest = std::exchange(person.deferred, {});
    const bool answers_count = !person.attaching;
    for (const Word& word : person.channels[0]) {
      if (word.type != Type::kAck || answers_count) rest.push_back(word);
    }
    person.attaching = false;
    for (const Word& word : rest) {
      if (!forgets) Hear(world, person, word);
    }
    person.channels.erase(person.channels.begin());
    person.waits = person.must_retain = false;
    person.connected = is_last && person.reachable;
    if (person.starting) person.alive = false;
    if (!person.connected || !person.alive) return;
    person.attaching = true;
    person.deposits.clear();
    for (size_t s = 0; s < kSlots; ++s) {
      if (person.holds[s] == 0) continue;
      person.deposits.push_back(
          {Type::kEscrow, static_cast<uint8_t>(s), person.holds[s]});
    }
    NextDeposit(world, person);
  }

  // Its own work: the next value, or the end of the last one.
  bool Work(World& world, Person& person) {
    if (!person.active || person.attaching || person.waits) return false;
    if (person.must_retain) {
      person.must_retain = false;
      const size_t slot = SlotOf(world.committed);
      for (size_t s = 0; s < kSlots; ++s) {
        if (s != slot) person.holds[s] = 0;
      }
      Say(person, {Type::kRetain, 0, static_cast<uint8_t>(1 << slot)});
      return true;
    }
    if (!person.connected || world.committed >= limits_.values) return false;
    const auto value = static_cast<uint8_t>(world.committed + 1);
    Say(person, {Type::kEscrow, static_cast<uint8_t>(SlotOf(value)), value});
    person.waits = true;
    if (mistakes_.trust_sending) Commit(world, person, value);
    return true;
  }

  // ---- The world ----

  World First() {
    World world;
    for (size_t i = 0; i < 2; ++i) {
      Person& person = world.people[i];
      person.present = person.alive = person.connected = true;
      person.complete = person.reachable = true;
      person.channels.emplace_back();
      world.believed[i] = true;
      std::vector<World> next;
      if (i == 0) {
        world.store_alive = false;
        Restart(world, next);
        world = std::move(next.back());
        world.to_attach.clear();
      }
      for (const Action& action : Ask(world, [&](Escrow&e, ActionList&a) {
             e.OnLauncher(AddOf(i, 0, 0), 1, a);
           })) {
        Carry(world, action);
      }
      const Key key = KeyOf(world, i, Watch::kChannel);
      for (const Action& action : Ask(world, [&](Escrow&e, ActionList&a) {
             e.OnChild(key, Of({Type::kReady, 0, 0}), 1, a);
           })) {
        Carry(world, action);
      }
    }
    for (size_t slot = 0; slot < kSlots; ++slot) {
      world.instance.slots[kFirst + slot] = kValueBase + kOld[slot];
    }
    for (size_t i = 0; i < 2; ++i) {
      Person& person = world.people[i];
      while (!person.channels[0].empty()) Read(world, person);
      person.holds = kOld;
    }
    return world;
  }

  void Successors(const World& world, std::vector<World>& next) {
    if (world.must_restart) Restart(world, next);
    if (world.store_alive && !world.to_attach.empty()) Attach(world, next);
    const bool one_lost =
        std::count(world.believed.begin(), world.believed.end(), true) < 2;
    if (world.store_alive && world.to_attach.empty() && one_lost &&
        world.newcomers < limits_.newcomers) {
      Spawn(world, next);
    }
    for (size_t i = 0; i < kPeople; ++i) {
      const Person& person = world.people[i];
      if (!person.present) continue;
      if (world.store_alive && !person.sent.empty() && Knows(world, i)) {
        StoreReads(world, i, next);
      }
      if (world.store_alive && !person.alive && Knows(world, i)) {
        StoreSeesDeath(world, i, next);
      }
      if (person.alive) ChildMoves(world, i, next);
    }
  }

  void ChildMoves(const World& world, size_t i, std::vector<World>& next) {
    const Person& person = world.people[i];
    // Of everything there is, something complete lives on.
    const size_t others = CountComplete(world) - (person.complete ? 1 : 0);
    if (world.child_deaths < limits_.child_deaths &&
        (world.store_complete || others != 0)) {
      World dead = world;
      ++dead.child_deaths;
      dead.people[i].alive = false;
      Note(dead, "dies", i);
      next.push_back(std::move(dead));
    }
    if (!person.channels[0].empty()) {
      World after = world;
      Note(after, "reads", i, person.channels[0].front());
      Read(after, after.people[i]);
      next.push_back(std::move(after));
    }
    if (person.channels.size() > 1) {
      World after = world;
      Note(after, "moves-on", i);
      MoveOn(after, after.people[i], person.channels.size() == 2);
      next.push_back(std::move(after));
    }
    World after = world;
    Note(after, "works", i);
    if (Work(after, after.people[i])) next.push_back(std::move(after));
  }

  // Nothing moves: what the store holds is what the next successor would get.
  void CheckQuiet(const World& world) {
    if (!world.store_alive || world.committed == 0) return;
    const bool anybody =
        std::any_of(world.people.begin(), world.people.end(),
                    [](const Person& p) { return p.alive && p.active; });
    const Handle held = world.instance.slots[kFirst + SlotOf(world.committed)];
    if (anybody && held != kValueBase + world.committed) {
      Problem("value " + std::to_string(world.committed) +
              " was committed; the store holds " +
              std::to_string(held == kNoHandle ? 0 : held - kValueBase));
    }
  }

  static void Append(std::string& out, const Words& words) {
    for (const Word& word : words) {
      out += static_cast<char>(word.type);
      out += static_cast<char>(word.slot * 16 + word.value);
    }
    out += '|';
  }

  static std::string Digest(const World& world) {
    std::string out = {static_cast<char>(world.store_alive),
                       static_cast<char>(world.store_deaths),
                       static_cast<char>(world.child_deaths),
                       static_cast<char>(world.newcomers),
                       static_cast<char>(world.committed),
                       static_cast<char>(world.believed_active),
                       static_cast<char>(world.epoch),
                       static_cast<char>(world.told_epoch),
                       static_cast<char>(world.must_restart),
                       static_cast<char>(world.store_complete)};
    for (bool b : world.believed) out += static_cast<char>(b);
    out.append(world.to_attach.begin(), world.to_attach.end());
    out += '|';
    for (const Person& p : world.people) {
      for (bool b :
           {p.present, p.reachable, p.complete, p.alive, p.active, p.starting,
            p.attaching, p.connected, p.waits, p.must_retain}) {
        out += static_cast<char>('0' + b);
      }
      out += static_cast<char>(p.epoch);
      for (uint8_t value : p.holds) out += static_cast<char>(value);
      for (const Words& words : p.channels) Append(out, words);
      out += '/';
      Append(out, p.sent);
      Append(out, p.deposits);
      Append(out, p.deferred);
    }
    const Instance& instance = world.instance;
    out += static_cast<char>(instance.promotion.epoch);
    for (size_t s = 0; s < kSlots; ++s) {
      out += static_cast<char>(instance.slots[kFirst + s] - kValueBase);
      out += static_cast<char>(instance.spoken[kFirst + s]);
    }
    for (size_t i = 0; i < kMaxChildrenPerInstance; ++i) {
      out += static_cast<char>(instance.children[i].id);
      out += static_cast<char>(instance.children[i].depositing);
      out += static_cast<char>(instance.promotion.members[i]);
    }
    return out;
  }

  const ModelLimits limits_;
  const ModelMistakes mistakes_;
  std::unique_ptr<Escrow> escrow_ = std::make_unique<Escrow>();
  std::unique_ptr<ActionList> actions_ = std::make_unique<ActionList>();
  std::unordered_set<std::string> seen_;
  ModelResult result_;
  const Step* path_ = nullptr;
};

}  // namespace

ModelResult ExploreEscrow(const ModelLimits& limits,
                          const ModelMistakes& mistakes) {
  return Explorer(limits, mistakes).Run();
}

}  // namespace holdfast::store::testing
