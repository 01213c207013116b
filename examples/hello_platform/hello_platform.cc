#include "examples/hello_platform/hello_platform.h"

#include "devices/runtime/device_main.h"

HOLDFAST_DEVICE_MAIN(hello::Copier)
