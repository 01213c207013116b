#ifndef HOLDFAST_DEVICES_VIRTIO_BLK_FILE_ENGINE_SYS_H_
#define HOLDFAST_DEVICES_VIRTIO_BLK_FILE_ENGINE_SYS_H_

#include <memory>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "devices/virtio_blk/block_engine.h"

namespace holdfast::virtio_blk {

// Blocking I/O on a raw file or a block device; the calling thread waits. When
// a process dies, its blocked threads end only with their I/O, so the death
// fence is the I/O fence. `image` is borrowed for the engine's life. With
// O_DIRECT set on it, buffers that are not aligned go through a bounce buffer.
// After construction only preadv2, pwritev2, fdatasync, fallocate and lseek are
// called.
absl::StatusOr<std::unique_ptr<BlockEngine>> MakeFileEngine(BorrowedFd image);

}  // namespace holdfast::virtio_blk

#endif  // HOLDFAST_DEVICES_VIRTIO_BLK_FILE_ENGINE_SYS_H_
