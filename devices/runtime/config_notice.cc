#include "devices/runtime/config_notice.h"

#include <algorithm>
#include <cstddef>

#include "base/crc32c.h"

namespace holdfast {

ConfigNotice::ConfigNotice(absl::Span<uint8_t> section,
                           const VirtioDevice& device, uint32_t config_size)
    : told_(section.size() < sizeof(SessionRecord)
                ? nullptr
                : reinterpret_cast<uint64_t*>(
                      section.data() + offsetof(SessionRecord, config_told))),
      device_(device),
      config_size_(config_size) {}

uint64_t ConfigNotice::Fingerprint() const {
  uint32_t crc = 0;
  for (uint32_t offset = 0; offset < config_size_;) {
    uint8_t bytes[256];
    const uint32_t size =
        std::min<uint32_t>(sizeof(bytes), config_size_ - offset);
    device_.ReadConfig(offset, absl::MakeSpan(bytes, size));
    crc = Crc32cExtend(crc, {bytes, size});
    offset += size;
  }
  return uint64_t{config_size_} << 32 | crc;
}

bool ConfigNotice::Differs(uint64_t fingerprint) const {
  if (told_ == nullptr) return false;
  const uint64_t told = __atomic_load_n(told_, __ATOMIC_RELAXED);
  return told != 0 && told != fingerprint;
}

void ConfigNotice::Remember(uint64_t fingerprint) {
  if (told_ != nullptr) __atomic_store_n(told_, fingerprint, __ATOMIC_RELAXED);
}

}  // namespace holdfast
