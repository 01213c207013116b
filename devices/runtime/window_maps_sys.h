#ifndef HOLDFAST_DEVICES_RUNTIME_WINDOW_MAPS_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_WINDOW_MAPS_SYS_H_

#include <array>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/shm_sys.h"
#include "base/unique_fd.h"
#include "devices/bus/dma_windows.h"
#include "devices/runtime/descriptors.h"
#include "devices/vfio_user/session_state.h"

namespace holdfast {

// What tells the file behind `fd` apart from others.
absl::StatusOr<vfio_user::FileId> IdentifyFile(BorrowedFd fd);

// The windows of a session as a process has them: granted to the device, and
// mapped when the client gave a file. A file is mapped once and whole, however
// many windows lie in it. Control thread only.
class WindowMaps {
 public:
  // Both outlive this object.
  WindowMaps(DmaWindows& windows, const DescriptorSlots& descriptors)
      : windows_(windows), descriptors_(descriptors) {}

  // Maps the files that a session names, and no others; grants nothing.
  void MapAhead(const vfio_user::SessionState& state,
                vfio_user::ConstWindowTable table);

  // Grants what `state` says, and takes the rest away. The first error is
  // returned: such a window is not granted. In use
  // is nothing that goes (see Release).
  absl::Status Apply(const vfio_user::SessionState& state,
                     vfio_user::ConstWindowTable table);

  // The window is the device's no longer; waits for transfers that use it.
  void Release(const vfio_user::WindowState& window);

  // Lets go of the files in other slots; the windows in them are gone.
  void Keep(const vfio_user::SlotBitmap& slots);

 private:
  // A slot may come to hold another file: the mapping is of this one.
  struct File {
    vfio_user::FileId id{};
    std::shared_ptr<Mapping> mapping;
  };

  absl::StatusOr<std::shared_ptr<Mapping>> MapFile(
      const vfio_user::WindowState& window);
  absl::Status Grant(const vfio_user::WindowState& window);

  DmaWindows& windows_;
  const DescriptorSlots& descriptors_;
  std::array<File, store::kSlotCount> files_;
  uint64_t granted_[vfio_user::kMaxWindows / 64] = {};  // As in SessionState.
  // What was granted, to find it again when its entry is used for another.
  vfio_user::WindowState known_[vfio_user::kMaxWindows] = {};
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_WINDOW_MAPS_SYS_H_
