#ifndef HOLDFAST_DEVICES_VIRTQUEUE_DMA_PORT_H_
#define HOLDFAST_DEVICES_VIRTQUEUE_DMA_PORT_H_

// SplitRing over memory that is not mapped here: BasicSplitRing<PortAccess>.
//
// It is the ring whose order of stores is proven, with transfers in place of
// stores. A transfer that fails may have happened or not, as a store that a
// process dies at; so from there on the ring is dead: nothing that it still
// stores happens, neither in the guest's memory nor in the in-flight table, and
// only a new ring, which recovers, goes on. To stop a queue that waits for the
// VMM, have its transfers fail.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/status/status.h"
#include "base/shared_access.h"
#include "devices/bus/dma.h"

namespace holdfast {

// What the rings of one thread reach the guest's memory through. Stores that
// follow one another in memory, too, are one transfer, which happens before
// anything that must come after them. One thread.
class DmaPort {
 public:
  // `dma` outlives the port.
  explicit DmaPort(Dma& dma) : dma_(dma) {}
  DmaPort(const DmaPort&) = delete;
  DmaPort& operator=(const DmaPort&) = delete;
  ~DmaPort();

  // PortAccess of this thread uses this port from here on.
  void Use();
  static DmaPort& Current();

  // A new life, whose transfers have not failed.
  void Boot();
  bool dead() const { return !status_.ok(); }
  // The first error, of Dma.
  const absl::Status& status() const { return status_; }

  void Read(uint64_t address, void* to, size_t size);
  void Write(uint64_t address, const void* from, size_t size);
  void Flush();

 private:
  Dma& dma_;
  absl::Status status_;
  // Not written yet: pending_[0, size_) from address_ on.
  uint64_t address_ = 0;
  size_t size_ = 0;
  std::array<uint8_t, 64> pending_;
};

// Pointers are guest addresses, and never followed. `OwnAccess`: of memory that
// is here; a template so that a test can cut between its stores.
template <typename OwnAccess>
struct BasicPortAccess {
  // The in-flight table is here: each store that says "all that came before is
  // done" waits for the transfers to be.
  struct Own : OwnAccess {
    template <typename T>
    static void Store(T* to, T value) {
      if (!DmaPort::Current().dead()) OwnAccess::Store(to, value);
    }
    template <typename T>
    static void StoreRelease(T* to, T value) {
      DmaPort::Current().Flush();
      if (!DmaPort::Current().dead()) OwnAccess::StoreRelease(to, value);
    }
  };

  // 0 once the ring is dead.
  template <typename T>
  static T Load(const T* from) {
    T value = 0;
    DmaPort::Current().Flush();
    DmaPort::Current().Read(reinterpret_cast<uintptr_t>(from), &value,
                            sizeof(value));
    return value;
  }
  template <typename T>
  static T LoadAcquire(const T* from) {
    const T value = Load(from);
    SharedAccess::Fence();
    return value;
  }
  template <typename T>
  static void Store(T* to, T value) {
    DmaPort::Current().Write(reinterpret_cast<uintptr_t>(to), &value,
                             sizeof(value));
  }
  // Done, and all before it, when this returns.
  template <typename T>
  static void StoreRelease(T* to, T value) {
    DmaPort::Current().Flush();
    SharedAccess::Fence();
    Store(to, value);
    DmaPort::Current().Flush();
  }
  static void Fence() {
    DmaPort::Current().Flush();
    SharedAccess::Fence();
  }
};
static_assert(sizeof(uintptr_t) == sizeof(uint64_t));
using PortAccess = BasicPortAccess<SharedAccess>;

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_VIRTQUEUE_DMA_PORT_H_
