#ifndef HOLDFAST_DEVICES_RUNTIME_TESTING_EDU_RIG_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_TESTING_EDU_RIG_SYS_H_

#include <cstdint>
#include <memory>

#include "base/testing/matchers.h"
#include "devices/pci_edu/pci_edu.h"
#include "devices/runtime/pci_class.h"
#include "devices/runtime/testing/process_rig_sys.h"
#include "devices/vfio_user/testing/client_sys.h"
#include "gtest/gtest.h"

namespace holdfast::testing {

// A VMM with an edu device (devices/pci_edu/pci_edu.h), in one process. Connect
// comes first.
class EduRig : public ::testing::Test {
 protected:
  EduRig() : rig_(Options()) { EXPECT_OK(rig_.Run()); }

  static ProcessRig::Options Options() {
    ProcessRig::Options options;
    options.host = [] {
      return OverVfioUser(PciClassOf<PciEdu>()).open(DeviceOptions());
    };
    return options;
  }

  void Connect(bool twin = false) {
    client_ = vfio_user::Client::Adopt(rig_.ConnectSocket());
    ASSERT_OK(client_->Negotiate(twin));
    // Bus master; INTx is what interrupts.
    ASSERT_OK(client_->Write(kPciConfigRegion, 0x04, 0x0006, 2));
  }

  uint32_t Read(uint64_t offset) {
    const auto value = client_->Read(0, offset, 4);
    EXPECT_OK(value);
    return value.ok() ? static_cast<uint32_t>(*value) : 0;
  }
  void Write(uint64_t offset, uint64_t value, uint32_t size = 4) {
    EXPECT_OK(client_->PostWrite(0, offset, value, size));
  }
  // Orders a transfer of 4,096 bytes between `address` and the buffer.
  void Order(uint64_t address, bool from_buffer) {
    Write(0x80, from_buffer ? edu::kBufferAddress : address, 8);
    Write(0x88, from_buffer ? address : edu::kBufferAddress, 8);
    Write(0x90, 4096, 8);
    Write(0x98, from_buffer ? 3 : 1, 8);
  }

  ProcessRig rig_;
  std::unique_ptr<vfio_user::Client> client_;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_RUNTIME_TESTING_EDU_RIG_SYS_H_
