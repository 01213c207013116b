#include "devices/pci_nvme/pci_nvme.h"
#include "devices/runtime/device_main.h"

HOLDFAST_DEVICE_MAIN(holdfast::nvme::PciNvme)
