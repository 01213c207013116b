#ifndef HOLDFAST_DEVICES_BUS_DMA_WINDOWS_H_
#define HOLDFAST_DEVICES_BUS_DMA_WINDOWS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <shared_mutex>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "devices/bus/dma.h"

namespace holdfast {

// Memory that the VMM has granted to the device.
struct DmaWindow {
  GuestAddress address{};
  uint64_t size = 0;  // Bytes.
  DmaAccess access = DmaAccess::kReadWrite;
  // `size` bytes, mapped with the rights of `access`; null: the VMM is asked.
  uint8_t* host = nullptr;
  // What keeps `host` mapped; let go when the window is gone and unused.
  std::shared_ptr<void> mapping;
};

// Reaches memory that is not mapped here, by asking the VMM. Thread-safe; may
// wait. Each transfer has at most max_transfer() bytes and lies in one window.
class DmaMessenger {
 public:
  virtual ~DmaMessenger() = default;
  virtual size_t max_transfer() const = 0;  // Bytes, at least 1.
  virtual absl::Status Read(GuestAddress address, absl::Span<uint8_t> out) = 0;
  virtual absl::Status Write(GuestAddress address,
                             absl::Span<const uint8_t> bytes) = 0;
  // As Dma.
  virtual absl::Status AwaitForgotten() { return absl::OkStatus(); }
};

// Where writes to mapped memory are noted during a live migration. Thread-safe.
class DirtyLog {
 public:
  virtual ~DirtyLog() = default;
  virtual void Mark(GuestAddress address, uint64_t size) = 0;
};

// The windows of one device, and its Dma. Transfers may cross from one window
// into the next, a mapping may not.
//
// Thread-safe: windows come and go on one thread, transfers run on others.
class DmaWindows final : public Dma {
 public:
  // Behind an IOMMU each page is a window of its own: this many is 256 MiB of
  // single pages, and about 8 MiB of memory here. What VMMs keep to.
  static constexpr size_t kMaxWindows = 65535;

  // Null: windows that are not mapped can be granted, but not used. Both must
  // outlive this object.
  explicit DmaWindows(DmaMessenger* messenger = nullptr,
                      DirtyLog* dirty_log = nullptr)
      : messenger_(messenger), dirty_log_(dirty_log) {}

  // Grants a window. INVALID_ARGUMENT: it is empty, or wraps around.
  // ALREADY_EXISTS: it overlaps another. RESOURCE_EXHAUSTED: too many.
  absl::Status Add(DmaWindow window);

  // Takes a window away: exactly one that was granted, else NOT_FOUND.
  // UNAVAILABLE: a mapping still uses it; no new transfer begins, call again.
  absl::Status Remove(GuestAddress address, uint64_t size);

  // As Remove for every window; all of those that are not in use are gone.
  absl::Status RemoveAll();

  // Whether all of the range can be used now; errors as those of Dma.
  absl::Status CheckGranted(GuestAddress address, uint64_t size,
                            DmaAccess access) const;

  size_t size() const;
  // Those that are mapped here, ascending. For who holds them longer than a
  // transfer, and lets go of them by other means before they are removed.
  std::vector<DmaWindow> Mapped() const;

  absl::Status Read(GuestAddress address, absl::Span<uint8_t> out) override;
  absl::Status Write(GuestAddress address,
                     absl::Span<const uint8_t> bytes) override;
  absl::StatusOr<DmaMapping> Map(GuestAddress address, uint64_t size,
                                 DmaAccess access) override;
  absl::Status AwaitForgotten() override {
    return messenger_ == nullptr ? absl::OkStatus()
                                 : messenger_->AwaitForgotten();
  }
  void Written(GuestAddress address, uint64_t size) override;

 private:
  struct Entry {
    DmaWindow window;
    bool leaving = false;
  };
  using Entries = std::map<uint64_t, std::shared_ptr<Entry>>;
  // The part of a transfer that lies in one window.
  struct Piece {
    std::shared_ptr<Entry> entry;  // Its use count pins the window.
    uint64_t offset = 0;
    uint64_t size = 0;
  };

  absl::StatusOr<Piece> Find(GuestAddress address, uint64_t size,
                             DmaAccess access) const;
  template <typename Bytes, typename Copy, typename Ask>
  absl::Status Transfer(GuestAddress address, Bytes bytes, DmaAccess access,
                        Copy copy, Ask ask);

  DmaMessenger* const messenger_;
  DirtyLog* const dirty_log_;
  mutable std::shared_mutex mutex_;
  Entries entries_;  // By first address; guarded by mutex_.
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_DMA_WINDOWS_H_
