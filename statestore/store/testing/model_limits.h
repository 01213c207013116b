#ifndef HOLDFAST_STATESTORE_STORE_TESTING_MODEL_LIMITS_H_
#define HOLDFAST_STATESTORE_STORE_TESTING_MODEL_LIMITS_H_

#include <cstddef>

namespace holdfast::store::testing {

// How far the model goes; see escrow_model.h.
//
// Of what the dead know nothing is kept, and a step that only its own person
// can see is taken before all others, so that fewer states stand for the same
// runs; `every_order` takes them all. Visited states are kept as fingerprints
// of 128 bits: 64 bytes a state at most, so `states` bounds the memory.
struct ModelLimits {
  int store_deaths = 1;
  int child_deaths = 1;
  int newcomers = 1;
  int values = 1;
  size_t states = ~size_t{0};  // Where to stop looking.
  bool every_order = false;
};

// Mistakes, each of which the model must find.
struct ModelMistakes {
  // A standby meets a new store with words of the old one unread.
  bool forget_last_words = false;
  // The store drops what a standby deposits while an active child is there.
  bool ignore_standby = false;
  // A standby replaces what an active child said before it died.
  bool last_depositor_wins = false;
  // The child takes a deposit for held as soon as it is sent.
  bool trust_sending = false;
  // The store promotes while a child of an older store has not said yet what it
  // holds: PromotionState::awaited.
  bool await_nobody = false;
};

}  // namespace holdfast::store::testing

#endif  // HOLDFAST_STATESTORE_STORE_TESTING_MODEL_LIMITS_H_
