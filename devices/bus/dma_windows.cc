#include "devices/bus/dma_windows.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"

namespace holdfast {
namespace {

GuestAddress Plus(GuestAddress address, uint64_t offset) {
  return GuestAddress{ToInt(address) + offset};
}

// The last byte, so that a window may end with the address space.
uint64_t LastOf(const DmaWindow& window) {
  return ToInt(window.address) + (window.size - 1);
}

}  // namespace

absl::Status DmaWindows::Add(DmaWindow window) {
  const uint64_t first = ToInt(window.address);
  if (window.size == 0 || LastOf(window) < first) {
    return absl::InvalidArgumentError(
        absl::StrFormat("DMA window at 0x%x: %d bytes are empty or wrap around",
                        first, window.size));
  }
  std::unique_lock<std::shared_mutex> lock(mutex_);
  if (entries_.size() >= kMaxWindows) {
    return absl::ResourceExhaustedError(
        absl::StrCat("more than ", kMaxWindows, " DMA windows"));
  }
  const auto after = entries_.upper_bound(LastOf(window));
  if (after != entries_.begin() &&
      LastOf(std::prev(after)->second->window) >= first) {
    return absl::AlreadyExistsError(
        absl::StrFormat("DMA window at 0x%x overlaps the one at 0x%x", first,
                        std::prev(after)->first));
  }
  auto entry = std::make_shared<Entry>();
  entry->window = std::move(window);
  entries_.emplace(first, std::move(entry));
  return absl::OkStatus();
}

absl::Status DmaWindows::Remove(GuestAddress address, uint64_t size) {
  std::unique_lock<std::shared_mutex> lock(mutex_);
  const auto found = entries_.find(ToInt(address));
  if (found == entries_.end() || found->second->window.size != size) {
    return absl::NotFoundError(absl::StrFormat(
        "no DMA window of %d bytes at 0x%x", size, ToInt(address)));
  }
  found->second->leaving = true;
  // Nobody can take it up any more, so the count only falls.
  if (found->second.use_count() > 1) {
    return absl::UnavailableError(
        absl::StrFormat("DMA window at 0x%x is in use", ToInt(address)));
  }
  entries_.erase(found);
  return absl::OkStatus();
}

absl::Status DmaWindows::RemoveAll() {
  std::unique_lock<std::shared_mutex> lock(mutex_);
  for (auto it = entries_.begin(); it != entries_.end();) {
    it->second->leaving = true;
    it = it->second.use_count() > 1 ? std::next(it) : entries_.erase(it);
  }
  if (entries_.empty()) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat(entries_.size(), " DMA windows are in use"));
}

std::vector<DmaWindow> DmaWindows::Mapped() const {
  std::shared_lock<std::shared_mutex> lock(mutex_);
  std::vector<DmaWindow> mapped;
  for (const auto& [address, entry] : entries_) {
    if (entry->window.host != nullptr) mapped.push_back(entry->window);
  }
  return mapped;
}

size_t DmaWindows::size() const {
  std::shared_lock<std::shared_mutex> lock(mutex_);
  return entries_.size();
}

// As much of the range as one window holds, at least a byte.
absl::StatusOr<DmaWindows::Piece> DmaWindows::Find(GuestAddress address,
                                                   uint64_t size,
                                                   DmaAccess access) const {
  const uint64_t at = ToInt(address);
  std::shared_lock<std::shared_mutex> lock(mutex_);
  const auto after = entries_.upper_bound(at);
  if (after == entries_.begin() ||
      LastOf(std::prev(after)->second->window) < at ||
      std::prev(after)->second->leaving) {
    return absl::OutOfRangeError(
        absl::StrFormat("DMA address 0x%x is in no window", at));
  }
  const std::shared_ptr<Entry>& entry = std::prev(after)->second;
  if (!Allows(entry->window.access, access)) {
    return absl::PermissionDeniedError(
        absl::StrFormat("DMA window at 0x%x does not allow this access",
                        ToInt(entry->window.address)));
  }
  const uint64_t offset = at - ToInt(entry->window.address);
  return Piece{entry, offset, std::min(size, entry->window.size - offset)};
}

