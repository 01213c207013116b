#include "statestore/store/testing/escrow_model.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "statestore/store/testing/fingerprint_set.h"
#include "statestore/store/testing/model_children.h"
#include "statestore/store/testing/model_store.h"
#include "statestore/store/testing/model_world.h"

namespace holdfast::store::testing {
namespace {

class Explorer {
 public:
  Explorer(const ModelLimits& limits, const ModelMistakes& mistakes)
      : limits_(limits),
        store_(limits, mistakes),
        children_(limits, mistakes) {}

  ModelResult Run() {
    std::vector<World> stack = {store_.First(children_)};
    while (!stack.empty() && result_.problem.empty() &&
           result_.states < limits_.states) {
      World world = std::move(stack.back());
      stack.pop_back();
      if (!limits_.every_order) ForgetTheDead(world);
      if (!seen_.Insert(Digest(world))) continue;
      ++result_.states;
      const size_t before = stack.size();
      Successors(world, stack);
      if (stack.size() == before) CheckQuiet(world);
      if (!children_.problem().empty()) Problem(world, children_.problem());
    }
    result_.promotions = children_.promotions();
    result_.complete = stack.empty();
    return result_;
  }

 private:
  void Problem(const World& world, const std::string& text) {
    result_.problem = text + ", after" + Describe(world.path.get());
  }

  static void ForgetTheDead(World& world) {
    for (Person& person : world.people) {
      if (person.present && !person.alive) Forget(person);
    }
  }

  void Successors(const World& world, std::vector<World>& next) {
    for (size_t i = 0; i < kPeople; ++i) {
      if (children_.ReadsForItself(world.people[i])) {
        return ChildReads(world, i, next);
      }
    }
    if (world.must_restart) store_.Restart(world, next);
    if (world.store_alive && !world.to_attach.empty()) {
      store_.Attach(world, next);
    }
    const bool one_lost =
        std::count(world.believed.begin(), world.believed.end(), true) < 2;
    if (world.store_alive && world.to_attach.empty() && one_lost &&
        world.newcomers < limits_.newcomers) {
      store_.Spawn(world, next);
    }
    for (size_t i = 0; i < kPeople; ++i) {
      const Person& person = world.people[i];
      if (!person.present) continue;
      if (world.store_alive && store_.Knows(world, i)) {
        if (!person.sent.empty()) store_.Reads(world, i, next);
        if (!person.alive) store_.SeesDeath(world, i, next);
      }
      if (person.alive) ChildMoves(world, i, next);
    }
  }

  void ChildReads(const World& world, size_t i, std::vector<World>& next) {
    World after = world;
    Note(after, "reads", i, world.people[i].channels[0].front());
    children_.Read(after, after.people[i]);
    next.push_back(std::move(after));
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
    if (!person.channels[0].empty()) ChildReads(world, i, next);
    if (person.channels.size() > 1) {
      World after = world;
      Note(after, "moves-on", i);
      children_.MoveOn(after, after.people[i], person.channels.size() == 2);
      next.push_back(std::move(after));
    }
    World after = world;
    Note(after, "works", i);
    if (children_.Work(after, after.people[i])) {
      next.push_back(std::move(after));
    }
  }

  // Nothing moves: what the store holds is what the next successor would get.
  void CheckQuiet(const World& world) {
    if (!world.store_alive || world.committed == 0) return;
    const bool anybody =
        std::any_of(world.people.begin(), world.people.end(),
                    [](const Person& p) { return p.alive && p.active; });
    const Handle held =
        world.instance.slots[kModelFirstSlot + ModelSlotOf(world.committed)];
    if (anybody && held != kValueBase + world.committed) {
      Problem(world,
              "value " + std::to_string(world.committed) +
                  " was committed; the store holds " +
                  std::to_string(held == kNoHandle ? 0 : held - kValueBase));
    }
  }

  const ModelLimits limits_;
  ModelStore store_;
  ModelChildren children_;
  FingerprintSet seen_;
  ModelResult result_;
};

}  // namespace

ModelResult ExploreEscrow(const ModelLimits& limits,
                          const ModelMistakes& mistakes) {
  return Explorer(limits, mistakes).Run();
}

}  // namespace holdfast::store::testing
