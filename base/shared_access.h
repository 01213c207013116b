#ifndef HOLDFAST_BASE_SHARED_ACCESS_H_
#define HOLDFAST_BASE_SHARED_ACCESS_H_

#include <cstddef>
#include <cstring>

namespace holdfast {

// How code touches memory that another process or the guest writes at the same
// time, and that must be right whenever this process is killed.
//
// Classes whose stores carry a crash proof take this as a template parameter,
// so that a test can stop the process after any one store without a cost here.
// Pointers must be aligned for T except where noted. Threads: any.
struct SharedAccess {
  // How the same code touches what is its own beside it: in-flight tables.
  using Own = SharedAccess;

  // Reads once: the value that was checked is the value that is used.
  template <typename T>
  static T Load(const T* from) {
    return __atomic_load_n(from, __ATOMIC_RELAXED);
  }

  // As Load; what the writer stored before its release store is visible.
  template <typename T>
  static T LoadAcquire(const T* from) {
    return __atomic_load_n(from, __ATOMIC_ACQUIRE);
  }

  // Stores of one thread reach memory in program order: the processor retires
  // them in order and the fence binds the compiler, so a kill between two
  // instructions leaves a prefix of them.
  template <typename T>
  static void Store(T* to, T value) {
    __atomic_store_n(to, value, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
  }

  // As Store, and a reader that acquires the value sees all earlier writes,
  // those of plain memory included.
  template <typename T>
  static void StoreRelease(T* to, T value) {
    __atomic_store_n(to, value, __ATOMIC_RELEASE);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
  }

  // Orders earlier stores before later loads. The one barrier that needs it is
  // "publish, then ask whether the other side wants to be told".
  static void Fence() {
#pragma GCC diagnostic push
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
    // The sanitizer does not model the fence; the atomics around it suffice.
#pragma GCC diagnostic ignored "-Wtsan"
#endif
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#pragma GCC diagnostic pop
  }

  // Copies `size` bytes, any alignment, so that the compiler cannot go back to
  // the source later. Not atomic: the copy may be torn, never re-read.
  static void Copy(void* to, const void* from, size_t size) {
    std::memcpy(to, from, size);
    asm volatile("" : : "r"(to) : "memory");
  }
};

}  // namespace holdfast

#endif  // HOLDFAST_BASE_SHARED_ACCESS_H_
