#ifndef HOLDFAST_DEVICES_BLOCK_IMAGE_FILE_SYS_H_
#define HOLDFAST_DEVICES_BLOCK_IMAGE_FILE_SYS_H_

#include <memory>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "devices/block/image_file.h"
#include "devices/block/topology.h"

namespace holdfast::block {

// A raw file or a block device by blocking calls. When a process dies, its
// blocked threads end only with their calls, so the death fence is the I/O
// fence. `image` is borrowed for the object's life. The block size is the
// logical one of a block device, else 512 bytes, also where a file that is open
// with O_DIRECT is aligned to more: what a guest sees does not depend on how
// its image was opened. Such a file must be a multiple of its alignment long.
// After construction only preadv2, pwritev2, fdatasync, fallocate and lseek are
// called.
absl::StatusOr<std::unique_ptr<ImageFile>> OpenImageFile(BorrowedFd image);

// Of a block device what it says of itself; of a file its file system's blocks.
// Calls ioctl with BLKSSZGET, BLKPBSZGET, BLKIOMIN, BLKIOOPT and BLKALIGNOFF,
// and is for the time before the steady state.
Topology TopologyOf(BorrowedFd image);

}  // namespace holdfast::block

#endif  // HOLDFAST_DEVICES_BLOCK_IMAGE_FILE_SYS_H_
