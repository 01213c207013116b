#ifndef HOLDFAST_STATESTORE_STORE_TESTING_MODEL_CHILDREN_H_
#define HOLDFAST_STATESTORE_STORE_TESTING_MODEL_CHILDREN_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "statestore/store/testing/model_limits.h"
#include "statestore/store/testing/model_world.h"

namespace holdfast::store::testing {

// The steps of children, as devices/runtime makes them; each changes `world`.
class ModelChildren {
 public:
  ModelChildren(const ModelLimits& limits, const ModelMistakes& mistakes)
      : limits_(limits), mistakes_(mistakes) {}

  // Reads the next word of its channel. Precondition: there is one.
  void Read(World& world, Person& person);
  // Whether that changes nothing that another step could see or be seen by, and
  // comes to the same when it is done first.
  bool ReadsForItself(const Person& person) const;
  // The next channel has come on the control channel.
  void MoveOn(World& world, Person& person, bool is_last);
  // Its own work: the next value, or the end of the last one. False: there is
  // nothing to do.
  bool Work(World& world, Person& person);

  size_t promotions() const { return promotions_; }
  // Of the first violation; empty: there was none.
  const std::string& problem() const { return problem_; }

 private:
  void Say(Person& person, Word word);
  void Commit(World& world, Person& person, uint8_t value);
  void Hear(World& world, Person& person, const Word& word);
  void Promoted(World& world, Person& person, uint8_t epoch);
  void NextDeposit(World& world, Person& person);
  void HearDeferred(World& world, Person& person);

  const ModelLimits limits_;
  const ModelMistakes mistakes_;
  size_t promotions_ = 0;
  std::string problem_;
};

}  // namespace holdfast::store::testing

#endif  // HOLDFAST_STATESTORE_STORE_TESTING_MODEL_CHILDREN_H_
