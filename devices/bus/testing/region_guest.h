#ifndef HOLDFAST_DEVICES_BUS_TESTING_REGION_GUEST_H_
#define HOLDFAST_DEVICES_BUS_TESTING_REGION_GUEST_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "devices/bus/dma_windows.h"
#include "devices/bus/region_device.h"
#include "statestore/schema.h"
#include "statestore/transaction.h"

namespace holdfast::testing {

// What the world outside the device sees, in the same memory as its state, so
// that a kill cuts both at one instant.
struct RegionRecord {
  static constexpr size_t kMaxAccesses = 128;
  static constexpr size_t kMaxSignals = 320;

  uint64_t done;  // Accesses answered.
  uint64_t resource;
  uint64_t answers[kMaxAccesses];
  uint64_t signals[kMaxSignals];  // By Layout::vectors.
};

// A guest, its VMM and a carrier in one, of whatever bus: drives a function by
// region accesses, receives its interrupts, has memory for its DMA at address
// 0. Does in order what a carrier does: access, answer, then all ordered work.
//
// An access that failed reads as ones, as on a bus. Aborts when the test itself
// is wrong (a spec that is refused).
class RegionGuest : protected IrqSink {
 public:
  static constexpr size_t kRamSize = 8192;

  struct Options {
    // Whether the VMM masks vectors itself.
    bool has_vector_table = false;
    // Controls, each a carrier that does one thing wrong.
    bool names_accesses = true;
    bool resumes = true;
    size_t ram_size = kRamSize;  // Bytes, whole pages.
  };
  // Of the memory that a device and its world have; whole pages.
  struct Layout {
    Schema schema;
    uint32_t areas_size = 0;
    uint64_t shared_size = 0;  // Bytes that device and guest both map.
    uint32_t vectors = 1;      // Of an irq that are counted.
  };
  // As found in such memory.
  struct View {
    absl::Span<uint8_t> state;
    RegionRecord* record;
    absl::Span<uint8_t> ram;
    absl::Span<uint8_t> shared;
    absl::Span<uint8_t> areas;
  };

  ~RegionGuest() override;

  const Layout& layout() const { return layout_; }
  size_t MemorySize() const;
  View ViewOf(absl::Span<uint8_t> memory) const;
  void Format(absl::Span<uint8_t> memory) const;
  // Memory of its own, and started there.
  void Begin();
  // Takes over what is in `memory` as the next incarnation of the device would.
  // Accesses that the record says are answered are not made again, but answered
  // from there.
  void Attach(absl::Span<uint8_t> memory);
  // The device is killed now and taken over.
  void Restart();

  uint64_t Read(uint32_t region, uint64_t offset, size_t size);
  void Write(uint32_t region, uint64_t offset, uint64_t value, size_t size);
  uint32_t Read32(uint32_t region, uint64_t offset) {
    return static_cast<uint32_t>(Read(region, offset, 4));
  }
  void Write32(uint32_t region, uint64_t offset, uint32_t value) {
    Write(region, offset, value, 4);
  }
  // Writes memory, as one of the accesses that are not made again.
  void StoreRam(uint64_t address, absl::Span<const uint8_t> bytes);

  // A resource of the device (the size of its image, say) is changed, and the
  // device is told, as one of the accesses that are not made again. A successor
  // of one that died of being told is not told.
  void ChangeResource(uint64_t value);
  // That resource, for devices under test: of the guest that was attached last,
  // on whatever thread; 0 at first. Kept with all else, so that a kill cuts it
  // at the same instant.
  static uint64_t Resource();

  uint64_t signals(uint32_t irq, uint32_t vector = 0) const {
    return record().signals[irq * layout_.vectors + vector];
  }

  absl::Span<uint8_t> ram() { return view_.ram; }
  DmaWindows& windows() { return windows_; }
  const RegionRecord& record() const { return *view_.record; }
  // What accesses go to: the function, or what wraps it.
  virtual RegionDevice& device() = 0;
  StateBank& bank() { return *bank_; }
  absl::Span<uint8_t> state() { return view_.state; }
  absl::Span<uint8_t> areas() { return view_.areas; }
  // Does all work that was ordered, as accesses do by themselves.
  void Work();
  absl::Span<uint8_t> memory() { return memory_; }
  // Of the last access.
  const absl::Status& status() const { return status_; }
  void set_next_id(uint64_t id) { next_ = id; }

 protected:
  RegionGuest(Layout layout, Options options);

  // Makes the function anew; `shared` is what it maps with the guest.
  virtual void Make(absl::Span<uint8_t> shared) = 0;
  virtual absl::Status Start(StateBank& bank, absl::Span<uint8_t> areas) = 0;
  virtual RegionDevice& bare() = 0;  // What no wrapper is around.

  void Signal(uint32_t irq, uint32_t vector) override;
  bool has_vector_table() const override { return options_.has_vector_table; }

 private:
  template <typename Access>
  uint64_t Once(Access access);

  const Layout layout_;
  const Options options_;
  const size_t state_size_;
  std::vector<uint8_t> own_;
  absl::Span<uint8_t> memory_;
  View view_ = {};
  const uint8_t* made_for_ = nullptr;  // Shared memory of the function.
  DmaWindows windows_;
  std::optional<StateBank> bank_;
  uint64_t next_ = 0;  // Number of the next access.
  absl::Status status_;
};

// Aborts and says why unless it is well.
void Need(const absl::Status& status);
template <typename T>
T Need(absl::StatusOr<T> value) {
  Need(value.status());
  return *std::move(value);
}

// The last committed values of all fields, in a section of state.
absl::Span<const uint8_t> CommittedFields(absl::Span<const uint8_t> state,
                                          const Schema& schema);

// The first difference, for people; "": none but in the fields `uncertain`.
std::string CompareFields(const Schema& schema, absl::Span<const uint8_t> want,
                          absl::Span<const uint8_t> got,
                          const std::set<std::string>& uncertain);

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_BUS_TESTING_REGION_GUEST_H_
