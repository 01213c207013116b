#ifndef HOLDFAST_DEVICES_VFIO_USER_CAPABILITIES_H_
#define HOLDFAST_DEVICES_VFIO_USER_CAPABILITIES_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "devices/vfio_user/message.h"

namespace holdfast::vfio_user {

// What one end says of itself in "VFIO_USER_VERSION". Pure; thread-safe.
struct Capabilities {
  uint32_t max_message_fds = kDefaultMaxMessageFds;  // That it can receive.
  uint32_t max_transfer = kDefaultMaxTransfer;       // Bytes.
  uint32_t max_dma_maps = kDefaultMaxDmaMaps;
  uint64_t page_sizes = kDefaultPageSizes;  // Each a bit.
  bool twin_socket = false;
  bool write_multiple = false;
};

// Reads the version data of a client, without its final NUL. Names that we do
// not know are skipped, and so is what only a server says. Numbers beyond 32
// bits count as 2^32 - 1. kInvalidArgument: no JSON (json.h has the limits), no
// object, a known name with a value of another type, a max_data_xfer_size of 0,
// or page sizes without 4096.
absl::StatusOr<Capabilities> ParseCapabilities(absl::string_view json);

// The version data of a server, without a final NUL. Says twin_socket and
// write_multiple only when they are true; the client's end of the twin socket
// is descriptor 0 of the message.
std::string EncodeCapabilities(const Capabilities& capabilities);

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_CAPABILITIES_H_
