#include "devices/pci_nvme/identify.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/crc32c.h"
#include "devices/pci_nvme/error_log.h"
#include "devices/pci_nvme/prp.h"
#include "devices/pci_nvme/registers.h"

namespace holdfast::nvme {
namespace {

template <size_t kSize>
void PutText(char (&field)[kSize], absl::string_view text) {
  std::fill_n(field, kSize, ' ');
  std::copy_n(text.begin(), std::min(text.size(), kSize), field);
}

void DescribeController(const Identity& identity, IdentifyPage* page) {
  ControllerData data = {};
  data.vendor = identity.vendor;
  data.subsystem_vendor = identity.subsystem_vendor;
  PutText(data.serial, identity.serial);
  PutText(data.model, identity.model);
  PutText(data.firmware, "1.0");
  data.arbitration_burst = 6;
  data.max_transfer = PrpRanges::kMaxTransferShift;
  data.version = kVersion14;
  data.async_events = 1u << 8;  // Namespace attribute notices.
  data.type = 1;
  data.admin_commands = identity.shadow_doorbells ? 0x100 : 0;
  data.abort_limit = 3;
  data.async_event_limit = kAsyncEventLimit - 1;
  data.firmware_updates = 0x03;     // One slot, read-only.
  data.log_page_attributes = 0x04;  // Offsets and long transfers.
  data.error_log_entries = kErrorLogEntries - 1;
  data.warning_temperature = 343;  // Kelvin.
  data.critical_temperature = 373;
  data.sq_entry_sizes = 0x66;
  data.cq_entry_sizes = 0x44;
  data.namespaces = static_cast<uint32_t>(identity.namespaces.size());
  data.io_commands = 0x0d;  // Compare, dataset management, write zeroes.
  data.write_cache = 0x07;  // Volatile; a flush may name all namespaces.
  const std::string name =
      absl::StrCat("nqn.2026-01.org.holdfast:nvme:", identity.serial);
  std::copy_n(name.begin(),
              std::min(name.size(), sizeof(data.subsystem_name) - 1),
              data.subsystem_name);
  const uint16_t power = 2500;  // Centiwatts.
  std::memcpy(data.power_state0, &power, sizeof(power));
  std::memcpy(page->data(), &data, sizeof(data));
}

// From the serial number, so that it names the same disk in every life.
std::array<uint8_t, 8> Eui64Of(const Identity& identity, uint32_t nsid) {
  std::string salted = absl::StrCat("holdfast ", identity.serial);
  if (nsid != 1) absl::StrAppend(&salted, " ", nsid);
  const auto crc = [](const std::string& text) {
    return Crc32c({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  };
  const uint64_t mixed = uint64_t{crc(salted)} << 32 | crc(salted + "!");
  std::array<uint8_t, 8> eui;
  std::memcpy(eui.data(), &mixed, eui.size());
  eui[0] = 0x02;  // Administered locally.
  return eui;
}

void DescribeNamespace(const Identity& identity, uint32_t nsid,
                       IdentifyPage* page) {
  const NamespaceIdentity& described = identity.namespaces[nsid - 1];
  NamespaceData data = {};
  data.size = data.capacity = data.used = described.blocks;
  data.attributes = identity.read_only ? 1 : 0;
  const std::array<uint8_t, 8> eui = Eui64Of(identity, nsid);
  std::copy(eui.begin(), eui.end(), data.eui64);
  data.lba_formats[0] = described.block_shift << 16;
  std::memcpy(page->data(), &data, sizeof(data));
}

// Of all: what they have in common, which is no size and no name.
void DescribeCommon(const Identity& identity, IdentifyPage* page) {
  NamespaceData data = {};
  data.attributes = identity.read_only ? 1 : 0;
  data.lba_formats[0] = identity.namespaces[0].block_shift << 16;
  std::memcpy(page->data(), &data, sizeof(data));
}

// Section 5.15.2.4: type, length, two reserved bytes, the identifier.
void DescribeIds(const Identity& identity, uint32_t nsid, IdentifyPage* page) {
  const std::array<uint8_t, 8> eui = Eui64Of(identity, nsid);
  (*page)[0] = 1;
  (*page)[1] = static_cast<uint8_t>(eui.size());
  std::copy(eui.begin(), eui.end(), page->begin() + 4);
}

}  // namespace

uint32_t Identity::fingerprint() const {
  std::string text = absl::StrCat(serial, "/", model, "/", read_only);
  for (const NamespaceIdentity& space : namespaces) {
    absl::StrAppend(&text, "/", space.block_shift);
  }
  const uint32_t crc =
      Crc32c({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  return crc == 0 ? 1 : crc;
}

Status Identify(const Identity& identity, uint8_t cns, uint32_t nsid,
                IdentifyPage* page) {
  page->fill(0);
  const size_t count = identity.namespaces.size();
  const bool exists = nsid >= 1 && nsid <= count;
  switch (static_cast<Cns>(cns)) {
    case Cns::kController:
      DescribeController(identity, page);
      return Status::kSuccess;
    case Cns::kNamespace:
      if (nsid == kAllNamespaces && count != 0) {
        DescribeCommon(identity, page);
        return Status::kSuccess;
      }
      if (!exists) return Status::kInvalidNamespace;
      DescribeNamespace(identity, nsid, page);
      return Status::kSuccess;
    case Cns::kActiveNamespaces: {
      // Those above `nsid`.
      if (nsid >= 0xfffffffe) return Status::kInvalidNamespace;
      size_t at = 0;
      for (uint32_t id = nsid + 1; id <= count; ++id) {
        std::memcpy(page->data() + at, &id, sizeof(id));
        at += sizeof(id);
      }
      return Status::kSuccess;
    }
    case Cns::kDescriptors:
      if (!exists) return Status::kInvalidNamespace;
      DescribeIds(identity, nsid, page);
      return Status::kSuccess;
  }
  return Status::kInvalidField;
}

}  // namespace holdfast::nvme
