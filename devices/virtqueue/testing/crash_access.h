#ifndef HOLDFAST_DEVICES_VIRTQUEUE_TESTING_CRASH_ACCESS_H_
#define HOLDFAST_DEVICES_VIRTQUEUE_TESTING_CRASH_ACCESS_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "base/shared_access.h"

namespace holdfast::testing {

// A process that can be killed after any of its stores. Code that is compiled
// with CrashAccess in place of SharedAccess runs on the current machine; when
// the machine is dead its stores do not reach memory any more, so the code runs
// to its end without an effect and the test throws the process's objects away.
//
// Threads: one machine a thread.
class Machine {
 public:
  struct PendingStore {
    void* to;
    uint64_t value;
    uint8_t size;
  };

  Machine() { Current() = this; }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  ~Machine() { Current() = nullptr; }

  static Machine*& Current() {
    static thread_local Machine* current = nullptr;
    return current;
  }

  // A new process, which dies after its `stores`-th store; 0: never.
  void Boot(uint64_t stores) {
    dead_ = false;
    stores_ = 0;
    dies_after_ = stores;
    held_.clear();
    holding_ = false;
  }
  bool dead() const { return dead_; }
  uint64_t stores() const { return stores_; }

  // Called after every store, by a live process: what others do meanwhile.
  std::function<void()> meanwhile;
  // Whether a store happens at all; for wrong variants that leave one out.
  std::function<bool(const void* to)> allowed;

  // Until Release, stores are kept back ...
  void Hold() { holding_ = true; }
  // ... and then happen in the order that `sort` gives them, each with its
  // chance to die.
  template <typename Sort>
  void Release(Sort sort) {
    holding_ = false;
    std::vector<PendingStore> stores = std::move(held_);
    held_.clear();
    sort(stores);
    for (const PendingStore& store : stores) Perform(store);
  }

  void Store(const PendingStore& store) {
    if (dead_ || (allowed && !allowed(store.to))) return;
    if (holding_) {
      held_.push_back(store);
    } else {
      Perform(store);
    }
  }

 private:
  void Perform(const PendingStore& store) {
    if (dead_) return;
    std::memcpy(store.to, &store.value, store.size);  // Little-endian.
    if (++stores_ == dies_after_) {
      dead_ = true;
    } else if (meanwhile) {
      meanwhile();
    }
  }

  bool dead_ = false;
  bool holding_ = false;
  uint64_t stores_ = 0;
  uint64_t dies_after_ = 0;
  std::vector<PendingStore> held_;
};

// SharedAccess on the current Machine.
struct CrashAccess : SharedAccess {
  using Own = CrashAccess;
  template <typename T>
  static void Store(T* to, T value) {
    Machine::Current()->Store({to, static_cast<uint64_t>(value), sizeof(T)});
  }
  template <typename T>
  static void StoreRelease(T* to, T value) {
    Store(to, value);
  }
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_VIRTQUEUE_TESTING_CRASH_ACCESS_H_
