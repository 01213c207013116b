#include "devices/runtime/capabilities.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "devices/bus/virtio_ids.h"

namespace holdfast {
namespace {

// The names of VhostUserBackendType in QEMU's schema.
const char* TypeName(uint32_t device_id) {
  switch (device_id) {
    case virtio::kDeviceIdNet:
      return "net";
    case virtio::kDeviceIdBlock:
      return "block";
    case virtio::kDeviceIdConsole:
      return "console";
    case virtio::kDeviceIdRng:
      return "rng";
    default:
      return "";
  }
}

std::string Quoted(const std::string& text) {
  return absl::StrCat("\"", text, "\"");
}

}  // namespace

std::string CapabilitiesJson(const VirtioSpec& spec,
                             const std::vector<OptionSpec>& options) {
  std::vector<std::string> features;
  for (const OptionSpec& option : options) {
    // The two that the schema knows for block devices.
    if (option.name == "read-only") features.push_back(Quoted("read-only"));
  }
  for (const ResourceSpec& resource : spec.resources()) {
    if (resource.name == "image") features.push_back(Quoted("blk-file"));
  }
  std::vector<std::string> queues;
  for (const QueueSpec& queue : spec.queues()) {
    queues.push_back(absl::StrCat("{\"name\":", Quoted(queue.name),
                                  ",\"max-size\":", queue.max_size, "}"));
  }
  return absl::StrCat("{\"type\":", Quoted(TypeName(spec.device_id())),
                      ",\"features\":[", absl::StrJoin(features, ","),
                      "],\"holdfast\":{\"device-id\":", spec.device_id(),
                      ",\"compat-version\":", spec.compat_version(),
                      ",\"queues\":[", absl::StrJoin(queues, ","), "]}}\n");
}

std::string CapabilitiesJson(const PciSpec& spec) {
  return absl::StrFormat(
      "{\"type\":\"pci\",\"features\":[],\"holdfast\":{\"vendor-id\":%d,"
      "\"device-id\":%d,\"class-code\":%d,\"compat-version\":%d,"
      "\"msi-vectors\":%d,\"msix-vectors\":%d}}\n",
      spec.id().vendor, spec.id().device, spec.id().class_code,
      spec.compat_version(), spec.msi_vectors(), spec.msix_vectors());
}

}  // namespace holdfast
