#include "statestore/store/testing/model_world.h"

#include <algorithm>
#include <utility>

namespace holdfast::store::testing {
namespace {

void Append(std::string& out, const Words& words) {
  for (const Word& word : words) {
    out += static_cast<char>(word.type);
    out += static_cast<char>(word.slot * 16 + word.value);
  }
  out += '|';
}

void Append(std::string& out, const Person& p) {
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

void Append(std::string& out, const Instance& instance) {
  out += static_cast<char>(instance.promotion.epoch);
  for (size_t s = 0; s < kModelSlots; ++s) {
    out += static_cast<char>(instance.slots[kModelFirstSlot + s] - kValueBase);
    out += static_cast<char>(instance.spoken[kModelFirstSlot + s]);
  }
  for (size_t i = 0; i < kMaxChildrenPerInstance; ++i) {
    out += static_cast<char>(instance.children[i].id);
    out += static_cast<char>(instance.children[i].depositing);
    out += static_cast<char>(instance.promotion.members[i]);
  }
}

}  // namespace

void Note(World& world, const char* what, size_t number, Word word) {
  world.path =
      std::make_shared<PathStep>(PathStep{world.path, what, number, word});
}

std::string Describe(const PathStep* last) {
  std::string path;
  for (const PathStep* step = last; step != nullptr;
       step = step->before.get()) {
    const std::string word = std::to_string(static_cast<int>(step->word.type)) +
                             "," + std::to_string(step->word.slot) + "," +
                             std::to_string(step->word.value);
    path = std::string(" ") + step->what + "-" + std::to_string(step->number) +
           (step->word.type == Type{} ? "" : "(" + word + ")") + path;
  }
  return path;
}

size_t CountComplete(const World& world) {
  return std::count_if(world.people.begin(), world.people.end(),
                       [](const Person& p) { return p.alive && p.complete; });
}

std::string Digest(const World& world) {
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
  for (const Person& person : world.people) Append(out, person);
  Append(out, world.instance);
  return out;
}

void Forget(Person& dead) {
  Person rest;
  rest.present = dead.present;
  rest.complete = dead.complete;
  rest.sent = std::move(dead.sent);
  rest.channels.emplace_back();
  dead = std::move(rest);
}

}  // namespace holdfast::store::testing
