// virtio-blk without its in-flight table: the negative control of the tests
// that kill it. A successor goes on at used->idx.
#include "devices/runtime/device_main.h"
#include "devices/virtio_blk/virtio_blk.h"

int main(int argc, char** argv) {
  holdfast::VirtioClass device_class =
      holdfast::VirtioClassOf<holdfast::virtio_blk::VirtioBlk>();
  device_class.in_flight = holdfast::InFlight::kForgotten;
  return holdfast::DeviceMain(argc, argv,
                              holdfast::OverVhostUser(device_class));
}
