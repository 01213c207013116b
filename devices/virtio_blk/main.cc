#include "devices/runtime/device_main.h"
#include "devices/virtio_blk/virtio_blk.h"

HOLDFAST_DEVICE_MAIN(holdfast::virtio_blk::VirtioBlk)