// First of all, so that a transfer that cannot succeed moves nothing.
absl::Status DmaWindows::CheckGranted(GuestAddress address, uint64_t size,
                                      DmaAccess access) const {
  if (size != 0 && ToInt(address) + (size - 1) < ToInt(address)) {
    return absl::OutOfRangeError(absl::StrFormat(
        "DMA range of %d bytes at 0x%x wraps around", size, ToInt(address)));
  }
  while (size != 0) {
    ASSIGN_OR_RETURN(const Piece piece, Find(address, size, access));
    if (piece.entry->window.host == nullptr && messenger_ == nullptr) {
      return absl::UnavailableError(absl::StrFormat(
          "DMA address 0x%x is not mapped, and the VMM cannot be asked",
          ToInt(address)));
    }
    address = Plus(address, piece.size);
    size -= piece.size;
  }
  return absl::OkStatus();
}

template <typename Bytes, typename Copy, typename Ask>
absl::Status DmaWindows::Transfer(GuestAddress address, Bytes bytes,
                                  DmaAccess access, Copy copy, Ask ask) {
  RETURN_IF_ERROR(CheckGranted(address, bytes.size(), access));
  while (!bytes.empty()) {
    ASSIGN_OR_RETURN(Piece piece, Find(address, bytes.size(), access));
    uint64_t size = piece.size;
    if (piece.entry->window.host != nullptr) {
      copy(piece.entry->window.host + piece.offset, bytes.subspan(0, size));
    } else if (messenger_ == nullptr) {
      return absl::UnavailableError("the DMA window was replaced meanwhile");
    } else if (DmaMapping::HeldByThisThread()) {
      return absl::FailedPreconditionError(
          "DMA by message while a DmaMapping is held, whose window the VMM may "
          "be taking away before it answers");
    } else {
      // Not pinned meanwhile: a VMM that takes the window away may not answer
      // before it is gone.
      piece.entry.reset();
      size = std::min<uint64_t>(size, messenger_->max_transfer());
      RETURN_IF_ERROR(ask(address, bytes.subspan(0, size)));
    }
    address = Plus(address, size);
    bytes.remove_prefix(size);
  }
  return absl::OkStatus();
}

absl::Status DmaWindows::Read(GuestAddress address, absl::Span<uint8_t> out) {
  return Transfer(
      address, out, DmaAccess::kRead,
      [](const uint8_t* host, absl::Span<uint8_t> piece) {
        std::memcpy(piece.data(), host, piece.size());
      },
      [this](GuestAddress at, absl::Span<uint8_t> piece) {
        return messenger_->Read(at, piece);
      });
}

absl::Status DmaWindows::Write(GuestAddress address,
                               absl::Span<const uint8_t> bytes) {
  GuestAddress at = address;
  return Transfer(
      address, bytes, DmaAccess::kWrite,
      [this, &at](uint8_t* host, absl::Span<const uint8_t> piece) {
        std::memcpy(host, piece.data(), piece.size());
        Written(at, piece.size());
        at = Plus(at, piece.size());
      },
      [this, &at](GuestAddress ask_at, absl::Span<const uint8_t> piece) {
        at = Plus(ask_at, piece.size());
        return messenger_->Write(ask_at, piece);
      });
}

absl::StatusOr<DmaMapping> DmaWindows::Map(GuestAddress address, uint64_t size,
                                           DmaAccess access) {
  RETURN_IF_ERROR(CheckGranted(address, size, access));
  if (size == 0) return DmaMapping();
  ASSIGN_OR_RETURN(Piece piece, Find(address, size, access));
  if (piece.size < size || piece.entry->window.host == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrFormat("DMA range of %d bytes at 0x%x is not mapped in one "
                        "piece",
                        size, ToInt(address)));
  }
  uint8_t* const host = piece.entry->window.host + piece.offset;
  return DmaMapping({host, size}, std::move(piece.entry));
}

void DmaWindows::Written(GuestAddress address, uint64_t size) {
  if (dirty_log_ != nullptr && size != 0) dirty_log_->Mark(address, size);
}

}  // namespace holdfast
