#ifndef HOLDFAST_DEVICES_RUNTIME_CAPABILITIES_H_
#define HOLDFAST_DEVICES_RUNTIME_CAPABILITIES_H_

#include <string>
#include <vector>

#include "devices/bus/options.h"
#include "devices/bus/pci_spec.h"
#include "devices/bus/virtio_spec.h"

namespace holdfast {

// What --print-capabilities prints: one line of JSON after QEMU's schema
// docs/interop/vhost-user.json ("type" and "features"), with what Holdfast adds
// under "holdfast". Pure.
std::string CapabilitiesJson(const VirtioSpec& spec,
                             const std::vector<OptionSpec>& options);

// The same for a PCI function, for which there is no schema: "type" is "pci".
std::string CapabilitiesJson(const PciSpec& spec);

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_CAPABILITIES_H_
