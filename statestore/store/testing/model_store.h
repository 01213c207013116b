#ifndef HOLDFAST_STATESTORE_STORE_TESTING_MODEL_STORE_H_
#define HOLDFAST_STATESTORE_STORE_TESTING_MODEL_STORE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "statestore/store/actions.h"
#include "statestore/store/escrow.h"
#include "statestore/store/testing/model_children.h"
#include "statestore/store/testing/model_limits.h"
#include "statestore/store/testing/model_world.h"

namespace holdfast::store::testing {

// The steps of the store and of the launcher. Each appends to `next` all ends
// that it may come to: the store may die after any of its actions.
class ModelStore {
 public:
  using Worlds = std::vector<World>;

  ModelStore(const ModelLimits& limits, const ModelMistakes& mistakes)
      : limits_(limits), mistakes_(mistakes) {}

  // A store with an active child and a standby that have heard what it said.
  World First(ModelChildren& children);

  bool Knows(const World& world, size_t person) const;
  // Precondition: it has said something.
  void Reads(const World& world, size_t person, Worlds& next);
  void SeesDeath(const World& world, size_t person, Worlds& next);

  // The launcher starts a new store; adds the next child to it, alive or not;
  // and makes a new child.
  void Restart(const World& world, Worlds& next);
  void Attach(const World& world, Worlds& next);
  void Spawn(const World& world, Worlds& next);

 private:
  using Event = std::function<void(Escrow&, ActionList&)>;

  std::vector<Action> Ask(World& world, const Event& event);
  Key KeyOf(World& world, size_t person, Watch watch);
  void Carry(World& world, const Action& action);
  void KillStore(World& world);
  void Happen(const World& before, const Event& event, Worlds& next,
              bool completes = false);
  void PromoteEarly(World& world, std::vector<Action>& actions);

  const ModelLimits limits_;
  const ModelMistakes mistakes_;
  std::unique_ptr<Escrow> escrow_ = std::make_unique<Escrow>();
  std::unique_ptr<ActionList> actions_ = std::make_unique<ActionList>();
};

}  // namespace holdfast::store::testing

#endif  // HOLDFAST_STATESTORE_STORE_TESTING_MODEL_STORE_H_
