#ifndef HOLDFAST_STATESTORE_STORE_TESTING_ESCROW_MODEL_H_
#define HOLDFAST_STATESTORE_STORE_TESTING_ESCROW_MODEL_H_

#include <cstddef>
#include <string>

#include "statestore/store/testing/model_limits.h"

namespace holdfast::store::testing {

// All interleavings of a store that dies and is started again, an active child
// that deposits and dies, a standby that is forwarded, re-attaches, deposits
// and is promoted, and a newcomer, around a real Escrow.
//
// The world is what protocol.h, client.h and devices/runtime make of it:
// channels keep their order and outlive the process that wrote to them; the
// store may die between any two of its actions, a child between any two of its
// steps; the launcher knows what it was told, so it may take the dead for
// living. The active child deposits value after value, in two slots by turns,
// and commits each when it is acknowledged: a successor must hold every
// committed value when it is promoted, and a store in which nothing moves any
// more must hold it for the one after.
struct ModelResult {
  size_t states = 0;
  size_t promotions = 0;  // Looked at.
  bool complete = false;  // All states were.
  std::string problem;    // Of the first violation; empty: there is none.
};

ModelResult ExploreEscrow(const ModelLimits& limits,
                          const ModelMistakes& mistakes = {});

}  // namespace holdfast::store::testing

#endif  // HOLDFAST_STATESTORE_STORE_TESTING_ESCROW_MODEL_H_
