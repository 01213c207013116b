#include "statestore/store/testing/model_children.h"

#include <algorithm>
#include <utility>

namespace holdfast::store::testing {

void ModelChildren::Say(Person& person, Word word) {
  if (person.connected) person.sent.push_back(word);
}

void ModelChildren::Commit(World& world, Person& person, uint8_t value) {
  person.waits = false;
  person.holds[ModelSlotOf(value)] = value;
  person.must_retain = true;
  world.committed = std::max(world.committed, value);
}

void ModelChildren::Hear(World& world, Person& person, const Word& word) {
  switch (word.type) {
    case Type::kForward:
      if (!person.active || person.holds[word.slot] == 0) {
        person.holds[word.slot] = word.value;
      }
      break;
    case Type::kSync:
      for (size_t s = 0; s < kModelSlots; ++s) {
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

void ModelChildren::Promoted(World& world, Person& person, uint8_t epoch) {
  // A store that knows of no promotion may give out the same number again.
  if (person.active && epoch == person.epoch) return;
  if (epoch <= world.epoch) {  // Segment::ClaimEpoch: another one owns it.
    person.alive = false;
    return;
  }
  ++promotions_;
  world.epoch = person.epoch = epoch;
  person.active = true;
  for (const Person& other : world.people) {
    if (&other != &person && other.alive && other.active) {
      problem_ = "two are active";
    }
  }
  if (world.committed != 0 &&
      person.holds[ModelSlotOf(world.committed)] != world.committed) {
    problem_ = "value " + std::to_string(world.committed) +
               " was committed; the successor holds " +
               std::to_string(person.holds[ModelSlotOf(world.committed)]);
  }
}

void ModelChildren::NextDeposit(World& world, Person& person) {
  if (!person.deposits.empty()) {
    Say(person, person.deposits.front());
    person.deposits.erase(person.deposits.begin());
    return;
  }
  Say(person, {Type::kReady, 0, 0});
  person.attaching = false;
  HearDeferred(world, person);
}

void ModelChildren::HearDeferred(World& world, Person& person) {
  for (const Word& word : std::exchange(person.deferred, {})) {
    Hear(world, person, word);
  }
}

void ModelChildren::Read(World& world, Person& person) {
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

bool ModelChildren::ReadsForItself(const Person& person) const {
  // What is read in time cannot be forgotten.
  if (limits_.every_order || mistakes_.forget_last_words) return false;
  if (!person.alive || person.channels[0].empty()) return false;
  const Type type = person.channels[0].front().type;
  if (person.attaching || person.waits) return type != Type::kAck;
  return !person.active && (type == Type::kForward || type == Type::kSync);
}

void ModelChildren::MoveOn(World& world, Person& person, bool is_last) {
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
  for (size_t s = 0; s < kModelSlots; ++s) {
    if (person.holds[s] == 0) continue;
    person.deposits.push_back(
        {Type::kEscrow, static_cast<uint8_t>(s), person.holds[s]});
  }
  NextDeposit(world, person);
}

bool ModelChildren::Work(World& world, Person& person) {
  if (!person.active || person.attaching || person.waits) return false;
  if (person.must_retain) {
    person.must_retain = false;
    const size_t slot = ModelSlotOf(world.committed);
    for (size_t s = 0; s < kModelSlots; ++s) {
      if (s != slot) person.holds[s] = 0;
    }
    Say(person, {Type::kRetain, 0, static_cast<uint8_t>(1 << slot)});
    return true;
  }
  if (!person.connected || world.committed >= limits_.values) return false;
  const auto value = static_cast<uint8_t>(world.committed + 1);
  Say(person, {Type::kEscrow, static_cast<uint8_t>(ModelSlotOf(value)), value});
  person.waits = true;
  if (mistakes_.trust_sending) Commit(world, person, value);
  return true;
}

}  // namespace holdfast::store::testing
