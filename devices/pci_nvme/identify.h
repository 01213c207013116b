#ifndef HOLDFAST_DEVICES_PCI_NVME_IDENTIFY_H_
#define HOLDFAST_DEVICES_PCI_NVME_IDENTIFY_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "devices/pci_nvme/identify_data.h"
#include "devices/pci_nvme/protocol.h"

namespace holdfast::nvme {

struct NamespaceIdentity {
  uint64_t blocks = 0;
  uint32_t block_shift = 9;
};

// What the controller says of itself and of its namespaces. Constant but for
// the sizes.
struct Identity {
  uint16_t vendor = 0;
  uint16_t subsystem_vendor = 0;
  std::string serial;  // At most 20 bytes; filled up with spaces.
  std::string model;   // At most 40 bytes.
  std::vector<NamespaceIdentity> namespaces;  // From number 1 on.
  bool read_only = false;
  bool shadow_doorbells = false;

  // What a guest must find again in the next process, as a number that is not
  // 0. Sizes are not in it: images grow and shrink.
  uint32_t fingerprint() const;
};

using IdentifyPage = std::array<uint8_t, kIdentifySize>;

inline constexpr uint8_t kAsyncEventLimit = 4;

// The page that Identify `cns` for namespace `nsid` gives (section 5.15).
// kInvalidField: no such page; kInvalidNamespace. Pure.
Status Identify(const Identity& identity, uint8_t cns, uint32_t nsid,
                IdentifyPage* page);

}  // namespace holdfast::nvme

#endif  // HOLDFAST_DEVICES_PCI_NVME_IDENTIFY_H_
