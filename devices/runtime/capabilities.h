#ifndef HOLDFAST_DEVICES_RUNTIME_CAPABILITIES_H_
#define HOLDFAST_DEVICES_RUNTIME_CAPABILITIES_H_

#include <string>
#include <vector>

#include "devices/bus/options.h"
#include "devices/bus/virtio_spec.h"

namespace holdfast {

// What --print-capabilities prints: one line of JSON after QEMU's schema
// docs/interop/vhost-user.json ("type" and "features"), with what Holdfast adds
// under "holdfast". Pure.
std::string CapabilitiesJson(const VirtioSpec& spec,
                             const std::vector<OptionSpec>& options);

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_CAPABILITIES_H_
