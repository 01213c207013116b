#ifndef HOLDFAST_DEVICES_PCI_NVME_ERROR_LOG_H_
#define HOLDFAST_DEVICES_PCI_NVME_ERROR_LOG_H_

// What the segment holds for the log pages: commands that failed, and sizes of
// namespaces that the guest may not know.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>

#include "absl/types/span.h"
#include "base/shared_access.h"
#include "devices/pci_nvme/protocol.h"

namespace holdfast::nvme {

inline constexpr uint8_t kErrorLogEntries = 16;
inline constexpr uint32_t kMaxNamespaces = 8;

// An entry of the Error Information log page (section 5.14.1.1).
struct ErrorEntry {
  uint64_t count;  // Its number, from 1 on; 0: none.
  uint16_t sq_id;
  uint16_t cid;
  uint16_t status;    // As in the completion.
  uint16_t location;  // Of the field that is wrong: all ones, not known.
  uint64_t lba;
  uint32_t nsid;
  uint8_t reserved[36];
};
static_assert(sizeof(ErrorEntry) == 64);

// Whose entry it is: a command that is executed again has one.
struct ErrorOwner {
  uint32_t life;  // Of its queue.
  uint32_t queue;
  uint64_t counter;
  bool operator==(const ErrorOwner& other) const {
    return life == other.life && queue == other.queue &&
           counter == other.counter;
  }
};

// An area. One place more than the page has entries: the one that is written.
struct LogArea {
  struct Place {
    ErrorEntry entry;
    ErrorOwner owner;
    uint64_t media;  // Errors of the medium up to this one.
    uint8_t reserved[40];
  };
  uint64_t errors;  // So many places have been written.
  uint8_t reserved0[56];
  // Blocks that the guest may know; 0: it knows none, ~0: an empty image.
  uint64_t known[kMaxNamespaces];
  uint64_t changed;  // A bit for each namespace.
  uint8_t reserved1[56];
  Place places[kErrorLogEntries + 1];
};
static_assert(sizeof(LogArea) == 192 + 128 * (kErrorLogEntries + 1));

// The log over its area, which this class neither owns nor trusts. An entry is
// written whole, then counted by one store.
//
// Threads: any, for errors; work 0 for namespaces.
class ErrorLog {
 public:
  ErrorLog() = default;
  // Over sizeof(LogArea) bytes, aligned to 64, that outlive it. Once.
  void Attach(absl::Span<uint8_t> area) {
    area_ = reinterpret_cast<LogArea*>(area.data());
  }

  // Adds an entry, its number filled in, unless its owner has one. `medium`:
  // it is an error of the medium.
  void Add(ErrorEntry entry, const ErrorOwner& owner, bool medium) {
    std::lock_guard<std::mutex> lock(mutex_);
    const uint64_t errors = SharedAccess::Load(&area_->errors);
    const uint64_t first = errors - std::min<uint64_t>(errors, kPlaces - 1);
    for (uint64_t i = first; i < errors; ++i) {
      if (At(i).owner == owner) return;
    }
    LogArea::Place place = {};
    place.entry = entry;
    place.entry.count = errors + 1;
    place.owner = owner;
    place.media = (errors == 0 ? 0 : At(errors - 1).media) + (medium ? 1 : 0);
    SharedAccess::Copy(&area_->places[errors % kPlaces], &place, sizeof(place));
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    SharedAccess::StoreRelease(&area_->errors, errors + 1);
  }

  // The page: the last entries, newest first.
  using Page = std::array<ErrorEntry, kErrorLogEntries>;
  Page page() {
    std::lock_guard<std::mutex> lock(mutex_);
    Page page = {};
    const uint64_t errors = SharedAccess::Load(&area_->errors);
    for (uint64_t i = 0; i < std::min<uint64_t>(errors, page.size()); ++i) {
      page[i] = At(errors - 1 - i).entry;
    }
    return page;
  }
  uint64_t errors() { return SharedAccess::Load(&area_->errors); }
  uint64_t media_errors() {
    std::lock_guard<std::mutex> lock(mutex_);
    const uint64_t errors = SharedAccess::Load(&area_->errors);
    return errors == 0 ? 0 : At(errors - 1).media;
  }

  // The guest is new, and will ask: it may know this many blocks, and no
  // namespace has changed.
  void Know(uint32_t nsid, uint64_t blocks) {
    Settle(nsid, blocks);
    SharedAccess::Store(&area_->changed, uint64_t{0});
  }
  // Whether a namespace has another size than the guest may know; then it is in
  // changed(). Once somebody has raised the event, Settle.
  bool Differs(uint32_t nsid, uint64_t blocks) {
    const uint64_t known = SharedAccess::Load(&area_->known[nsid - 1]);
    if (known == 0 || known == Noted(blocks)) return false;
    SharedAccess::Store(&area_->changed, changed() | uint64_t{1} << (nsid - 1));
    return true;
  }
  void Settle(uint32_t nsid, uint64_t blocks) {
    SharedAccess::Store(&area_->known[nsid - 1], Noted(blocks));
  }
  uint64_t changed() const { return SharedAccess::Load(&area_->changed); }
  void ForgetChanged() { SharedAccess::Store(&area_->changed, uint64_t{0}); }

 private:
  static constexpr uint64_t kPlaces = kErrorLogEntries + 1;
  static constexpr uint64_t Noted(uint64_t blocks) {
    return blocks == 0 ? ~uint64_t{0} : blocks;
  }

  LogArea::Place At(uint64_t number) const {
    LogArea::Place place;
    SharedAccess::Copy(&place, &area_->places[number % kPlaces], sizeof(place));
    return place;
  }

  std::mutex mutex_;
  LogArea* area_ = nullptr;
};

}  // namespace holdfast::nvme

#endif  // HOLDFAST_DEVICES_PCI_NVME_ERROR_LOG_H_
