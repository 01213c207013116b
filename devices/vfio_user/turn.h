#ifndef HOLDFAST_DEVICES_VFIO_USER_TURN_H_
#define HOLDFAST_DEVICES_VFIO_USER_TURN_H_

// Private to the session: what the handlers of one request work on.

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "devices/vfio_user/codec.h"
#include "devices/vfio_user/session.h"

namespace holdfast::vfio_user {

// One request being decided. Handlers change `next`, which is the old state at
// first, and write the payload of the reply; an error from a handler refuses
// the request, and both are dropped.
class Turn {
 public:
  Turn(SessionState& next_in, SessionMemory& memory_in,
       const Request& request_in, const SlotList& slots_in,
       const Serving& serving_in, RegionDevice& device_in,
       SessionEnvironment& environment_in, absl::Span<uint8_t> reply)
      : request(request_in),
        slots(slots_in),
        serving(serving_in),
        device(device_in),
        environment(environment_in),
        memory(memory_in),
        table(memory_in.windows),
        next(next_in),
        writer(reply) {}

  const Request& request;
  const SlotList& slots;
  const Serving& serving;
  RegionDevice& device;
  SessionEnvironment& environment;
  SessionMemory& memory;
  const absl::Span<WindowState> table;
  SessionState& next;
  MessageWriter writer;
  Afterwards afterwards;
  // An error that ends the service: the device's.
  absl::Status fatal;

  // The name of the access that comes `ahead` after the last one.
  AccessId NameOf(uint64_t ahead) const {
    return AccessId{uint64_t{serving.connection} << 40 |
                    (next.accesses + ahead)};
  }

  // Errors whose text begins with the command's name.
  template <typename... Parts>
  absl::Status Invalid(const Parts&... parts) const {
    return absl::InvalidArgumentError(
        absl::StrCat(CommandName(request.command), ": ", parts...));
  }
  template <typename... Parts>
  absl::Status Exhausted(const Parts&... parts) const {
    return absl::ResourceExhaustedError(
        absl::StrCat(CommandName(request.command), ": ", parts...));
  }
};

// Whether [start, start + size) leaves 64 bits.
inline bool Wraps(uint64_t start, uint64_t size) {
  return start + size < start;
}

absl::Status DecideDmaMap(Turn& turn);
absl::Status DecideDmaUnmap(Turn& turn);
absl::Status DecideIrqInfo(Turn& turn);
absl::Status DecideSetIrqs(Turn& turn);
absl::Status DecideRegionInfo(Turn& turn);
absl::Status DecideRegionIoFds(Turn& turn);
absl::Status DecideRegionRead(Turn& turn);
absl::Status DecideRegionWrite(Turn& turn);
absl::Status DecideSmallWrites(Turn& turn);
absl::Status DecideFeature(Turn& turn);
absl::Status DecideMigrationRead(Turn& turn);
absl::Status DecideMigrationWrite(Turn& turn);

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_TURN_H_
