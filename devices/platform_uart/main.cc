#include "devices/platform_uart/platform_uart.h"
#include "devices/runtime/device_main.h"

HOLDFAST_DEVICE_MAIN(holdfast::PlatformUart)
