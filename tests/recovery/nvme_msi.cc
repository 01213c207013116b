// The NVMe controller with one MSI in place of MSI-X, which a guest's driver
// takes when there is nothing better.
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "base/status_macros.h"
#include "devices/pci_nvme/pci_nvme.h"
#include "devices/runtime/device_main.h"

namespace {

using ::holdfast::nvme::PciNvme;

class MsiNvme : public holdfast::PciDevice {
 public:
  static std::vector<holdfast::OptionSpec> Options() {
    return PciNvme::Options();
  }
  static absl::StatusOr<holdfast::PciSpec> Spec(
      const holdfast::DeviceOptions& options) {
    ASSIGN_OR_RETURN(holdfast::PciSpec spec, PciNvme::Spec(options));
    return spec.Msix(0).Msi(1);
  }
  static absl::StatusOr<std::unique_ptr<holdfast::PciDevice>> Make(
      holdfast::PciContext& context) {
    return PciNvme::Make(context);
  }
};

}  // namespace

HOLDFAST_DEVICE_MAIN(MsiNvme)
