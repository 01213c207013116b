#include "devices/pci_edu/pci_edu.h"
#include "devices/runtime/device_main.h"

HOLDFAST_DEVICE_MAIN(holdfast::PciEdu)
