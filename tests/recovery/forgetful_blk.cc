// virtio-blk without its in-flight table: the negative control of the tests
// that kill it. A successor goes on at used->idx.
#include "devices/runtime/device_main.h"
#include "devices/virtio_blk/virtio_blk.h"

int main(int argc, char** argv) {
  holdfast::DeviceClass device_class =
      holdfast::DeviceClassOf<holdfast::virtio_blk::VirtioBlk>();
  device_class.in_flight = holdfast::InFlight::kForgotten;
  return holdfast::DeviceMain(argc, argv, device_class);
}
