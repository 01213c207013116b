#include "examples/hello_pci/hello_pci.h"

#include "devices/runtime/device_main.h"

HOLDFAST_DEVICE_MAIN(hello::Squarer)
