#ifndef HOLDFAST_DEVICES_RUNTIME_CONFIG_NOTICE_H_
#define HOLDFAST_DEVICES_RUNTIME_CONFIG_NOTICE_H_

#include <cstdint>

#include "absl/types/span.h"
#include "devices/bus/virtio_device.h"

namespace holdfast {

// Section kSession of a device's segment.
struct SessionRecord {
  // The fingerprint of the configuration space that the driver was last told
  // of; 0: nobody was told anything.
  uint64_t config_told;
  uint8_t zero[56];
};
static_assert(sizeof(SessionRecord) == 64);

// Remembers, beyond the life of the process, which configuration space the
// driver has been told of. A process may die anywhere between a change, the
// device's wish to have it told and the message: whoever comes next compares
// and tells it, once more than needed at worst.
//
// Threads: the control thread of the active process.
class ConfigNotice {
 public:
  // `section` is the segment's kSession, empty in segments of builds that had
  // none: then nothing is remembered and nothing is ever found to differ.
  // `config_size` are the bytes of the device's configuration space.
  ConfigNotice(absl::Span<uint8_t> section, const VirtioDevice& device,
               uint32_t config_size);

  // A number for the configuration space as it is now: its size and CRC32C. A
  // change within four neighbouring bytes always changes it. 0: there is none.
  uint64_t Fingerprint() const;

  // Whether the driver was told of another configuration space than this.
  bool Differs(uint64_t fingerprint) const;

  // The driver has been told, or knows otherwise. One store: a crash leaves
  // the old record or the new one.
  void Remember(uint64_t fingerprint);

 private:
  uint64_t* told_;  // Null: nothing is remembered.
  const VirtioDevice& device_;
  const uint32_t config_size_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_CONFIG_NOTICE_H_
