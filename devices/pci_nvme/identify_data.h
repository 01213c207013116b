#ifndef HOLDFAST_DEVICES_PCI_NVME_IDENTIFY_DATA_H_
#define HOLDFAST_DEVICES_PCI_NVME_IDENTIFY_DATA_H_

#include <cstddef>
#include <cstdint>

// What Identify answers with (NVM Express base specification 1.4, section
// 5.15). Little-endian; layout alone.
namespace holdfast::nvme {

inline constexpr size_t kIdentifySize = 4096;
// Identify Controller (figure 247), as far as it is not zero here.
struct __attribute__((packed)) ControllerData {
  uint16_t vendor;
  uint16_t subsystem_vendor;
  char serial[20];
  char model[40];
  char firmware[8];
  uint8_t arbitration_burst;
  uint8_t ieee[3];
  uint8_t multipath;
  uint8_t max_transfer;  // MDTS: 2^n pages.
  uint16_t controller_id;
  uint32_t version;
  uint8_t reserved0[8];
  uint32_t async_events;  // OAES.
  uint8_t reserved1[15];
  uint8_t type;  // 1: I/O controller.
  uint8_t reserved2[144];
  uint16_t admin_commands;  // OACS.
  uint8_t abort_limit;
  uint8_t async_event_limit;
  uint8_t firmware_updates;
  uint8_t log_page_attributes;
  uint8_t error_log_entries;
  uint8_t power_states;
  uint8_t reserved3[2];
  uint16_t warning_temperature;
  uint16_t critical_temperature;
  uint8_t reserved4[242];
  uint8_t sq_entry_sizes;
  uint8_t cq_entry_sizes;
  uint16_t max_commands;
  uint32_t namespaces;
  uint16_t io_commands;  // ONCS.
  uint16_t fused;
  uint8_t format_attributes;
  uint8_t write_cache;  // VWC.
  uint16_t atomic_write;
  uint16_t atomic_write_power_fail;
  uint8_t vendor_commands;
  uint8_t write_protection;
  uint16_t atomic_compare_write;
  uint8_t reserved5[2];
  uint32_t sgl;
  uint8_t reserved6[228];
  char subsystem_name[256];
  uint8_t reserved7[1024];
  uint8_t power_state0[32];
  uint8_t reserved8[992];
  uint8_t vendor_specific[1024];
};
static_assert(offsetof(ControllerData, version) == 80);
static_assert(offsetof(ControllerData, type) == 111);
static_assert(offsetof(ControllerData, admin_commands) == 256);
static_assert(offsetof(ControllerData, warning_temperature) == 266);
static_assert(offsetof(ControllerData, sq_entry_sizes) == 512);
static_assert(offsetof(ControllerData, sgl) == 536);
static_assert(offsetof(ControllerData, subsystem_name) == 768);
static_assert(offsetof(ControllerData, power_state0) == 2048);
static_assert(sizeof(ControllerData) == kIdentifySize);

// Identify Namespace (figure 245).
struct __attribute__((packed)) NamespaceData {
  uint64_t size;  // Blocks.
  uint64_t capacity;
  uint64_t used;
  uint8_t features;  // NSFEAT.
  uint8_t formats;   // Number of LBA formats, less one.
  uint8_t format;
  uint8_t metadata;
  uint8_t protection_capabilities;
  uint8_t protection;
  uint8_t sharing;
  uint8_t reservations;
  uint8_t format_progress;
  uint8_t deallocate;  // DLFEAT.
  uint8_t reserved0[30];
  uint16_t preferred_write;       // NPWG: blocks, less one.
  uint16_t preferred_alignment;   // NPWA.
  uint16_t preferred_deallocate;  // NPDG.
  uint16_t preferred_deallocate_alignment;
  uint16_t optimal_write;
  uint8_t reserved1[25];
  uint8_t attributes;  // NSATTR, bit 0: write protected.
  uint8_t reserved2[4];
  uint8_t nguid[16];
  uint8_t eui64[8];
  uint32_t lba_formats[16];  // Bits 16-23: log2 of the block size.
  uint8_t reserved3[192];
  uint8_t vendor_specific[3712];
};
static_assert(offsetof(NamespaceData, preferred_write) == 64);
static_assert(offsetof(NamespaceData, attributes) == 99);
static_assert(offsetof(NamespaceData, nguid) == 104);
static_assert(offsetof(NamespaceData, lba_formats) == 128);
static_assert(sizeof(NamespaceData) == kIdentifySize);

}  // namespace holdfast::nvme

#endif  // HOLDFAST_DEVICES_PCI_NVME_IDENTIFY_DATA_H_
