// The controller killed after every store that anybody outside could see.
#include <cstdint>
#include <functional>
#include <memory>

#include "devices/bus/testing/pci_crash.h"
#include "devices/pci_nvme/protocol.h"
#include "devices/pci_nvme/registers.h"
#include "devices/pci_nvme/testing/nvme_driver.h"
#include "gtest/gtest.h"

namespace holdfast::nvme {
namespace {

using ::holdfast::nvme::testing::NvmeClass;
using ::holdfast::nvme::testing::NvmeDriver;
using ::holdfast::nvme::testing::NvmeGuest;
using ::holdfast::nvme::testing::RamEngine;
using ::holdfast::testing::ExpectSurvives;
using ::holdfast::testing::PciCrashPlan;
using ::holdfast::testing::PciGuest;

using Script = std::function<void(NvmeDriver&)>;

// `before` in peace, then `script` killed at every point of it.
void Survives(Script before, Script script) {
  const auto rings = std::make_shared<NvmeDriver::Rings>();
  PciCrashPlan plan;
  plan.before = [before, rings](PciGuest& guest) {
    NvmeDriver driver(guest);
    before(driver);
    *rings = driver.rings();
  };
  plan.script = [script, rings](PciGuest& guest) {
    NvmeDriver driver(guest, *rings);
    script(driver);
  };
  plan.options = NvmeGuest();
  plan.depth = 2;
  // Of the areas of its queues state says what is valid.
  plan.compares_areas = false;
  ExpectSurvives(NvmeClass({{"num-queues", "2"}, {"shadow-doorbells", "on"}}),
                 plan);
}

void Prepare(NvmeDriver& driver) {
  driver.Enable();
  driver.CreateQueue(1);
  for (uint16_t i = 0; i < 2048; ++i) {
    driver.Data(NvmeDriver::kData, 2048)[i] = static_cast<uint8_t>(i / 3 + 1);
  }
}

TEST(PciNvmeCrash, Enabling) {
  Survives([](NvmeDriver&) {}, [](NvmeDriver& driver) { driver.Enable(); });
}

TEST(PciNvmeCrash, ResetOfTheController) {
  Survives(Prepare, [](NvmeDriver& driver) {
    driver.SetConfiguration(0);
    driver.status();
  });
}

TEST(PciNvmeCrash, CreatingAndDeletingQueues) {
  Survives([](NvmeDriver& driver) { driver.Enable(); },
           [](NvmeDriver& driver) {
             driver.CreateQueue(1);
             driver.Do(0, NvmeDriver::Admin(AdminOpcode::kDeleteSq, 1));
             driver.Do(0, NvmeDriver::Admin(AdminOpcode::kDeleteCq, 1));
           });
}

TEST(PciNvmeCrash, AWriteAndARead) {
  Survives(Prepare, [](NvmeDriver& driver) {
    driver.Do(1, NvmeDriver::Io(IoOpcode::kWrite, 3, 2));
    driver.Do(1, NvmeDriver::Io(IoOpcode::kRead, 3, 1,
                                NvmeDriver::kData + 2 * kPageSize));
  });
}

// Three commands that one doorbell brings; the last two write the same block.
TEST(PciNvmeCrash, SeveralCommandsOfOneDoorbell) {
  Survives(Prepare, [](NvmeDriver& driver) {
    driver.Submit(1, NvmeDriver::Io(IoOpcode::kWrite, 3, 1));
    driver.Submit(1, NvmeDriver::Io(IoOpcode::kWrite, 4, 1));
    driver.Submit(
        1, NvmeDriver::Io(IoOpcode::kWrite, 4, 1, NvmeDriver::kData + 1024));
    driver.RingTail(1);
  });
}

// The second command is told of in the guest's memory only.
TEST(PciNvmeCrash, ShadowDoorbells) {
  Survives(Prepare, [](NvmeDriver& driver) {
    Command command = NvmeDriver::Admin(AdminOpcode::kDoorbellBuffers);
    command.prp1 = 0xa000;
    command.prp2 = 0xb000;
    driver.Do(0, command);
    const auto tail = [&driver](uint8_t value) {
      const uint8_t bytes[4] = {value};
      driver.guest().StoreRam(0xa000 + 8, bytes);
    };
    driver.Submit(1, NvmeDriver::Io(IoOpcode::kWrite, 3, 1));
    tail(1);
    driver.RingTail(1);
    driver.Submit(1, NvmeDriver::Io(IoOpcode::kRead, 3, 1,
                                    NvmeDriver::kData + kPageSize));
    tail(2);
    driver.RingTail(1);
  });
}

TEST(PciNvmeCrash, QueuesDeletedWhileTheyAreBusy) {
  Survives(Prepare, [](NvmeDriver& driver) {
    driver.Submit(1, NvmeDriver::Io(IoOpcode::kWrite, 3, 1));
    driver.Submit(0, NvmeDriver::Admin(AdminOpcode::kDeleteSq, 1));
    driver.RingTail(1);
    driver.RingTail(0);
  });
}

TEST(PciNvmeCrash, FeaturesAndEvents) {
  Survives(
      [](NvmeDriver& driver) {
        Prepare(driver);
        driver.Submit(0, NvmeDriver::Admin(AdminOpcode::kAsyncEvent));
        driver.RingTail(0);
      },
      [](NvmeDriver& driver) {
        driver.Do(0, NvmeDriver::Admin(AdminOpcode::kSetFeatures, 0x06, 0));
        // A queue that is not there: an event.
        driver.RingTail(2);
        driver.Do(0, NvmeDriver::Admin(AdminOpcode::kGetLogPage, 0x000f0001, 0,
                                       NvmeDriver::kData));
      });
}

// Told by an event and a log page, each of them once.
TEST(PciNvmeCrash, AnImageThatGrows) {
  Survives(
      [](NvmeDriver& driver) {
        driver.guest().ChangeResource(RamEngine::kSize / 2);
        Prepare(driver);
        driver.Do(0, NvmeDriver::Admin(AdminOpcode::kSetFeatures, 0x0b, 0x100));
        driver.Submit(0, NvmeDriver::Admin(AdminOpcode::kAsyncEvent));
        driver.RingTail(0);
      },
      [](NvmeDriver& driver) {
        driver.guest().ChangeResource(RamEngine::kSize);
        driver.Do(0, NvmeDriver::Admin(AdminOpcode::kGetLogPage, 0x00010004, 0,
                                       NvmeDriver::kData));
      });
}

TEST(PciNvmeCrash, AbortingARequestThatWaits) {
  Survives(
      [](NvmeDriver& driver) {
        Prepare(driver);
        driver.Submit(0, NvmeDriver::Admin(AdminOpcode::kAsyncEvent));
        driver.RingTail(0);
      },
      [](NvmeDriver& driver) {
        driver.Do(0, NvmeDriver::Admin(AdminOpcode::kAbort, 0x00030000));
      });
}

TEST(PciNvmeCrash, CommandsThatFail) {
  Survives(Prepare, [](NvmeDriver& driver) {
    driver.Do(1, NvmeDriver::Io(IoOpcode::kRead, 1 << 20, 1));
    driver.Do(0, NvmeDriver::Admin(AdminOpcode::kGetLogPage, 0x003f0001, 0,
                                   NvmeDriver::kData));
  });
}

}  // namespace
}  // namespace holdfast::nvme
