#include "devices/runtime/window_maps_sys.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "devices/runtime/file_range_sys.h"

namespace holdfast {
namespace {

using vfio_user::FileId;
using vfio_user::SessionState;
using vfio_user::WindowState;

constexpr uint64_t kPageSize = 4096;

DmaAccess AccessOf(const WindowState& window) {
  return static_cast<DmaAccess>(window.access);
}

}  // namespace

absl::StatusOr<FileId> IdentifyFile(BorrowedFd fd) {
  struct stat status = {};
  // The C library's fstat takes a path, which the steady-state filter does not
  // let through.
  if (syscall(SYS_fstat, fd.get(), &status) != 0) return ErrnoStatus("fstat");
  const int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0) return ErrnoStatus("fcntl");
  return FileId{status.st_dev, status.st_ino,
                static_cast<uint64_t>(flags & O_ACCMODE)};
}

absl::StatusOr<std::shared_ptr<Mapping>> WindowMaps::MapFile(
    const WindowState& window) {
  const BorrowedFd fd = descriptors_.Get(window.slot);
  // A standby may have the slot's former descriptor still.
  ASSIGN_OR_RETURN(const FileId id, IdentifyFile(fd));
  if (!(id == window.file)) {
    return absl::NotFoundError("the window's file is not there");
  }
  // The client may have cut it since it was accepted: better no memory than one
  // crash after the other.
  RETURN_IF_ERROR(CheckFileHolds(fd, window.offset, window.size));
  File& file = files_[window.slot];
  if (file.mapping == nullptr || !(file.id == id) ||
      file.mapping->size() < window.offset + window.size) {
    ASSIGN_OR_RETURN(const uint64_t size, FileEnd(fd));
    const uint64_t whole = (size + kPageSize - 1) / kPageSize * kPageSize;
    ASSIGN_OR_RETURN(Mapping mapping,
                     MapShared(fd, 0, whole,
                               id.access == O_RDONLY ? MapAccess::kReadOnly
                                                     : MapAccess::kReadWrite));
    file = {id, std::make_shared<Mapping>(std::move(mapping))};
  }
  return file.mapping;
}

void WindowMaps::Keep(const vfio_user::SlotBitmap& slots) {
  for (size_t slot = 0; slot < files_.size(); ++slot) {
    if ((slots[slot / 64] >> (slot % 64) & 1) == 0) files_[slot] = File{};
  }
}

void WindowMaps::MapAhead(const SessionState& state,
                          vfio_user::ConstWindowTable table) {
  vfio_user::SlotBitmap named{};
  vfio_user::ForEachWindow(
      state, table, [&](size_t, const WindowState& shared) {
        WindowState window;  // Read once: its owner changes it.
        std::memcpy(&window, &shared, sizeof(window));
        if (window.crc == vfio_user::WindowCrc(window) && window.slot != 0 &&
            window.slot < files_.size() && MapFile(window).ok()) {
          named[window.slot / 64] |= uint64_t{1} << (window.slot % 64);
        }
        return true;
      });
  Keep(named);
}

absl::Status WindowMaps::Grant(const WindowState& window) {
  DmaWindow grant;
  grant.address = GuestAddress{window.address};
  grant.size = window.size;
  grant.access = AccessOf(window);
  if (window.slot != 0) {
    // Whoever gave a file does not expect to be asked by message.
    ASSIGN_OR_RETURN(std::shared_ptr<Mapping> file, MapFile(window));
    grant.host = file->data() + window.offset;
    grant.mapping = std::move(file);
  }
  return windows_.Add(std::move(grant));
}

absl::Status WindowMaps::Apply(const SessionState& state,
                               vfio_user::ConstWindowTable table) {
  absl::Status result;
  for (size_t word = 0; word < vfio_user::kMaxWindows / 64; ++word) {
    uint64_t changed = granted_[word] ^ state.windows[word];
    // What goes must be gone before what overlaps it comes.
    for (uint64_t bits = changed & granted_[word]; bits != 0;
         bits &= bits - 1) {
      const size_t i = word * 64 + static_cast<size_t>(__builtin_ctzll(bits));
      (void)windows_.Remove(GuestAddress{known_[i].address}, known_[i].size);
      granted_[word] &= ~(uint64_t{1} << (i % 64));
    }
  }
  for (size_t word = 0; word < vfio_user::kMaxWindows / 64; ++word) {
    for (uint64_t bits = state.windows[word] & ~granted_[word]; bits != 0;
         bits &= bits - 1) {
      const size_t i = word * 64 + static_cast<size_t>(__builtin_ctzll(bits));
      known_[i] = table[i];
      granted_[word] |= uint64_t{1} << (i % 64);
      result.Update(Grant(known_[i]));
    }
  }
  return result;
}

// Waits by looking, as long as transfers last that have the window in hand:
// copies and the disk's reads and writes. None of them waits for the VMM, which
// waits for this (DmaMapping). A count that somebody waits for would cost every
// transfer what is needed once for a window.
void WindowMaps::Release(const WindowState& window) {
  constexpr timespec kPause = {0, 50'000};
  const GuestAddress address{window.address};
  while (absl::IsUnavailable(windows_.Remove(address, window.size))) {
    ppoll(nullptr, 0, &kPause, nullptr);
  }
  for (size_t i = 0; i < vfio_user::kMaxWindows; ++i) {
    if (known_[i].address == window.address && known_[i].size == window.size) {
      granted_[i / 64] &= ~(uint64_t{1} << (i % 64));
    }
  }
}

}  // namespace holdfast
