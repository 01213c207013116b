#include "devices/keeper/keeper_host_sys.h"
#include "devices/runtime/device_main.h"

int main(int argc, char** argv) {
  return holdfast::DeviceMain(argc, argv, holdfast::keeper::KeeperClass());
}
