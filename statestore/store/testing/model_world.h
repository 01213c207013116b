#ifndef HOLDFAST_STATESTORE_STORE_TESTING_MODEL_WORLD_H_
#define HOLDFAST_STATESTORE_STORE_TESTING_MODEL_WORLD_H_

// A state of the model: see escrow_model.h.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "statestore/store/actions.h"
#include "statestore/store/protocol.h"
#include "statestore/store/tables.h"

namespace holdfast::store::testing {

inline constexpr InstanceId kModelInstance = 1;
inline constexpr size_t kModelSlots = 2;
inline constexpr Slot kModelFirstSlot = 40;
inline constexpr size_t kPeople = 3;  // The first active child, its standby,
                                      // one more.
inline constexpr Handle kValueBase = 10000;

// A message as far as the model cares.
struct Word {
  Type type{};
  uint8_t slot = 0;
  uint8_t value = 0;  // kRetain and kSync: set of slots.
};
using Words = std::vector<Word>;

// What happened, for the report of a problem.
struct PathStep {
  std::shared_ptr<const PathStep> before;
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
  std::array<uint8_t, kModelSlots> holds = {};
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
  uint8_t committed = 0;  // The last value; it is in ModelSlotOf(committed).
  uint8_t epoch = 0;      // Claimed by the last that was promoted.
  // The launcher.
  int believed_active = -1;
  uint8_t told_epoch = 0;
  std::array<bool, kPeople> believed = {};
  std::vector<uint8_t> to_attach;
  bool must_restart = false;
  std::shared_ptr<const PathStep> path;  // How it came to this.
};

constexpr size_t ModelSlotOf(uint8_t value) { return value % kModelSlots; }

// Adds a step to the path of `world`.
void Note(World& world, const char* what, size_t number = 0, Word word = {});
// The path, as text.
std::string Describe(const PathStep* last);

// How many live and have all there is.
size_t CountComplete(const World& world);

// Everything that the future depends on: equal for states that are the same.
std::string Digest(const World& world);

// The dead one's words may still be read; nothing else of it matters.
void Forget(Person& dead);

}  // namespace holdfast::store::testing

#endif  // HOLDFAST_STATESTORE_STORE_TESTING_MODEL_WORLD_H_
