#ifndef HOLDFAST_DEVICES_RUNTIME_DEVICE_MAIN_H_
#define HOLDFAST_DEVICES_RUNTIME_DEVICE_MAIN_H_

#include <type_traits>

#include "devices/runtime/device_host.h"
#include "devices/runtime/pci_class.h"
#include "devices/runtime/platform_class.h"
#include "devices/runtime/virtio_class.h"

namespace holdfast {

// The whole program of a device: command line, sandbox, segment, store, VMM.
// Returns the exit status: 0 after an ordered stop, 1 for an error of
// operation, 2 for a mistake on the command line.
int DeviceMain(int argc, char** argv, const DeviceClass& device_class);

// How D is served: a PciDevice or PlatformDevice over vfio-user, a VirtioDevice
// over vhost-user when nothing else is said, or over vfio-user as a PCI
// function.
template <typename D>
DeviceClass DeviceClassOf() {
  if constexpr (std::is_base_of_v<PciDevice, D>) {
    return OverVfioUser(PciClassOf<D>());
  } else if constexpr (std::is_base_of_v<PlatformDevice, D>) {
    return OverVfioUser(PlatformClassOf<D>());
  } else {
    DeviceClass device_class = OverVhostUser(VirtioClassOf<D>());
    device_class.others = {OverVfioUser(VirtioClassOf<D>())};
    return device_class;
  }
}

}  // namespace holdfast

// The main() of a device program.
#define HOLDFAST_DEVICE_MAIN(DeviceType)                                    \
  int main(int argc, char** argv) {                                         \
    return ::holdfast::DeviceMain(argc, argv,                               \
                                  ::holdfast::DeviceClassOf<DeviceType>()); \
  }

#endif  // HOLDFAST_DEVICES_RUNTIME_DEVICE_MAIN_H_
