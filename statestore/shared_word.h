#ifndef HOLDFAST_STATESTORE_SHARED_WORD_H_
#define HOLDFAST_STATESTORE_SHARED_WORD_H_

#include <cstdint>

#include "base/shared_access.h"

namespace holdfast {

// SharedAccess for the 8-byte words of a segment, and compare-and-swap.
// Precondition: `p` is 8-byte aligned.

inline uint64_t LoadWord(const uint8_t* p) {
  return SharedAccess::LoadAcquire(reinterpret_cast<const uint64_t*>(p));
}

inline void StoreWord(uint8_t* p, uint64_t value) {
  SharedAccess::StoreRelease(reinterpret_cast<uint64_t*>(p), value);
}

// Replaces `expected` by `desired`. Otherwise leaves the word alone, puts what
// it holds into `expected` and returns false.
inline bool CompareAndSwapWord(uint8_t* p, uint64_t& expected,
                               uint64_t desired) {
  return __atomic_compare_exchange_n(reinterpret_cast<uint64_t*>(p), &expected,
                                     desired, /*weak=*/false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_ACQUIRE);
}

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_SHARED_WORD_H_
