// virtio-blk without in-flight tables, which //bench:inflight measures
// virtio-blk against. A successor loses what was in flight.
#include "devices/runtime/device_main.h"
#include "devices/virtio_blk/virtio_blk.h"

int main(int argc, char** argv) {
  holdfast::DeviceClass device_class =
      holdfast::DeviceClassOf<holdfast::virtio_blk::VirtioBlk>();
  device_class.in_flight = holdfast::InFlight::kUntracked;
  return holdfast::DeviceMain(argc, argv, device_class);
}
