// virtio-blk without in-flight tables, which //bench:inflight measures
// virtio-blk against. A successor loses what was in flight.
#include "devices/runtime/device_main.h"
#include "devices/virtio_blk/virtio_blk.h"

int main(int argc, char** argv) {
  holdfast::VirtioClass device_class =
      holdfast::VirtioClassOf<holdfast::virtio_blk::VirtioBlk>();
  device_class.in_flight = holdfast::InFlight::kUntracked;
  return holdfast::DeviceMain(argc, argv,
                              holdfast::OverVhostUser(device_class));
}
